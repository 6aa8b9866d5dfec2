"""Recurrent networks that read an image as a sequence."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from jichu.core.errors import UsageError

from .backbone import Backbone, Features
from .common import Depth, Rate, Width


class Recurrent(Backbone):
    """Layers of `hidden` units that read an image row by row, or pixel by pixel (Le et al., 2015,
    arXiv 1504.00941).

    The features are the state after the last step, of each direction, or the mean over the steps; the
    sequence [B, steps, D] is the states of the last layer. `dropout` lies between layers.
    """

    cell: ClassVar[type[nn.LSTM | nn.GRU | nn.RNN]]

    def __init__(
        self,
        channels: int,
        size: int,
        hidden: Width = 128,
        layers: Depth = 1,
        bidirectional: bool = False,
        over: Literal["rows", "pixels"] = "rows",
        readout: Literal["last", "mean"] = "last",
        dropout: Rate = 0.0,
    ):
        super().__init__()
        if dropout and layers == 1:
            raise UsageError(
                "dropout lies between layers, of which there is one", expected="layers: 2 or more"
            )
        self.over, self.readout = over, readout
        self.recurrent = self.cell(
            channels * (size if over == "rows" else 1), hidden, layers,
            batch_first=True, dropout=dropout, bidirectional=bidirectional,
        )  # fmt: skip
        self.width = hidden * (2 if bidirectional else 1)
        for name, parameter in self.recurrent.named_parameters():
            for i, gate in enumerate(parameter.data.split(hidden)):
                if name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate)
                elif name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                else:  # an LSTM begins by not forgetting (Jozefowicz et al., 2015)
                    keeps = self.cell is nn.LSTM and name.startswith("bias_ih") and i == 1
                    nn.init.constant_(gate, float(keeps))

    def forward(self, batch: dict[str, Tensor]) -> Features:
        image = batch["image"]
        # [B, H, C × W], or [B, H × W, C]
        rows = self.over == "rows"
        steps = image.transpose(1, 2).flatten(2) if rows else image.flatten(2).transpose(1, 2)
        sequence, state = self.recurrent(steps)
        if self.readout == "mean":
            return Features(sequence.mean(1), sequence=sequence)
        last = state[0] if isinstance(state, tuple) else state  # [layers × directions, B, hidden]
        directions = 2 if self.recurrent.bidirectional else 1
        return Features(last[-directions:].transpose(0, 1).flatten(1), sequence=sequence)


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997)."""

    cell = nn.LSTM


class Gru(Recurrent):
    """Gated recurrent units (Cho et al., 2014, arXiv 1406.1078)."""

    cell = nn.GRU


class Rnn(Recurrent):
    """One layer of tanh at each step (Elman, 1990)."""

    cell = nn.RNN

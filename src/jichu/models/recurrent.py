"""Recurrent networks: over the rows or pixels of an image, or over the tokens of a text."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jichu.core.errors import UsageError
from jichu.data.special import Special

from .backbone import Backbone, Features
from .common import Depth, Rate, Width, last, mean, positions

State = Any  # of a cell of torch: [layers, B, hidden], of an LSTM two of them


class Recurrent(Backbone):
    """Layers of `hidden` units. What a subclass reads is [B, steps, inputs]."""

    cell: ClassVar[type[nn.LSTM | nn.GRU | nn.RNN]]

    def _layers(self, inputs: int, hidden: int, layers: int, bidirectional: bool, dropout: float) -> None:
        self.recurrent = self.cell(
            inputs, hidden, layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
        )
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

    def states(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Of the last layer, [B, T, D], over steps [B, T, inputs]; with `lengths` [B] both directions keep within them, and
        rows are packed, for which torch has slower kernels."""
        return self._packed(steps, lengths)[0] if lengths is not None else self.recurrent(steps)[0]

    def _packed(self, steps: Tensor, lengths: Tensor, state: State = None) -> tuple[Tensor, State]:
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        sequence, state = self.recurrent(packed, state)
        return pad_packed_sequence(sequence, batch_first=True, total_length=steps.shape[1])[0], state

    def _ends(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """The state after the last step, of each direction."""
        hidden = self.recurrent.hidden_size
        return torch.cat([last(sequence[..., :hidden], mask), sequence[:, 0, hidden:]], 1)


class OverImages(Recurrent):
    """Reads an image row by row, or pixel by pixel (Le et al., 2015, arXiv 1504.00941).

    The features are the state after the last step, of each direction, or the mean over the steps; the
    sequence [B, steps, D] is the states of the last layer. `dropout` lies between layers.
    """

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
        self._layers(channels * (size if over == "rows" else 1), hidden, layers, bidirectional, dropout)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        image = batch["image"]
        # [B, H, C × W], or [B, H × W, C]
        rows = self.over == "rows"
        steps = image.transpose(1, 2).flatten(2) if rows else image.flatten(2).transpose(1, 2)
        sequence = self.states(steps)
        if self.readout == "mean":
            return Features(sequence.mean(1), sequence=sequence)
        everywhere = torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
        return Features(self._ends(sequence, everywhere), sequence=sequence)


class OverText(Recurrent):
    """Embeds tokens [B, T], -1 beyond the end of a row, and reads them one by one.

    The features are the state after a row's last token, of each direction, or the mean or the largest
    values over its tokens. `dropout` follows every layer, `embedding_dropout` the embedding. As a language
    model it gives scores of the next token, by the embedding itself where that is as wide as the layers
    (Press and Wolf, 2017, arXiv 1608.05859).
    """

    def __init__(
        self,
        vocabulary: int,
        context: int = 256,
        special: Special | None = None,
        language: bool = False,
        width: Width = 256,
        hidden: Width = 256,
        layers: Depth = 1,
        bidirectional: bool = False,
        readout: Literal["last", "mean", "max"] = "last",
        dropout: Rate = 0.0,
        embedding_dropout: Rate = 0.0,
    ):
        super().__init__()
        if language and bidirectional:
            raise UsageError(
                "a language model that has read what is to come", expected="bidirectional: false"
            )
        self.context, self.special = context, special or Special()
        self.language, self.readout, self.vocabulary = language, readout, vocabulary
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.embedding_dropout, self.dropout = nn.Dropout(embedding_dropout), nn.Dropout(dropout)
        self._layers(width, hidden, layers, bidirectional, dropout if layers > 1 else 0.0)
        if language:
            self.output = nn.Linear(self.width, vocabulary)
            if width == self.width:
                self.output.weight = self.embedding.weight

    @property
    def beyond_body(self) -> list[str]:
        """The names in the state dict that predict tokens and do no more."""
        return [name for name in self.state_dict() if name.startswith("output.")]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., V] of the next token from states [..., D]."""
        return self.output(hidden)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        tokens, document = batch["tokens"], batch.get("document")
        if not tokens.numel():  # no rows, or every one is empty
            tokens = tokens.new_full((tokens.shape[0], 1), -1)
            document = None
        mask = tokens >= 0
        if not tokens.shape[0]:
            nothing = self.embedding.weight.new_zeros(0, 1, self.width)
            return Features(nothing[:, 0], nothing, mask=mask)
        sequence = self.dropout(self._read(tokens) if document is None else self._apart(tokens, document))
        return Features(self._pool(sequence, mask), sequence, mask=mask, predicted=batch.get("predicted"))

    def _read(self, tokens: Tensor) -> Tensor:
        """States [B, T, hidden]. Padding comes last: it is not seen by the first direction."""
        return self.states(self._embedded(tokens), _lengths(tokens) if self.recurrent.bidirectional else None)

    def _embedded(self, tokens: Tensor) -> Tensor:
        return self.embedding_dropout(self.embedding(tokens.clamp(min=0)))

    def run(self, tokens: Tensor, state: State = None) -> tuple[Tensor, State]:
        """States of rows that begin in a state, and the state that each is in after its last token."""
        return self._packed(self._embedded(tokens), _lengths(tokens), state)

    def _apart(self, tokens: Tensor, document: Tensor) -> Tensor:
        """States where each of the documents that share a row begins anew."""
        place = positions(document).flatten()
        row = (place == 0).cumsum(0) - 1
        cut = tokens.new_full((int(row[-1]) + 1, int(place.max()) + 1), -1)
        cut[row, place] = tokens.flatten()
        return self._read(cut)[row, place].view(*tokens.shape, -1)

    def _pool(self, sequence: Tensor, mask: Tensor) -> Tensor:
        if self.readout == "mean":
            return mean(sequence, mask)
        if self.readout == "max":
            highest = sequence.masked_fill(~mask[..., None], -torch.inf).amax(1)
            return torch.where(mask.any(1, keepdim=True), highest, 0.0)
        return self._ends(sequence, mask)


def _lengths(tokens: Tensor) -> Tensor:
    """How many tokens each row has; an empty one is read as one."""
    return (tokens >= 0).sum(1).clamp(min=1)


class Lstm(OverImages):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997)."""

    cell = nn.LSTM


class Gru(OverImages):
    """Gated recurrent units (Cho et al., 2014, arXiv 1406.1078)."""

    cell = nn.GRU


class Rnn(OverImages):
    """One layer of tanh at each step (Elman, 1990)."""

    cell = nn.RNN


class LstmText(OverText):
    """Long short-term memory over tokens."""

    cell = nn.LSTM


class GruText(OverText):
    """Gated recurrent units over tokens."""

    cell = nn.GRU


class RnnText(OverText):
    """One layer of tanh at each token."""

    cell = nn.RNN

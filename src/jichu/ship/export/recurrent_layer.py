"""Recurrent layers as one operator of ONNX each, for any number of steps: torch would write them step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from jichu.models.recurrent import Recurrent

_KINDS = {"LSTM": "LSTM", "GRU": "GRU", "RNN_TANH": "RNN"}
# the order of the gates: torch's i f g o and r z n, ONNX's i o f g and z r n
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


@torch.library.custom_op("jichu::recurrent_layer", mutates_args=())
def _layer(x: Tensor, w: Tensor, r: Tensor, b: Tensor, lengths: Tensor, kind: str) -> Tensor:
    """x [T, B, I], weights as ONNX has them [directions, gates × H, …], lengths int32 [B]; gives [T, directions, B, H]."""
    raise NotImplementedError("it is traced and not run")


@_layer.register_fake
def _(x: Tensor, w: Tensor, r: Tensor, b: Tensor, lengths: Tensor, kind: str) -> Tensor:
    return x.new_empty(x.shape[0], r.shape[0], x.shape[1], r.shape[2])


def translations() -> dict[Any, Any]:
    """The operator in the words of ONNX."""
    from onnxscript import opset18 as op

    def layer(x: Any, w: Any, r: Any, b: Any, lengths: Any, kind: str) -> Any:
        more = {"linear_before_reset": 1} if kind == "GRU" else {}
        direction = "bidirectional" if r.shape[0] == 2 else "forward"
        made = getattr(op, kind)(x, w, r, b, lengths, hidden_size=r.shape[2], direction=direction, **more)
        return made[0] if isinstance(made, (tuple, list)) else made

    return {torch.ops.jichu.recurrent_layer.default: layer}


@contextlib.contextmanager
def as_operators(model: nn.Module) -> Iterator[None]:
    """Recurrent networks within a model run, while it is traced, as these operators."""
    found = [module for module in model.modules() if isinstance(module, Recurrent)]
    for module in found:
        module.__dict__["states"] = _States(module.recurrent)
    try:
        yield
    finally:
        for module in found:
            del module.__dict__["states"]


class _States:
    """In the place of `Recurrent.states`."""

    def __init__(self, recurrent: Any):
        self.recurrent, self.kind = recurrent, _KINDS[recurrent.mode]

    def __call__(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        rows, places = steps.shape[:2]
        if lengths is None:
            lengths = torch.ones(rows, dtype=torch.int32) * places
        x = steps.transpose(0, 1)
        for layer in range(self.recurrent.num_layers):
            found = torch.ops.jichu.recurrent_layer(x, *self._weights(layer), lengths.int(), self.kind)
            x = found.transpose(1, 2).flatten(2)  # [T, B, directions × H]
        return x.transpose(0, 1)

    def _weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of a layer: [directions, gates × H, I], [directions, gates × H, H], [directions, 2 × gates × H]."""
        ends = [f"l{layer}", f"l{layer}_reverse"][: 1 + self.recurrent.bidirectional]
        w, r, b, c = (
            torch.stack([self._ordered(f"{name}_{end}") for end in ends])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return w, r, torch.cat([b, c], 1)

    def _ordered(self, name: str) -> Tensor:
        gates = getattr(self.recurrent, name).chunk(len(_GATES[self.kind]))
        return torch.cat([gates[i] for i in _GATES[self.kind]])

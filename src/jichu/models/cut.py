"""Layers of which some inputs and outputs were removed: how that is done to a layer, and done again when the model is
built.

A dense layer (`Linear`, a convolution, GPT-2's `Conv1D`) has inputs and outputs of its own. A follower (batch
normalisation, a convolution in each channel alone) has as many outputs as inputs, and loses both at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# what says how many inputs and outputs there are, by the attributes of torch and transformers
_INPUTS = ("in_features", "in_channels", "num_features", "nx")
_OUTPUTS = ("out_features", "out_channels", "num_features", "nf")


def is_crosswise(layer: nn.Module) -> bool:
    """Whether its weight is [inputs, outputs], as of GPT-2's dense layers."""
    return hasattr(layer, "nf")


def is_dense(layer: nn.Module) -> bool:
    """Whether inputs and outputs are all connected."""
    if is_parametrized(layer):
        return False
    whole = isinstance(layer, _CONVOLUTIONS) and layer.groups == 1
    return whole or isinstance(layer, nn.Linear) or is_crosswise(layer)


def is_follower(layer: nn.Module) -> bool:
    """Whether each output is made of the input of its number alone."""
    alone = isinstance(layer, _CONVOLUTIONS) and layer.groups == layer.in_channels == layer.out_channels > 1
    return isinstance(layer, _NORMS) or (alone and not is_parametrized(layer))


def channel_axis(layer: nn.Module) -> int:
    """Which axis of what a layer takes and gives is that of its inputs and outputs."""
    return 1 if isinstance(layer, (*_CONVOLUTIONS, *_NORMS)) else -1


def output_axis(layer: nn.Module) -> int:
    """Which axis of its weight is that of its outputs."""
    return 1 if is_crosswise(layer) else 0


def sizes(layer: nn.Module) -> tuple[int, int]:
    """How many inputs and outputs it has."""
    found = (next(getattr(layer, n) for n in names if hasattr(layer, n)) for names in (_INPUTS, _OUTPUTS))
    inputs, outputs = found
    return int(inputs), int(outputs)


@torch.no_grad()
def keep(layer: Any, inputs: Tensor | None = None, outputs: Tensor | None = None) -> None:
    """Leave a layer with the inputs and outputs of these numbers, in place; None keeps all. A follower keeps `inputs`."""
    if is_follower(layer):
        _keep_channels(layer, inputs)
        return
    axis = output_axis(layer)
    for kept, along in ((outputs, axis), (inputs, 1 - axis)):
        if kept is not None:
            layer.weight = _picked(layer.weight, kept, along)
    if outputs is not None and layer.bias is not None:
        layer.bias = _picked(layer.bias, outputs, 0)
    for kept, names in ((inputs, _INPUTS), (outputs, _OUTPUTS)):
        _tell(layer, names, kept)


def _keep_channels(layer: Any, kept: Tensor | None) -> None:
    if kept is None:
        return
    for name in ("weight", "bias"):
        if getattr(layer, name) is not None:
            setattr(layer, name, _picked(getattr(layer, name), kept, 0))
    for name in ("running_mean", "running_var"):
        if getattr(layer, name, None) is not None:
            setattr(layer, name, getattr(layer, name)[kept].clone())
    _tell(layer, (*_INPUTS, *_OUTPUTS), kept)
    if isinstance(layer, _CONVOLUTIONS):
        layer.groups = len(kept)


def _picked(parameter: nn.Parameter, kept: Tensor, axis: int) -> nn.Parameter:
    return nn.Parameter(parameter.index_select(axis, kept).contiguous(), parameter.requires_grad)


def _tell(layer: Any, names: Sequence[str], kept: Tensor | None) -> None:
    for name in names:
        if kept is not None and hasattr(layer, name):
            setattr(layer, name, len(kept))


def settle(backbone: Any, width: int) -> None:
    """What a backbone knows of its own layers' sizes is made to agree with them."""
    backbone.width = width
    for module in backbone.modules():
        if hasattr(module, "split_size") and hasattr(module, "c_attn"):  # of GPT-2, where it is cut in three
            module.split_size = module.c_attn.nf // 3


def rebuild(backbone: nn.Module, layers: Mapping[str, Sequence[int]], width: int) -> None:
    """Cut a backbone with fresh weights to [inputs, outputs] of each of these layers. Done twice it is done once."""
    for name, (inputs, outputs) in layers.items():
        layer = backbone.get_submodule(name)
        if min(inputs, outputs) < 1 or inputs > sizes(layer)[0] or outputs > sizes(layer)[1]:
            raise ValueError(f"{name} of {sizes(layer)} cut to {(inputs, outputs)}")
        keep(layer, torch.arange(inputs), torch.arange(outputs))
    settle(backbone, width)

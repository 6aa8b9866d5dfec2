"""Initialisations by name, over a whole network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import init

from jichu.core.errors import UsageError, unknown

Initialisation = Literal[
    "default", "xavier-uniform", "xavier-normal", "he-uniform", "he-normal", "orthogonal", "truncated-normal"
]
Nonlinearity = Literal["linear", "relu", "leaky_relu", "tanh", "sigmoid", "selu"]
_CONVOLUTION = nn.modules.conv._ConvNd
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_STD = 0.02  # of the truncated normal, as in BERT and ViT; cut at two of them


def initialise(
    network: nn.Module,
    name: Initialisation,
    nonlinearity: Nonlinearity = "relu",
    fan: Literal["in", "out"] = "in",
    zero_residual: bool = False,
) -> None:
    """Draw the weights of dense and convolutional layers anew; their biases become zero, the scales of
    normalisations one. Other parameters (positions, class tokens) stay as they were made.

    `xavier-*` is Glorot and Bengio (2010), variance gain² · 2 / (fan in + fan out); `he-*` is He et al.
    (2015), gain² / fan; `orthogonal` is Saxe et al. (2014); `default` leaves all as it was made. The gain
    is that of the nonlinearity. With `zero_residual` each residual block begins as the identity: the scale
    of its last normalisation is zero (Goyal et al., 2017).
    """
    if name not in get_args(Initialisation):
        raise unknown("initialisation", name, get_args(Initialisation))
    if name != "default":
        gain = init.calculate_gain(nonlinearity)
        mode: Literal["fan_in", "fan_out"] = "fan_in" if fan == "in" else "fan_out"
        draw: Callable[[Tensor], Tensor] = {
            "xavier-uniform": lambda w: init.xavier_uniform_(w, gain),
            "xavier-normal": lambda w: init.xavier_normal_(w, gain),
            "he-uniform": lambda w: init.kaiming_uniform_(w, mode=mode, nonlinearity=nonlinearity),
            "he-normal": lambda w: init.kaiming_normal_(w, mode=mode, nonlinearity=nonlinearity),
            "orthogonal": lambda w: init.orthogonal_(w, gain),
            "truncated-normal": lambda w: init.trunc_normal_(w, std=_STD, a=-2 * _STD, b=2 * _STD),
        }[name]
        for module in network.modules():
            _draw(module, draw)
    if zero_residual:
        zero_residual_branches(network)


def _draw(module: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    layer, norm = isinstance(module, (nn.Linear, _CONVOLUTION)), isinstance(module, _NORMS)
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if layer and weight is not None:
        draw(weight)
    if norm and weight is not None:
        init.ones_(weight)
    if (layer or norm) and bias is not None:
        init.zeros_(bias)


def zero_residual_branches(network: nn.Module) -> None:
    """Each residual block begins as the identity. A residual block is what holds `bn2`, or in a bottleneck `bn3`, as in torchvision's names."""
    last = [
        block.get_submodule("bn3" if hasattr(block, "bn3") else "bn2")
        for block in network.modules()
        if hasattr(block, "bn2")
    ]
    if not last:
        raise UsageError(
            f"no residual block in {type(network).__name__}", expected="a ResNet, or zero_residual: false"
        )
    for norm in last:
        init.zeros_(norm.weight)  # type: ignore[arg-type]

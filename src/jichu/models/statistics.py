"""Where activations and gradients go before the first step: their spread by layer, and what it means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jichu.core.randomness import generator, guarded, seed_step

from .backbone import Features
from .modes import keeping_modes

_RELU = ("ReLU", "ReLU6")
_FAR = 100  # how many times the spread may fall or rise from the first layer to the last
_DEAD = 0.75  # share of a layer's units; half of them is what a deep network of ReLU comes to
_CURE = "initialise: he-normal (with ReLU) or xavier-normal (with tanh), or a normalisation after each layer"


@dataclass
class Layer:
    """One layer at step 0. `zeros` is the share of outputs that are zero, `dead` that of units that are
    zero for every row; the gradient is the loss's with respect to the outputs."""

    name: str
    type: str
    mean: float
    std: float
    zeros: float
    dead: float
    gradient_std: float | None = None
    weight_gradient: float | None = None  # norm of the weight's gradient
    weighted: bool = False  # a dense or convolutional layer
    places: int = 1  # of a row, each with its units: those of a map, or tokens


def layer_statistics(
    model: nn.Module, batch: dict[str, Tensor], loss: Callable[[Any], Tensor] | None = None
) -> list[Layer]:
    """Run one batch forward and backward in training mode and say what each layer without parts gave, in
    the order in which they ran. ReLUs that are functions and not modules are not seen.

    `loss` makes a number of the model's outputs; where it is not given it is their product with noise of
    unit variance, mean over rows. Mode, gradients, buffers and the process's randomness are left as found.
    """
    layers: dict[str, Layer] = {}
    hooks = [
        module.register_forward_hook(_watch(name, layers))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad and n.endswith("weight")}
    try:
        with untouched(model), torch.enable_grad():
            seed_step(next(model.parameters(), torch.empty(0)).device, 0, "statistics")  # of dropout
            outputs = model.train()(batch)
            value = (loss or _against_noise)(outputs)
            if weights and value.requires_grad:
                found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
                for name, gradient in zip(weights, found, strict=True):
                    layer = layers.get(name.removesuffix("weight").removesuffix("."))
                    if layer is not None and gradient is not None:
                        layer.weight_gradient = gradient.norm().item()
    finally:
        for hook in hooks:
            hook.remove()
    return list(layers.values())


def _watch(name: str, layers: dict[str, Layer]) -> Callable[[nn.Module, Any, Any], None]:
    def watch(module: nn.Module, _: Any, out: Any) -> None:
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.numel() < 2:
            return
        x = out.detach().float()
        dense = isinstance(module, nn.Linear)  # on maps too its units are the last dimension
        units = (x == 0).movedim(1 if x.ndim == 4 and not dense else -1, 0).flatten(1)
        layer = layers[name] = Layer(
            name, type(module).__name__, x.mean().item(), x.std().item(), units.float().mean().item(),
            units.all(1).float().mean().item(), places=units.shape[1] // len(x),
            weighted=isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)),
        )  # fmt: skip
        if out.requires_grad:
            out.register_hook(lambda gradient: setattr(layer, "gradient_std", gradient.float().std().item()))

    return watch


def _answers(outputs: Any) -> list[Tensor]:
    """What a model was asked for: its heads' outputs; of a backbone the pooled features."""
    if isinstance(outputs, Features):
        return [outputs.pooled]
    if isinstance(outputs, dict):
        heads = {k: v for k, v in outputs.items() if k != "features"} or outputs
        return [t for value in heads.values() for t in _answers(value)]
    return [outputs] if isinstance(outputs, Tensor) and outputs.is_floating_point() else []


def _against_noise(outputs: Any) -> Tensor:
    total = torch.zeros(())
    for i, answer in enumerate(_answers(outputs)):
        noise = torch.randn(answer.shape, generator=generator("statistics", i)).to(answer)
        total = total.to(answer) + (answer * noise).sum() / len(answer)
    return total


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Mode, buffers and the process's randomness come out as they went in."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with keeping_modes(model), guarded(device):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])


# What queries, keys and values are called: attention is nearly even at first, so that the first two get hardly
# any gradient, and values that of a mean; what is passed on goes past them.
_EVEN = {f"{letter}{ending}" for letter in "qkv" for ending in ("", "_proj", "_lin")} | {
    "query",
    "key",
    "value",
}


def warnings(layers: list[Layer]) -> list[str]:
    """What the statistics foretell, with the likely cause and the cure; [] where nothing is wrong."""
    found = []
    broken = [layer.name for layer in layers if not math.isfinite(layer.std)]
    if broken:
        found.append(f"{broken[0]} gives numbers that are not finite: its weights or inputs are too large")
    weighted = [
        layer for layer in layers
        if layer.weighted and math.isfinite(layer.std) and layer.name.rpartition(".")[2] not in _EVEN
    ]  # fmt: skip
    forward = [(layer.name, layer.std) for layer in weighted]
    # a row's gradient is shared by its places: of what a first token alone is read from, by all tokens
    backward = [
        (layer.name, g * layer.places**0.5)
        for layer in weighted[::-1] if (g := layer.gradient_std) is not None
    ]  # fmt: skip
    for what, spreads in (("activations", forward), ("gradients", backward)):
        if len(spreads) > 1:
            found += _trend(what, *spreads[0], *spreads[-1])
    for layer in layers:
        if layer.type in _RELU and layer.dead > _DEAD:
            found.append(
                f"{layer.dead:.0%} of the units of {layer.name} are zero for every row: biases or weights before it"
                " are too negative, or its inputs not centred; he-normal with zero biases, a normalisation before"
                " it, or a leaky ReLU"
            )
    return found


def _trend(what: str, first: str, start: float, last: str, end: float) -> list[str]:
    if start > _FAR * end:
        return [f"{what} vanish: their std falls from {start:.2g} at {first} to {end:.2g} at {last}; the weights"
                f" are too small for this depth; {_CURE}"]  # fmt: skip
    if end > _FAR * start:
        return [f"{what} explode: their std grows from {start:.2g} at {first} to {end:.2g} at {last}; the weights"
                f" are too large for this depth; {_CURE}"]  # fmt: skip
    return []

"""Which channels must be removed together, found by marking them and looking where the marks arrive.

A mark is a NaN: sums, activations, pooling and batch normalisation pass it on in its own channel, whatever mixes
channels spreads it. All channels of a layer are told apart in one pass: the rows of a batch, one example again and
again, spell each channel's number in binary, and as a check its complement. A channel is traced where the next dense
layers are reached by marks that can be read; they pass zeros on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.hooks import RemovableHandle

from jichu.models.cut import channel_axis, is_dense, is_follower, sizes
from jichu.models.model import Model
from jichu.models.modes import evaluating
from jichu.objectives.base import Batch

_NONE, _UNREAD = -1, -2  # in the place of a channel's number: no mark, or one that cannot be read
_HEAD_SIZES = ("head_dim", "attention_head_size")  # what attention calls the width of a head


class Place(NamedTuple):
    """Channel `number` of what layer `name` takes in or, counted in blocks, gives out."""

    name: str
    number: int


class Unit(NamedTuple):
    """What can only be removed together: blocks of outputs, and the inputs that they become."""

    outputs: list[Place]
    inputs: list[Place]


class Traced(NamedTuple):
    """Units by the layers that they are outputs of, and of each such layer how wide a block is: a channel, or a head of
    attention."""

    families: dict[tuple[str, ...], list[Unit]]
    widths: dict[str, int]


def trace(model: Model, batch: Batch) -> Traced:
    """All that can be removed of a model's backbone; the example is the first row of the batch that is not empty."""
    layers = dict(model.named_modules())
    widths = _producers(model)
    if not widths:
        return Traced({}, {})
    arrived = {name: _follow(model, layers, name, width, batch) for name, width in widths.items()}
    tainted = _from_others(model, layers, widths, batch)
    for marks in arrived.values():
        if not marks.readable:
            tainted |= marks.touched
    return Traced(_families(_units(widths, layers, arrived, tainted)), widths)


class _Marks(NamedTuple):
    """Where the marks of one layer's outputs arrived."""

    lost: bool  # whether something met them that is no layer known here
    readable: bool
    touched: set[Place]
    origins: list[tuple[str, Tensor]]  # where they arrived, and of each input there the block, or _NONE


def _producers(model: Model) -> dict[str, int]:
    """The layers of the backbone whose outputs could be removed, and how many of them at once."""
    uses: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    found = {}
    for above_name, above in model.named_modules():
        width = next((getattr(above, name) for name in _HEAD_SIZES if hasattr(above, name)), None)
        if width is None and "Attention" in type(above).__name__:
            continue  # of which nobody knows how it is cut into heads
        for own, layer in above.named_children():
            name = f"{above_name}.{own}".lstrip(".")
            alone = name.startswith("backbone.") and is_dense(layer) and uses[id(layer.weight)] == 1
            if alone and sizes(layer)[1] % (width or 1) == 0:
                found[name] = width or 1
    return found


def _follow(model: Model, layers: dict[str, Any], name: str, width: int, batch: Batch) -> _Marks:
    """Mark the outputs of a layer, in blocks, and read where they arrive: all at once, or, where that cannot be read, in
    two or three parts, which others may multiply with each other (a gate; queries, keys and values)."""
    blocks = sizes(layers[name])[1] // width
    marks = _in_parts(model, layers, name, width, batch, blocks, 1)
    for parts in (2, 3):
        if blocks % parts == 0 and not marks.readable and not marks.lost:
            marks = _in_parts(model, layers, name, width, batch, blocks, parts)
    return marks


def _in_parts(
    model: Model, layers: dict[str, Any], name: str, width: int, batch: Batch, blocks: int, parts: int
) -> _Marks:
    bits = max(1, math.ceil(math.log2(blocks)))
    spelt = (torch.arange(blocks) >> torch.arange(bits)[:, None]) % 2 == 1  # [bits, blocks]
    lost = False
    origins: list[tuple[str, Tensor]] = []
    for part in torch.arange(blocks).chunk(parts):
        here = torch.isin(torch.arange(blocks), part)
        pattern = torch.cat([spelt & here, ~spelt & here]).repeat_interleave(width, 1)  # [rows, channels]
        found, lost_too = _run(model, layers, batch, {name: pattern}, len(pattern))
        origins += [(at, _read(marks)) for at, marks in found.items()]
        lost |= lost_too
    readable = not lost and not any((origin == _UNREAD).any() for _, origin in origins)
    touched = {Place(at, i) for at, o in origins for i in (o != _NONE).nonzero()[:, 0].tolist()}
    return _Marks(lost, readable, touched, origins)


def _from_others(model: Model, layers: dict[str, Any], widths: dict[str, int], batch: Batch) -> set[Place]:
    """The inputs that come from what is not marked and no follower: embeddings, normalisation over channels, recurrent
    layers, other parameters; and those of heads that are not as wide as the backbone says."""
    unmarked = {name for name, layer in layers.items() if is_dense(layer)} - set(widths)
    others = dict.fromkeys(n for n, layer in layers.items() if n in unmarked or (n and _is_other(layer)))
    found, _ = _run(model, layers, batch, others, 2)
    places = {Place(at, i) for at, marks in found.items() for i in marks.any(0).nonzero()[:, 0].tolist()}
    for name, layer in layers.items():
        if name.startswith("heads.") and is_dense(layer) and sizes(layer)[0] != model.backbone.width:
            places |= {Place(name, i) for i in range(sizes(layer)[0])}
    return places


def _is_other(layer: nn.Module) -> bool:
    own = any(True for _ in layer.parameters(recurse=False))
    return own and not (is_dense(layer) or is_follower(layer))


def _run(
    model: Model, layers: dict[str, Any], batch: Batch, patterns: Mapping[str, Tensor | None], rows: int
) -> tuple[dict[str, Tensor], bool]:
    """The marks [rows, inputs] that arrived at each dense layer and follower, where some layers' outputs are marked by a
    pattern, or all of them; and whether anything else met one."""
    found: dict[str, Tensor] = {}
    strange: list[str] = []

    def arrive(name: str, stops: bool) -> Callable[..., Any]:
        def hook(layer: nn.Module, given: tuple[Any, ...]) -> Any:
            x = given[0]
            marks = x.isnan()
            if not marks.any():
                return None
            marks = marks.movedim(channel_axis(layer), -1)
            if len(x) % rows:  # whose mark is whose cannot be told
                strange.append(name)
                marks = torch.ones(rows, marks.shape[-1], dtype=torch.bool, device=x.device)
            else:
                marks = marks.reshape(rows, -1, marks.shape[-1]).any(1)
            found[name] = marks | found[name] if name in found else marks
            return (x.nan_to_num(), *given[1:]) if stops else None

        return hook

    def meet(name: str) -> Callable[..., Any]:
        def hook(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            if name not in patterns and any(_marked(x) for x in tree_leaves((given, out))):
                strange.append(name)

        return hook

    # the faster kernels of attention lose marks
    with ExitStack() as hooks, evaluating(model), sdpa_kernel(SDPBackend.MATH):
        hooked: list[RemovableHandle] = []
        for name, layer in layers.items():
            if is_dense(layer) or is_follower(layer):
                hooked.append(layer.register_forward_pre_hook(arrive(name, is_dense(layer))))
            elif _is_other(layer):
                hooked.append(layer.register_forward_hook(meet(name)))
            if name in patterns:
                hooked.append(layer.register_forward_hook(_marking(patterns[name], rows, strange)))
        for handle in hooked:
            hooks.callback(handle.remove)
        outputs = model(_repeated(batch, rows))
    leaked = any(_marked(x) for name in model.heads for x in tree_leaves(outputs[name]))
    return found, bool(strange) or leaked


def _marked(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and bool(x.isnan().any())


def _marking(pattern: Tensor | None, rows: int, strange: list[str]) -> Callable[..., Any]:
    def hook(layer: nn.Module, given: tuple[Any, ...], out: Any) -> Any:
        if pattern is None:
            return tree_map_only(Tensor, lambda x: x * torch.nan if x.is_floating_point() else x, out)
        if not isinstance(out, Tensor) or not out.is_floating_point() or len(out) % rows:
            strange.append(type(layer).__name__)
            return None
        mask = pattern.to(out.device).repeat_interleave(len(out) // rows, 0)
        shape = [len(out), *[1] * (out.ndim - 1)]
        shape[channel_axis(layer)] = mask.shape[1]
        return out.masked_fill(mask.view(shape), torch.nan)

    return hook


def _repeated(batch: Batch, rows: int) -> Batch:
    """One example, with nothing missing, in every row."""
    first = 0
    if "tokens" in batch:
        first = int((batch["tokens"] >= 0).sum(1).argmax())
    again = {name: value[first : first + 1].repeat_interleave(rows, 0) for name, value in batch.items()}
    return {name: v.nan_to_num() if v.is_floating_point() else v for name, v in again.items()}


def _read(marks: Tensor) -> Tensor:
    """Of each input [inputs] the block whose number the rows [2 × bits, inputs] spell."""
    spelt, complement = marks.chunk(2)
    numbers = (spelt.long() << torch.arange(len(spelt), device=marks.device)[:, None]).sum(0)
    numbers[(spelt == complement).any(0)] = _UNREAD
    numbers[~marks.any(0)] = _NONE
    return numbers.cpu()


def _units(
    widths: dict[str, int], layers: dict[str, Any], arrived: dict[str, _Marks], tainted: set[Place]
) -> list[Unit]:
    """Outputs that share an input belong together (union-find); what is tainted, or is of no use to anybody, is none."""
    parent: dict[Place, Place] = {}

    def root(place: Place) -> Place:
        while parent.setdefault(place, place) != place:
            parent[place] = place = parent[parent[place]]
        return place

    first: dict[Place, Place] = {}  # of each input, an output that it comes from
    for name, marks in arrived.items():
        for at, origins in marks.origins if marks.readable else ():
            for i, block in enumerate(origins.tolist()):
                if block >= 0:
                    parent[root(Place(name, block))] = root(
                        first.setdefault(Place(at, i), Place(name, block))
                    )
    spoilt = {root(first[place]) for place in tainted if place in first}
    units: dict[Place, Unit] = {}
    for name, width in widths.items():
        for block in range(sizes(layers[name])[1] // width):
            place = Place(name, block)
            if place in parent and root(place) not in spoilt:
                units.setdefault(root(place), Unit([], [])).outputs.append(place)
    for place, output in first.items():
        if root(output) in units:
            units[root(output)].inputs.append(place)
    return list(units.values())


def _families(units: list[Unit]) -> dict[tuple[str, ...], list[Unit]]:
    """Units by the layers that they are outputs of."""
    found: dict[tuple[str, ...], list[Unit]] = {}
    for unit in units:
        found.setdefault(tuple(dict.fromkeys(place.name for place in unit.outputs)), []).append(unit)
    return found

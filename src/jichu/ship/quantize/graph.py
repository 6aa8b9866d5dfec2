"""What a graph of ONNX has to quantize: which nodes have weights, what layers of the model these are, and how weights are
stored in 8 bits where no operator computes with such."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from jichu.core.errors import unknown

from ..export.onnx_file import layers_of

# The operators with large constants: which of their inputs these are, and the dimension that counts channels (rows of a table).
WEIGHTS = {
    "Conv": ((1,), 0), "ConvTranspose": ((1,), 1), "Gemm": ((1,), 1), "MatMul": ((1,), -1), "Gather": ((0,), 0),
    "LSTM": ((1, 2), 1), "GRU": ((1, 2), 1), "RNN": ((1, 2), 1),
}  # fmt: skip
_LEAST = 64  # numbers of a constant that are worth it
_FLOAT = 1  # as ONNX counts its types


def weighted(graph: Any, model: Any) -> dict[str, str]:
    """{node: layer} of the nodes of a graph that have weights. The layers are told by the graph that `jichu export` wrote
    of the `model`, of which this one was made; a node that is in none is called by its own name."""
    layers = {
        node.name: layer for node in model.graph.node for layer in layers_of(node)
    }  # the innermost is last
    constants = _constants(graph)
    return {n.name: layers.get(n.name, n.name) for n in graph.graph.node if _weights(n, constants)}


def of_layers(nodes: dict[str, str], wanted: Iterable[str], where: str) -> set[str]:
    """The nodes of some layers, and of the layers within these. UsageError where the model has no such layer."""
    layers = set(nodes.values())
    every = {
        ".".join(parts[: i + 1])
        for parts in (layer.split(".") for layer in layers)
        for i in range(len(parts))
    }
    found: set[str] = set()
    for name in wanted:
        if name not in every:
            raise unknown("layer", name, every, where=where)
        found |= {node for node, layer in nodes.items() if f"{layer}.".startswith(f"{name}.")}
    return found


def store(model: Any, skipped: Collection[str]) -> None:
    """Put weights that are float32 still into 8 bits, w ≈ scale × q with a scale for each channel, |q| ≤ 127. They are made
    float32 again where they are read; no activation is changed."""
    from onnx import helper, numpy_helper

    graph, constants = model.graph, _constants(model)
    skip = {name for node in graph.node if node.name in skipped for name in node.input}
    made = []
    for node in graph.node:
        for name in [n for n in _weights(node, constants) if n not in skip]:
            held = constants.pop(name)  # once, though several nodes may read it
            axis = channels(node, held)
            values, scales = rounded(numpy_helper.to_array(held), axis)
            graph.initializer.remove(held)
            graph.initializer.extend(
                [
                    numpy_helper.from_array(values, f"{name}_q"),
                    numpy_helper.from_array(scales, f"{name}_scale"),
                ]
            )
            inputs = [f"{name}_q", f"{name}_scale"]
            made.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}_dq", axis=axis))
    for at, node in enumerate(made):
        graph.node.insert(at, node)


def rounded(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and the scale float32 of each channel; to the nearest, halves to the even."""
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    scales = np.abs(weight).max(others, keepdims=True).astype(np.float32) / 127
    scales = np.where(scales >= np.finfo(np.float32).tiny, scales, np.float32(1))
    values = np.clip(np.rint(weight / scales), -127, 127).astype(np.int8)
    return values, scales.reshape(-1)


def channels(node: Any, weight: Any) -> int:
    """The dimension of a node's weight that counts its channels."""
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    axis = 0 if node.op_type == "Gemm" and turned else WEIGHTS[node.op_type][1]
    return axis % len(weight.dims)


def _constants(model: Any) -> dict[str, Any]:
    return {
        held.name: held for held in model.graph.initializer
        if held.data_type == _FLOAT and len(held.dims) > 1 and np.prod(held.dims) >= _LEAST
    }  # fmt: skip


def _weights(node: Any, constants: dict[str, Any]) -> list[str]:
    places, _ = WEIGHTS.get(node.op_type, ((), 0))
    given = [node.input[i] for i in places if i < len(node.input)]
    return [name for name in given if name in constants]

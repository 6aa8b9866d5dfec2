"""What a scheme of quantization does, and a graph made by one."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jichu.core.config import Spec
from jichu.core.errors import UsageError, missing_extra
from jichu.core.files import dumps
from jichu.core.names import construct

from ..export.base import Arrays
from ..onnx_model import PREFIX
from . import QUANTIZATIONS
from .graph import WEIGHTS, of_layers, store, weighted

Rows = Callable[[int], Iterable[Arrays]]  # batches of so many training rows, as the graph is given them
Ends = dict[str, tuple[float, float]]  # the lowest and the highest value of each


@dataclass(frozen=True)
class Prepared:
    """A float32 graph in a form that can be quantized: constants folded, batch norms within the convolutions before them.
    `model` is where it comes from, `nodes` {node: layer} what has weights, and `ends` those of tensors that are known."""

    model: Path
    path: Path
    nodes: dict[str, str]
    ends: Ends


class Quantization(Protocol):
    """One way of making a graph smaller or faster; constructed with its arguments."""

    def __call__(self, given: Prepared, to: Path, skipped: Collection[str], rows: Rows) -> None:
        """Write it, with the nodes of these names as they are. What has weights of float32 still is put into 8 bits
        afterwards."""


@contextlib.contextmanager
def prepared(model: Path, ends: Ends | None = None) -> Iterator[Prepared]:
    """A graph made ready, while the block runs; `ends` are those of what goes into layers, where training has seen them.
    UsageError where it has no weights to quantize."""
    import onnx

    with tempfile.TemporaryDirectory() as folder, quietly():
        path = Path(folder) / "prepared.onnx"
        library().shape_inference.quant_pre_process(model, path, skip_symbolic_shape=True)
        graph = onnx.load(path)
        nodes = weighted(graph, onnx.load(model, load_external_data=False))
        if not nodes:
            has = ", ".join(sorted({node.op_type for node in graph.graph.node}))
            raise UsageError(
                f"nothing in it has weights that could be of fewer bits: it is made of {has}",
                where="--quantize", expected=f"a model with one of {', '.join(WEIGHTS)} of 64 weights at least",
            )  # fmt: skip
        known = {
            node.input[0]: ends[nodes[node.name]] for node in graph.graph.node if nodes.get(node.name) in (ends or {})
        } if ends else {}  # fmt: skip
        yield Prepared(model, path, nodes, known)


def scheme(spec: Spec) -> Quantization:
    """The scheme of a name and its arguments. UsageError where these are wrong."""
    return construct("quantization", spec, QUANTIZATIONS, where="--quantize")()


def quantize(
    given: Prepared, spec: Spec, to: Path, rows: Rows, keep: Iterable[str] = (), only: str | None = None
) -> None:
    """Write a graph of a scheme. The layers in `keep`, and those within them, stay as they are; with `only` all but one
    do. What the file says of itself stays, and tells the scheme."""
    import onnx

    keep = sorted(keep)
    skipped = of_layers(given.nodes, keep, "--keep")
    if only is not None:
        skipped = {node for node, layer in given.nodes.items() if layer != only}
    if len(skipped) == len(given.nodes):
        raise UsageError("no layer is left to quantize", where="--keep", expected="fewer of them")
    skipped |= {f"{node}_MatMul" for node in skipped}  # what ONNX Runtime calls the product within a Gemm
    with quietly():
        scheme(spec)(given, to, skipped, rows)
    made = onnx.load(to)
    store(made, skipped)
    about = {
        entry.key: entry.value for entry in onnx.load(given.model, load_external_data=False).metadata_props
    }
    about[f"{PREFIX}quantized"] = dumps({**spec.model_dump(), "keep": keep})
    onnx.helper.set_model_props(made, about)
    made.producer_name = "jichu"
    onnx.save(made, to)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what the library says of its progress."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with np.errstate(divide="ignore", invalid="ignore"):  # of blocks of zeros
            yield
    finally:
        logging.disable(before)


def library() -> Any:
    """ONNX Runtime's tools of quantization. UsageError where they are not installed."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        import onnx  # noqa: F401, which they need
        from onnxruntime import quantization
        from onnxruntime.quantization import matmul_nbits_quantizer, shape_inference  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name or "onnxruntime", "onnx") from None
    finally:  # importing them turns on the log of everything
        root.setLevel(level)
        root.handlers[:] = handlers
    return quantization

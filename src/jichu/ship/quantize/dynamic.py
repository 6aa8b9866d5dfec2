"""Products of 8 bits whose activations are measured while the graph runs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from .base import Prepared, Rows, library


class Int8Dynamic:
    """Matrix products, LSTMs and tables of embeddings in 8 bits: weights signed and each channel with its own scale,
    activations unsigned with the range that they have at that moment. No rows are needed. Convolutions, which ONNX Runtime
    computes several times slower so, get weights of 8 bits alone. `reduce_range` takes 7 bits of weights, for processors
    whose products of 8 bits saturate: x86 without VNNI."""

    def __init__(self, reduce_range: bool = False):
        self.reduce_range = reduce_range

    def __call__(self, given: Prepared, to: Path, skipped: Collection[str], rows: Rows) -> None:
        tools = library()
        tools.quantize_dynamic(
            given.path, to, op_types_to_quantize=["MatMul", "LSTM", "Gather"], per_channel=True, reduce_range=self.reduce_range,
            weight_type=tools.QuantType.QInt8, nodes_to_exclude=list(skipped),
        )  # fmt: skip

"""8 bits throughout, with ranges of the activations that were seen on training rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jichu.core.errors import UsageError

from ..export.base import Arrays
from .base import Prepared, Rows, library

# Those that compute with weights, and those between them that give 8 bits on as they get them. Sums along a transformer's
# residual stream are left out: in 8 bits they cost a small BERT 2.5 points.
_OPERATORS = ["Conv", "Gemm", "MatMul", "Gather", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"]  # fmt: skip


class Int8Static:
    """Convolutions, products and what stands between them in 8 bits, in QDQ form (Jacob et al., 2018): weights signed with a
    scale for each channel, activations unsigned. Their ranges are seen on `rows` training rows: the extremes (`minmax`),
    those that lose least by Kullback and Leibler's divergence (`entropy`), or a `percentile`; those that training saw
    (`quantization-aware`) are taken as they are. `reduce_range` takes 7 bits
    of weights, for x86 without VNNI."""

    def __init__(
        self, calibration: Literal["minmax", "entropy", "percentile"] = "minmax", rows: int = 256,
        percentile: float = 99.99, reduce_range: bool = False,
    ):  # fmt: skip
        if rows < 1:
            raise UsageError(f"{rows} rows", where="--quantize", expected="1 at least")
        if not 50 < percentile <= 100:
            raise UsageError(
                f"a percentile of {percentile:g}", where="--quantize", expected="over 50, 100 at most"
            )
        self.calibration, self.rows, self.percentile = calibration, rows, percentile
        self.reduce_range = reduce_range

    def __call__(self, given: Prepared, to: Path, skipped: Collection[str], rows: Rows) -> None:
        tools = library()
        known = {
            name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
            for name, (low, high) in given.ends.items()
        }
        methods = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
        tools.quantize_static(
            given.path, to, _reader(tools, rows(self.rows)), quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS, per_channel=True, reduce_range=self.reduce_range,
            activation_type=tools.QuantType.QUInt8, weight_type=tools.QuantType.QInt8, nodes_to_exclude=list(skipped),
            calibrate_method=getattr(tools.CalibrationMethod, methods[self.calibration]),
            extra_options={"MatMulConstBOnly": True, "CalibPercentile": self.percentile, "TensorQuantOverrides": known},
        )  # fmt: skip


def _reader(tools: Any, batches: Iterable[Arrays]) -> Any:
    """The batches, one after the other, then None."""

    class Reader(tools.CalibrationDataReader):
        given = iter(batches)

        def get_next(self) -> Arrays | None:
            return next(self.given, None)

    return Reader()

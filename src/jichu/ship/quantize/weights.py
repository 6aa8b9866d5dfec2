"""Weights of 8 or 4 bits; what is computed with them stays as it was, or nearly."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from jichu.core.errors import UsageError

from .base import Prepared, Rows, library

_INT8_PRODUCTS = 4  # what ONNX Runtime calls the level at which rows too are rounded, to 8 bits in each block


class Int8Weights:
    """Matrices in blocks of 8 bits (`block` weights of a column share a scale); weights of convolutions and recurrent layers,
    and rows of tables, each with its own scale. The file is about a quarter; it need not be faster."""

    bits = 8
    operators: tuple[str, ...] = ("MatMul",)

    def __init__(self, block: int = 128):
        if block < 16 or block & (block - 1):
            raise UsageError(
                f"blocks of {block} weights", where="--quantize", expected="16, 32, 64, 128 or 256"
            )
        self.block = block

    def __call__(self, given: Prepared, to: Path, skipped: Collection[str], rows: Rows) -> None:
        import onnx

        model: Any = library().onnx_model.ONNXModel(onnx.load(given.path))
        model.replace_gemm_with_matmul()
        quantizer = library().matmul_nbits_quantizer.MatMulNBitsQuantizer(
            model.model, bits=self.bits, block_size=self.block, is_symmetric=True, accuracy_level=_INT8_PRODUCTS,
            nodes_to_exclude=list(skipped), op_types_to_quantize=self.operators,
        )  # fmt: skip
        quantizer.process()
        quantizer.model.save_model_to_file(str(to))


class Int4Weights(Int8Weights):
    """The same of 4 bits for matrices and tables of embeddings; convolutions and recurrent layers, for which there is no
    operator of 4 bits, take 8."""

    bits = 4
    operators = ("MatMul", "Gather")

    def __init__(self, block: int = 32):
        super().__init__(block)

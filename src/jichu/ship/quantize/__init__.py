"""Graphs with weights of 8 or 4 bits, and with arithmetic of 8."""

from __future__ import annotations

# One line a scheme: what `--quantize` may be, and who does it.
QUANTIZATIONS = {
    "int4-weights": "jichu.ship.quantize.weights:Int4Weights",
    "int8-dynamic": "jichu.ship.quantize.dynamic:Int8Dynamic",
    "int8-static": "jichu.ship.quantize.static:Int8Static",
    "int8-weights": "jichu.ship.quantize.weights:Int8Weights",
}

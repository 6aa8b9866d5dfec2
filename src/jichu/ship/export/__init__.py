"""Models written for other programs, each checked in its own runtime before it takes its place."""

from __future__ import annotations

# One line a format: what `--to` may be, and who writes it and reads it again.
FORMATS = {
    "gguf": "jichu.ship.export.gguf_file:Gguf",
    "hf": "jichu.ship.export.hugging_face:HuggingFace",
    "onnx": "jichu.ship.export.onnx_file:Onnx",
    "torch": "jichu.ship.export.torch_file:TorchExport",
}

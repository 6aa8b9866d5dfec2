"""`jichu export`: a model for other programs."""

from __future__ import annotations

from typing import Any

from ..options import Options, command
from ..output import print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands,
        "export",
        export,
        "write a model for other programs, proven in its own runtime",
        "jichu export runs/quickstart --to onnx --output digits.onnx",
    )
    parser.add_argument("run", help="a run folder")
    parser.add_argument(
        "--to", default="onnx", metavar="FORMAT", help="onnx, torch, hf or gguf; onnx if not given"
    )
    parser.add_argument("--output", metavar="PATH", help="in the run's folder export if not given")
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, metavar="T",
        help="the largest difference of an answer that is allowed; 0.0001 if not given",
    )  # fmt: skip
    parser.add_argument("--data", metavar="DATA", help="other data than the run's own to compare on")
    parser.add_argument("--overwrite", action="store_true", help="what is there already")


def export(options: Options) -> None:
    """Write the model, and say how near it is."""
    from jichu.exports import export

    made = export(
        options.run, options.to, options.output, tolerance=options.tolerance, data=options.data,
        overwrite=options.overwrite,
    )  # fmt: skip
    if options.json:
        print_json({**vars(made), "path": str(made.path)})
    else:
        print(
            f"{made.path}: {made.bytes / 2**20:,.1f} MiB; on {made.rows} held-out rows it differs from the model by"
            f" {made.difference:.1g} at most"
        )

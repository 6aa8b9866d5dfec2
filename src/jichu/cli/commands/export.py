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
    parser.add_argument(
        "--quantize", metavar="SCHEME",
        help="a graph of fewer bits: int8-weights, int4-weights, int8-dynamic or int8-static;"
        " '{name: int8-static, calibration: percentile}' says more",
    )  # fmt: skip
    parser.add_argument(
        "--keep", nargs="+", default=[], metavar="LAYER",
        help="layers that are not quantized; auto leaves out as many as it takes",
    )  # fmt: skip
    parser.add_argument(
        "--allow-loss", type=float, default=1.0, metavar="POINTS",
        help="hundredths of the run's first metric (of an error per cent) that quantizing may cost; 1 if not given",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="what is there already")


def export(options: Options) -> None:
    """Write the model, and say how near it is."""
    from jichu.core.config import parse_yaml
    from jichu.exports import export

    scheme = options.quantize and parse_yaml(options.quantize, "--quantize")
    made = export(
        options.run, options.to, options.output, tolerance=options.tolerance, data=options.data,
        overwrite=options.overwrite, quantize=scheme, keep=options.keep, allow_loss=options.allow_loss,
    )  # fmt: skip
    if options.json:
        print_json(made.plain())
        return
    print(
        f"{made.path}: {made.bytes / 2**20:,.1f} MiB; on {made.rows} held-out rows it differs from the model by"
        f" {made.difference:.1g} at most" + (" before it is quantized" if made.quantized else "")
    )
    if made.quantized:
        print(_told(made.quantized))


def _told(found: Any) -> str:
    """What fewer bits cost."""
    changed = "" if found.changed is None else f"; {found.changed:.1%} of the answers are others"
    return (
        f"{found.metric} {found.after} on {found.rows:,} held-out rows, {found.before} in float32:"
        f" {found.lost} points lost{changed}"
    )

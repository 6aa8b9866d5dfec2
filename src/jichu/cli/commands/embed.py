"""`jichu embed`: the features of data."""

from __future__ import annotations

from typing import Any

from ..options import Options, command
from ..output import print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands,
        "embed",
        embed,
        "write the features of data as Parquet",
        "jichu embed runs/quickstart --output digits.parquet",
    )
    parser.add_argument("run", help="a run folder")
    parser.add_argument("data", nargs="?", help="other data than the run's own")
    parser.add_argument(
        "--output", metavar="FILE", default="embeddings.parquet", help="embeddings.parquet if not given"
    )


def embed(options: Options) -> None:
    """Write the features of data."""
    from jichu.embeddings import write
    from jichu.runs import Run

    found = write(Run(options.run), options.data, options.output)
    if options.json:
        print_json(found)
    else:
        print(f"{found['rows']:,} rows of {found['width']} numbers: {found['path']}")

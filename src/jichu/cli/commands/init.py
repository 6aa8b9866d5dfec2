"""`jichu init`: a recipe for data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ..options import Options, add_data, add_set, add_target, command, data_config
from ..output import print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands, "init", init, "write a recipe fitted to data",
        "jichu init photos && jichu run recipe.yaml",
    )  # fmt: skip
    add_data(parser)
    parser.add_argument(
        "-o", "--output", default="recipe.yaml", metavar="FILE.yaml", help="recipe.yaml if not given"
    )
    add_target(parser)
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    add_set(parser, "data keys, such as size=32")


def init(options: Options) -> None:
    """Write a recipe for data."""
    from jichu.core.files import write_text
    from jichu.data.inspection import inspect as look_into
    from jichu.data.load import load
    from jichu.recipe.init import draft, refuse_existing

    path = Path(options.output)
    refuse_existing(path, options.force)
    config = data_config("init", options, **({"target": options.target} if options.target else {}))
    dataset = load(options.data, config)
    found = look_into(dataset)
    write_text(path, draft(dataset, found, config))
    if options.json:
        print_json({"recipe": options.output, "remarks": found["remarks"]})
        return
    for remark in found["remarks"]:
        print(f"- {remark}")
    print(f"written: {options.output}\nrun it:  jichu run {shlex.quote(options.output)}")

"""`jichu inspect`: what data are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..options import Options, add_data, add_language, add_set, command, data_config
from ..output import print_json, print_table


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands,
        "inspect",
        inspect,
        "say what data are and what of them cannot be used",
        "jichu inspect photos --page",
    )
    add_data(parser)
    parser.add_argument(
        "--augment", nargs="?", const="augment.png", metavar="FILE.png",
        help="draw what each augmentation does to the images; into augment.png if no file is given",
    )  # fmt: skip
    parser.add_argument(
        "--page", nargs="?", const="inspect.html", metavar="FILE.html",
        help="show it on a page for the browser; inspect.html if no file is given",
    )  # fmt: skip
    add_language(parser, "the page")
    add_set(parser, "data keys, such as size=32")


def inspect(options: Options) -> None:
    """Print what data are, or draw it."""
    from jichu.data.inspection import inspect as look_into
    from jichu.data.load import load

    from ..inspect import draw_augmentation, lines, tables

    dataset = load(options.data, data_config("inspect", options))
    found = look_into(dataset)
    drawn = {}
    if options.augment:
        draw_augmentation(dataset, options.augment)
        drawn["augmentation drawn"] = options.augment
    if options.page:
        from jichu.auditing import data_page
        from jichu.core.words import speaking

        with speaking(options.language):
            data_page.write(Path(options.page), dataset, found)
        drawn["look at it"] = options.page
    if options.json:
        print_json(found)
        return
    print(f"{found['source']}: {found['rows']:,} records")
    for columns, rows in tables(found):
        print_table(columns, rows)
    print("\n" + "\n".join(lines(found)))
    for what, where in drawn.items():
        print(f"\n{what}: {where}")

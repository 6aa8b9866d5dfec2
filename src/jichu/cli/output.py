"""How commands say what they found."""

from __future__ import annotations

import re
import sys
from typing import Any

# what would steer a terminal, turn a line round, or is no character
_STEERS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """A text of unknown origin as it may be printed."""
    return _STEERS.sub("\ufffd", text)


def print_json(value: Any) -> None:
    """The result for machines."""
    from jichu.core.files import dumps

    print(dumps(value, indent=2).encode("utf-8", "replace").decode())  # names of files may be no text


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Rows under the names of their columns."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(escape(plain(column)), justify="right" if i else "left")
    for row in rows:
        table.add_row(*(escape(plain(cell)) for cell in row))
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    with console.capture() as drawn:  # rich itself ends the process where nobody reads
        console.print()
        console.print(table)
    print(drawn.get(), end="")


def print_blocks(title: str, blocks: list[Any]) -> None:
    """A section of a report, without its figures."""
    from jichu.auditing.blocks import Note, Table, cell

    print(f"\n{title}")
    for block in blocks:
        if isinstance(block, Table):
            rows = [[" ".join(filter(None, cell(value))) for value in row] for row in block.rows]
            print_table(list(block.heads), rows)
        elif isinstance(block, Note):
            print(f"\n{block.text}")


def print_headline(headline: dict[str, Any]) -> None:
    """Each figure with its interval."""
    if headline:
        from jichu.core.progress import number
        from jichu.core.words import named, words

        rows = [
            [
                named(name),
                number(v["value"]),
                words("{low} to {high}", low=number(v["low"]), high=number(v["high"])),
            ]
            for name, v in headline.items()
        ]
        print_table([words("on held-out rows"), words("value"), words("95% interval")], rows)


def print_gates(gates: list[dict[str, Any]]) -> None:
    """What was asked of figures, found, and by how much it holds."""
    if gates:
        from jichu.auditing.gates import table
        from jichu.core.words import words

        print_blocks(words("Gates"), [table(gates)])

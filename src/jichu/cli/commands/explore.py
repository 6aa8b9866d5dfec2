"""`jichu neighbours` and `jichu counterfactual`: which training rows an input is like, and what would change its
answer."""

from __future__ import annotations

from typing import Any

from ..options import Options, command
from ..output import print_json, print_table


def add(commands: Any) -> None:
    """The commands."""
    parser = command(
        commands, "neighbours", neighbours, "find the training rows that inputs are most like",
        "jichu neighbours runs/quickstart runs/quickstart/examples/*.png",
    )  # fmt: skip
    _add_inputs(parser)
    parser.add_argument("-k", type=int, default=8, metavar="N", help="how many of each; 8 if not given")
    parser = command(
        commands, "counterfactual", counterfactual, "find the fewest changes that change an answer",
        "jichu counterfactual runs/wine bottle.csv --immutable ash --immutable hue",
    )  # fmt: skip
    _add_inputs(parser)
    parser.add_argument("--target", metavar="CLASS", help="the class that is wanted; any other if not given")
    parser.add_argument(
        "--column", metavar="COLUMN", help="which of several targets; the first of classes if not given"
    )
    parser.add_argument(
        "--immutable", action="append", default=[], metavar="COLUMN", help="a column of a table that stays; may be repeated"
    )  # fmt: skip
    parser.add_argument(
        "--tries", type=int, default=2000, metavar="N", help="how often the model is asked about each input at most; 2000 if not given"
    )  # fmt: skip


def _add_inputs(parser: Any) -> None:
    parser.add_argument("run", help="a run folder")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image or sound files, texts, or tables whose rows are meant"
    )  # fmt: skip
    parser.add_argument("--data", metavar="DATA", help="the training data; the run's own if not given")


def neighbours(options: Options) -> None:
    """The nearest rows of each input."""
    from jichu.runs import Run

    run = Run(options.run)
    found: list[Any] = []
    for item in options.inputs:
        read = run.inputs(item)
        found += zip(read.names, run.neighbours(item, options.k, data=options.data), strict=True)
    if options.json:
        told = [
            {"input": name, "neighbours": [{**one.plain(), "record": one.example.record} for one in near]}
            for name, near in found
        ]
        print_json(told)
        return
    for name, near in found:
        print(f"{name}:")
        rows = [[one.example.record, f"{one.distance:.4f}", _known(one.example.truth)] for one in near]
        print_table(["record", "distance", "truth"], rows)


def _known(truth: dict[str, Any]) -> str:
    return ", ".join(f"{column} = {value}" for column, value in truth.items() if value is not None)


def counterfactual(options: Options) -> None:
    """What would change the answer to each input."""
    from jichu.runs import Run

    run, found = Run(options.run), []
    for item in options.inputs:
        found += run.counterfactual(
            item, target=options.target, column=options.column, immutable=options.immutable, tries=options.tries,
            data=options.data,
        )  # fmt: skip
    if options.json:
        print_json([{"input": one.input, **one.plain()} for one in found])
        return
    for one in found:
        print(f"{one.input}: {one.said}")
        for change in one.changes:
            print("  " + ", ".join(f"{key} {value}" for key, value in change.items()))

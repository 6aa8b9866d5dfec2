"""`jichu adapters`: the small files beside one base."""

from __future__ import annotations

import argparse
from typing import Any

from ..options import Options, Parser, command
from ..output import print_json, print_table


def add(commands: Any) -> None:
    """The commands."""
    about = "list, merge or remove what `--adapt lora` has trained"
    group = commands.add_parser("adapters", help=about, description=about[0].upper() + about[1:] + ".")
    below = group.add_subparsers(
        dest="action", metavar="list, merge or remove", required=True, parser_class=Parser
    )

    parser = command(
        below,
        "list",
        show,
        "the adapters of runs, and whether their base is there",
        "jichu adapters list runs",
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders, or folders of runs; runs if none"
    )

    parser = command(
        below,
        "merge",
        merge,
        "make a model whole, so that it needs its base no more",
        "jichu adapters merge runs/reviews --out runs/reviews-whole",
    )
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--out", metavar="FOLDER", help="a new run folder; in place if not given")
    _add_which(parser)

    about = "take adapters away; what is told of the run stays"
    parser = command(below, "remove", remove, about, "jichu adapters remove runs/reviews")
    parser.add_argument("run", help="a run folder")
    _add_which(parser)


def _add_which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stage", metavar="NAME", help="of several; the recipe's result if not given")


def _short(pattern: str) -> str:
    """The ends of names: `self.query, self.value`."""
    return ", ".join(".".join(name.split(".")[-2:]) for name in pattern.split(", "))


def show(options: Options) -> None:
    """The adapters of runs."""
    from dataclasses import asdict

    from jichu.adapters import found
    from jichu.core.progress import number

    adapters = found(options.runs or ["runs"])
    if options.json:
        print_json([asdict(adapter) for adapter in adapters])
        return
    print_table(
        ["adapters", "base", "", "kind", "rank", "beside", "KiB", "score"],
        [
            [a.run if a.stage == "finetune" else f"{a.run} {a.stage}", a.base or "", a.state, a.kind, str(a.rank),
             _short(a.pattern), number(a.bytes / 1024), ", ".join(f"{name} {number(value)}" for name, value in a.score.items())]
            for a in adapters
        ],
    )  # fmt: skip


def merge(options: Options) -> None:
    """Make a run's model whole."""
    from jichu.adapters import merge as made_whole

    path = made_whole(options.run, options.out, options.stage)
    if options.json:
        print_json({"run": str(path)})
    else:
        print(f"whole: {path}")


def remove(options: Options) -> None:
    """Take adapters away."""
    from jichu.adapters import remove as taken_away

    size = taken_away(options.run, options.stage)
    if options.json:
        print_json({"run": options.run, "bytes": size})
    else:
        print(f"removed from {options.run}: {size / 1024:,.0f} KiB")

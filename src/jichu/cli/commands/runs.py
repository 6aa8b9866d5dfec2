"""`jichu runs`: all run folders at a glance, compared, tagged and cleaned."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import Options, Parser, command
from ..output import plain, print_json, print_table

if TYPE_CHECKING:
    from jichu.tracking.facts import Facts

_MOST = 50  # runs that are shown where nothing else is said


def add(commands: Any) -> None:
    """The commands."""
    about = "list runs; compare, tag or clean them"
    group = command(commands, "runs", show, about, "jichu runs --state running --sort accuracy")
    _add_list(group)
    below = group.add_subparsers(dest="action", metavar="list, compare, tag or clean", parser_class=Parser)
    _add_list(command(below, "list", show, "list runs", "jichu runs list --tag good --sort accuracy"))

    parser = command(
        below, "compare", compare, "what differs between runs, in their recipes and in what came of them",
        "jichu runs compare runs/one runs/two",
    )  # fmt: skip
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders")

    parser = command(
        below, "tag", tag, "give runs tags, or take them away", "jichu runs tag runs/one +good -draft"
    )
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="RUN … +TAG -TAG", help="run folders, and what to change"
    )

    about = "what can be removed: checkpoints of finished runs, and runs that failed before they had any"
    parser = command(below, "clean", clean, about, "jichu runs clean --older 30 --yes")
    _add_folder(parser)
    parser.add_argument(
        "--older", type=float, default=7.0, metavar="DAYS", help="of runs that failed; 7 if not given"
    )
    parser.add_argument("--yes", action="store_true", help="remove it")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", default="runs", help="the folder with the run folders; runs if not given")


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser)
    parser.add_argument("--search", default="", metavar="WORDS", help="that stand in name, stage or tags")
    parser.add_argument(
        "--tag", action="append", default=[], help="that a run has; several times for several"
    )
    parser.add_argument(
        "--state", action="append", default=[], help="running, finished, failed, interrupted or damaged"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION",
        help='"accuracy > 0.9", state=finished, tag=best, …; several times for several',
    )  # fmt: skip
    parser.add_argument(
        "--sort",
        default="started",
        metavar="KEY",
        help="started, name, state, stage, seconds, size or a metric",
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--most", type=int, default=_MOST, help=f"how many to show; {_MOST} if not given")


def show(options: Options) -> None:
    """All runs that are asked for."""
    from jichu.tracking.runs import Runs, choose, counts, size

    every = Runs(options.folder).all()
    found = choose(
        every, search=options.search, tags=options.tag, states=options.state, where=options.where, sort=options.sort,
        reverse=options.reverse,
    )  # fmt: skip
    if options.json:
        print_json([{**run.plain(), "path": str(run.path), "bytes": size(run.path)} for run in found])
        return
    shown = found[: max(0, options.most)]
    print_table(
        ["run", "state", "stage", "", "started", "took", "MiB", "tags"],
        [
            [run.name, run.state, _stage(run), _headline(run), *_times(run), f"{size(run.path) / 2**20:,.1f}",
             " ".join(run.tags)]
            for run in shown
        ],
    )  # fmt: skip
    for run in shown:
        if run.why:
            print(plain(f"\n{run.name}: {run.why}"))
    told = ", ".join(f"{count:,} {state}" for state, count in counts(every)["states"].items())
    rest = f"; {len(found) - len(shown):,} more are not shown (--most)" if len(found) > len(shown) else ""
    print(f"\n{len(found):,} of {len(every):,} runs in {options.folder} ({told or 'none'}){rest}")


def _stage(run: Facts) -> str:
    return run.stage if run.step is None else f"{run.stage} {run.step:,}"


def _headline(run: Facts) -> str:
    """The first figure with its interval, or the loss that was logged last."""
    for name, interval in run.headline.items():
        return f"{name} {_interval(interval)}"
    return next((f"{name} {value:.4g}" for name, value in run.latest.items()), "")


def _interval(figure: dict[str, float | None] | None) -> str:
    from jichu.core.progress import number

    if figure is None:
        return "–"
    value, low, high = (number(figure[end]) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _times(run: Facts) -> tuple[str, str]:
    from datetime import datetime

    from jichu.core.progress import clock

    began = "" if run.started is None else f"{datetime.fromtimestamp(run.started):%Y-%m-%d %H:%M}"
    return began, "" if run.lasted is None else clock(run.lasted)


def _find(path: str) -> Facts:
    from jichu.core.errors import UsageError, nearest
    from jichu.tracking.facts import look

    found = look(Path(path))
    if found is None:
        beside = Path(path).parent
        near = nearest(Path(path).name, [p.name for p in beside.iterdir()]) if beside.is_dir() else None
        raise UsageError(
            f"no run at {path}", expected="a run folder", nearest=beside / near if near else None
        )
    return found


def compare(options: Options) -> None:
    """What differs between runs."""
    from jichu.core.config import dump_yaml
    from jichu.tracking.runs import compare as side_by_side
    from jichu.tracking.runs import paired

    runs = [_find(path) for path in options.runs]
    found, tested = side_by_side(runs), paired(runs)
    if options.json:
        print_json({**found, "paired": tested})
        return
    rows = [
        [key, *("–" if value is None else dump_yaml(value, inline=True)[:60] for value in values)]
        for key, values in found["recipes"].items()
    ]
    print_table(["recipe", *found["runs"]], rows)
    print_table(
        ["", *found["runs"]],
        [[n, *(_interval(v) for v in told)] for n, told in found["metrics"].items()],
    )  # fmt: skip
    if "why" in tested:
        print(plain(f"\nnot compared row by row: {tested['why']}"))
        return
    for c in tested["comparisons"]:
        print_table(
            [f"{c['one']} against {c['two']}: {c['column']}", "better by", ""],
            [[n, _interval(m["better_by"]), _verdict(m["better_by"])] for n, m in c["metrics"].items()],
        )  # fmt: skip


def _verdict(interval: dict[str, float]) -> str:
    beyond = interval["low"] > 0 or interval["high"] < 0
    return "more than chance" if beyond else "no more than chance"


def tag(options: Options) -> None:
    """Give runs tags, or take them away."""
    from jichu.core.errors import UsageError
    from jichu.tracking.runs import tag as change

    words = [word for word in options.words if word not in ("--json", "--quiet", "--debug")]
    changes = [word for word in words if word[:1] in "+-"]
    runs = [_find(word) for word in words if word not in changes]
    if not runs or not changes:
        raise UsageError("nothing to tag, or no tag", expected="jichu runs tag RUN … +good -draft")
    add, remove = ([word[1:] for word in changes if word[0] == sign] for sign in "+-")
    found = {str(run.path): list(change(run, add, remove)) for run in runs}
    if options.json or "--json" in options.words:
        print_json(found)
    else:
        print_table(["run", "tags"], [[name, " ".join(tags)] for name, tags in found.items()])


def clean(options: Options) -> None:
    """Say what can be removed, or remove it."""
    from jichu.tracking.cleaning import removable, remove
    from jichu.tracking.runs import Runs

    runs = Runs(options.folder)
    found = removable(runs, options.older)
    if options.yes:
        found = remove(found, runs, options.older)
    total = sum(removal.bytes for removal in found)
    if options.json:
        told = [{"path": str(r.path), "why": r.why, "bytes": r.bytes} for r in found]
        print_json({"removed": options.yes, "bytes": total, "items": told})
        return
    print_table(["", "MiB", ""], [[str(r.path), f"{r.bytes / 2**20:,.1f}", r.why] for r in found])
    done = "removed" if options.yes else "would be removed; --yes removes it"
    print(f"\n{total / 2**20:,.1f} MiB {done}")

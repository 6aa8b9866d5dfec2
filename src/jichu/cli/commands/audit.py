"""`jichu audit`: how good a run's model is."""

from __future__ import annotations

from typing import Any

from ..options import Options, command
from ..output import print_blocks, print_gates, print_headline, print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands,
        "audit",
        audit,
        "measure a run's model, with intervals",
        "jichu audit runs/quickstart --data more-photos --parts calibration",
    )
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--data", help="other data than the run's own held-out rows")
    parser.add_argument(
        "--parts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="what else is asked: calibration, cost, fairness, …; '{name: fairness, by: [sex]}' says more",
    )
    parser.add_argument(
        "--gate", action="append", default=[], metavar="NAME=BOUND",
        help='what a figure has to be, else the exit code is 4: accuracy.lower=0.9, "cost.latency_p99<0.02"',
    )  # fmt: skip
    parser.add_argument(
        "--against", nargs="+", metavar="RUN",
        help="other runs, compared with this one on the same held-out rows, with paired tests",
    )  # fmt: skip


def audit(options: Options) -> None:
    """Measure a run's model."""
    if options.against:
        against(options)
        return
    from jichu.auditing import gates, parts
    from jichu.auditing.measure import headline
    from jichu.audits import audit as measure
    from jichu.core.config import parse_yaml
    from jichu.runs import Run

    run_ = Run(options.run)
    asked = dict(map(gates.assignment, options.gate))
    specs = [parse_yaml(part, "--parts") for part in options.parts]
    found = measure(run_, options.data, parts=specs, gates=asked)
    if options.json:
        print_json(found)
        gates.require(found["gates"], options.run)
        return
    print_headline(headline(found))
    model = next(iter(found["models"].values()))
    print(f"\n{model['rows']} held-out rows of {options.data or run_.recipe.data.path}")
    for title, blocks in parts.shown(found, run_.targets, parts.Look()):
        print_blocks(title, blocks)
    print_gates(found["gates"])
    gates.require(found["gates"], options.run)


def against(options: Options) -> None:
    """Compare a run's model with those of others."""
    from jichu.auditing.blocks import Note, Table
    from jichu.comparing import compare
    from jichu.core.errors import UsageError
    from jichu.core.progress import number

    if idle := next((name for name in ("data", "parts", "gate") if getattr(options, name)), None):
        raise UsageError(f"--{idle} does nothing with --against", expected="one of them")
    found = compare([options.run, *options.against])
    if options.json:
        print_json(found)
        return
    for c in found["comparisons"]:
        rows = [[name, m["one"], m["two"], m["better_by"]] for name, m in c["metrics"].items()]
        heads = [c["column"], c["one"], c["two"], "better by"]
        told = f"on the same {c['rows']:,} held-out rows; better by more than 0 is in favour of {c['one']}"
        blocks: list[Any] = [Table(heads, rows), Note(told)]
        if test := c["test"]:
            blocks.append(
                Note(
                    f"{test['name']}: {c['one']} alone is right, or the better, on {test['first']} rows, {c['two']} on"
                    f" {test['second']}; p = {number(test['p'])}, after Holm {number(test['p_holm'])}"
                )
            )
        print_blocks(f"{c['one']} against {c['two']}", blocks)

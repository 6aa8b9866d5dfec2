"""`jichu audit`: how good a run's model is."""

from __future__ import annotations

from typing import Any

from ..options import Options, add_language, command
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

    parser.add_argument(
        "--report",
        action="store_true",
        help="only write the run's report and card once more; nothing is measured anew",
    )
    add_language(parser, "what is printed, or of the report")


def audit(options: Options) -> None:
    """Measure a run's model, compare it with others, or write its report once more."""
    from jichu.core.words import speaking

    verb = rewrite if options.report else against if options.against else measured
    with speaking(options.language):
        verb(options)


def measured(options: Options) -> None:
    """Measure a run's model."""
    from jichu.auditing import gates, parts
    from jichu.auditing.measure import headline
    from jichu.audits import audit as measure
    from jichu.core.config import parse_yaml
    from jichu.core.words import words
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
    source = options.data or run_.recipe.data.path
    print("\n" + words("{rows:,} held-out rows of {source}", rows=model["rows"], source=source))
    for title, blocks in parts.shown(found, run_.targets, parts.Look()):
        print_blocks(title, blocks)
    print_gates(found["gates"])
    gates.require(found["gates"], options.run)


def rewrite(options: Options) -> None:
    """Write the pages of a finished run once more."""
    from jichu.runs import Run

    _refuse(options, "--report", "data", "parts", "gate", "against")
    written = Run(options.run).rewrite(options.language)
    if options.json:
        print_json({"report": str(written)})
    else:
        print(written)


def _refuse(options: Options, beside: str, *names: str) -> None:
    from jichu.core.errors import UsageError

    if idle := next((name for name in names if getattr(options, name)), None):
        raise UsageError(f"--{idle} does nothing with {beside}", expected="one of them")


def against(options: Options) -> None:
    """Compare a run's model with those of others."""
    from jichu.auditing.blocks import Note, Table
    from jichu.comparing import compare
    from jichu.core.progress import number
    from jichu.core.words import named, words

    _refuse(options, "--against", "data", "parts", "gate")
    found = compare([options.run, *options.against])
    if options.json:
        print_json(found)
        return
    for c in found["comparisons"]:
        one, two = c["one"], c["two"]
        rows = [[named(name), m["one"], m["two"], m["better_by"]] for name, m in c["metrics"].items()]
        told = words(
            "on the same {rows:,} held-out rows; better by more than 0 is in favour of {one}",
            rows=c["rows"],
            one=one,
        )
        blocks: list[Any] = [Table([c["column"], one, two, words("better by")], rows), Note(told)]
        if test := c["test"]:
            about = {"first": test["first"], "second": test["second"], "p": number(test["p"])}
            told = words(
                "{test}: {one} alone is right, or the better, on {first} rows, {two} on {second}; p = {p}, after Holm {holm}",
                test=test["name"], one=one, two=two, holm=number(test["p_holm"]), **about,
            )  # fmt: skip
            blocks.append(Note(told))
        print_blocks(words("{one} against {two}", one=one, two=two), blocks)

"""`jichu audit`: how good a run's model is."""

from __future__ import annotations

from typing import Any

from ..options import Options, command
from ..output import print_blocks, print_headline, print_json


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
        help="what else is asked: calibration, embeddings, explanation",
    )


def audit(options: Options) -> None:
    """Measure a run's model."""
    from jichu.audits import audit as measure
    from jichu.runs import Run

    run_ = Run(options.run)
    found = measure(run_, options.data, parts=options.parts)
    if options.json:
        print_json(found)
        return
    from jichu.auditing import parts
    from jichu.auditing.measure import headline

    print_headline(headline(found))
    model = next(iter(found["models"].values()))
    print(f"\n{model['rows']} held-out rows of {options.data or run_.recipe.data.path}")
    for title, blocks in parts.shown(found, run_.targets, parts.Look()):
        print_blocks(title, blocks)

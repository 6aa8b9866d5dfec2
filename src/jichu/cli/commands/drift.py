"""`jichu drift`: whether what a model is asked is still what it was made for."""

from __future__ import annotations

from typing import Any

from ..options import Options, add_language, command
from ..output import print_blocks, print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands, "drift", drift, "compare what a model was asked with the data of its run", "jichu drift runs/quickstart logs"
    )  # fmt: skip
    parser.add_argument("run", help="a run folder")
    parser.add_argument(
        "logs", help="the folder of jichu serve --set keep=FOLDER, or data as the run reads them"
    )
    parser.add_argument(
        "--data", help="the data that the run was made of, where they are not, or no longer, at their place"
    )
    parser.add_argument(
        "--reference", choices=("auto", "train", "test"), default="auto",
        help="the rows that inputs are compared with; auto: train where the splits were drawn at random, else test",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=float, default=0.05,
        help="the chance of an alarm, of all tests together, where nothing has changed; 0.05 if not given",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", metavar="FOLDER", help="for the page; the run's folder drift if not given"
    )
    add_language(parser, "the page and of what is printed")


def drift(options: Options) -> None:
    """Compare, tell, and raise CheckFailed where there is an alarm."""
    from jichu.core.errors import CheckFailed
    from jichu.core.words import speaking
    from jichu.drifts import drift as compare
    from jichu.ship.drift import page

    found = compare(
        options.run, options.logs, reference=options.reference, alpha=options.alpha, seed=options.seed,
        output=options.output, data=options.data, language=options.language,
    )  # fmt: skip
    with speaking(options.language):
        if options.json:
            print_json(found)
        else:
            print_blocks(*next(page.sections(found)))
            print("\n" + "\n".join([page.verdict(found), *page.remarks(found), found["page"]]))
    if found["alarm"]:
        names = ", ".join(dict.fromkeys(found["alarms"]))
        raise CheckFailed(
            f"drift in {names}", where=found["page"], expected="rows like those that the model was made for"
        )

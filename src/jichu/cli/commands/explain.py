"""`jichu explain`: why a model says what it says of inputs."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from ..options import Options, add_language, add_set, command
from ..output import print_json, print_table


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands,
        "explain",
        explain,
        "show which parts of an input an answer comes from",
        "jichu explain runs/quickstart runs/quickstart/examples/*.png --method occlusion",
    )
    parser.add_argument("run", help="a run folder")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image or sound files, texts, or tables whose rows are meant",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="integrated-gradients, occlusion, shapley, …; what fits the model if not given",
    )
    parser.add_argument(
        "--target", metavar="CLASS", help="the class to be explained; the likeliest if not given"
    )
    parser.add_argument("--column", metavar="COLUMN", help="which of several targets; the first if not given")
    parser.add_argument(
        "--background",
        metavar="DATA",
        help="rows that tell what is usual in a table; the training rows if not given",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", default="explanations", help="for drawings; explanations if not given"
    )
    add_language(parser, "the drawings and what is printed")
    add_set(parser, "what is said of the method, such as steps=100")


def explain(options: Options) -> int:
    """Explain; inputs that cannot be used are named and the others still explained."""
    from jichu.core.config import override
    from jichu.core.errors import DataError, UsageError
    from jichu.core.words import speaking
    from jichu.runs import Run

    if options.set and options.method is None:
        raise UsageError("--set says something of a method, and none is named", expected="--method NAME")
    method = options.method and override({"name": options.method}, options.set)
    run_, found, faults = Run(options.run), [], []
    for path in options.inputs:
        try:
            found += run_.explain(
                path, method, target=options.target, column=options.column, background=options.background
            )
        except DataError as error:
            faults.append(error)
    with speaking(options.language):
        _show(found, options)
    for fault in faults:
        print(f"jichu: {fault}", file=sys.stderr)
    return DataError.code if faults else 0


def _show(found: list[Any], options: Options) -> None:
    """Draw each, and say what came of it."""
    from jichu.core.words import named, words

    told, names = [], Counter[str]()
    for one in found:
        names[one.name] += 1
        count = f"-{names[one.name]}" if names[one.name] > 1 else ""
        told.append({**one.plain(), "file": str(one.write(options.out, one.name + count))})
    if options.json:
        print_json(told)
        return
    for one, about in zip(found, told, strict=True):
        how = words("by {method}, of the {scale}", method=named(one.method), scale=named(one.scale))
        print(f"{one.input}: {one.said} ({how}): {about['file']}")
        if one.places:
            print_table(
                ["", words("worth")], [[place.strip(), f"{worth:+.4g}"] for place, worth in one.top()]
            )

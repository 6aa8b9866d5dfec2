"""`jichu predict`: what a model says of inputs."""

from __future__ import annotations

import sys
from typing import Any

from ..options import Options, command
from ..output import print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(
        commands,
        "predict",
        predict,
        "label images, or predict the rows of a table",
        "jichu predict runs/quickstart runs/quickstart/examples/*.png",
    )
    parser.add_argument("run", help="a run folder, or an .onnx file of jichu export")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image files, or tables whose rows are meant"
    )


def predict(options: Options) -> int:
    """Predict; inputs that cannot be used are named and the others still predicted."""
    import jichu
    from jichu.core.errors import DataError

    run_, found, faults = jichu.open(options.run), [], []
    for path in options.inputs:
        try:
            found += run_.predict(path)
        except DataError as error:
            faults.append(error)
    if options.json:
        print_json(found)
    else:
        for p in found:
            rules = _of_rules(p.pop("rules", {}))
            print(f"{p.pop('input')}: {_said(p)}{rules}")
    for fault in faults:
        print(f"jichu: {fault}", file=sys.stderr)
    return DataError.code if faults else 0


def _of_rules(told: dict[str, Any]) -> str:
    """Which rules have fired, and what the model alone said."""
    alone = [
        f"{column} = {value if isinstance(value, str) else f'{value:.5g}'}"
        for column, value in told.get("alone", {}).items()
    ]
    fired = "; ".join(told.get("fired", []))
    return (f"  [{fired}]" if fired else "") + (f"  (the model alone: {', '.join(alone)})" if alone else "")


def _said(answer: dict[str, Any]) -> str:
    """A prediction in words: of one target, or of several by column."""
    if all(isinstance(part, dict) for part in answer.values()):
        return "; ".join(f"{column} = {_said(part)}" for column, part in answer.items())
    if answer and all(
        isinstance(part, list) and part and isinstance(part[0], float) for part in answer.values()
    ):
        return "; ".join(
            f"{column}: {', '.join(f'{v:.5g}' for v in part)}" for column, part in answer.items()
        )
    if "label" in answer:
        others = sorted(answer["scores"].items(), key=lambda item: -item[1])[1:3]
        rest = ", ".join(f"{name} {100 * score:.0f}%" for name, score in others)
        return f"{answer['label']} {100 * answer['score']:.0f}%" + (f"  ({rest})" if rest else "")
    if all(isinstance(part, str) for part in answer.values()) and len(answer) == 1:
        return next(iter(answer.values()))
    if "value" in answer:
        ends = [f"{level}: {value:.5g}" for level, value in answer.get("quantiles", {}).items()]
        return f"{answer['value']:.5g}" + (f"  ({', '.join(ends)})" if ends else "")
    return ", ".join(f"{t} {100 * answer['scores'][t]:.0f}%" for t in answer["tags"]) or "no tag"

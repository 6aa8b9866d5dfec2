"""`jichu run`: a recipe."""

from __future__ import annotations

import json
from typing import Any

from jichu.recipe.config import read_recipe

from ..options import Options, add_set, command
from ..output import print_gates, print_headline, print_json


def add(commands: Any) -> None:
    """The command."""
    parser = command(commands, "run", run, "run a recipe", "jichu run quickstart --set data.path=photos")
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run of that name where it stopped"
    )
    parser.add_argument("--name", help="the run's name; the recipe's if not given")
    add_set(parser)


def run(options: Options) -> None:
    """Run a recipe."""
    assignments = options.set + ([f"name={json.dumps(options.name)}"] if options.name else [])
    execute(read_recipe(options.recipe, assignments), options)


def execute(recipe: Any, options: Options) -> None:
    """Run a recipe, and say what came of it and what may come next."""
    from jichu.auditing.gates import require
    from jichu.core.files import read_json
    from jichu.core.ranks import rank
    from jichu.core.words import speaking
    from jichu.models.folder import read_config
    from jichu.recipe.run import execute

    folder = execute(recipe, resume=options.resume)
    if rank() > 0:
        return
    summary = read_json(folder.summary)
    gates = [gate for stage in summary["stages"] for gate in stage.get("gates", [])]
    if options.json:
        print_json({"run": str(folder.path), **summary})
        require(gates, folder.path)
        return
    with speaking(recipe.language):
        print_headline(summary["headline"])
        print_gates(gates)
    predicts = bool(recipe.fitted)
    examples = sorted(folder.examples.glob("[0-9]*")) if folder.examples.exists() else []
    after = [f"look at it:   {folder.report}"]
    reads_texts = (folder.model / "tokenizer.json").exists()
    text = read_config(folder.model).text if reads_texts else None
    if text is not None and text.chat:
        after.append(f"talk to it:   jichu chat {folder.path}")
    elif predicts:
        example = examples[0] if examples else '"A TEXT"' if reads_texts else "TABLE"
        after.append(f"use it:       jichu predict {folder.path} {example}")
    elif any("written" in stage for stage in summary["stages"]):
        after.append(f'go on with:   jichu generate {folder.path} "A BEGINNING"')
    else:
        after.append(f"adapt it:     jichu finetune {recipe.data.path} --from {folder.path} --adapt head")
    after += _advice(summary)
    if recipe.name == "quickstart" and recipe.data.path == "sklearn:digits":
        after.append(
            "on your data: jichu run quickstart --set data.path=FOLDER   (a subfolder for each class)"
        )
    print("\nnext\n  " + "\n  ".join(after))
    require(gates, folder.path)


def _advice(summary: dict[str, Any]) -> list[str]:
    """What to try where pretraining was not shown to pay."""
    gain = summary["headline"].get("gain")
    pretrained = next((s for s in summary["stages"] if s["stage"] == "pretrain"), None)
    if not gain or not pretrained or (gain["low"] or 0) > 0:
        return []
    seen = pretrained["metrics"]["epochs"]
    return [
        f"this run does not show that pretraining pays; it went {seen:.1f} times through its data. A longer one:"
        f" --set 'stages.{pretrained['name']}.budget={max(20, round(3 * seen))} epochs'"
    ]

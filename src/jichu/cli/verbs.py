"""What each command does. Everything heavy is imported inside: `jichu --help` answers at once."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from jichu.core.config import parse_yaml
from jichu.recipe.config import one_stage, read_recipe

Options = argparse.Namespace


def set_quiet(quiet: bool) -> None:
    """No progress, where it is not wanted."""
    if quiet:
        from jichu.core.progress import console

        console.quiet = True


def print_json(value: Any) -> None:
    """The result for machines."""
    from jichu.core.files import dumps

    print(dumps(value, indent=2))


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Rows under the names of their columns."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    with console.capture() as drawn:  # rich itself ends the process where nobody reads
        console.print()
        console.print(table)
    print(drawn.get(), end="")


def run(options: Options) -> None:
    """Run a recipe."""
    assignments = options.set + ([f"name={json.dumps(options.name)}"] if options.name else [])
    _execute(read_recipe(options.recipe, assignments), options)


def pretrain(options: Options) -> None:
    """A recipe of one pretrain stage."""
    _execute(_one_stage("pretrain", options), options)


def finetune(options: Options) -> None:
    """A recipe of one finetune stage and its audit."""
    keys = ("target", "labels_per_class", "draws")
    data = {k: getattr(options, k) for k in keys if getattr(options, k) is not None}
    _execute(_one_stage("finetune", options, data), options)


def _one_stage(verb: str, options: Options, data: dict[str, Any] | None = None) -> Any:
    given = {
        k.removeprefix("stage_"): v
        for k, v in vars(options).items()
        if k.startswith("stage_") and v is not None
    }
    settings = {k: parse_yaml(v, f"--{k}") if isinstance(v, str) else v for k, v in given.items()}
    return one_stage(
        verb, options.data, settings, name=options.name, seed=options.seed, data=data, assignments=options.set
    )  # fmt: skip


def _execute(recipe: Any, options: Options) -> None:
    from jichu.core.files import read_json
    from jichu.core.ranks import rank
    from jichu.models.folder import read_config
    from jichu.recipe.run import execute

    folder = execute(recipe, resume=options.resume)
    if rank() > 0:
        return
    summary = read_json(folder.summary)
    if options.json:
        print_json({"run": str(folder.path), **summary})
        return
    _headline(summary["headline"])
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


def _headline(headline: dict[str, Any]) -> None:
    if headline:
        from jichu.core.progress import number

        rows = [
            [name.replace("_", " "), number(v["value"]), f"{number(v['low'])} to {number(v['high'])}"]
            for name, v in headline.items()
        ]
        print_table(["on held-out rows", "value", "95% interval"], rows)


def _data_config(verb: str, options: Options, **given: Any) -> Any:
    from jichu.core.config import check, override
    from jichu.data.config import DataConfig

    tree = override({"path": options.data, **given}, [a.removeprefix("data.") for a in options.set])
    return check(DataConfig, tree, where=verb)


def init(options: Options) -> None:
    """Write a recipe for data."""
    from jichu.core.files import write_text
    from jichu.data.inspection import inspect as look_into
    from jichu.data.load import load
    from jichu.recipe.init import draft, refuse_existing

    path = Path(options.output)
    refuse_existing(path, options.force)
    config = _data_config("init", options, **({"target": options.target} if options.target else {}))
    dataset = load(options.data, config)
    found = look_into(dataset)
    write_text(path, draft(dataset, found, config))
    if options.json:
        print_json({"recipe": options.output, "remarks": found["remarks"]})
        return
    for remark in found["remarks"]:
        print(f"- {remark}")
    print(f"written: {options.output}\nrun it:  jichu run {shlex.quote(options.output)}")


def inspect(options: Options) -> None:
    """Print what data are, or draw it."""
    from jichu.data.inspection import inspect as look_into
    from jichu.data.load import load

    from .inspect import draw_augmentation, lines, tables

    dataset = load(options.data, _data_config("inspect", options))
    found = look_into(dataset)
    drawn = {}
    if options.augment:
        draw_augmentation(dataset, options.augment)
        drawn["augmentation drawn"] = options.augment
    if options.page:
        from jichu.auditing import data_page

        data_page.write(Path(options.page), dataset, found)
        drawn["look at it"] = options.page
    if options.json:
        print_json(found)
        return
    print(f"{found['source']}: {found['rows']:,} records")
    for columns, rows in tables(found):
        print_table(columns, rows)
    print("\n" + "\n".join(lines(found)))
    for what, where in drawn.items():
        print(f"\n{what}: {where}")


def audit(options: Options) -> None:
    """Measure a run's model."""
    from jichu.audits import audit as measure
    from jichu.runs import Run

    run_ = Run(options.run)
    found = measure(run_, options.data)
    if options.json:
        print_json(found)
        return
    from jichu.auditing.measure import headline

    _headline(headline(found))
    model = next(iter(found["models"].values()))
    print(f"\n{model['rows']} held-out rows of {options.data or run_.recipe.data.path}")


def predict(options: Options) -> int:
    """Predict; inputs that cannot be used are named and the others still predicted."""
    from jichu.core.errors import DataError
    from jichu.runs import Run

    run_, found, faults = Run(options.run), [], []
    for path in options.inputs:
        try:
            found += run_.predict(path)
        except DataError as error:
            faults.append(error)
    if options.json:
        print_json(found)
    else:
        for p in found:
            print(f"{p['input']}: {_said({k: v for k, v in p.items() if k != 'input'})}")
    for fault in faults:
        print(f"jichu: {fault}", file=sys.stderr)
    return DataError.code if faults else 0


def embed(options: Options) -> None:
    """Write the features of data."""
    from jichu.embeddings import write
    from jichu.runs import Run

    found = write(Run(options.run), options.data, options.output)
    if options.json:
        print_json(found)
    else:
        print(f"{found['rows']:,} rows of {found['width']} numbers: {found['path']}")


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


def doctor(options: Options) -> None:
    """What this machine has, or what a model costs."""
    if options.model:
        return _doctor_of_a_model(options)
    from .doctor import examine_machine, machine_lines, machine_tables

    found = examine_machine()
    if options.json:
        print_json(found)
        return
    for key, value in found["environment"].items():
        print(
            f"{key}: {value if not isinstance(value, dict) else ', '.join(f'{k} {v}' for k, v in value.items())}"
        )
    for columns, rows in machine_tables(found):
        print_table(columns, rows)
    print()
    for line in machine_lines(found):
        print(f"- {line}")


def _doctor_of_a_model(options: Options) -> None:
    from .doctor import examine_model, lines, tables

    sizes = parse_yaml(f"[{options.batch_sizes}]", "--batch-sizes")
    found = examine_model(options.model, options.channels, options.size, sizes, options.seconds)
    if options.json:
        print_json(found)
        return
    print("\n".join(lines(found)))
    for columns, rows in tables(found):
        print_table(columns, rows)
    for warning in found["warnings"]:
        print(f"\n- {warning}")

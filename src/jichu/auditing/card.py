"""The model card (Mitchell et al., 2019, arXiv 1810.03993): what a model is, learned from, is worth and is not, in Markdown
under the front matter that Hugging Face reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jichu.core.config import dump_yaml
from jichu.core.files import write_text
from jichu.core.progress import clock, number
from jichu.core.words import named, retold, words

from . import gates
from .blocks import Block, Note, Records, Section, Table, cell
from .measure import chosen as of_result
from .parts import suiting
from .report import brackets, results, splits
from .verdict import warnings

_FEW, _FEW_OF_A_CLASS = 200, 20  # held-out rows below which it is said
_MOST_NAMED = 10
_RULES = {"left": "---", "right": "---:"}
_KINDS = {
    "image": "images",
    "audio": "sounds",
    "series": "series",
    "text": "texts",
    "table": "rows of a table",
}
_TASKS = {  # Hugging Face's names of those that do not follow from what is read
    "forecast": "time-series-forecasting",
    "language": "text-generation",
    "text": "text-generation",
}


def write(
    path: Path, *, title: str, recipe: dict[str, Any], kind: str, summary: dict[str, Any],
    audit: dict[str, Any] | None, sections: Sequence[Section], data: dict[str, Any], environment: dict[str, Any],
    chosen: str | None,
) -> None:  # fmt: skip
    """Write the card of a run. `recipe` is what ran, backbones and objectives by their names; `sections` what the parts of
    its audit tell."""
    model = of_result(audit, chosen) if audit else chosen
    said = recipe.get("card") or {}
    parts: list[tuple[str, Iterable[str]]] = [
        (title, _what(recipe, kind, audit, model, environment)),
        (words("Intended use"), [said.get("intended_use") or _unsaid("intended_use")]),
        (words("Data"), _data(data)),
        (words("Training"), _training(recipe, summary)),
        (words("How good"), _results(audit) if audit else [words("Nothing was measured on held-out rows.")]),
        *((heading, _markdown(blocks)) for heading, blocks in sections if any(map(_tells, blocks))),
        (words("Limits"), _limits(audit, model, data, summary, said.get("limits"))),
        (words("Cost of training"), _cost(summary, environment)),
        (words("Licence"), [said.get("licence") or _unsaid("licence")]),
        (words("Contact"), [said.get("contact") or _unsaid("contact")]),
    ]
    front = dump_yaml(_front(title, recipe, kind, audit, data, model, said))
    body = [f"{'#' if i == 0 else '##'} {_text(h)}\n\n" + "\n\n".join(p) for i, (h, p) in enumerate(parts)]
    write_text(path, f"---\n{front}---\n\n" + "\n\n".join(body) + "\n")


# --- for machines


def _front(
    title: str, recipe: dict[str, Any], kind: str, audit: dict[str, Any] | None, data: dict[str, Any],
    model: str | None, said: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The keys that Hugging Face's hub knows."""
    front: dict[str, Any] = {"library_name": "jichu", "tags": ["jichu", kind]}
    if licence := said.get("licence"):
        known = re.fullmatch(r"[a-z0-9.-]+", licence.lower())
        front |= {"license": licence.lower()} if known else {"license": "other", "license_name": licence}
    starts = [stage["backbone"]["name"] for stage in recipe["stages"] if stage.get("backbone")]
    if bases := sorted({name.removeprefix("hf:") for name in starts if name.startswith("hf:")}):
        front["base_model"] = bases
    if audit is None or model is None:
        return front
    front["pipeline_tag"] = _task(kind, audit["task"])
    name = data["source"].rstrip("/").rpartition("/")[2]
    results = []
    for found in (audit, *audit.get("others", {}).values()):
        told = found["models"].get(model)
        metrics = [
            {
                "type": metric,
                "value": v["value"],
                "name": f"{metric.replace('_', ' ')} {cell(v)[1]}, {told['rows']} rows",
            }
            for metric, v in (told["metrics"] if told else {}).items()
            if v["value"] is not None
        ]
        if metrics:
            about = {"type": _task(kind, found["task"]), "name": found["column"]}
            data_set = {"name": name, "type": re.sub(r"\W+", "-", name).strip("-") or "data", "split": "test"}
            results.append({"task": about, "dataset": data_set, "metrics": metrics})
    if results:
        front["model-index"] = [{"name": title, "results": results}]
    return front


def _task(kind: str, task: str) -> str:
    asked = "regression" if task == "regression" else "classification"
    return _TASKS.get(task, f"{'tabular' if kind == 'table' else kind}-{asked}")


# --- for people


def _does(kind: str, audit: dict[str, Any]) -> str:
    """What the model does, of which the sentence begins with what it is."""
    task, column, inputs = audit["task"], _text(audit["column"]), named(_KINDS[kind])
    if task == "classification":
        count = len(audit["classes"])
        return words(
            "tells {count} classes of {inputs} apart by {column}", count=count, inputs=inputs, column=column
        )
    if task == "multilabel":
        count = len(audit["classes"])
        return words(
            "gives {inputs} some of {count} tags, {column}", count=count, inputs=inputs, column=column
        )
    if task == "regression":
        return words("predicts {column} from {inputs}", column=column, inputs=inputs)
    if task == "forecast":
        return words("forecasts {column}", column=column)
    if task == "text":
        return words("writes {column} to {inputs}", column=column, inputs=inputs)
    return words("goes on with texts")


def _what(
    recipe: dict[str, Any], kind: str, audit: dict[str, Any] | None, model: str | None, environment: dict[str, Any]
) -> Iterator[str]:  # fmt: skip
    stage: dict[str, Any] = next((s for s in recipe["stages"] if s["name"] == model), {})
    does = words("has features of {inputs} for other models to build on", inputs=named(_KINDS[kind]))
    built = f"`{stage['backbone']['name']}`" if stage else words("A model")
    head = stage.get("head", {}).get("name", "linear")
    if head != "linear":
        built = words("{backbone} with the head `{head}`", backbone=built, head=head)
    yield words("{model} that {does}.", model=built, does=_does(kind, audit) if audit else does)
    about = {"stage": f"`{model}`", "version": environment.get("versions", {}).get("jichu", "")}
    yield (
        words("Trained by the stage {stage}, after {before}, with Jichu {version}.", before=f"`{stage['from']}`", **about)
        if stage.get("from") else words("Trained by the stage {stage}, with Jichu {version}.", **about)
    )  # fmt: skip
    yield words(
        "What ran is in `recipe.yaml`, all that was measured in `audit.json` and, to look at, in `report.html`."
    )


def _data(data: dict[str, Any]) -> Iterator[str]:
    yield words(
        "{rows} records of {source}.", rows=number(data["rows"]), source=_text(data["source"])
    ) + _stored(data)
    yield _table(splits(data, _MOST_NAMED))
    yield words("Fingerprint of what was read: `{fingerprint}`.", fingerprint=data["fingerprint"])


def _stored(data: dict[str, Any]) -> str:
    told = retold(data["stored"])
    return f" {told[0].upper()}{told[1:]}" + words(".") if told else ""


def _by(stage: dict[str, Any], trained: int | None) -> str:
    """What a stage came by: the steps of a compression, and the objective or, of what is estimated at once, the head."""
    steps = [step["name"] for step in stage.get("steps", [])]
    return ", ".join([*steps, stage["objective"]["name"]] if trained else steps or [stage["head"]["name"]])


def _training(recipe: dict[str, Any], summary: dict[str, Any]) -> Iterator[str]:
    told = {stage["name"]: stage for stage in summary["stages"]}
    rows = []
    for stage in recipe["stages"]:
        if stage["stage"] not in ("pretrain", "finetune", "compress"):
            continue
        found = told[stage["name"]]["metrics"]
        start = stage["from"] or stage["backbone"]["name"]
        rows.append([stage["name"], start, _by(stage, found["steps"]), found["steps"], found["parameters"], found["trained_parameters"],
                     clock(told[stage["name"]]["seconds"])])  # fmt: skip
    heads = [
        words("stage"), words("from"), words("by"), words("steps"), words("parameters"), words("of these trained"),
        words("time"),
    ]  # fmt: skip
    yield _table(Table(heads, rows))
    yield words("Seed {seed}.", seed=recipe["seed"])
    yield from _privacy(
        {n: s["metrics"]["privacy"] for n, s in told.items() if "privacy" in s["metrics"]}, recipe
    )


def _privacy(private: dict[str, dict[str, float]], recipe: dict[str, Any]) -> Iterator[str]:
    for stage, spent in private.items():
        about = {"epsilon": number(spent["epsilon"]), "delta": number(spent["delta"])}
        yield words(
            "{stage} was trained with differential privacy of every training row: epsilon {epsilon}, delta {delta}.",
            stage=stage, **about,
        )  # fmt: skip
    if (draws := recipe["data"]["draws"]) * len(private) > 1:
        sums = {
            key: number(draws * sum(spent[key] for spent in private.values())) for key in ("epsilon", "delta")
        }
        yield words(
            "{count} such trainings saw the same rows: whoever sees what came of all of them learns of a row what epsilon"
            " {epsilon}, delta {delta} allow at most.", count=draws * len(private), **sums,
        )  # fmt: skip


def _results(audit: dict[str, Any]) -> Iterator[str]:
    for found in (audit, *audit.get("others", {}).values()):
        if "others" in audit:
            yield words("Of {column}:", column=_text(found["column"]))
        yield _table(results(found))
    yield brackets()
    if audit.get("gates"):
        yield from _markdown([gates.table(audit["gates"])])


def _limits(
    audit: dict[str, Any] | None, model: str | None, data: dict[str, Any], summary: dict[str, Any], own: str | None
) -> Iterator[str]:  # fmt: skip
    """What these figures do not show, a line each."""
    if own:
        yield own
    yield "\n".join(f"- {line}" for line in _doubts(audit, model, data, summary))


def _doubts(
    audit: dict[str, Any] | None, model: str | None, data: dict[str, Any], summary: dict[str, Any]
) -> Iterator[str]:  # fmt: skip
    if audit is not None and model is not None:
        yield from _of_the_audit(audit, audit["models"][model])
    if "validation" not in data["splits"]:
        yield words(
            "There were no validation rows: training was not stopped by any, and probabilities are not calibrated."
        )
    yield words("Held-out rows come from the same source as the training rows; on others it may do worse.")
    if data["quarantined"]:
        rows = data["quarantined"]
        yield words("{rows:,} records could not be used, as `quarantine.jsonl` says.", rows=rows)
    if conflicts := data["duplicates"].get("conflicting_labels"):
        yield words("{sets:,} sets of equal records carry different labels.", sets=conflicts)
    yield from map(_text, warnings(summary))


def _of_the_audit(audit: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    if found["rows"] < _FEW:
        rows = found["rows"]
        yield words(
            "Only {rows} held-out rows: the intervals are wide, and a rare fault may not be among them.",
            rows=rows,
        )
    supports = {c: v["support"] for c, v in found.get("by_class", {}).items()}
    if rare := [f"{_text(c)} ({n:.0f})" for c, n in supports.items() if n < _FEW_OF_A_CLASS]:
        shown, more = ", ".join(rare[:_MOST_NAMED]), len(rare) - _MOST_NAMED
        yield (
            words("Classes with few held-out rows: {classes}.", classes=shown) if more <= 0 else
            words("Classes with few held-out rows: {classes} and {more} more.", classes=shown, more=more)
        )  # fmt: skip
    if found["draws"] == 1:
        yield words(
            "Trained once: what another seed, or other training rows, would have given is not in the intervals."
        )
    for gate in audit.get("gates", []):
        if not gate["holds"]:
            yield words("A gate fails: {gate}", gate=_text(gates.said(gate)))
    tasks = {part["task"] for part in (audit, *audit.get("others", {}).values())}
    if left := sorted(suiting(tasks) - audit["parts"].keys()):
        yield words("Not asked in this audit: {parts}.", parts=", ".join(map(named, left)))


def _cost(summary: dict[str, Any], environment: dict[str, Any]) -> Iterator[str]:
    processors = ", ".join([str(environment.get("processor")), *environment.get("gpus", [])])
    yield words(
        "{time} in all on {cores} cores ({processors}), {memory} MiB of memory at most.", time=clock(summary["seconds"]),
        cores=environment.get("cores"), processors=processors, memory=number(summary["peak_memory_mib"]),
    )  # fmt: skip


def _unsaid(key: str) -> str:
    return words("Not stated. (`card: {key}` in the recipe says it.)", key=f"{{{key}: …}}")


# --- Markdown


def _markdown(blocks: Iterable[Block]) -> Iterator[str]:
    """Notes and tables; pictures, and rows of the data, are in the report."""
    for block in blocks:
        if isinstance(block, Note):
            yield _text(block.text)
        elif isinstance(block, Table) and _tells(block):
            yield _table(block)


def _tells(block: Block) -> bool:
    """Whether there are figures for a card in it."""
    return isinstance(block, Table) and not isinstance(block, Records)


def _table(block: Table) -> str:
    rows = [[_text(head) for head in block.heads], [_RULES[side] for side in block.aligned]]
    rows += [[_text(" ".join(filter(None, cell(value)))) for value in row] for row in block.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _text(words: str) -> str:
    """What Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*<|]|(?<!\w)_|_(?!\w)|\](?=[(\[]))", r"\\\1", " ".join(words.split()))

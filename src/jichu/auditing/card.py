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

from . import gates
from .blocks import Block, Note, Records, Table, cell
from .measure import chosen as of_result
from .parts import suiting

_FEW, _FEW_OF_A_CLASS = 200, 20  # held-out rows below which it is said
_MOST_NAMED = 10
_TASKS = {  # Hugging Face's names of those that do not follow from what is read
    "forecast": "time-series-forecasting",
    "language": "text-generation",
    "text": "text-generation",
}
_KINDS = {
    "image": "images",
    "audio": "sounds",
    "series": "series",
    "text": "texts",
    "table": "rows of a table",
}
_DONE = {
    "classification": "tells {0} classes of {1} apart by {2}",
    "multilabel": "gives {1} some of {0} tags, {2}",
    "regression": "predicts {2} from {1}",
    "forecast": "forecasts {2}",
    "text": "writes {2} to {1}",
    "language": "goes on with texts",
}
Section = tuple[str, list[Block]]


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
        ("Intended use", [said.get("intended_use") or _unsaid("intended_use")]),
        ("Data", _data(data)),
        ("Training", _training(recipe, summary)),
        ("How good", _results(audit) if audit else ["Nothing was measured on held-out rows."]),
        *((heading, _markdown(blocks)) for heading, blocks in sections if any(map(_tells, blocks))),
        ("Limits", _limits(audit, model, data, summary, said.get("limits"))),
        ("Cost of training", _cost(summary, environment)),
        ("Licence", [said.get("licence") or _unsaid("licence")]),
        ("Contact", [said.get("contact") or _unsaid("contact")]),
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
                "name": f"{_plain(metric)} {cell(v)[1]}, {told['rows']} rows",
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


def _what(
    recipe: dict[str, Any], kind: str, audit: dict[str, Any] | None, model: str | None, environment: dict[str, Any]
) -> Iterator[str]:  # fmt: skip
    stage: dict[str, Any] = next((s for s in recipe["stages"] if s["name"] == model), {})
    does = f"has features of {_KINDS[kind]} for other models to build on"
    if audit:
        does = _DONE[audit["task"]].format(len(audit["classes"]), _KINDS[kind], _text(audit["column"]))
    built = f"`{stage['backbone']['name']}`" if stage else "A model"
    head = stage.get("head", {}).get("name", "linear")
    built += f" with the head `{head}`" if head != "linear" else ""
    after = f", after `{stage['from']}`" if stage.get("from") else ""
    version = environment.get("versions", {}).get("jichu", "")
    yield f"{built} that {does}. Trained by the stage `{model}`{after}, with Jichu {version}."
    yield "What ran is in `recipe.yaml`, all that was measured in `audit.json` and, to look at, in `report.html`."


def _data(data: dict[str, Any]) -> Iterator[str]:
    stored = f" {data['stored'][0].upper()}{data['stored'][1:]}." if data["stored"] else ""
    yield f"{number(data['rows'])} records of {_text(data['source'])}.{stored}"
    classes = data["classes"] if len(data["classes"]) <= _MOST_NAMED else []
    rows = [
        [name, s["rows"], s["unlabelled"], *(s["classes"].get(c, 0) for c in classes)]
        for name, s in data["splits"].items()
    ]
    yield _table(Table(["split", "rows", "without label", *classes], rows))
    yield f"Fingerprint of what was read: `{data['fingerprint']}`."


def _training(recipe: dict[str, Any], summary: dict[str, Any]) -> Iterator[str]:
    told = {stage["name"]: stage for stage in summary["stages"]}
    rows = []
    for stage in recipe["stages"]:
        if stage["stage"] not in ("pretrain", "finetune"):
            continue
        found = told[stage["name"]]["metrics"]
        by = stage["objective"] if found["steps"] else stage["head"]
        start = stage["from"] or stage["backbone"]["name"]
        rows.append([stage["name"], start, by["name"], found["steps"], found["parameters"], found["trained_parameters"],
                     clock(told[stage["name"]]["seconds"])])  # fmt: skip
    yield _table(Table(["stage", "from", "by", "steps", "parameters", "of these trained", "time"], rows))
    yield f"Seed {recipe['seed']}."


def _results(audit: dict[str, Any]) -> Iterator[str]:
    for found in (audit, *audit.get("others", {}).values()):
        models = found["models"]
        if "others" in audit:
            yield f"Of {_text(found['column'])}:"
        names = list(next(iter(models.values()))["metrics"])
        rows = [
            [name, *(m["metrics"][n] for n in names), m["draws"], m["rows"]] for name, m in models.items()
        ]
        yield _table(Table(["model", *names, "draws", "held-out rows"], rows))
    yield "Square brackets hold 95% bootstrap intervals over held-out rows and draws."
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
        found = audit["models"][model]
        if found["rows"] < _FEW:
            yield f"Only {found['rows']} held-out rows: the intervals are wide, and a rare fault may not be among them."
        supports = {c: v["support"] for c, v in found.get("by_class", {}).items()}
        if rare := [f"{_text(c)} ({n:.0f})" for c, n in supports.items() if n < _FEW_OF_A_CLASS]:
            more = f" and {len(rare) - _MOST_NAMED} more" if len(rare) > _MOST_NAMED else ""
            yield f"Classes with few held-out rows: {', '.join(rare[:_MOST_NAMED])}{more}."
        if found["draws"] == 1:
            yield "Trained once: what another seed, or other training rows, would have given is not in the intervals."
        yield from (
            f"A gate fails: {_text(gates.words(g))}" for g in audit.get("gates", []) if not g["holds"]
        )
        tasks = {part["task"] for part in (audit, *audit.get("others", {}).values())}
        if left := sorted(suiting(tasks) - audit["parts"].keys()):
            yield f"Not asked in this audit: {', '.join(left)}."
    if "validation" not in data["splits"]:
        yield "There were no validation rows: training was not stopped by any, and probabilities are not calibrated."
    yield "Held-out rows come from the same source as the training rows; on others it may do worse."
    if data["quarantined"]:
        yield f"{data['quarantined']:,} records could not be used, as `quarantine.jsonl` says."
    if conflicts := data["duplicates"].get("conflicting_labels"):
        yield f"{conflicts:,} sets of equal records carry different labels."
    yield from map(_text, summary["warnings"])


def _cost(summary: dict[str, Any], environment: dict[str, Any]) -> Iterator[str]:
    gpus = "".join(f", {name}" for name in environment.get("gpus", []))
    machine = f"{environment.get('cores')} cores ({environment.get('processor')}{gpus})"
    yield f"{clock(summary['seconds'])} in all on {machine}, {number(summary['peak_memory_mib'])} MiB of memory at most."


def _unsaid(key: str) -> str:
    return f"Not stated. (`card: {{{key}: …}}` in the recipe says it.)"


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
    rows = [[_text(_plain(head)) for head in block.heads], ["---", *["---:"] * (len(block.heads) - 1)]]
    rows += [[_text(" ".join(filter(None, cell(value)))) for value in row] for row in block.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _text(words: str) -> str:
    """What Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*<|]|(?<!\w)_|_(?!\w)|\](?=[(\[]))", r"\\\1", " ".join(words.split()))

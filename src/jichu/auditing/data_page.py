"""The page that shows what data are: one HTML file without any external request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jichu.core.words import named, retold
from jichu.data.dataset import Dataset
from jichu.data.decode import Header
from jichu.data.schema import LABEL
from jichu.data.texts import TEXT, TEXT_2, text_of

from . import figures
from .page import render

_CLASSES, _EACH = 20, 8  # classes with pictures, and pictures of each
_READ, _EACH_READ, _TURNS = 12, 3, 6  # texts that are shown, of each class, and messages of a conversation
_CHARACTERS, _BEGINNING = 320, 4000  # of a text that are shown, and bytes that these may be
_BARS = 60  # classes with bars
_REFUSED = 100  # records not used that are listed
_MASKED = 3  # personal data of a kind that are shown


def write(path: Path, dataset: Dataset, found: dict[str, Any]) -> None:
    """Render what `data.inspection.inspect` found in a data set."""
    headers = [h for h in dataset.headers.values() if isinstance(h, Header)]
    sizes = [h.width for h in headers], [h.height for h in headers]
    columns = [{**c, "chart": _chart(c)} for c in found["columns"]]
    render(
        path, "data.html.j2",
        title=found["source"].rstrip("/").rpartition("/")[2], data=found, columns=columns,
        charted=[c for c in columns if c["chart"] or "top" in c], balance=_balance(found),
        more_classes=max(0, len(found["classes"]) - _BARS), rows_of=_pictures(dataset),
        more_rows=max(0, len(dataset.classes) - _CLASSES), texts=_texts(dataset),
        sizes=figures.sizes(*sizes) if len(set(zip(*sizes, strict=True))) > 1 else None,
        pairs=_pairs(dataset, found["near_duplicates"]), equal=_pairs(dataset, found["exact_duplicates"]),
        shared=_pairs(dataset, found["contamination"]) if found["contamination"] else [],
        refused=[(q["record"], retold(q["reason"])) for q in dataset.quarantine[:_REFUSED]],
        leaks=[(retold(x["column"]), x["measure"], f"{x['score']:.3f}") for x in found["leakage"]],
        personal=[(named(kind), of["rows"], of["found"], _masked(of["first"])) for kind, of in found["personal"].items()],
    )  # fmt: skip


def _masked(first: list[list[str]]) -> str:
    return "; ".join(f"{text} ({record})" for record, text in first[:_MASKED])


def _chart(column: dict[str, Any]) -> str | None:
    return figures.histogram(column["histogram"]["counts"], column["name"]) if "histogram" in column else None


def _balance(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each class with its rows in each split, and the bar's length in percent: the share of the split,
    the largest share of all being 100."""
    splits = {name: s["classes"] for name, s in found["splits"].items() if any(s["classes"].values())}
    shares = {name: [n / sum(c.values()) for n in c.values()] for name, c in splits.items()}
    top = max((max(s) for s in shares.values()), default=1.0)
    return [
        {"name": c, "bars": [{"split": name, "rows": splits[name][c], "length": 100 * shares[name][i] / top}
                             for name in splits]}
        for i, c in enumerate(found["classes"][:_BARS])
    ] if splits else []  # fmt: skip


def _pictures(dataset: Dataset) -> list[dict[str, Any]]:
    """Some images of each class; of all where there are no classes."""
    if dataset.preprocess is None:
        return []
    target = dataset.targets.get(LABEL)
    if target is None or not target.classes:
        return [{"name": "", "images": _evenly(dataset, torch.arange(len(dataset)), 3 * _EACH)}]
    values = dataset.tensors[LABEL]
    of = [
        values == i if target.task == "classification" else values[:, i] == 1
        for i in range(len(target.classes[:_CLASSES]))
    ]
    return [
        {"name": name, "images": _evenly(dataset, mine.nonzero()[:, 0])}
        for name, mine in zip(target.classes, of, strict=False)
    ]


def _texts(dataset: Dataset) -> list[dict[str, Any]]:
    """The beginnings of some texts of each class; of all where there are no classes."""
    if dataset.kind != "text":
        return []
    target = dataset.targets.get(LABEL)
    if target is None or target.task != "classification":
        rows = torch.arange(len(dataset))
        return [
            {
                "name": "",
                "texts": [_read(dataset, r) for r in rows[:: max(1, len(rows) // _READ)][:_READ].tolist()],
            }
        ]
    values = dataset.tensors[LABEL]
    return [
        {"name": name, "texts": [_read(dataset, r) for r in (values == i).nonzero()[:_EACH_READ, 0].tolist()]}
        for i, name in enumerate(target.classes[:_CLASSES])
    ]


def _read(dataset: Dataset, row: int) -> dict[str, Any]:
    """How the texts of a row begin; of a conversation its messages."""
    said = [text_of(dataset.texts[n], row, _BEGINNING) for n in (TEXT, TEXT_2) if n in dataset.texts]
    parts = [{"who": "", "text": _cut(text)} for text in said]
    if dataset.chat:
        messages = json.loads(text_of(dataset.texts[TEXT], row))
        parts = [{"who": m["role"], "text": _cut(m["content"])} for m in messages[:_TURNS]]
    answer = dataset.targets.get(LABEL)
    if answer is not None and answer.task == "text":
        parts.append({"who": answer.column, "text": _cut(text_of(dataset.texts[LABEL], row, _BEGINNING))})
    return {"parts": parts, "record": dataset.names[row]}


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS].rstrip()} …"


def _evenly(dataset: Dataset, rows: Tensor, most: int = _EACH) -> list[dict[str, str]]:
    return [_shown(dataset, row) for row in rows[:: max(1, len(rows) // most)][:most].tolist()]


def _shown(dataset: Dataset, row: int) -> dict[str, str]:
    return {
        "picture": figures.thumbnail(dataset.pictures(torch.tensor([row]))[0]),
        "record": dataset.names[row],
    }


def _pairs(dataset: Dataset, told: dict[str, Any]) -> list[dict[str, Any]]:
    """The first pairs, with pictures or texts where there are any."""
    show = {"image": _shown, "audio": _shown, "text": _read}.get(dataset.kind)
    return [
        {"records": [one, other], "splits": " / ".join(map(retold, splits.split(" and "))), "images": [show(dataset, r) for r in rows] if show else []}
        for (one, other, splits), rows in zip(told["first"], told["rows"], strict=True)
    ]  # fmt: skip

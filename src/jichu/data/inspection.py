"""A closer look at a data set than loading takes: near duplicates, and columns that give the answer away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .cleaning import near_pairs, passages
from .config import ContaminationConfig
from .dataset import Dataset
from .decode import Header
from .duplicates import near_images, near_rows
from .language import UNKNOWN
from .personal import find, masked
from .schema import LABEL
from .sound import Sound, SoundHeader, about_sounds
from .texts import TEXT, TEXT_2, text_of, to_read

_ROWS = 5000  # rows that a column alone is tried on
_SUSPECT = 0.95  # AUROC or R² from which one column alone is suspected to hold the answer
_HEADER = 0.80  # the AUROC from which an image's size or format is: it ought to say nothing
_LOSSY = {"JPEG", "WEBP"}
_TELLING = 0.001  # share of the held-out records that must have a near copy elsewhere to be worth a remark
_SHOWN = 20
# shares of the texts between which a language is one of few, and texts from which it is said
_LEAST, _FEW, _SAID = 0.01, 0.1, 50
_COMPARED = 100_000  # images among which copies are looked for
_AT_ONCE = 1024  # sounds


def inspect(dataset: Dataset) -> dict[str, Any]:
    """`dataset.summary()` and a closer look: `images` and `sounds` (sizes and formats of the files), `missing` cells,
    `exact_duplicates`, `near_duplicates`, of texts `contamination`, `personal` data, `leakage`, and `remarks` in words; ready
    for JSON."""
    found = dataset.summary()
    found["images"] = image_files(dataset)
    found["sounds"] = sound_files(dataset)
    found["missing"] = _missing(dataset)
    found |= duplicates(dataset)
    found["contamination"] = contamination(dataset)
    found["personal"] = personal(dataset)
    found["leakage"] = leakage(dataset)
    found["remarks"] = _remarks(dataset, found)
    return found


def image_files(dataset: Dataset) -> dict[str, Any] | None:
    """Of the images whose headers were read: how many, width, height and bytes as [least, median, most],
    formats and how many can hold colour. None where there are no images."""
    headers = [h for h in dataset.headers.values() if isinstance(h, Header)]
    if not headers:
        return None
    sizes = [h.nbytes for h in headers if h.nbytes is not None]
    return {
        "looked_at": len(headers),
        "width": _ends([h.width for h in headers]),
        "height": _ends([h.height for h in headers]),
        "bytes": _ends(sizes) if sizes else None,
        "formats": dict(Counter(h.format or "in memory" for h in headers).most_common()),
        "colour": sum(h.colour for h in headers),
    }


def sound_files(dataset: Dataset) -> dict[str, Any] | None:
    """Of the sounds whose headers were read: how long, at what rate, in which formats (`about_sounds`); and how many
    of all are `silent`. None where there are no sounds."""
    headers = [h for h in dataset.headers.values() if isinstance(h, SoundHeader) and h.frames]
    if not headers:
        return None
    parts = dataset.tensors["audio"].split(_AT_ONCE)
    return about_sounds(headers) | {"silent": sum(int((part == part[:, :1]).all(1).sum()) for part in parts)}


def _looks(dataset: Dataset) -> Tensor:
    """What near duplicates are told by: images [N, C, H, W], or spectrograms of sounds."""
    if dataset.kind == "image":
        return dataset.tensors["image"]
    parts = torch.arange(len(dataset)).split(_AT_ONCE)
    return torch.cat([dataset.pictures(rows) for rows in parts])


def _ends(values: list[int]) -> list[int]:
    return [min(values), int(np.median(values)), max(values)]


def _missing(dataset: Dataset) -> dict[str, int]:
    counts = [c["missing"] for c in dataset.columns if "missing" in c]
    return {"cells": sum(counts), "of": len(dataset) * len(counts), "columns": sum(n > 0 for n in counts)}


def duplicates(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Records that are the same, `exact_duplicates`, and nearly so, `near_duplicates`: how many `pairs`
    (each record with one before it), how many of them `across_splits`, and the `first` of them as
    [record, record, their splits], with their `rows`. Of very many images those that are held out and an
    even sample of the others are compared."""
    equal = dataset.equal if dataset.equal is not None else np.arange(len(dataset))
    if dataset.kind != "table":
        rows = _looked_at(dataset)
    if dataset.preprocess is not None:
        near = near_images(_looks(dataset), rows, equal)
    elif dataset.kind == "text":
        near = near_pairs(to_read(dataset.texts, dataset.chat), rows)
    else:
        rows = np.arange(len(dataset))
        near = _pairs(near_rows(dataset.tensors))
    exact = rows[_pairs(equal[rows])]
    near = near[equal[near[:, 0]] != equal[near[:, 1]]]
    return {"exact_duplicates": _told(dataset, exact), "near_duplicates": _told(dataset, near)}


def contamination(dataset: Dataset) -> dict[str, Any] | None:
    """Training texts that share a passage (13 words, or 30 characters where there are none) with a held-out
    one, told as duplicates are: `pairs`, `across_splits`, the `first` and their `rows`. None without texts."""
    if dataset.kind != "text" or "train" not in dataset.splits or len(dataset.splits) < 2:
        return None
    pairs = passages(to_read(dataset.texts, dataset.chat), dataset.splits, ContaminationConfig(), _COMPARED)
    return _told(dataset, pairs) | {"held_out": len(np.unique(pairs[:, 1]))}


def personal(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Personal data in texts and in the categories of a table, by kind: in how many `rows`, how many in all, and the
    `first` of them as [record, what stands there, masked]."""
    found: dict[str, dict[str, Any]] = {}
    for row, text in _written(dataset):
        seen = set()
        for kind, start, end in find(text):
            told = found.setdefault(kind, {"rows": 0, "found": 0, "first": []})
            told["rows"] += kind not in seen
            told["found"] += 1
            seen.add(kind)
            if len(told["first"]) < _SHOWN:
                told["first"].append([dataset.names[row], masked(text[start:end])])
    return found


def _written(dataset: Dataset) -> Iterator[tuple[int, str]]:
    """Each row's texts, of very many rows an even sample; and each category, with the first row that has it. What is not
    used is not looked at."""
    if TEXT in dataset.texts:
        used = torch.cat(list(dataset.splits.values())).sort().values
        for row in used[:: max(1, -(-len(used) // _COMPARED))].tolist():
            yield (
                row,
                "\n".join(
                    text_of(dataset.texts[name], row) for name in (TEXT, TEXT_2) if name in dataset.texts
                ),
            )
    for i, names in enumerate(dataset.table.categories.values()):
        codes = dataset.tensors["categories"][:, i].numpy()
        for code, name in enumerate(names, 1):
            if find(name):
                yield int((codes == code).argmax()), name


def _looked_at(dataset: Dataset) -> np.ndarray:
    rows = np.arange(len(dataset))
    if len(rows) <= _COMPARED:
        return rows
    held_out = [r.numpy() for name, r in dataset.splits.items() if name != "train"]
    kept = np.concatenate([*held_out, rows[:0]])[:_COMPARED]
    others = np.setdiff1d(rows, kept)
    return np.union1d(kept, others[:: max(1, -(-len(others) // max(1, _COMPARED - len(kept))))])


def _told(dataset: Dataset, pairs: np.ndarray) -> dict[str, Any]:
    split_of = np.full(len(dataset), "not used", object)
    for name, rows in dataset.splits.items():
        split_of[rows.numpy()] = name
    one, other = split_of[pairs[:, 0]], split_of[pairs[:, 1]]
    across = (one != other) & (one != "not used") & (other != "not used")
    first = np.concatenate([pairs[across], pairs[~across]])[:_SHOWN].tolist()
    names = dataset.names
    shown = [[names[a], names[b], " and ".join(dict.fromkeys([split_of[a], split_of[b]]))] for a, b in first]
    return {"pairs": len(pairs), "across_splits": int(across.sum()), "first": shown, "rows": first}


def _pairs(groups: np.ndarray) -> np.ndarray:
    """Each row of a group with the group's first, [P, 2]."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rows = np.arange(len(groups))
    later = first[member] != rows
    return np.stack([first[member][later], rows[later]], axis=1)


def leakage(dataset: Dataset) -> list[dict[str, Any]]:
    """Columns that tell the target almost by themselves, [{"column", "score", "measure"}], worst first: what
    a small tree makes of each alone, on rows it was not fitted to. Of images the width, height and size of
    the file are tried, which ought to say nothing."""
    if LABEL not in dataset.targets:
        return []
    rows = dataset.labelled("train")
    rows = rows[dataset.known(rows)]
    found: list[dict[str, Any]] = []
    if dataset.kind == "image":
        found += _of_headers(dataset, rows)
    rows = rows[:: max(1, len(rows) // _ROWS)]
    for block, names in (
        ("numbers", dataset.table.number_names),
        ("categories", [*dataset.table.categories]),
    ):
        if block in dataset.tensors:
            values = dataset.tensors[block][rows].numpy()
            for i, name in enumerate(names):
                score, measure = _alone(values[:, i], dataset.tensors[LABEL][rows])
                if score >= _SUSPECT:
                    found.append({"column": name, "score": score, "measure": measure})
    return sorted(found, key=lambda f: -f["score"])


def _of_headers(dataset: Dataset, rows: Tensor) -> list[dict[str, Any]]:
    known = [r for r in rows.tolist() if r in dataset.headers]
    if len(known) < 50 or dataset.targets[LABEL].task != "classification":
        return []
    headers = [cast(Header, dataset.headers[r]) for r in known]
    formats = sorted({h.format or "" for h in headers})
    about = {
        "width of the image": [h.width for h in headers],
        "height of the image": [h.height for h in headers],
        "colour of the file": [int(h.colour) for h in headers],
        "format of the file": [formats.index(h.format or "") for h in headers],
    }
    if set(formats) <= _LOSSY:  # elsewhere the size only says how much there is to see
        about["size of the file"] = [h.nbytes or 0 for h in headers]
    found = []
    for name, values in about.items():
        score, measure = _alone(np.array(values), dataset.tensors[LABEL][known])
        if score >= _HEADER:
            found.append({"column": name, "score": score, "measure": measure})
    return found


def _alone(values: np.ndarray, target: Tensor) -> tuple[float, str]:
    """AUROC (one against the rest, mean) or R² of a tree on one column, three-fold."""
    truth = target.numpy()
    x = np.nan_to_num(values.astype(np.float64), nan=-1e9)[:, None]
    if truth.ndim > 1 or len(np.unique(x)) < 2 or len(truth) < 10:
        return 0.0, ""
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if truth.dtype.kind == "f":
        number = DecisionTreeRegressor(max_leaf_nodes=32, min_samples_leaf=5, random_state=0)
        found = np.empty(len(truth))
        for train, held_out in KFold(3, shuffle=True, random_state=0).split(x):
            found[held_out] = number.fit(x[train], truth[train]).predict(x[held_out])
        return float(1 - ((truth - found) ** 2).sum() / ((truth - truth.mean()) ** 2).sum().clip(1e-12)), "R²"
    classes, counts = np.unique(truth, return_counts=True)
    common = classes[counts >= 3]
    kept = np.isin(truth, common)
    x, truth = x[kept], truth[kept]
    if len(common) < 2:
        return 0.0, ""
    tree = DecisionTreeClassifier(max_leaf_nodes=max(32, 2 * len(common)), min_samples_leaf=3, random_state=0)
    scores = np.empty((len(truth), len(common)))
    for train, held_out in StratifiedKFold(3, shuffle=True, random_state=0).split(x, truth):
        scores[held_out] = tree.fit(x[train], truth[train]).predict_proba(x[held_out])
    return float(auroc(truth[:, None] == common, scores).mean()), "AUROC"


def auroc(true: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The share [K] of pairs of a row of a class, true [N, K], and one of none that `scores` [N, K] put in
    that order, from the sum of ranks (Mann and Whitney, 1947)."""
    from scipy.stats import rankdata  # here, because it takes long to import

    n = true.sum(0)
    return ((rankdata(scores, axis=0) * true).sum(0) - n * (n + 1) / 2) / (n * (len(true) - n))


def _remarks(dataset: Dataset, found: dict[str, Any]) -> list[str]:
    """What somebody should know before training, in words."""
    columns = [*dataset.table.number_names, *dataset.table.categories]
    remarks = [
        f"{f['column']} tells the target almost by itself ({f['measure']} {f['score']:.3f}): would it be known"
        " when a prediction is wanted?" if f["column"] in columns else
        f"the {f['column']} alone says much of the class ({f['measure']} {f['score']:.2f}): it may be learned instead"
        for f in found["leakage"]
    ]  # fmt: skip
    near = found["near_duplicates"]["across_splits"]
    held_out = sum(len(rows) for name, rows in dataset.splits.items() if name != "train")
    if near > _TELLING * held_out:
        remarks.append(
            f"{near} records look nearly the same as one in another split ({held_out} are held out):"
            " held-out figures may flatter"
        )
    shared = found["contamination"] and found["contamination"]["held_out"]
    if shared and shared > _TELLING * held_out:
        remarks.append(
            f"{shared} held-out texts share a passage with one that is trained on: data.clean.contamination"
            " leaves those out"
        )
    if found["personal"]:
        told = ", ".join(f"{kind} in {of['rows']:,}" for kind, of in found["personal"].items())
        remarks.append(
            f"there are personal data ({told} rows): a model may learn them by heart; data.clean.personal leaves"
            " such texts out"
        )
    sounds = found["sounds"]
    if sounds and sounds["silent"]:
        remarks.append(f"{sounds['silent']} of the sounds are silent from end to end")
    if sounds and len(sounds["rates"]) > 1:
        told = ", ".join(f"{n:,} at {rate:,} Hz" for rate, n in sounds["rates"].items())
        kept = dataset.preprocess.rate if isinstance(dataset.preprocess, Sound) else 0
        remarks.append(f"the sounds differ in rate ({told}): all are resampled to {kept:,} Hz")
    for column in found["columns"]:
        if len(column.get("languages", ())) > 1 and column["role"].startswith("input"):
            remarks += _of_languages(column)
    for name, split in found["splits"].items():
        counts = [n for n in split["classes"].values() if n]
        if name == "train" and len(counts) > 1 and max(counts) > 5 * min(counts):
            remarks.append(
                f"the classes are unbalanced ({max(counts):,} to {min(counts):,} rows): look at balanced_accuracy or auroc,"
                " and at class_weights: balanced"
            )
        if name == "train" and counts and min(counts) < 10:
            few = [c for c, n in split["classes"].items() if 0 < n < 10]
            remarks.append(f"fewer than 10 training rows of {', '.join(few[:5])}")
    for key, target in dataset.targets.items():
        if key == LABEL and target.task == "classification" and len(target.classes) < 2:
            remarks.append(f"{target.column} has one class only: nothing can be learned from labels")
    return remarks


def _of_languages(column: dict[str, Any]) -> list[str]:
    """That a few texts are in another language than the most, which may be by mistake."""
    told = {code: n for code, n in column["languages"].items() if code != UNKNOWN}
    total = sum(told.values())
    few = {code: n for code, n in told.items() if n < _FEW * total}
    if total < _SAID or not few or len(few) == len(told):
        return []
    share = sum(few.values()) / total
    if share < _LEAST:
        return []
    names = ", ".join(sorted(few, key=few.__getitem__, reverse=True)[:5])
    return [
        f"some texts of {column['name']} ({share:.1%}) seem to be in {names}: data.clean.language leaves languages out"
    ]

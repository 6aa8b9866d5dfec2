"""A data set: typed columns decoded to tensors, named splits, and all that was not used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import DataError
from jichu.core.progress import say

from .config import IN_MEMORY, DataConfig, SplitConfig
from .decode import Preprocess
from .readers import read
from .source import UNLABELLED, unusable
from .splits import draw_labels, duplicate_groups, stratified
from .store import Store, build, infer


@dataclass
class Dataset:
    """`tensors[name]` is [N, ...]; `splits[name]` holds row numbers; `names[row]` says where a row
    came from; `classes` are the names of the labels' codes."""

    tensors: dict[str, Tensor]
    names: list[str]
    splits: dict[str, Tensor]
    classes: list[str] = field(default_factory=list)
    preprocess: Preprocess | None = None
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    duplicates: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""
    source: str = ""
    splits_given: bool = False  # whether the source came with splits

    def __len__(self) -> int:
        return len(self.names)

    def labels(self, split: str) -> np.ndarray:
        """Codes [n] of a split's rows; -1 where there is no label."""
        rows = self.splits[split]
        if "label" not in self.tensors:
            return np.full(len(rows), UNLABELLED)
        return self.tensors["label"][rows].numpy()

    def labelled(self, split: str) -> Tensor:
        """The rows of a split that have a label."""
        return self.splits[split][torch.from_numpy(self.labels(split) != UNLABELLED)]

    def draw(self, per_class: int | None, *, seed: int, draw: int) -> Tensor:
        """Labelled training rows: all, or `per_class` of each class."""
        rows = self.labelled("train")
        if not len(rows):
            raise DataError(
                f"no labelled images to learn from in {self.source}",
                expected="class folders, or a label column",
            )
        if per_class is None:
            return rows
        chosen = draw_labels(self.tensors["label"].numpy(), rows.numpy(), per_class, seed=seed, draw=draw)
        return torch.from_numpy(chosen)

    def summary(self) -> dict[str, Any]:
        """Counts, sizes, classes and faults, ready for JSON."""
        splits = {}
        for name, rows in self.splits.items():
            codes = self.labels(name)
            counts = {c: int((codes == i).sum()) for i, c in enumerate(self.classes)}
            splits[name] = {
                "rows": len(rows),
                "unlabelled": int((codes == UNLABELLED).sum()),
                "classes": counts,
            }
        columns = {
            name: {"type": "image" if name == "image" else "label" if name == "label" else "number",
                   "shape": list(tensor.shape[1:]), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in self.tensors.items()
        }  # fmt: skip
        return {
            "source": self.source,
            "rows": len(self),
            "columns": columns,
            "preprocess": self.preprocess and self.preprocess._asdict(),
            "classes": self.classes,
            "splits": splits,
            "duplicates": self.duplicates,
            "quarantined": len(self.quarantine),
            "quarantine": self.quarantine[:20],
            "fingerprint": self.fingerprint,
        }


def load(data: Any, config: DataConfig | None = None, *, seed: int = 0) -> Dataset:
    """Read, decode (once), clean and split.

    Exact duplicates stay in one split; where the source comes with splits, a training or validation row
    whose pixels are also in one held out from it is quarantined.
    """
    config = config or DataConfig(path=data if isinstance(data, str) else IN_MEMORY)
    source = read(data, config.reader)
    preprocess = infer(source, config.size, config.channels, config.resize)
    store = build(source, preprocess)
    labels = store.tensors.get("label")
    codes = np.zeros(len(store.names), np.int64) if labels is None else labels.numpy()
    groups = duplicate_groups(store.tensors["image"]) if "image" in store.tensors else np.arange(len(codes))
    splits, leaks = _split(store, codes, groups, config.split, seed)
    faults = [unusable(store.names[row], "exact duplicate of a held-out record") for row in leaks.tolist()]
    duplicates = {
        "exact": int(len(groups) - len(np.unique(groups))),
        "removed": len(leaks),
        "conflicting_labels": _conflicts(codes, groups) if labels is not None else 0,
    }
    dataset = Dataset(
        store.tensors,
        store.names,
        {name: torch.from_numpy(rows) for name, rows in splits.items()},
        store.classes.get("label", []),
        preprocess,
        store.quarantine + faults,
        duplicates,
        store.fingerprint,
        config.path,
        store.splits is not None,
    )
    _warn(dataset)
    return dataset


def _split(
    store: Store, codes: np.ndarray, groups: np.ndarray, config: SplitConfig, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of each split, and rows that are not used because a split held out from theirs has them too."""
    shares = {"validation": config.validation, "test": config.test}
    given = np.array(store.splits or [""] * len(codes))
    found = {name: np.flatnonzero(given == name) for name in shares}
    pool = np.flatnonzero(~np.isin(given, list(shares)))
    shares = {name: share for name, share in shares.items() if share and not len(found[name])}
    made = stratified(codes[pool], shares, seed=seed, groups=groups[pool])
    splits = {name: pool[rows] for name, rows in made.items()}
    splits |= {name: rows for name, rows in found.items() if len(rows)}
    leaks = [np.empty(0, np.int64)]
    for name, against in (("validation", ["test"]), ("train", ["validation", "test"])):
        held_out = np.concatenate([leaks[0], *(splits[other] for other in against if other in splits)])
        leak = np.isin(groups[splits.get(name, leaks[0])], groups[held_out])
        if leak.any():
            leaks.append(splits[name][leak])
            splits[name] = splits[name][~leak]
    splits = {name: rows for name, rows in splits.items() if len(rows) or name == "train"}
    return dict(sorted(splits.items(), key=lambda item: item[0] != "train")), np.concatenate(leaks)


def _conflicts(codes: np.ndarray, groups: np.ndarray) -> int:
    """How many sets of equal records carry more than one label."""
    known = codes != UNLABELLED
    pairs = np.unique(np.stack([groups[known], codes[known]]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def _warn(dataset: Dataset) -> None:
    if dataset.quarantine:
        first = dataset.quarantine[0]
        say(
            f"{len(dataset.quarantine)} records are not used, listed in quarantine.jsonl;"
            f" the first: {first['record']}: {first['reason']}"
        )
    if dataset.classes and "train" in dataset.splits:
        codes = dataset.labels("train")
        absent = [c for i, c in enumerate(dataset.classes) if not (codes == i).any()]
        if absent and (codes != UNLABELLED).any():
            say(f"no labelled training rows for {', '.join(absent[:10])}")

"""Which split each row is in: found once, and kept beside the columns for the next start."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from jichu.core.files import fingerprint, replacing

from .config import DataConfig, SplitConfig
from .schema import LABEL
from .source import UNLABELLED, distinct
from .splits import joined, latest, stratified
from .store import EQUAL, Store
from .target import Target
from .texts import TEXT

GIVEN, GROUP, TIME = "(split)", "(group)", "(time)"  # stored beside the tensors, for splitting only
SPLIT_NAMES = ["", "train", "validation", "test"]  # the codes of the first of them
_LEAKS = "(leaks)"
_BINS = 10  # of a number to predict, for splits in which its values are spread alike


def kept_splits(
    store: Store, targets: dict[str, Target], hidden: dict[str, np.ndarray], how: DataConfig, seed: int,
    dropped: np.ndarray,
) -> tuple[dict[str, Tensor], Tensor, dict[str, int]]:  # fmt: skip
    """Rows of each split, rows that are not used because a split held out from theirs has them too, and how
    many duplicates there are; kept beside the columns for the next start. The `dropped` rows are in none."""
    config = how.split
    path = (
        store.folder
        / f"split-{fingerprint(config, seed, *([how.clean] if len(dropped) else []))}.safetensors"
    )
    with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError), safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        kept = {name: file.get_tensor(name) for name in [*about["splits"], _LEAKS]}
        leaks = kept.pop(_LEAKS)
        return kept, leaks, about["duplicates"]
    labels, target = store.tensors.get(LABEL), targets.get(LABEL)
    rows = len(store.names)
    equal = hidden[EQUAL]
    groups = equal if store.preprocess is not None or TEXT in store.texts else np.arange(rows)
    free = np.ones(rows, bool)
    free[dropped] = False
    made, left_out = _split(free, _strata(labels, target, rows), groups, hidden, config, seed)
    duplicates = {
        "exact": len(equal) - distinct(equal),
        "removed": len(left_out),
        "conflicting_labels": 0,
    }
    if labels is not None and target is not None and target.task == "classification":
        duplicates["conflicting_labels"] = _conflicts(labels.numpy(), equal)
    splits, leaks = {name: torch.from_numpy(r) for name, r in made.items()}, torch.from_numpy(left_out)
    with contextlib.suppress(OSError), replacing(path) as temporary:
        about = json.dumps({"splits": [*splits], "duplicates": duplicates})
        # not by `save_file`, which makes a file of its own beside it, and leaves that where it is killed
        temporary.write_bytes(save({**splits, _LEAKS: leaks}, {"about": about}))
    return splits, leaks, duplicates


def _split(
    free: np.ndarray, strata: np.ndarray, groups: np.ndarray, hidden: dict[str, np.ndarray], config: SplitConfig,
    seed: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """Rows of each split, out of those that are `free`, and rows that are not used because a split held out
    from theirs has them too."""
    shares = {"validation": config.validation, "test": config.test}
    given = hidden.get(GIVEN, np.zeros(len(free), np.int8))
    found = {name: np.flatnonzero(free & (given == SPLIT_NAMES.index(name))) for name in shares}
    pool = np.flatnonzero(free & ~np.isin(given, [SPLIT_NAMES.index(name) for name in shares]))
    shares = {name: share for name, share in shares.items() if share and not len(found[name])}
    if TIME in hidden and shares:
        made = latest(hidden[TIME][pool], shares)
    else:
        together = joined(groups, hidden[GROUP]) if GROUP in hidden else groups
        made = stratified(strata[pool], shares, seed=seed, groups=together[pool])
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


def _strata(labels: Tensor | None, target: Target | None, rows: int) -> np.ndarray:
    """Classes [N] to be spread alike over the splits, -1 where a row can only be trained on."""
    if labels is None or target is None:
        return np.zeros(rows, np.int64)
    if target.task == "classification":
        return labels.numpy()
    values = labels.numpy() if labels.ndim == 1 else labels.numpy().sum(1)
    known = ~np.isnan(values)
    edges: Any = (
        np.unique(np.quantile(values[known], np.linspace(0, 1, _BINS + 1)[1:-1])) if known.any() else []
    )
    return np.where(known, np.searchsorted(edges, values), UNLABELLED)


def _conflicts(codes: np.ndarray, groups: np.ndarray) -> int:
    """How many sets of equal records carry more than one label."""
    known = codes != UNLABELLED
    groups, codes = groups[known], codes[known]
    one = np.zeros(groups.max(initial=0) + 1, codes.dtype)  # label of each set
    one[groups] = codes
    return distinct(groups[codes != one[groups]])

"""Can it be told which rows a model was trained on? Scores [n] of members and [m] of strangers, higher where a row seems to be
a member."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .intervals import Interval, intervals
from .ranking import area, found_at, roc

_FEW_SHADOWS = 64  # below which one deviation is taken for all rows, as in Carlini et al.
_LEAST = 1e-6  # of a deviation
Array = np.ndarray


def leakage(members: Array, strangers: Array, at: float = 0.001, seed: int = 0) -> dict[str, Interval]:
    """`auroc`; `found_at`, the share of members found where `at` of the strangers are taken for some (Carlini et al., 2022,
    who want it at 0.1%); and `advantage`, the largest difference of both shares (Yeom et al., 2018), which is above 0 by
    chance alone where rows are few."""
    scores = np.concatenate([members, strangers])
    is_member = np.arange(len(scores)) < len(members)

    def values(weights: Array) -> Array:
        found, mistaken = roc(is_member, scores, weights)
        told = [area(found, mistaken), found_at(found, mistaken, at), (found - mistaken).max(1)]
        return np.stack(told, -1)[:, None]

    auroc, caught, advantage = intervals(values, 1, len(scores), seed=seed, excess=(2,))
    return {"auroc": auroc, "found_at": caught, "advantage": advantage}


def likelihood_ratio(asked: Array, shadows: Array, inside: Array) -> Array:
    """How much likelier the confidence [N] of each row is where it was trained on than where not, as a logarithm, by normal
    distributions of the confidences [S, N] of shadow models of which `inside` [S, N] were (Carlini et al., 2022, arXiv
    2112.03570). NaN where all shadows, or none, had the row."""
    logs = []
    for had in (inside, ~inside):
        count = had.sum(0)
        mean = (shadows * had).sum(0) / np.maximum(count, 1)
        square = ((shadows - mean) ** 2 * had).sum(0)
        if len(shadows) < _FEW_SHADOWS:
            spread = np.sqrt(square.sum() / max(1, count.sum() - (count > 0).sum()))
        else:
            spread = np.sqrt(square / np.maximum(count - 1, 1))
        spread = np.maximum(spread, _LEAST)
        log = -(((asked - mean) / spread) ** 2) / 2 - np.log(spread)
        logs.append(np.where(count > 0, log, np.nan))
    return logs[0] - logs[1]


def min_k(nats: Sequence[Array], share: float = 0.2) -> Array:
    """Of each text the mean log-probability of the share of its tokens that are the least likely [N] (Shi et al., 2024, arXiv
    2310.16789): a text that was read has no such surprises."""
    return np.array([-np.sort(text)[-max(1, int(share * len(text))) :].mean() for text in nats])


def confidence(probabilities: Array, truth: Array) -> Array:
    """log p / (1 - p) of the true class [N], from probabilities [N, K]: nearly normal over models (Carlini et al.)."""
    p = probabilities[np.arange(len(truth)), truth]
    others = probabilities.sum(1) - p
    return np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(others, 1e-30))

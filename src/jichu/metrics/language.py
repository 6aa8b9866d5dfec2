"""Metrics of language models. Truth is [N, 2], the predicted tokens and the bytes of each row; scores are
[N, 1], minus the logarithm of the row's likelihood in nats, or [N, 2], beside it whether what a model wrote
is what was to be written."""

from __future__ import annotations

from functools import partial

import numpy as np

from jichu.data.target import Task

from .base import Array, MeanOf, OfSums, ratio

_LANGUAGE: tuple[Task, ...] = ("language", "text")


def _sums(truth: Array, scores: Array) -> Array:
    """[N, 3 or 4]: tokens, bytes, nats."""
    return np.concatenate([truth, scores], 1).astype(np.float64)


_metric = partial(OfSums, parts=_sums, tasks=_LANGUAGE, lower_is_better=True)


@_metric
def token_loss(sums: Array) -> Array:
    """Nats a predicted token: the cross-entropy that training lowers."""
    return ratio(sums[..., 2], sums[..., 0])


@_metric
def perplexity(sums: Array) -> Array:
    """The exponential of that; it depends on the tokenizer."""
    return np.exp(ratio(sums[..., 2], sums[..., 0]))


@_metric
def bits_per_byte(sums: Array) -> Array:
    """Bits that the text takes when it is coded with the model's predictions, a byte of UTF-8: the same
    measure for every tokenizer."""
    return ratio(sums[..., 2], np.log(2) * sums[..., 1])


@partial(MeanOf, tasks=("text",))
def exact_match(truth: Array, scores: Array) -> Array:
    """The share of the rows in which just that was written which was to be, as far as the tokenizer can write
    it (in small letters, perhaps), spaces around it aside."""
    return scores[:, 1]

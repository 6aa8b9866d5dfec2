"""Metrics against scikit-learn; intervals against closed forms and their promised coverage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from jichu.auditing import measure, table
from jichu.core.errors import UsageError
from jichu.metrics import classification as C
from jichu.metrics.intervals import mean_interval, metric_interval
from jichu.metrics.representation import effective_rank


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 6), st.integers(5, 60), st.integers(0, 10_000))
def test_metrics_equal_scikit_learn(classes, rows, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=rows)
    scores = rng.dirichlet(np.ones(classes), size=rows)
    predicted = scores.argmax(1)
    assert C.accuracy(truth, scores) == pytest.approx(reference.accuracy_score(truth, predicted))
    assert C.log_loss(truth, scores) == pytest.approx(
        reference.log_loss(truth, scores, labels=range(classes))
    )
    present = [c for c in range(classes) if (truth == c).any()]
    recalls = reference.recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert C.balanced_accuracy(truth, scores) == pytest.approx(recalls)
    assert C.macro_f1(truth, scores) == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert np.array_equal(
        C.confusion(truth, scores), reference.confusion_matrix(truth, predicted, labels=range(classes))
    )
    if classes > 5:
        assert C.top5_accuracy(truth, scores) == pytest.approx(
            reference.top_k_accuracy_score(truth, scores, k=5, labels=range(classes))
        )


def test_intervals_agree_with_the_binomial():
    correct = np.r_[np.ones(180), np.zeros(20)]
    found = mean_interval(correct)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 200)
    assert found.value == 0.9
    assert found.low == pytest.approx(0.9 - half, abs=0.006) and found.high == pytest.approx(
        0.9 + half, abs=0.006
    )
    assert mean_interval(correct) == found


def test_intervals_cover_what_they_promise():
    rng = np.random.default_rng(0)
    held = 0
    for i in range(150):
        found = mean_interval((rng.random(100) < 0.8).astype(float), seed=i)
        held += found.low <= 0.8 <= found.high
    assert 0.9 <= held / 150 <= 0.99


def test_draws_widen_the_interval():
    rng = np.random.default_rng(0)
    rows = (rng.random(400) < 0.8).astype(float)
    alike = np.repeat(rows[None], 6, axis=0)
    apart = np.stack([(rng.random(400) < p).astype(float) for p in (0.6, 0.7, 0.8, 0.85, 0.9, 0.95)])
    width = {
        name: mean_interval(v).high - mean_interval(v).low for name, v in (("alike", alike), ("apart", apart))
    }
    assert width["apart"] > 1.5 * width["alike"]
    assert width["alike"] == pytest.approx(np.diff(mean_interval(rows)[1:])[0], abs=0.01)


def test_a_metric_of_ones_own_gets_an_interval():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=300)
    scores = np.eye(3)[np.where(rng.random((2, 300)) < 0.8, truth, (truth + 1) % 3)]
    own = metric_interval(lambda t, s: float((s.argmax(1) == t).mean()), truth, scores)
    known = metric_interval(C.accuracy, truth, scores)
    assert own.value == pytest.approx(known.value)
    assert own.low == pytest.approx(known.low, abs=0.02) and own.high == pytest.approx(known.high, abs=0.02)


def tables(*, shift=0.0, rows=300, draws=3):
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.integers(3, size=rows))
    hard = rng.random(rows)  # both models fail on the same rows
    names = [f"r{i}" for i in range(rows)]
    made = []
    for stage, level in (("a", 0.2), ("b", 0.2 + shift)):
        for draw in range(draws):
            wrong = torch.from_numpy(hard + 0.02 * rng.random(rows) < level)
            logits = 4 * torch.nn.functional.one_hot(torch.where(wrong, (truth + 1) % 3, truth), 3).float()
            made.append(table.make(stage, draw, torch.arange(rows), names, truth, logits))
    import pyarrow

    return pyarrow.concat_tables(made).unify_dictionaries()


def test_the_gain_is_paired():
    metrics = {"accuracy": C.accuracy}
    found = measure.measure(tables(shift=0.04), ["x", "y", "z"], metrics, ["a", "b"])
    alone = found["models"]["a"]["metrics"]["accuracy"]
    gain = found["gain"]
    assert gain["low"] > 0
    assert gain["high"] - gain["low"] < 0.7 * (alone["high"] - alone["low"])
    none = measure.measure(tables(), ["x", "y", "z"], metrics, ["a", "b"])["gain"]
    assert none["low"] <= 0 <= none["high"]
    own = measure.paired_gain(tables(shift=0.04), "a", "b", lambda t, s: float((s.argmax(1) == t).mean()))
    assert own.value == pytest.approx(gain["value"])


def test_the_table_keeps_every_row(tmp_path):
    made = tables(draws=2)
    table.write(tmp_path / "p.parquet", made)
    again = table.read(tmp_path / "p.parquet")
    assert again.column_names[:8] == [
        "stage",
        "draw",
        "row",
        "record",
        "truth",
        "prediction",
        "score",
        "loss",
    ]
    _, truth, scores = table.scores(again, "b")
    assert scores.shape == (2, 300, 3) and np.allclose(scores.sum(2), 1)
    assert again["loss"].to_pylist()[0] == pytest.approx(-np.log(table.scores(again, "a")[2][0, 0, truth[0]]))
    headline = measure.headline(measure.measure(made, ["x", "y", "z"], {"accuracy": C.accuracy}, ["a", "b"]))
    assert set(headline) == {"a", "b", "gain"} and all(
        set(v) == {"value", "low", "high"} for v in headline.values()
    )


def test_a_metric_that_gives_no_number_is_refused():
    with pytest.raises(UsageError, match="gave list"):
        measure.measure(tables(), ["x", "y", "z"], {"own": lambda t, s: [1]})


def test_effective_rank():
    generator = torch.Generator().manual_seed(0)
    assert effective_rank(torch.randn(4000, 8, generator=generator)) == pytest.approx(8, rel=0.01)
    line = torch.randn(100, 1, generator=generator) * torch.randn(1, 8, generator=generator)
    assert effective_rank(line) == pytest.approx(1, abs=1e-2)
    assert effective_rank(torch.ones(10, 8)) == 0

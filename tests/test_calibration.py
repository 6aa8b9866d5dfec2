"""Calibration: errors against a plain sum, scalings that find what was put in, sets that hold what they promise."""

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

import jichu
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.metrics import calibration, metric
from jichu.metrics.classification import log_loss
from jichu.metrics.intervals import metric_interval
from jichu.train.predict import predict


def drawn(rows, classes=4, heat=1.0, seed=0):
    """Truth that follows softmax(logits), and scores that are `heat` times as sure."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(rows, classes))
    odds = softmax(logits, axis=1)
    truth = (odds.cumsum(1) < rng.random((rows, 1))).sum(1).clip(max=classes - 1)
    return truth, softmax(heat * logits, axis=1)


@given(
    st.integers(2, 60),
    st.integers(2, 5),
    st.integers(1, 20),
    st.sampled_from(["width", "mass"]),
    st.integers(0, 99),
)
def test_the_error_is_the_sum_over_bins(rows, classes, count, by, seed):
    truth, scores = drawn(rows, classes, seed=seed)
    confidence, right = scores.max(1), scores.argmax(1) == truth
    parts = np.array_split(np.argsort(confidence, kind="stable"), count)
    if by == "width":
        edges = np.linspace(0, 1, count + 1)
        parts = [
            np.flatnonzero((confidence > low) & (confidence <= high))
            for low, high in itertools.pairwise(edges)
        ]
    else:  # the first bins are the larger ones where rows do not divide, and here any of them: as many rows each
        found = calibration.bins(truth, scores, count, by)
        assert max(found.rows) - min(found.rows) <= 1 and sum(found.rows) == rows
        return
    wanted = sum(abs(confidence[p].mean() - right[p].mean()) * len(p) for p in parts if len(p)) / rows
    assert calibration.ece(truth, scores, count=count, by=by) == pytest.approx(wanted, abs=1e-9)
    told = calibration.bins(truth, scores, count, by)
    assert np.abs(told.confidence - told.accuracy) @ told.rows / rows == pytest.approx(wanted, abs=1e-9)


def test_by_hand():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    truth = np.array([0, 1, 0, 1])
    # 0.9: half right, off by 0.4; 0.6 and 0.7 are right, off by 0.4 and 0.3
    assert calibration.ece(truth, scores, count=10) == pytest.approx((0.8 + 0.4 + 0.3) / 4)
    assert calibration.ece(truth, scores, count=1) == pytest.approx(abs(3.1 / 4 - 3 / 4))
    assert metric("ece", task="classification", count=10)(truth, scores) == pytest.approx(0.375)
    assert metric("ece").lower_is_better


def test_the_temperature_that_was_put_in_is_found():
    truth, scores = drawn(20_000, heat=2.5)
    shrink, value = calibration.temperature(truth, scores)
    assert value == pytest.approx(2.5, rel=0.05)
    after = shrink(scores)
    assert (after.argmax(1) == scores.argmax(1)).all()
    assert calibration.ece(truth, scores) > 0.08 and calibration.ece(truth, after) < 0.015
    interval = metric_interval(calibration.ece, truth, after[None])
    assert interval.low < interval.high < 0.03


def test_more_freedom_fits_better_and_all_are_probabilities():
    truth, scores = drawn(3000, heat=2.0)
    scores = scores * np.array([1, 2, 0.5, 1])  # classes askew, which one temperature cannot mend
    scores /= scores.sum(1, keepdims=True)
    losses = [log_loss(truth, scores)]
    for scaled in (
        calibration.temperature(truth, scores)[0],
        calibration.vector(truth, scores),
        calibration.isotonic(truth, scores),
    ):
        after = scaled(scores)
        assert np.allclose(after.sum(1), 1) and after.min() >= 0
        losses.append(log_loss(truth, after))
    assert losses[0] > losses[1] > losses[2] and losses[3] < losses[1]
    # vector scaling is a logistic regression on logits whose weights are diagonal: at its least loss no class is told too often
    assert calibration.vector(truth, scores)(scores).mean(0) == pytest.approx(
        np.bincount(truth) / 3000, abs=2e-3
    )


@pytest.mark.parametrize("method", ["least", "adaptive"])
def test_sets_hold_what_was_promised(method):
    """90% ± 2 over 100 splits, whatever the scores are worth."""
    truth, scores = drawn(2000, heat=3.0)
    held, size = [], []
    rng = np.random.default_rng(1)
    for _ in range(100):
        order = rng.permutation(2000)
        one, two = order[:1000], order[1000:]
        inside = calibration.sets(truth[one], scores[one], 0.9, method)(scores[two])
        held.append(inside[np.arange(1000), truth[two]].mean())
        size.append(inside.sum(1).mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.02 if method == "least" else 0.03)
    assert 1 < np.mean(size) < 4


def test_the_threshold_is_the_exact_place():
    assert calibration.threshold(np.arange(9.0), 0.9) == 8  # the ninth of nine: ceil(10 × 0.9)
    assert calibration.threshold(np.arange(99.0), 0.9) == 89
    assert calibration.threshold(np.arange(8.0), 0.9) == np.inf


STAGES = [
    {"stage": "finetune", "name": "linear", "head": "logistic-regression"},
    {"stage": "finetune", "name": "bayes", "head": "naive-bayes"},
]


@pytest.mark.parametrize("validation", [0.2, None])
def test_an_audit_of_classes(in_folder, validation):
    split = {"test": 0.3, **({"validation": validation} if validation else {})}
    recipe = {"name": "cancer", "data": {"path": "sklearn:breast_cancer", "split": split},
              "stages": [*({**stage, "calibrate": False} for stage in STAGES), {"stage": "audit", "parts": [{"name": "calibration", "level": 0.95}]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    found = read_json(Path("runs/cancer/audit.json"))["parts"]["calibration"]
    page = Path("runs/cancer/report.html").read_text()
    assert "How sure, and rightly so?" in page and page.count("reliability of") == 2
    assert set(found["models"]) == {"linear", "bayes"} and found["level"] == 0.95
    bayes = found["models"]["bayes"]
    assert 0 < bayes["ece"]["low"] <= bayes["ece"]["value"] <= bayes["ece"]["high"] < 1
    if validation is None:
        assert "scaled" not in bayes and "0 labelled validation rows" in page
        return
    assert bayes["temperature"] > 1.5  # naive Bayes counts the same evidence many times
    assert bayes["scaled"]["temperature"]["ece"]["value"] < bayes["ece"]["value"]
    assert bayes["sets"]["coverage"]["high"] > 0.93 and bayes["sets"]["size"]["value"] >= 0.9
    assert "sets of 95%" in page


def test_a_fit_ends_with_a_temperature_that_everything_knows(in_folder):
    """The loss of the validation rows is least there by plain search, and every place tells the same."""
    recipe = {"name": "cancer", "data": {"path": "sklearn:breast_cancer", "split": {"test": 0.3, "validation": 0.2}},
              "stages": [STAGES[1], {"stage": "audit", "parts": ["calibration"]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    run = jichu.open("runs/cancer")
    (target,) = run.targets.values()
    rows = run.dataset().splits["validation"]
    logits = predict(run.model, run.dataset().tensors, rows, ["label"])["label"].double()
    truth = run.dataset().tensors["label"][rows]
    heats = torch.linspace(1, 40, 2000, dtype=torch.float64)
    losses = [
        torch.nn.functional.cross_entropy(logits / heat, truth) + heat.log() ** 2 / 2 / len(rows)
        for heat in heats
    ]
    assert target.temperature == pytest.approx(float(heats[int(torch.stack(losses).argmin())]), rel=0.02)
    assert target.temperature > 2  # naive Bayes counts the same evidence many times
    found = read_json(run.path / "audit.json")["parts"]["calibration"]["models"]["bayes"]
    assert found["temperature"] == pytest.approx(1, abs=0.15)  # there is nothing left to mend
    table = pq.read_table(run.path / "predictions.parquet")
    rows = torch.tensor(table["row"].to_pylist())
    logits = predict(run.model, run.dataset().tensors, rows, ["label"])["label"].double()
    sure = (logits / target.temperature).softmax(1).max(1).values.numpy()
    assert table["score"].to_numpy() == pytest.approx(sure)
    assert [
        next(iter(one.prediction.values()))["score"] for one in run.samples(count=len(rows)).page
    ] == pytest.approx(sure)
    assert (
        main(["export", "runs/cancer", "--to", "onnx", "--output", "m.onnx", "--quiet"]) == 0
    )  # which compares


def test_an_audit_of_numbers_and_of_several_targets(in_folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 3))
    kind = np.where(x[:, 0] + 0.5 * rng.normal(size=800) > 0, "yes", "no")
    price = x @ [1, 2, 3] + rng.normal(size=800)
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{k},{p:.4f}" for (a, b, c), k, p in zip(x, kind, price, strict=True)]
    Path("t.csv").write_text("\n".join(["a,b,c,kind,price", *lines]))
    recipe = {"name": "two", "data": {"path": "t.csv", "target": ["kind", "price"], "split": {"test": 0.3, "validation": 0.3}},
              "stages": [{"stage": "finetune", "backbone": {"name": "mlp", "widths": [16]}, "budget": "30 steps"},
                         {"stage": "audit", "parts": ["calibration"]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    audit = read_json(Path("runs/two/audit.json"))
    assert "sets" in audit["parts"]["calibration"]["models"]["finetune"]
    number = audit["others"]["price"]["parts"]["calibration"]["models"]["finetune"]
    assert number["half_width"] > 0 and 0.8 < number["coverage"]["value"] < 0.98
    now = jichu.audit("runs/two", parts=["calibration"])["others"]["price"]["parts"]["calibration"]
    assert now["models"]["two"] == number  # in the same units
    page = Path("runs/two/report.html").read_text()
    assert "rightly so?: kind" in page and "rightly so?: price" in page and "90% lie within" in page


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["calibrations"], "calibration"),
        ([{"name": "calibration", "level": 2}], "level"),
        (["json:dumps"], "part"),
    ],
)
def test_bad_parts_are_told_before_anything_runs(parts, said, in_folder, capsys):
    recipe = {
        "name": "bad",
        "data": {"path": "sklearn:wine"},
        "stages": [*STAGES, {"stage": "audit", "parts": parts}],
    }
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 2
    assert said in capsys.readouterr().err and not Path("runs").exists()


def test_a_run_is_asked_afterwards(in_folder, capsys):
    recipe = {"name": "cancer", "data": {"path": "sklearn:breast_cancer", "split": {"test": 0.3, "validation": 0.2}},
              "stages": [*STAGES, {"stage": "audit", "parts": ["calibration"]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    then = read_json(Path("runs/cancer/audit.json"))["parts"]["calibration"]["models"]["linear"]
    now = jichu.audit("runs/cancer", parts=[{"name": "calibration", "sets": "least"}])["parts"]["calibration"]
    assert now["models"]["cancer"] == then
    capsys.readouterr()
    assert main(["audit", "runs/cancer", "--parts", "calibration"]) == 0
    said = capsys.readouterr().out
    assert "How sure, and rightly so?" in said and "sets of 90%" in said
    assert main(["audit", "runs/cancer", "--parts", "calibration", "calibration"]) == 2
    assert "twice" in capsys.readouterr().err


def test_the_interval_of_the_error_takes_off_what_chance_adds():
    """Every resample is further from the diagonal than the rows are; of probabilities that are right the interval goes down to
    where it should, and of others it holds the error of many rows."""
    truth, scores = drawn(400, seed=1)
    found = metric_interval(calibration.ece, truth, scores[None])
    assert found.low <= 0.02 and found.low < found.value < found.high
    many = calibration.ece(*drawn(100_000, heat=2, seed=9))
    held = [
        metric_interval(calibration.ece, t, s[None])
        for t, s in (drawn(1000, heat=2, seed=k) for k in range(20))
    ]
    assert sum(i.low <= many <= i.high for i in held) >= 16

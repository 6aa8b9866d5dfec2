"""Learning curves: the power law against known ones, and in audits of what more rows help and what they do not."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jichu
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.metrics.intervals import bootstrap, resamples
from jichu.metrics.power_law import PowerLaw, fit, outlook

SIZES = np.array([50.0, 125, 250, 500])


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 20), st.floats(0.2, 1.2), st.floats(0, 0.3))
def test_a_power_law_is_found_again(scale, exponent, floor):
    law = PowerLaw(scale, exponent, floor)
    found = fit(SIZES, law.at(SIZES), np.full(4, 0.01))
    assert found is not None and np.allclose(found.at(SIZES), law.at(SIZES), rtol=0.01, atol=1e-3)
    assert np.isclose(found.at(1000), law.at(1000), rtol=0.05, atol=3e-3)


def test_what_twice_the_rows_would_give_holds_as_often_as_it_says():
    """Errors with a known noise around a known law: about 95% of the intervals hold what it comes to."""
    law, rng, held = PowerLaw(2.0, 0.5, 0.05), np.random.default_rng(0), []
    for _ in range(16):
        errors = law.at(SIZES) + rng.normal(0, 0.004, 4)
        found = outlook(SIZES, errors, errors + rng.normal(0, 0.004, (40, 4)))
        if found.doubled is not None:
            held.append(found.doubled.low <= law.at(1000) <= found.doubled.high)
    assert len(held) >= 14 and np.mean(held) > 0.85


def test_nothing_is_told_where_nothing_can_be():
    rng = np.random.default_rng(0)
    noise = lambda errors: errors + rng.normal(0, 0.01, (60, len(errors)))  # noqa: E731
    few = np.array([0.4, 0.3, 0.2])
    assert "too few" in outlook(SIZES[:3], few, noise(few)).why
    flat = np.array([0.4, 0.41, 0.39, 0.4])
    assert "does not surely fall" in outlook(SIZES, flat, noise(flat)).why
    cliff = np.array([0.5, 0.5, 0.5, 0.1])
    assert outlook(SIZES, cliff, noise(cliff)).why == "the errors do not lie on such a curve"
    assert outlook(SIZES, cliff, noise(cliff)).doubled is None


def test_resamples_are_those_of_the_bootstrap():
    x = np.random.default_rng(0).normal(size=(3, 50))
    value, found = resamples(lambda d, rows: np.array([x[d, rows].mean(), x[d, rows].max()]), 3, 50, seed=4)
    mean = bootstrap(lambda d, rows: float(x[d, rows].mean()), 3, 50, seed=4)
    assert value[0] == mean.value == pytest.approx(x.mean()) and found.shape == (200, 2)
    assert np.quantile(found[:, 0], 0.975) == mean.high


LINEAR = {"stage": "finetune", "name": "linear", "head": {"name": "logistic-regression"}}


def audit(part, *stages, data=None):
    data = {"path": "sklearn:digits", "split": {"test": 0.4}} | (data or {})
    tree = {"name": "r", "data": data, "stages": [*stages, {"stage": "audit", "parts": [part]}]}
    Path("r.yaml").write_text(json.dumps(tree))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    return read_json("runs/r/audit.json")


def test_more_digits_help(in_folder, capsys):
    part = {"name": "learning-curve", "shares": [0.02, 0.05, 0.2, 1.0], "repeats": 2}
    whole = audit(part, LINEAR)
    found = whole["parts"]["learning-curve"]
    (model,) = found["models"].values()
    points = model["points"]
    assert found["error"] == "1 - accuracy" and [p["at"] for p in points] == [20, 51, 216, 1078]
    assert points[0]["value"] > 0.15 > 0.06 > points[-1]["value"]
    assert all(p["low"] < p["value"] < p["high"] for p in points)
    # all rows, and a head that is estimated: the run's own model once more
    assert points[-1]["value"] == pytest.approx(1 - whole["models"]["linear"]["metrics"]["accuracy"]["value"])
    assert model["doubled"]["value"] < points[-1]["value"] and model["doubled"]["at"] == 2 * 1078
    page = Path("runs/r/report.html").read_text()
    assert "Would more rows help?" in page and "Twice the rows, 2,156" in page
    again = jichu.audit("runs/r", parts=[part])["parts"]["learning-curve"]
    assert again["models"]["r"] == model
    assert main(["audit", "runs/r", "--parts", "{name: learning-curve, shares: [0.5, 1], repeats: 1}"]) == 0
    assert "2 sizes are too few" in capsys.readouterr().out


def test_samples_are_nested_and_of_all_classes(in_folder, monkeypatch):
    from jichu.recipe import stages

    seen, usual = [], stages.retrain
    monkeypatch.setattr(
        stages, "retrain", lambda w, n, rows, i: seen.append((w, rows)) or usual(w, n, rows, i)
    )
    audit({"name": "learning-curve", "shares": [0.1, 0.5, 1], "repeats": 2}, LINEAR)
    assert len(seen) == 6
    for i in (0, 3):
        small, half, every = (set(rows.tolist()) for _, rows in seen[i : i + 3])
        assert small < half < every
        assert set(seen[i][0].dataset.tensors["label"][sorted(small)].tolist()) == set(range(10))
    assert set(seen[0][1].tolist()) != set(seen[3][1].tolist())


def test_numbers_are_measured_in_their_own_units(in_folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = 1000 + 50 * x @ [1, 2, 3] + rng.normal(0, 10, 300)
    Path("t.csv").write_text(
        "\n".join(["a,b,c,y", *(",".join(f"{v:.4f}" for v in row) for row in np.c_[x, y])])
    )
    ridge = {"stage": "finetune", "name": "ridge", "head": "ridge"}
    data = {"path": "t.csv", "target": "y", "split": {"test": 0.5}}
    whole = audit({"name": "learning-curve", "shares": [0.1, 0.3, 1.0], "repeats": 2}, ridge, data=data)
    found = whole["parts"]["learning-curve"]
    points = found["models"]["ridge"]["points"]
    assert found["error"] == "rmse" and 8 < points[-1]["value"] < 20
    assert points[-1]["value"] == pytest.approx(whole["models"]["ridge"]["metrics"]["rmse"]["value"])


def test_wrong_arguments_are_refused_at_once(in_folder, capsys):
    for part, said in (
        ({"name": "learning-curve", "metric": "rmse"}, "not for classification"),
        ({"name": "learning-curve", "metric": "acuracy"}, "did you mean: accuracy"),
        ({"name": "learning-curve", "shares": [0.1, 2]}, "shares"),
        ({"name": "learning-curve", "shares": [0.5]}, "shares"),
    ):
        tree = {
            "name": "r",
            "data": {"path": "sklearn:digits"},
            "stages": [LINEAR, {"stage": "audit", "parts": [part]}],
        }
        Path("r.yaml").write_text(json.dumps(tree))
        assert main(["run", "r.yaml", "--quiet"]) == 2
        assert said in capsys.readouterr().err
    assert not Path("runs").exists()


def test_few_rows_and_other_data(in_folder, capsys):
    Path("t.csv").write_text("\n".join(["a,kind", *[f"{i},{'yn'[i % 2]}" for i in range(16)]]))
    data = {"path": "t.csv", "target": "kind", "split": {"test": 0.5}}
    found = audit("learning-curve", LINEAR, data=data)["parts"]["learning-curve"]
    assert found["models"] == {} and "too few to take shares" in found["refused"]
    assert main(["audit", "runs/r", "--data", "t.csv", "--parts", "learning-curve"]) == 0
    assert "not the data that the run was trained on" in capsys.readouterr().out

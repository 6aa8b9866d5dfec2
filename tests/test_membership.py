"""Membership inference against closed forms, and in an audit of what learns by heart and what does not."""

import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.metrics.membership import confidence, leakage, likelihood_ratio
from jichu.metrics.ranking import roc


def test_shares_and_their_area_are_scikit_learns():
    rng = np.random.default_rng(0)
    members, strangers = rng.normal(1, 1, 3000).round(1), rng.normal(0, 1, 2000).round(1)
    truth, scores = np.repeat([1, 0], [3000, 2000]), np.concatenate([members, strangers])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    mine = roc(truth == 1, scores, np.ones((1, 5000)))
    assert np.allclose(mine[1], false) and np.allclose(mine[0], true)
    found = leakage(members, strangers, at=0.05)
    assert np.isclose(found["auroc"].value, roc_auc_score(truth, scores))
    assert abs(found["auroc"].value - NormalDist().cdf(1 / 2**0.5)) < 0.025
    assert 0.02 < found["auroc"].high - found["auroc"].low < 0.04
    assert np.isclose(found["advantage"].value, (true - false).max())
    assert np.isclose(found["found_at"].value, true[false <= 0.05].max())


def test_the_likelihood_ratio_in_closed_form():
    """Confidences N(3, 1) of members and N(1, 1) of strangers: the logarithm of the ratio is 2x - 4."""
    rng = np.random.default_rng(0)
    rows, shadows = 400, 200
    inside = rng.random((shadows, rows)) < 0.5
    confidences = rng.normal(np.where(inside, 3, 1), 1)
    asked = rng.normal(2, 1, rows)
    assert np.corrcoef(likelihood_ratio(asked, confidences, inside), 2 * asked - 4)[0, 1] > 0.98
    few = likelihood_ratio(asked, confidences[:16], inside[:16])
    assert np.corrcoef(few, 2 * asked - 4)[0, 1] > 0.8
    never = inside.copy()
    never[:, 0] = False
    assert np.isnan(likelihood_ratio(asked, confidences, never)[0])
    # rows whose confidence differs from row to row: loss alone cannot tell, the ratio can
    hard = rng.normal(0, 5, rows)
    member = rng.random(rows) < 0.5
    own = hard + rng.normal(np.where(member, 2, 0), 1)
    ratios = likelihood_ratio(own, confidences - 1 + hard, inside)
    assert roc_auc_score(member, ratios) > 0.88 > 0.7 > roc_auc_score(member, own)


def test_confidence_is_a_logit():
    p = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
    assert np.allclose(confidence(p, np.array([0, 2])), [np.log(9), 0])
    assert np.isfinite(confidence(np.array([[1.0, 0.0]]), np.array([0]))).all()


@pytest.fixture
def by_chance(in_folder):
    """A table whose labels are coins: what is known of them was learnt by heart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 12)).round(3)
    lines = [",".join([*map(str, row), "yn"[rng.integers(2)]]) for row in x]
    Path("t.csv").write_text("\n".join([",".join([*(f"x{i}" for i in range(12)), "kind"]), *lines]))


def audit(part, *stages):
    recipe = {"name": "r", "data": {"path": "t.csv", "target": "kind", "split": {"test": 0.5}},
              "stages": [*stages, {"stage": "audit", "parts": [part]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    return read_json(Path("runs/r/audit.json"))["parts"]["membership"]


HEART = {"stage": "finetune", "name": "heart", "backbone": {"name": "mlp", "widths": [128, 128]}, "budget": "150 steps",
         "batch_size": 50, "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0}}  # fmt: skip
LINEAR = {"stage": "finetune", "name": "linear", "head": {"name": "logistic-regression", "c": 0.001}}


def test_what_learns_by_heart_is_found_out(by_chance, capsys):
    found = audit("membership", HEART, LINEAR)
    assert found["members"] == found["strangers"] == 200
    heart, linear = (found["models"][n]["loss"]["auroc"] for n in ("heart", "linear"))
    assert heart["value"] > 0.8 and linear["value"] < 0.7 and linear["low"] < linear["value"] < linear["high"]
    assert "give its training rows away" in Path("runs/r/report.html").read_text()
    assert main(["audit", "runs/r", "--parts", "membership"]) == 0
    assert "by its loss" in capsys.readouterr().out
    assert main(["audit", "runs/r", "--data", "t.csv", "--parts", "membership"]) == 0
    assert "0 rows that the model was trained on" in capsys.readouterr().out


def test_shadow_models(by_chance):
    found = audit({"name": "membership", "shadows": 6}, {**HEART, "budget": "60 steps"}, LINEAR)
    for model in found["models"].values():
        assert 0 <= model["likelihood_ratio"]["found_at"]["value"] <= 1
    assert found["models"]["heart"]["likelihood_ratio"]["auroc"]["value"] > 0.8
    files = {p.name for p in Path("runs/r").rglob("*") if "again" in p.name}
    assert not files


def test_too_few_rows(in_folder):
    Path("t.csv").write_text("\n".join(["a,kind", *[f"{i},{'yn'[i % 2]}" for i in range(16)]]))
    found = audit("membership", LINEAR)
    assert found["models"] == {} and "of each are wanted" in Path("runs/r/report.html").read_text()

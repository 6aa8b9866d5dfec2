"""Fairness: rates and gaps against fairlearn's, thresholds against its optimiser, weights against their definition."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fairlearn import metrics as theirs
from fairlearn.postprocessing import ThresholdOptimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score

import jichu
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.metrics import fairness
from jichu.metrics.intervals import metric_interval
from jichu.metrics.thresholds import thresholds
from jichu.models.backbone import Features
from jichu.models.classical import FairLogisticRegression
from jichu.recipe.weighing import reweighed


def drawn(rows, groups=3, seed=0):
    """Truth, probabilities and groups, of which the last is favoured more often than it should be."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(groups, size=rows)
    x = rng.normal(size=rows) + 0.5 * codes
    truth = (x + rng.normal(size=rows) > 0.5).astype(int)
    odds = 1 / (1 + np.exp(-(x - 0.5 + 0.8 * (codes == groups - 1))))
    return truth, np.stack([1 - odds, odds], 1), codes


def parts_of(truth, scores, favourable=1):
    return fairness.decisions(truth == favourable, scores.argmax(1) == favourable, scores[:, favourable])


@settings(deadline=None, max_examples=10)
@given(st.integers(60, 300), st.integers(2, 4), st.integers(0, 99))
def test_rates_and_gaps_are_fairlearns(rows, groups, seed):
    truth, scores, codes = drawn(rows, groups, seed)
    told = scores.argmax(1)
    if any(len(set(truth[codes == g])) < 2 for g in range(groups)):
        return
    parts = parts_of(truth, scores)[None]
    found = fairness.by_group(fairness.CLASSES, parts, codes, groups)
    frame = theirs.MetricFrame(
        metrics={
            "selection_rate": theirs.selection_rate, "true_positive_rate": theirs.true_positive_rate,
            "false_positive_rate": theirs.false_positive_rate, "accuracy": accuracy_score,
        },
        y_true=truth, y_pred=told, sensitive_features=codes,
    )  # fmt: skip
    for group in range(groups):
        for name, value in frame.by_group.loc[group].items():
            assert found.rates[group][name].value == pytest.approx(value)
        mine = codes == group
        sure = scores[mine, 1].mean() - truth[mine].mean()
        assert found.rates[group]["confidence_above_rate"].value == pytest.approx(sure)
    for name, function in {
        "demographic_parity_difference": theirs.demographic_parity_difference,
        "demographic_parity_ratio": theirs.demographic_parity_ratio,
        "equal_opportunity_difference": theirs.equal_opportunity_difference,
        "equalised_odds_difference": theirs.equalized_odds_difference,
    }.items():
        value = function(truth, told, sensitive_features=codes)
        assert found.gaps[name].value == pytest.approx(value, nan_ok=True)
        assert np.isnan(value) or 0 <= found.gaps[name].low <= value <= found.gaps[name].high
    assert found.gaps["accuracy_difference"].value == pytest.approx(frame.difference()["accuracy"])


def test_the_interval_of_one_group_is_the_metrics_own():
    truth, scores, codes = drawn(400, 1)
    found = fairness.by_group(fairness.CLASSES, parts_of(truth, scores)[None], codes, 1)
    from jichu.metrics.classification import accuracy

    mine, wanted = found.rates[0]["accuracy"], metric_interval(accuracy, truth, scores[None])
    assert mine.value == wanted.value  # resampled here, Wilson's there
    assert (mine.low, mine.high) == pytest.approx((wanted.low, wanted.high), abs=0.005)
    assert all(np.isnan(gap.value) for gap in found.gaps.values())  # of one group there are none


@pytest.mark.parametrize("apart", [0.0, 0.2])
def test_the_interval_of_a_gap_holds_it_as_often_as_it_says(apart):
    held = 0
    rates = np.array([0.3, 0.3 + apart])
    for seed in range(60):
        rng = np.random.default_rng(seed)
        codes = rng.integers(2, size=500)
        chosen = rng.random(500) < rates[codes]
        scores = np.stack([~chosen, chosen], 1).astype(float)
        parts = parts_of(np.zeros(500, int), scores)[None]
        gap = fairness.by_group(fairness.CLASSES, parts, codes, 2, seed=seed).gaps[
            "demographic_parity_difference"
        ]
        held += gap.low <= apart <= gap.high
        assert gap.low <= gap.value <= gap.high
    assert held >= 53  # of 60, 57 being expected


def test_draws_are_averaged_and_groups_left_out_take_no_part():
    truth, scores, codes = drawn(300)
    parts = np.stack([parts_of(truth, s) for s in (scores, scores[:, ::-1])])
    both = fairness.by_group(fairness.CLASSES, parts, codes, 3)
    each = [fairness.by_group(fairness.CLASSES, p[None], codes, 3) for p in parts]
    mean = np.mean([f.rates[2]["selection_rate"].value for f in each])
    assert both.rates[2]["selection_rate"].value == pytest.approx(mean)
    some = fairness.by_group(fairness.CLASSES, parts[:1], codes, 3, np.array([[True], [True], [False]]))
    rates = [r["selection_rate"].value for r in some.rates[:2]]
    assert some.gaps["demographic_parity_difference"].value == pytest.approx(max(rates) - min(rates))


def test_of_numbers():
    rng = np.random.default_rng(0)
    truth, codes = rng.normal(size=500), rng.integers(2, size=500)
    told = truth + codes + 0.1 * rng.normal(size=500)
    found = fairness.by_group(fairness.NUMBERS, fairness.errors(truth, told)[None], codes, 2)
    frame = theirs.MetricFrame(
        metrics={"mean_error": lambda t, p: (p - t).mean(), "mean_absolute_error": lambda t, p: np.abs(p - t).mean()},
        y_true=truth, y_pred=told, sensitive_features=codes,
    )  # fmt: skip
    for name in ("mean_error", "mean_absolute_error"):
        assert found.rates[1][name].value == pytest.approx(frame.by_group[name][1])
        assert found.gaps[f"{name}_difference"].value == pytest.approx(frame.difference()[name])
    assert found.gaps["mean_error_difference"].low < 1 < found.gaps["mean_error_difference"].high


class Told(ClassifierMixin, BaseEstimator):
    """A fitted model whose answers are what it is given."""

    def fit(self, x, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, x):
        return np.concatenate([1 - x, x], 1)


GOALS = {
    "demographic_parity": "demographic_parity",
    "equal_opportunity": "true_positive_rate_parity",
    "equalised_odds": "equalized_odds",
}


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_fairlearns(goal, seed):
    truth, scores, codes = drawn(600, 3, seed)
    odds = scores[:, 1].round(2)  # so that there are ties
    policy = thresholds(goal, truth, odds, codes, 3)
    other = ThresholdOptimizer(
        estimator=Told().fit(odds, truth),
        constraints=GOALS[goal],
        prefit=True,
        predict_method="predict_proba",
        grid_size=4000,
    )
    other.fit(odds[:, None], truth, sensitive_features=codes)
    chosen = policy.chosen(odds, codes)
    wanted = other._pmf_predict(odds[:, None], sensitive_features=codes)[:, 1]
    right = [np.mean(c * truth + (1 - c) * (1 - truth)) for c in (chosen, wanted)]
    assert right[0] >= right[1] - 1e-9 and right[0] == pytest.approx(right[1], abs=2e-3)
    found = fairness.by_group(fairness.CLASSES, fairness.decisions(truth, chosen, odds)[None], codes, 3)
    name = {
        "equalised_odds": "equalised_odds_difference",
        "equal_opportunity": "equal_opportunity_difference",
    }
    assert found.gaps[name.get(goal, "demographic_parity_difference")].value == pytest.approx(0, abs=1e-9)


def test_a_group_too_small_keeps_its_threshold():
    truth, scores, codes = drawn(300, 2)
    codes[:5] = 2
    policy = thresholds("equal_opportunity", truth, scores[:, 1], codes, 4, least=20)
    assert (policy.first[2:] == 0.5).all() and (policy.coin == 0).all()
    assert np.array_equal(policy.chosen(scores[:5, 1], codes[:5]), scores[:5, 1] >= 0.5)


def loans(rows=900, seed=0):
    """Two groups of equal merit, of which one was favoured in the past; a column of the table tells of the group."""
    rng = np.random.default_rng(seed)
    group = rng.integers(2, size=rows)
    merit, hint = rng.normal(size=rows), group + 0.3 * rng.normal(size=rows)
    yes = merit + 1.2 * group + 0.5 * rng.normal(size=rows) > 0.6
    lines = ["merit,hint,sex,age,town,paid,amount"]
    for i in range(rows):
        town = "alone" if i == 0 else "xyz"[i % 3]
        lines.append(
            f"{merit[i]:.3f},{hint[i]:.3f},{'fm'[group[i]]},{20 + i % 50},{town},{('no', 'yes')[int(yes[i])]},{merit[i] + group[i]:.3f}"
        )
    Path("loans.csv").write_text("\n".join(lines))


def run(parts, stages=None, **data):
    """The audit of a run on these loans."""
    stages = stages or [{"stage": "finetune", "name": "linear", "head": "logistic-regression"}]
    usual = {"target": "paid", "aside": ["sex", "town"], "split": {"test": 0.3, "validation": 0.2}}
    recipe = {"name": "loans", "data": {"path": "loans.csv", **usual, **data},
              "stages": [*stages, {"stage": "audit", "parts": parts}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    return main(["run", "r.yaml", "--quiet"])


def test_an_audit_by_groups(in_folder, capsys):
    loans()
    two = [{"stage": "finetune", "name": n, "head": n} for n in ("logistic-regression", "naive-bayes")]
    assert run(["fairness"], two) == 0
    found = read_json(Path("runs/loans/audit.json"))["parts"]["fairness"]
    assert found["favourable"] == "yes" and [g["by"] for g in found["groupings"]] == [
        ["sex"],
        ["town"],
        ["sex", "town"],
    ]
    table = pq.read_table("runs/loans/predictions.parquet").to_pandas()
    mine = table[table["stage"] == "naive-bayes"]
    sex = jichu.open("runs/loans").dataset().column("sex")
    groups = np.array(sex.classes)[sex.values[mine["row"]]]
    told = found["groupings"][0]
    assert told["groups"] == ["f", "m"] and told["rows"] == [int((groups == g).sum()) for g in "fm"]
    gaps = told["models"]["naive-bayes"]["gaps"]
    for name, function in {
        "demographic_parity_difference": theirs.demographic_parity_difference,
        "equalised_odds_difference": theirs.equalized_odds_difference,
    }.items():
        value = function(mine["truth"], mine["prediction"], sensitive_features=groups)
        assert gaps[name]["value"] == pytest.approx(value) and gaps[name]["low"] < value < gaps[name]["high"]
    widest = found["models"]["naive-bayes"]
    each = [g["models"]["naive-bayes"]["gaps"] for g in found["groupings"]]
    assert widest["by"]["sex and town"] == each[2] and widest["by"]["sex"] == gaps
    name = "demographic_parity_difference"
    assert widest[name]["value"] == max(g[name]["value"] for g in each)
    gate = [f"--gate=fairness.{name}<0.0001", "--gate=fairness.by.sex.accuracy_difference<1"]
    assert main(["audit", "runs/loans", "--parts", "fairness", *gate]) == 4
    assert "1 of 2 gates do not hold" in capsys.readouterr().err
    page = Path("runs/loans/report.html").read_text()
    assert "Fair to whom?" in page and 'aria-label="rates by sex × town"' in page
    town = found["groupings"][1]
    if "alone" in town["groups"]:  # its one row is held out
        assert not town["compared"][town["groups"].index("alone")]
    capsys.readouterr()
    assert main(["audit", "runs/loans", "--parts", "{name: fairness, by: [age], bins: 3}"]) == 0
    said = capsys.readouterr().out
    assert "Fair to whom?" in said and "3 stretches" in said and "20 to 3" in said


@pytest.mark.parametrize("validation", [0.2, 0.0])
def test_thresholds_that_were_chosen_on_other_rows(validation, in_folder):
    loans()
    part = {"name": "fairness", "by": ["sex"], "thresholds": "demographic_parity"}
    assert run([part], split={"test": 0.3, "validation": validation}) == 0
    found = read_json(Path("runs/loans/audit.json"))["parts"]["fairness"]["thresholds"]
    page = Path("runs/loans/report.html").read_text()
    if not validation:
        assert not found["models"] and "0 labelled validation rows" in page
        return
    moved = found["models"]["linear"]
    before, after = (moved["gaps"][n]["demographic_parity_difference"] for n in ("before", "after"))
    assert before["low"] > 0.3 and after["value"] < 0.2 and moved["accuracy"]["change"]["high"] < 0
    low, high = (max(t for t in p["thresholds"] if t) for p in moved["policy"])
    assert low < high and moved["groups"] == ["f", "m"]
    assert "thresholds for demographic parity" in page


def test_groups_of_one_row_and_numbers(in_folder):
    loans(300)
    regression = [{"stage": "finetune", "name": "r", "head": "ridge"}]
    assert run([{"name": "fairness", "by": ["merit", "town"], "bins": 20}], regression, target="amount") == 0
    found = read_json(Path("runs/loans/audit.json"))["parts"]["fairness"]
    assert "favourable" not in found and not any(found["groupings"][2]["compared"])
    assert found["groupings"][0]["models"]["r"]["rates"][0]["mean_prediction"]["value"] < 0
    assert found["groupings"][2]["models"]["r"]["gaps"]["mean_error_difference"]["value"] is None
    assert "Too few rows to compare" in Path("runs/loans/report.html").read_text()


@pytest.mark.parametrize(
    ("part", "data", "code", "said"),
    [
        ({"by": ["sax"]}, {}, 2, "did you mean: sex"),
        ({"by": ["paid"]}, {}, 2, "is what is predicted"),
        ({}, {"aside": []}, 2, "data.aside"),
        ({"favourable": "yess"}, {}, 2, "did you mean: yes"),
        ({}, {"target": "town", "aside": ["sex"]}, 2, "classes of town is favourable"),
        (
            {"favourable": "yes"},
            {"target": ["town", "paid"], "aside": ["sex"]},
            2,
            "classes of town is favourable",
        ),
        ({"thresholds": "equalised_odds"}, {"target": "amount"}, 2, "which no threshold decides"),
        ({"thresholds": "parity"}, {}, 2, "demographic_parity"),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_runs(part, data, code, said, in_folder, capsys):
    loans(100)
    head = "gradient-boosting"  # for all targets
    assert run([{"name": "fairness", **part}], [{"stage": "finetune", "head": head}], **data) == code
    assert said in capsys.readouterr().err and not Path("runs").exists()


def test_weights_make_group_and_class_independent():
    """The weights of Kamiran and Calders by their definition, and what they were made for."""
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=500)
    label = (rng.random(500) < 0.2 + 0.3 * (group == 2)).astype(int)
    label[-20:] = -1  # nothing is known of some, and others are held out
    data = jichu.load(pa.table({"x": rng.normal(size=500), "g": list(np.array(list("abc"))[group]), "y": [None if v < 0 else "ny"[v] for v in label]}),
                      target="y", aside=["g"])  # fmt: skip
    rows = data.draw(seed=0, draw=0)
    found = reweighed(data, ["g"], rows)
    weight = found.tensors["weight"].numpy()
    mine, g, y = rows.numpy(), group[rows], label[rows]
    for a in range(3):
        for b in range(2):
            wanted = (g == a).mean() * (y == b).mean() / ((g == a) & (y == b)).mean()
            assert weight[mine][(g == a) & (y == b)] == pytest.approx(wanted)
    rates = [np.average(y[g == a], weights=weight[mine][g == a]) for a in range(3)]
    assert rates == pytest.approx([y.mean()] * 3) and weight[mine].sum() == pytest.approx(len(mine))
    assert (weight[label < 0] == 1).all() and "weight" not in data.tensors
    again = reweighed(found, ["g"], rows)  # on top of a column of weights
    assert np.allclose(again.tensors["weight"], weight, rtol=1e-5)


@pytest.mark.parametrize(
    "fitted",
    [{"head": "logistic-regression"}, {"backbone": {"name": "mlp", "widths": [32]}, "budget": "150 steps"}],
)
def test_reweighing_narrows_the_gap(fitted, in_folder):
    loans()
    stages = [
        {"stage": "finetune", "name": "plain", **fitted},
        {"stage": "finetune", "name": "even", "reweigh": ["sex"], **fitted},
    ]
    assert run([{"name": "fairness", "by": ["sex"]}], stages) == 0
    models = read_json(Path("runs/loans/audit.json"))["parts"]["fairness"]["groupings"][0]["models"]
    plain, even = (models[n]["gaps"]["demographic_parity_difference"]["value"] for n in ("plain", "even"))
    assert even < plain - 0.1


@pytest.mark.parametrize(
    ("stage", "data", "said"),
    [
        ({"reweigh": ["sax"]}, {}, "did you mean: sex"),
        ({"reweigh": ["sex"], "head": "ridge"}, {"target": "amount"}, "reweigh evens out"),
    ],
)
def test_what_cannot_be_reweighed_is_told(stage, data, said, in_folder, capsys):
    loans(100)
    assert run([], [{"stage": "finetune", "head": "logistic-regression", **stage}], **data) == 2
    assert said in capsys.readouterr().err and not Path("runs").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("goal", ["demographic_parity", "equalised_odds"])
def test_the_fair_head_is_fairlearns_exponentiated_gradient(goal):
    from fairlearn import reductions
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    group = rng.integers(2, size=600)
    x = rng.normal(size=(600, 4)) * [1, 5, 1, 1] + np.stack([group, 0 * group, 0 * group, group], 1)
    y = (x[:, 0] + 0.2 * x[:, 1] + group + rng.normal(size=600) > 1).astype(int)
    head = FairLogisticRegression(4, 2, by=["g"], goal=goal, slack=0.02)
    features = torch.from_numpy(x).float()
    head.estimate(features, torch.from_numpy(y), features, groups=torch.from_numpy(group))
    constraints = {
        "demographic_parity": reductions.DemographicParity,
        "equalised_odds": reductions.EqualizedOdds,
    }
    other = reductions.ExponentiatedGradient(
        LogisticRegression(max_iter=1000), constraints[goal](difference_bound=0.01), max_iter=50
    )
    scaled = ((features - features.mean(0)) / features.std(0, correction=0)).numpy()
    other.fit(scaled, y, sensitive_features=group)
    odds = head(Features(features)).softmax(1).numpy()
    assert (np.abs(odds - other._pmf_predict(scaled)) < 1e-3).mean() > 0.99
    chosen = odds[:, 1]
    gap = abs(chosen[group == 0].mean() - chosen[group == 1].mean())
    assert gap < 0.025 if goal == "demographic_parity" else gap < 0.4
    again = FairLogisticRegression(4, 2, by=["g"])
    again.adopt(head.state_dict())
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(Features(features)), head(Features(features)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_class_that_is_favourable_has_its_rates_evened():
    """Equal opportunity of the first class: as with both classes the other way round."""
    rng = np.random.default_rng(1)
    group = rng.integers(2, size=400)
    x = torch.from_numpy(rng.normal(size=(400, 3)) + group[:, None]).float()
    y = torch.from_numpy((x[:, 0].numpy() + group + rng.normal(size=400) > 1).astype(int))
    fitted = []
    for truth, first in ((y, True), (1 - y, False)):
        head = FairLogisticRegression(3, 2, by=["g"], goal="equal_opportunity", slack=0.02)
        head._first = first
        head.estimate(x, truth, x, groups=torch.from_numpy(group))
        fitted.append(head(Features(x)).softmax(1))
    assert torch.allclose(fitted[0], fitted[1].flip(1), atol=1e-4)


def test_a_run_with_the_fair_head(in_folder, capsys):
    loans()
    fair = {"name": "fair-logistic-regression", "by": ["sex"]}
    stages = [
        {"stage": "finetune", "name": n, "head": h}
        for n, h in (("fair", fair), ("plain", "logistic-regression"))
    ]
    assert run([{"name": "fairness", "by": ["sex"]}], stages) == 0
    models = read_json(Path("runs/loans/audit.json"))["parts"]["fairness"]["groupings"][0]["models"]
    plain, fair_ = (models[n]["gaps"]["demographic_parity_difference"]["value"] for n in ("plain", "fair"))
    assert fair_ < plain - 0.2
    row = {"merit": 0.5, "hint": 1.0, "age": 30, "amount": 1.0}  # who it is of is not asked
    assert jichu.open("runs/loans").predict(row)[0]["label"] in ("yes", "no")
    for change, said in (({"reweigh": ["sex"]}, "no weights"), ({"head": {**fair, "by": ["sax"]}}, "did you mean: sex"),
                         ({"head": "fair-logistic-regression"}, "by")):  # fmt: skip
        assert run([], [{**stages[0], **change}]) == 2
        assert said in capsys.readouterr().err


def test_without_fairlearn_the_extra_is_named(in_folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fairlearn", None)
    loans(100)
    head = {"name": "fair-logistic-regression", "by": ["sex"]}
    assert run([], [{"stage": "finetune", "head": head}]) == 2
    assert "jichu[fairness]" in capsys.readouterr().err

"""Paired tests against sums over all that chance could do, and runs compared on their held-out rows."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import jichu
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.metrics.paired import holm, mcnemar, wilcoxon


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_a_coin(pairs):
    one, two = np.array(pairs).T
    found = mcnemar(one, two)
    first, second = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1)) / 2**n
    assert (found.first, found.second) == (first, second)
    assert found.p == pytest.approx(min(1, 2 * tail))
    assert mcnemar(two, one).p == pytest.approx(found.p)


@given(st.integers(2, 9), st.integers(0, 10**6))
def test_wilcoxon_counts_all_signs(rows, seed):
    """The exact distribution: each of 2^n ways to sign the ranks is as likely."""
    less = np.random.default_rng(seed).normal(size=rows)
    ranks = np.abs(less).argsort().argsort() + 1
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product((0, 1), repeat=rows)
    ]
    here = ranks[less > 0].sum()
    tail = min(np.mean([s <= here for s in sums]), np.mean([s >= here for s in sums]))
    found = wilcoxon(np.zeros(rows) + less, np.zeros(rows))
    assert found.p == pytest.approx(min(1, 2 * tail))
    assert (found.first, found.second) == ((less < 0).sum(), (less > 0).sum())


def test_wilcoxon_of_no_difference_and_of_holes():
    assert wilcoxon(np.ones(5), np.ones(5)).p == 1
    holes = np.array([np.nan, 1.0, 2.0, 3.0])
    assert wilcoxon(holes, np.zeros(4)).second == 3


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1] and holm([0.02]) == [0.02] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_and_keeps_the_order(p):
    found = holm(p)
    assert all(q >= v or q == 1 for q, v in zip(found, p, strict=True)) and max(found) <= 1
    assert [found[i] for i in np.argsort(p, kind="stable")] == sorted(found)


def finetune(name, data="sklearn:breast_cancer", **settings):
    arguments = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    assert main(["finetune", data, "--name", name, "--quiet", *arguments]) == 0


def test_runs_with_classes(in_folder, capsys):
    finetune("linear", head="logistic-regression")
    finetune("bayes", head="naive-bayes")
    finetune("again", head="logistic-regression")
    found = jichu.compare(["runs/linear", "runs/bayes", jichu.open("runs/again")])
    assert found["runs"] == ["linear", "bayes", "again"]
    bayes, again = found["comparisons"]
    tables = [pq.read_table(f"runs/{name}/predictions.parquet") for name in ("linear", "bayes")]
    right = [np.array(t["truth"]) == np.array(t["prediction"]) for t in tables]
    accuracy = bayes["metrics"]["accuracy"]["better_by"]
    assert accuracy["value"] == pytest.approx(right[0].mean() - right[1].mean())
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    loss = bayes["metrics"]["log_loss"]
    assert (
        loss["better_by"]["value"] == pytest.approx(loss["two"]["value"] - loss["one"]["value"])
        and loss["better_by"]["low"] > 0
    )
    assert (
        bayes["test"]["first"] == (right[0] & ~right[1]).sum()
        and bayes["test"]["second"] == (right[1] & ~right[0]).sum()
    )
    assert bayes["test"]["p_holm"] == min(1, 2 * bayes["test"]["p"]) and again["test"]["p"] == 1
    assert again["metrics"]["accuracy"]["better_by"] == {"value": 0, "low": 0, "high": 0}
    # the same as the gain that an audit of both in one run has
    stages = [
        {"stage": "finetune", "name": n, "head": h}
        for n, h in (("a", "logistic-regression"), ("b", "naive-bayes"))
    ]
    audit = {"stage": "audit", "gain": ["a", "b"]}
    Path("r.yaml").write_text(
        json.dumps({"name": "both", "data": {"path": "sklearn:breast_cancer"}, "stages": [*stages, audit]})
    )
    assert main(["run", "r.yaml", "--quiet"]) == 0
    gain = read_json(Path("runs/both/audit.json"))["gain"]
    assert {k: gain[k] for k in ("value", "low", "high")} == accuracy
    capsys.readouterr()
    assert main(["audit", "runs/linear", "--against", "runs/bayes", "runs/again"]) == 0
    said = capsys.readouterr().out
    assert "linear against bayes" in said and "McNemar, exact" in said and "better by" in said
    assert main(["audit", "runs/linear", "--against", "runs/bayes", "runs/again", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found))


def test_runs_with_numbers_and_draws(in_folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    price = x @ [1, 2, 3] + rng.normal(size=300)
    rows = [",".join(f"{v:.4f}" for v in [*row, p]) for row, p in zip(x, price, strict=True)]
    Path("t.csv").write_text("\n".join(["a,b,c,price", *rows]))
    finetune("ridge", "t.csv", head="ridge", target="price")
    finetune("near", "t.csv", head="nearest-neighbours", target="price")
    (found,) = jichu.compare(["runs/ridge", "runs/near"])["comparisons"]
    assert found["test"]["name"].startswith("Wilcoxon") and found["test"]["first"] > found["test"]["second"]
    assert set(found["metrics"]) == {"rmse", "mae", "r2"} and found["rows"] == 60
    tables = [pq.read_table(f"runs/{name}/predictions.parquet") for name in ("ridge", "near")]
    errors = [np.abs(t["prediction"].to_numpy() - t["truth"].to_numpy()) for t in tables]
    assert found["test"]["p"] == pytest.approx(scipy.stats.wilcoxon(*errors).pvalue)
    rmse = found["metrics"]["rmse"]
    assert rmse["better_by"]["value"] == pytest.approx(rmse["two"]["value"] - rmse["one"]["value"])
    for name, more in (("few", {"draws": 3}), ("two", {"draws": 2}), ("one", {})):
        finetune(name, head="logistic-regression", **{"labels-per-class": 5, **more})
    (found,) = jichu.compare(["runs/few", "runs/one"])["comparisons"]
    assert (
        found["metrics"]["accuracy"]["better_by"]["low"] <= found["metrics"]["accuracy"]["better_by"]["value"]
    )
    with pytest.raises(jichu.JichuError, match="few has 3 draws, two 2"):
        jichu.compare(["runs/few", "runs/two"])


def test_runs_of_language_models(in_folder):
    pytest.importorskip("transformers")
    Path("novel.txt").write_text("\n\n".join(f"It was number {i} of many that were said." for i in range(80)))
    for name, budget in (("short", "1 steps"), ("long", "20 steps")):
        stages = [{"stage": "pretrain", "backbone": "llama-tiny", "budget": budget}, {"stage": "audit"}]
        Path("r.yaml").write_text(
            json.dumps({"name": name, "data": {"path": "novel.txt", "context": 16}, "stages": stages})
        )
        assert main(["run", "r.yaml", "--quiet"]) == 0
    (found,) = jichu.compare(["runs/long", "runs/short"])["comparisons"]
    assert found["metrics"]["token_loss"]["better_by"]["low"] > 0 and found["test"]["p"] < 0.05


def test_what_cannot_be_compared(in_folder, capsys):
    finetune("one", head="logistic-regression")
    finetune("seed", head="logistic-regression", seed=1)
    finetune("wine", "sklearn:wine", head="logistic-regression")
    assert main(["pretrain", "sklearn:breast_cancer", "--budget", "2 steps", "--quiet"]) == 0
    for other, code, said in (
        ("seed", 2, "they share"), ("wine", 3, "different data"), ("pretrain", 2, "was not measured"), ("on", 2, "did you mean: runs/one"),
    ):  # fmt: skip
        assert main(["audit", "runs/one", "--against", f"runs/{other}"]) == code
        assert said in capsys.readouterr().err
    assert main(["audit", "runs/one", "--against", "runs/one", "--parts", "cost"]) == 2
    assert "--parts does nothing" in capsys.readouterr().err
    with pytest.raises(jichu.JichuError, match="1 runs"):
        jichu.compare(["runs/one"])

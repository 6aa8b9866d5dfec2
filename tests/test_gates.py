"""Gates: what they compare, what is known to be wrong before anything runs, and what a run says where one fails."""

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jichu
from jichu.auditing import gates
from jichu.cli.main import main
from jichu.core.errors import CheckFailed, UsageError
from jichu.core.files import read_json
from test_docs import ROOT, blocks

AUDIT = {
    "models": {
        "net": {
            "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
            "rows": 100,
            "by_class": {"cat": {"recall": 0.7}},
            "confusion": [[1, 2], [3, 4]],
        },
        "linear": {"metrics": {"accuracy": {"value": 0.6, "low": 0.5, "high": float("nan")}}, "rows": 100},
    },
    "gain": {"of": ["net", "linear"], "value": 0.3, "low": 0.2, "high": 0.4},
    "parts": {
        "fairness": {
            "column": "sex",
            "models": {"net": {"gap": {"value": 0.1, "low": 0.0, "high": 0.2, "rows": 40}, "groups": {"f": {"tpr": 1}}}},
        },
        "cost": {"threads": 2, "fast": True, "models": {"net": {"latency_p99": 0.01}, "pretrain": {"latency_p99": None}}},
    },
    "others": {"price": {"models": {"net": {"metrics": {"rmse": {"value": 2, "low": 1, "high": 3}}}}}},
}  # fmt: skip


def test_every_figure_has_a_name():
    found = gates.figures(AUDIT, "net")
    mine = {name: value for name, value in found.items() if ":" not in name}
    assert mine == {
        "accuracy": 0.9, "accuracy.lower": 0.8, "accuracy.upper": 0.95, "rows": 100, "by_class.cat.recall": 0.7,
        "gain": 0.3, "gain.lower": 0.2, "gain.upper": 0.4, "fairness.gap": 0.1, "fairness.gap.lower": 0.0,
        "fairness.gap.upper": 0.2, "fairness.gap.rows": 40, "fairness.groups.f.tpr": 1, "cost.threads": 2,
        "cost.latency_p99": 0.01, "price.rmse": 2, "price.rmse.lower": 1, "price.rmse.upper": 3,
    }  # fmt: skip
    assert found["linear:accuracy"] == 0.6 and found["linear:accuracy.upper"] is None
    assert found["pretrain:cost.latency_p99"] is None and found["net:fairness.gap"] == 0.1


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["<", "<=", ">", ">="]))
def test_it_holds_as_python_compares(value, bound, symbol):
    audit = {"models": {"m": {"metrics": {"own": value}}}}
    (told,) = gates.measured(gates.parse({"own": f"{symbol} {bound!r}"}), audit, "m")
    assert told["holds"] == eval(f"{value!r} {symbol} {bound!r}")
    assert (told["by"] > 0) <= told["holds"] <= (told["by"] >= 0)


@pytest.mark.parametrize(
    ("name", "asked", "holds", "by"),
    [
        ("accuracy", 0.85, True, 0.05),
        ("accuracy.lower", 0.85, False, -0.05),
        ("price.rmse", 2.5, True, 0.5),  # a loss: at most
        ("price.rmse.upper", "2.5", False, -0.5),
        ("gain.lower", ">0", True, 0.2),
        ("fairness.gap", "<=0.1", True, 0),
        ("fairness.gap", "<0.1", False, 0),
        ("linear:accuracy", 0.5, True, 0.1),
        ("linear:accuracy.upper", 0.5, False, None),  # no number
        ("cost.latency", "<1", False, None),  # no such figure
    ],
)
def test_what_holds(name, asked, holds, by):
    (told,) = gates.measured(gates.parse({name: asked}), AUDIT, "net")
    assert told["holds"] is holds and told["by"] == (by if by is None else pytest.approx(by))
    if holds:
        gates.require([told])
        return
    with pytest.raises(CheckFailed, match="1 of 1 gates do not hold") as failed:
        gates.require([told])
    assert name in str(failed.value) and failed.value.code == 4
    assert ("did you mean cost.latency_p99" in str(failed.value)) == (name == "cost.latency")


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [
        ("accuracy.lower=0.9", "accuracy.lower", "0.9"),
        ("log_loss<0.5", "log_loss", "<0.5"),
        ("log_loss=<=.5", "log_loss", "<=.5"),
        ("net:accuracy >= 9e-1", "net:accuracy", ">= 9e-1"),
        ("top_k_accuracy(k=2).lower>0.9", "top_k_accuracy(k=2).lower", ">0.9"),
    ],
)
def test_assignments(text, name, bound):
    assert gates.assignment(text) == (name, bound)
    (gate,) = gates.parse({name: bound})
    assert gate.name == name and gate.bound == float(bound.strip("<>= "))


@pytest.mark.parametrize("text", ["accuracy", "=0.9", "accuracy=", "<3"])
def test_what_asks_nothing(text):
    with pytest.raises(UsageError, match="asks nothing"):
        gates.assignment(text)


def run(asked, **audit):
    stages = [
        {"stage": "finetune", "name": "linear", "head": "logistic-regression"},
        {"stage": "finetune", "name": "bayes", "head": "naive-bayes"},
        {"stage": "audit", "gates": asked, **audit},
    ]
    Path("r.yaml").write_text(
        json.dumps({"name": "wine", "data": {"path": "sklearn:wine"}, "stages": stages})
    )
    return main(["run", "r.yaml", "--quiet"])


def test_a_run_whose_gates_hold(in_folder, capsys):
    assert (
        run(
            {
                "accuracy.lower": 0.6,
                "log_loss": "<2",
                "bayes:accuracy": 0.5,
                "by_class.class_0.recall": ">0.1",
            }
        )
        == 0
    )
    told = read_json(Path("runs/wine/audit.json"))["gates"]
    assert [gate["holds"] for gate in told] == [True] * 4 and "holds" in capsys.readouterr().out
    assert main(["run", "r.yaml", "--resume", "--quiet"]) == 0
    page = Path("runs/wine/report.html").read_text()
    assert page.index("Gates") < page.index("How good") and 'class="bad"' not in page


def test_a_run_whose_gates_fail(in_folder, capsys):
    asked = {"accuracy": 1.01, "calibration.ece": "<1", "calibration.eci": "<1"}
    assert run(asked, parts=["calibration"]) == 4
    said = capsys.readouterr()
    assert "2 of 3 gates do not hold" in said.err and "accuracy >= 1.01: is" in said.err
    assert "did you mean calibration.ece?" in said.err and "fails" in said.out
    for file in ("report.html", "audit.json", "model/config.json", "predictions.parquet"):
        assert (Path("runs/wine") / file).exists()
    page = Path("runs/wine/report.html").read_text()
    assert page.index("accuracy &gt;= 1.01: is") < page.index("How good")
    assert main(["run", "r.yaml", "--resume", "--quiet", "--json"]) == 4  # as often as it is asked
    told = json.loads(capsys.readouterr().out)["stages"][-1]["gates"]
    assert [gate["holds"] for gate in told] == [False, True, False]
    with pytest.raises(CheckFailed, match="accuracy"):
        jichu.run("r.yaml")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"acuracy": 0.9}, "did you mean: accuracy"),
        ({"accuracy.low": 0.9}, "did you mean: accuracy.lower"),
        ({"calibration.ece": 0.1}, "parts: [calibration]"),
        ({"ece": 0.1}, "ece is not measured"),
        ({"linea:accuracy": 0.9}, "did you mean: linear"),
        ({"accuracy": "much"}, "a number"),
        ({"cost.latency_p99": 0.1}, '"<0.1" or ">0.1"'),
        ({"accuracy": [1]}, "gates"),
    ],
)
def test_what_is_told_before_anything_runs(asked, said, in_folder, capsys):
    assert run(asked, parts=["cost"] if "cost.latency_p99" in asked else []) == 2
    assert said in capsys.readouterr().err and not Path("runs").exists()


def test_gates_of_several_targets_and_of_own_metrics(in_folder, capsys):
    rows = [f"{i % 7},{i % 3},{'uv'[i % 2]},{i % 7 + i % 3 / 10}" for i in range(120)]
    Path("t.csv").write_text("\n".join(["x,z,kind,price", *rows]))
    asked = {"top_k_accuracy(k=1)": 0.0, "price.mae": "<1e9", "price.r2.upper": ">-1e9"}
    data = {"path": "t.csv", "target": ["kind", "price"]}
    audit = {"stage": "audit", "metrics": [{"name": "top_k_accuracy", "k": 1}, "mae", "r2"], "gates": asked}
    stages = [{"stage": "finetune", "backbone": {"name": "mlp", "widths": [8]}, "budget": "2 steps"}, audit]
    Path("r.yaml").write_text(json.dumps({"name": "t", "data": data, "stages": stages}))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    audit["gates"] = {"prize.mae": 1}
    Path("r.yaml").write_text(json.dumps({"name": "t", "data": data, "stages": stages}))
    assert main(["run", "r.yaml", "--quiet"]) == 2 and "did you mean" in capsys.readouterr().err


def test_a_run_is_asked_afterwards(in_folder, capsys):
    assert run({}) == 0
    assert main(["audit", "runs/wine", "--gate", "accuracy.lower=0.5", "--gate", "log_loss<1e-9"]) == 4
    said = capsys.readouterr()
    assert "1 of 2 gates do not hold" in said.err and "log_loss < 1e-09" in said.err and "holds" in said.out
    assert main(["audit", "runs/wine", "--parts", "cost", "--gate", "cost.latency_p50<9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gates"][0]["holds"]
    assert main(["audit", "runs/wine", "--gate", "acuracy=1"]) == 2
    assert "did you mean: accuracy" in capsys.readouterr().err
    found = jichu.audit("runs/wine", gates={"accuracy": 1.01})["gates"]
    assert not found[0]["holds"] and found[0]["by"] < 0


def test_the_page_runs_and_names_what_there_is(in_folder, capsys):
    page = (ROOT / "docs/cost-and-gates.md").read_text(encoding="utf-8")
    (recipe,) = blocks("docs/cost-and-gates.md", "yaml")
    Path("page.yaml").write_text(recipe)
    assert main(["run", "page.yaml", "--quiet"]) == 0
    told = read_json(Path("runs/cells/audit.json"))
    assert all(gate["holds"] for gate in told["gates"])
    for figure in told["parts"]["cost"]["models"]["linear"]:
        assert f"`{figure}`" in page or figure in ("device", "stopped"), figure
    for text in blocks("docs/cost-and-gates.md", "bash"):
        for line in text.splitlines():
            assert main(shlex.split(line)[1:]) == 0, line
    for text in blocks("docs/cost-and-gates.md", "python"):
        exec(compile(text, "cost-and-gates.md", "exec"), {})
    assert "'low'" in capsys.readouterr().out


def test_a_finished_run_is_measured_by_the_metrics_of_its_recipe(in_folder, capsys):
    recipe = {"name": "cells", "data": {"path": "sklearn:breast_cancer"}, "stages": [
        {"stage": "finetune", "head": "naive-bayes"}, {"stage": "audit", "metrics": ["ece", "brier"]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    then = read_json(Path("runs/cells/audit.json"))["models"]["finetune"]["metrics"]
    assert jichu.audit("runs/cells")["models"]["cells"]["metrics"] == then and list(then) == ["ece", "brier"]
    assert main(["audit", "runs/cells", "--gate", "ece<0.5"]) == 0

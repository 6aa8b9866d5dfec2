"""An audit that is interrupted goes on where it was, to the same answers; and models are trained anew after a run too."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import jichu
from jichu.auditing.kept import Kept
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.recipe import stages
from killing import fork, wait

SHADOWS = {"name": "membership", "shadows": 4, "rows": 60}
MLP = {"stage": "finetune", "name": "mlp", "backbone": {"name": "mlp", "widths": [16]}, "budget": "20 steps"}
LINEAR = {"stage": "finetune", "name": "linear", "head": {"name": "logistic-regression"}}


def test_findings_are_taken_up_by_what_they_were_found_on(tmp_path):
    calls = []

    def find():
        calls.append(1)
        return {"a": np.float64(0.1), "b": float("nan"), 3: (1, 2)}

    kept = Kept(tmp_path / "findings", "model")
    first = kept(find, "part")
    assert first == {"a": 0.1, "b": None, "3": [1, 2]} == kept(find, "part") and len(calls) == 1
    for other in (Kept(tmp_path / "findings", "another"), kept.of("narrower")):
        other(find, "part")
    kept(find, "another part")
    assert len(calls) == 4
    for file in (tmp_path / "findings").iterdir():
        file.write_text(file.read_text()[:9])
    assert kept(find, "part") == first and len(calls) == 5
    assert Kept()(find) == first and len(calls) == 6


@pytest.fixture
def table(in_folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 4)).round(3)
    lines = [",".join([*map(str, row), "yn"[int(row[0] + rng.normal() > 0)]]) for row in x]
    Path("t.csv").write_text("\n".join(["a,b,c,d,kind", *lines]))
    return in_folder


def recipe(*parts, stages=(MLP, LINEAR), data=None, name="r"):
    data = {"path": "t.csv", "target": "kind", "split": {"test": 0.5}} | (data or {})
    tree = {"name": name, "data": data, "stages": [*stages, {"stage": "audit", "parts": [*parts]}]}
    Path(f"{name}.yaml").write_text(json.dumps(tree))
    return f"{name}.yaml"


@pytest.fixture
def counted(monkeypatch):
    """The models that are trained anew, as many as there are; the one of a number interrupts."""
    trained, usual = [], stages.retrain

    def retrain(work, name, rows, number):
        if len(trained) == trained_until[0]:
            raise KeyboardInterrupt
        trained.append((name, number))
        return usual(work, name, rows, number)

    trained_until = [10**9]
    monkeypatch.setattr(stages, "retrain", retrain)
    monkeypatch.setattr("jichu.audits.retrain", retrain)
    return trained, trained_until


def test_a_run_that_is_killed_in_its_audit_goes_on(table, counted):
    assert main(["run", recipe(SHADOWS, "calibration"), "--quiet"]) == 0
    assert len(counted[0]) == 8 and not Path("runs/r/findings").exists()
    whole = Path("runs/r/audit.json").read_bytes()
    shutil.rmtree("runs")

    def do():
        seen = []

        def end(event, arguments):
            if event == "os.rename" and "/findings/" in str(arguments[1]):
                seen.append(1)
                if len(seen) == 4:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(end)
        return main(["run", "r.yaml", "--quiet"])

    assert wait(fork(do)) == -signal.SIGKILL
    assert len([p for p in Path("runs/r/findings").iterdir() if p.suffix == ".json"]) == 3
    counted[0].clear()
    assert main(["run", "r.yaml", "--resume", "--quiet"]) == 0
    assert len(counted[0]) == 8 - 3 and Path("runs/r/audit.json").read_bytes() == whole
    assert not Path("runs/r/findings").exists()


def test_an_audit_of_a_finished_run_goes_on(table, counted, capsys):
    assert main(["run", recipe(SHADOWS), "--quiet"]) == 0
    whole = read_json("runs/r/audit.json")["parts"]["membership"]["models"]["mlp"]
    counted[0].clear()
    found = jichu.audit("runs/r", parts=[SHADOWS])["parts"]["membership"]
    assert found["models"]["r"] == whole and len(counted[0]) == 4
    asked = ["audit", "runs/r", "--parts", json.dumps(SHADOWS), "--json"]
    counted[0].clear()
    counted[1][0] = 3
    assert main(asked) == 130
    assert len(list(Path("runs/r/findings").iterdir())) == 3
    counted[0].clear()
    assert jichu.audit("runs/r")["parts"] == {}  # of which there is nothing to go on with
    capsys.readouterr()
    assert main(asked) == 0
    assert len(counted[0]) == 1 and json.loads(capsys.readouterr().out)["parts"]["membership"] == found
    assert not Path("runs/r/findings").exists()
    counted[0].clear()
    assert main(asked) == 130  # nothing was left of the earlier ones
    Path("runs/r/model/config.json").write_text(Path("runs/r/model/config.json").read_text() + " ")
    counted[0].clear()
    counted[1][0] = 10**9
    assert main(asked) == 0 and len(counted[0]) == 4


def test_where_nothing_can_be_trained_anew_it_is_said(table, counted, capsys):
    assert main(["run", recipe(), "--quiet"]) == 0
    inside = recipe(
        stages=[{"stage": "finetune", "name": "on", "from": "runs/r", "budget": "5 steps"}], name="on"
    )
    assert main(["run", inside, "--quiet"]) == 0
    asked = ["audit", "runs/on", "--parts", json.dumps(SHADOWS)]
    assert main(asked) == 0 and "by 4 shadow models" in capsys.readouterr().out
    shutil.move("runs/r", "runs/elsewhere")
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "No shadow models could be trained" in said and "runs/r" in said and "by its loss" in said
    shutil.move("runs/elsewhere", "runs/r")
    text = Path("t.csv").read_text()
    Path("t.csv").write_text(text.replace(",y\n", ",n\n", 1))
    assert main(asked) == 0 and "the data have changed" in capsys.readouterr().out
    Path("t.csv").write_text(text)
    assert main([*asked, "--data", "t.csv"]) == 0
    assert not counted[0][4:]


def test_a_budget_in_time_is_as_many_steps_anew(table, counted, monkeypatch):
    budgets, usual = [], stages.train
    monkeypatch.setattr(
        stages,
        "train",
        lambda m, s, stage, *rest, **kw: budgets.append(stage) or usual(m, s, stage, *rest, **kw),
    )
    stage = {**MLP, "budget": "0.2s"}
    assert main(["run", recipe({**SHADOWS, "shadows": 2}, stages=[stage]), "--quiet"]) == 0
    steps = read_json("runs/r/summary.json")["stages"][0]["metrics"]["steps"]
    assert [s.budget for s in budgets] == ["0.2s", f"{steps} steps", f"{steps} steps"]
    assert budgets[1].threads != "auto" and budgets[1].precision != "auto"


def test_a_backbone_that_was_given_in_python(in_folder):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
    run = jichu.finetune(network, "sklearn:digits", budget="5 steps", name="own")
    found = jichu.audit(run, parts=[SHADOWS, "learning-curve"])["parts"]
    assert (
        "given in Python" in found["membership"]["refused"] and found["membership"]["models"]["own"]["loss"]
    )
    assert "given in Python" in found["learning-curve"]["refused"]

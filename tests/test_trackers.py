"""MLflow and Weights & Biases have what the run folder has, and a training is the same with them and without. The tools
are small ones of our own; where the real ones are installed, all of it is asked of these too."""

import os
import signal
import sys
import threading
import time
from importlib.util import find_spec

import pytest
import torch

from jichu.cli.main import main
from jichu.core.errors import Interrupted, UsageError
from jichu.core.files import read_json, read_jsonl
from jichu.core.folder import RunFolder
from jichu.train.config import TrainConfig
from jichu.train.trackers import TRACKERS, base, tracked
from test_docs import ROOT, blocks, shrink
from test_fit import config, network, same, train
from tracking_tools import VARIABLES, FakeMlflow, FakeWandb, RealMlflow, RealWandb

FAKES = [FakeMlflow, FakeWandb]
pytestmark = pytest.mark.filterwarnings("ignore")  # of the real ones' libraries


@pytest.fixture(scope="module")
def tensors(digits):
    return {
        "image": torch.from_numpy(digits[0][:200])[:, None],
        "label": torch.from_numpy(digits[1][:200]).long(),
    }


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch, tmp_path):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture(params=[*FAKES, RealMlflow, RealWandb])
def tool(request, monkeypatch):
    if request.param in FAKES:
        return request.param(monkeypatch)
    pytest.importorskip(request.param.key)
    return request.param()


@pytest.fixture(params=FAKES)
def fake(request, monkeypatch):
    return request.param(monkeypatch)


class Evaluates:
    """Gives a number, and at the n-th time does something else first."""

    def __init__(self, at=0, then=lambda: None):
        self.count, self.at, self.then = 0, at, then

    def __call__(self, model):
        self.count += 1
        if self.count == self.at:
            self.then()
        return {"accuracy": float(next(model.parameters()).mean())}


def fit(tensors, folder, key=None, evaluate=None, given=True, **options):
    settings = {key: given} if key else {}
    model = network()
    result = train(
        model, tensors, config("40 steps", log_every=3, evaluate_every=5, checkpoint_every="8 steps", **settings),
        folder=RunFolder(folder), evaluate=evaluate or Evaluates(), **options,
    )  # fmt: skip
    return model, result


def rows(folder):
    """What the run folder has: {name: [(step, value)]}."""
    found = {}
    for row in read_jsonl(RunFolder(folder).metrics):
        for name in row.keys() - {"step", "stage"}:
            found.setdefault(name, []).append((row["step"], row[name]))
    return found


def had(seen):
    """The rows that a tool has, without what it was told at the end."""
    return {name: told for name, told in seen.rows.items() if not (len(told) == 1 and told[0][0] == 0)}


def test_every_number_at_its_step_and_the_same_training(tool, tensors, tmp_path):
    model, _ = fit(tensors, tmp_path / "one", tool.key)
    plain, _ = fit(tensors, tmp_path / "plain")
    written = [RunFolder(tmp_path / name).metrics.read_bytes() for name in ("one", "plain")]
    assert same(model, plain) and written[0] == written[1]
    (seen,) = tool.read(tmp_path / "one")
    assert had(seen) == rows(tmp_path / "one") and len(seen.rows["loss"]) == 14
    assert (seen.name, seen.state, seen.project) == ("one/fit", tool.states["finished"], "jichu")
    assert seen.results["steps"] == 40 and seen.results["samples_per_second"] > 0
    assert (
        seen.dotted["optimizer.lr"] == "0.001"
        and seen.dotted["budget"] == "40 steps"
        and seen.dotted["seed"] == "0"
    )
    assert tool.key not in seen.settings  # which says nothing of the training


def killed():
    raise RuntimeError("as if it were killed")


@pytest.mark.parametrize(
    ("then", "error", "state"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGINT), Interrupted, "interrupted"),
        (killed, RuntimeError, "failed"),
    ],
)
def test_a_resumed_training_is_the_same_run_and_no_row_is_there_twice(
    tool, then, error, state, tensors, tmp_path
):
    with pytest.raises(error):
        fit(tensors, tmp_path / "one", tool.key, Evaluates(4, then))
    (seen,) = tool.read(tmp_path / "one")
    assert seen.state == tool.states[state] and seen.rows["loss"][-1][0] >= 18
    fit(tensors, tmp_path / "one", tool.key, resume=True)
    (seen,) = tool.read(tmp_path / "one")
    assert had(seen) == rows(tmp_path / "one") and len(seen.rows["loss"]) == 14
    assert seen.state == tool.states["finished"]
    fit(tensors, tmp_path / "one", tool.key)  # anew, which is another run
    assert len(tool.read(tmp_path / "one")) == 2


def test_what_a_tool_missed_it_is_told_when_the_training_goes_on(monkeypatch, tensors, tmp_path):
    """Where it can say what it has, as a server can."""
    tool = FakeMlflow(monkeypatch)
    with pytest.raises(Interrupted):
        fit(tensors, tmp_path, tool.key, Evaluates(4, lambda: os.kill(os.getpid(), signal.SIGINT)))
    (run,) = tool.runs.values()
    run.metrics = [metric for metric in run.metrics if metric.step <= 9]
    fit(tensors, tmp_path, tool.key, resume=True)
    assert had(tool.read(tmp_path)[0]) == rows(tmp_path)


def test_one_that_fails_is_told_once_and_left(fake, tensors, tmp_path, capsys):
    plain, _ = fit(tensors, tmp_path / "plain")
    calls = []

    def fails():
        calls.append(1)
        raise OSError("the server is gone\nand a page of HTML")

    fake.fails = fails
    model, _ = fit(tensors, tmp_path / "one", fake.key)
    assert same(model, plain) and rows(tmp_path / "one") == rows(tmp_path / "plain") and len(calls) == 1
    said = capsys.readouterr().err
    assert (
        said.count("written no further") == 1
        and f"{fake.key} is written no further: the server is gone\n" in said
    )


def test_one_that_hangs_holds_nothing_up(fake, tensors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracked, "_PATIENCE", 0.1)
    released = threading.Event()
    fake.fails = released.wait
    started = time.monotonic()
    fit(tensors, tmp_path, fake.key)
    assert time.monotonic() - started < 5 and "has not taken everything" in capsys.readouterr().err
    released.set()
    assert len(rows(tmp_path)["loss"]) == 14


def test_what_waits_is_written_together(monkeypatch, tensors, tmp_path):
    tool, released = FakeMlflow(monkeypatch), threading.Event()
    tool.fails = lambda: released.wait(5)
    fit(tensors, tmp_path, tool.key, Evaluates(8, released.set))
    assert had(tool.read(tmp_path)[0]) == rows(tmp_path)
    assert len([count for count in tool.batches if count]) < 8 and max(tool.batches) > 15


def test_other_processes_and_no_folder_open_none(fake, tensors, tmp_path, monkeypatch):
    train(network(), tensors, config(**{fake.key: True}))
    folder = RunFolder(tmp_path)
    folder.writes = False
    with tracked.tracked(config(**{fake.key: True}), base.Training(folder, "fit", {})) as found:
        assert found.all == []
    assert fake.read(tmp_path) == []


def test_variables_of_the_tools_come_before_the_recipe(monkeypatch, tensors, tmp_path):
    mlflow, wandb = FakeMlflow(monkeypatch), FakeWandb(monkeypatch)
    fit(tensors, tmp_path / "one", "mlflow", given="http://here")
    fit(tensors, tmp_path / "one", "wandb", given="plants")
    assert mlflow.uris[-1] == "http://here" and wandb.files[-1].given["project"] == "plants"
    assert wandb.files[-1].given["mode"] == "offline" and wandb.files[-1].given["dir"] == str(
        tmp_path / "one"
    )
    for name, value in {"MLFLOW_TRACKING_URI": "http://there", "MLFLOW_EXPERIMENT_NAME": "other", "WANDB_MODE": "disabled",
                        "WANDB_PROJECT": "own", "WANDB_DIR": "elsewhere"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    fit(tensors, tmp_path / "two", "mlflow", given="http://here")
    fit(tensors, tmp_path / "two", "wandb", given="plants")
    assert mlflow.uris[-1] == "http://there" and mlflow.read(tmp_path)[-1].project == "other"
    given = wandb.files[-1].given
    assert given["mode"] == "disabled" and not {"project", "dir"} & given.keys()
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fit(tensors, tmp_path / "three", "wandb")
    assert wandb.files[-1].given["mode"] is None  # whoever has a key wants it sent


def test_names_and_values_that_mlflow_takes(tensors, tmp_path, monkeypatch):
    tool = FakeMlflow(monkeypatch)
    settings = {"a": {"b": [1, 2], "c": {}}, "long": "x" * 9000} | {f"k{i}": i for i in range(150)}
    with tracked.tracked(config(mlflow=True), base.Training(RunFolder(tmp_path), "fit", settings)) as found:
        found.write({"step": 1, "stage": "fit", "f1@10 [%]": 0.5, "of a kind": "text"})
    (seen,) = tool.read(tmp_path)
    assert (
        seen.settings["a.b"] == "[1, 2]"
        and seen.settings["a.c"] == "{}"
        and len(seen.settings["long"]) == 6000
    )
    assert seen.settings["k149"] == "149" and dict(seen.rows) == {"f1_10 ___": [(1, 0.5)]}


RECIPE = """
name: small
data: {path: 'sklearn:digits', labels_per_class: 5, split: {test: 0.3}, draws: 2}
stages:
  - {stage: finetune, backbone: {name: cnn, widths: [4]}, budget: 4 steps, KEY}
  - {stage: audit, metrics: [accuracy], gates: {accuracy: 1.0}}
"""


def test_a_recipe_s_runs_have_what_the_audit_says(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE.replace("KEY", f"{tool.key}: true"))
    assert main(["run", "r.yaml", "--quiet"]) == 4
    found = tool.read(tmp_path / "runs/small")
    wanted = read_json("runs/small/audit.json")["models"]["finetune"]["metrics"]["accuracy"]
    assert sorted(seen.name for seen in found) == ["small/finetune/0", "small/finetune/1"]
    for seen in found:
        assert (
            seen.results["test/accuracy"] == wanted["value"] and seen.results["gates"] == "failed: accuracy"
        )
        assert (
            seen.results["test/accuracy.lower"] == wanted["low"] and seen.dotted["backbone.widths"] == "[4]"
        )
        assert seen.state == tool.states["finished"]


@pytest.mark.parametrize(
    ("key", "variables", "told"),
    [
        ("mlflow: true", {}, "pip install 'jichu[mlflow]'"),
        ("wandb: true", {}, "pip install 'jichu[wandb]'"),
        ("mlflow: 'http://127.0.0.1:9'", {}, "nobody answers at http://127.0.0.1:9"),
        ("wandb: true", {"WANDB_MODE": "online"}, "there is no key for https://api.wandb.ai"),
        ("wandb: true", {"WANDB_API_KEY": "k", "WANDB_BASE_URL": "http://127.0.0.1:9"}, "nobody answers at"),
        ("mlflow: 3", {}, "stages.0.mlflow: found 3; expected a string"),
        ("wandb: ''", {}, "at least 1 character"),
    ],
)
def test_what_cannot_be_had_is_told_before_anything_is_done(
    key, variables, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if "pip" in told:
        for name in ("mlflow", "wandb"):
            monkeypatch.setitem(sys.modules, name, None)
    else:
        FakeMlflow(monkeypatch), FakeWandb(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "r.yaml").write_text(RECIPE.replace("KEY", key))
    assert main(["run", "r.yaml"]) == 2
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said and not (tmp_path / "runs").exists()


def test_one_that_cannot_be_opened_is_one_error(fake, tensors, tmp_path, monkeypatch):
    def refuses(**given):
        raise ValueError("no room\nat all")

    monkeypatch.setattr(sys.modules["wandb"] if fake.key == "wandb" else sys.modules["mlflow"].MlflowClient,
                        "init" if fake.key == "wandb" else "create_run", refuses)  # fmt: skip
    with pytest.raises(UsageError, match=f"{fake.key} cannot be opened"):
        fit(tensors, tmp_path, fake.key)


def test_nothing_of_this_process_is_changed(tool, tensors, tmp_path):
    def state():
        return signal.getsignal(signal.SIGINT), sys.excepthook, sys.exit, sys.stdout, sys.stderr

    before = state()
    fit(tensors, tmp_path, tool.key)
    assert state() == before
    assert tool.key not in [thread.name for thread in threading.enumerate()]


def test_the_recipe_of_the_page_runs(tmp_path, monkeypatch):
    tools = FakeMlflow(monkeypatch), FakeWandb(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("docs/trackers.md", "yaml")
    if find_spec("tensorboard") is None:
        text = text.replace("tensorboard: true", "")
    (tmp_path / "page.yaml").write_text(shrink(text))
    assert main(["run", "page.yaml", "--quiet"]) == 0
    assert all("test/accuracy" in tool.read(tmp_path / "runs/followed")[0].results for tool in tools)
    page = (ROOT / "docs/trackers.md").read_text(encoding="utf-8")
    assert [
        name for name in TRACKERS if f"`{name}: true`" not in page or name not in TrainConfig.model_fields
    ] == []

"""The stage `compress`, from the command line, a recipe and Python: what it makes, what it resumes, what it refuses."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import jichu
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.core.files import read_json
from jichu.models import ranges
from jichu.models.folder import load
from jichu.objectives.base import Context
from jichu.recipe.config import CompressStage

CUT = [{"name": "structured", "amount": 0.5}]
RECIPE = """
name: both
data: {{path: '{path}', split: {{test: 0.2, validation: 0.1}}}}
stages:
  - {{stage: finetune, backbone: {backbone}, budget: 6 steps}}
  - {{stage: compress, from: finetune, steps: {steps}, budget: {budget}, checkpoint_every: 5 steps}}
  - stage: audit
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run on digits that knows them."""
    folder = tmp_path_factory.mktemp("fitted")
    before = Path.cwd()
    os.chdir(folder)
    try:
        backbone = {"name": "cnn", "widths": [16, 32]}
        run = jichu.finetune(
            "cnn", "sklearn:digits", backbone=backbone, budget="5 epochs", name="base", optimizer={"lr": 0.01}
        )
    finally:
        os.chdir(before)
    return run.path if run.path.is_absolute() else folder / run.path


def recipe(steps, budget="12 steps", backbone="{name: cnn, widths: [6, 8]}", path="sklearn:digits", **more):
    text = RECIPE.format(path=path, backbone=backbone, steps=steps, budget=budget)
    for key, value in more.items():
        text = text.replace(f"{key}: ", f"{key}: {value}, ", 1)
    Path("recipe.yaml").write_text(text)
    return "recipe.yaml"


def test_a_smaller_model_is_measured_and_used_like_any_other(fitted, in_folder, capsys):
    run = jichu.compress(str(fitted), steps=CUT, budget="3 epochs", optimizer={"lr": 0.01})
    assert "MACs" in "".join(capsys.readouterr())
    (stage, audit) = run.summary()["stages"]
    sizes, score = stage["metrics"]["size"], stage["metrics"]["score"]
    model, config = load(run.folder.model)
    assert (
        sizes["after"]["parameters"]
        == sum(p.numel() for p in model.parameters())
        == stage["metrics"]["parameters"]
    )
    assert sizes["before"]["parameters"] > 2 * sizes["after"]["parameters"]
    assert sizes["before"]["macs"] > 2 * sizes["after"]["macs"]
    assert [change["name"] for change in config.changes] == ["cut"]
    assert score["before"] > 0.9 and score["cut"] < 0.5 and score["after"] > 0.85
    assert run.headline["accuracy"]["value"] == pytest.approx(score["after"]) and audit["name"] == "audit"
    example = next(run.folder.examples.glob("*.png"))
    assert run.predict(str(example))[0]["label"] in run.classes
    assert main(["embed", str(run.path), "--quiet"]) == 0
    assert main(["audit", str(run.path), "--quiet"]) == 0
    assert run.folder.report.exists() and "structured" in run.folder.card.read_text()
    # it is what later stages start from, smaller still
    again = jichu.compress(
        run, steps=["distillation", {"name": "magnitude", "amount": 0.5}], budget="4 steps", name="again"
    )
    assert load(again.folder.model)[1].changes == config.changes
    tuned = jichu.finetune(again, "sklearn:digits", budget="2 steps")
    assert sum(p.numel() for p in tuned.model.parameters()) == sizes["after"]["parameters"]


def test_rows_that_were_held_out_stay_so(fitted, in_folder):
    """Seed, splits and draws are those of the run."""
    run = jichu.compress(fitted, steps=[{"name": "magnitude", "amount": 0.5}])
    before, after = jichu.open(fitted), run
    assert after.dataset().splits["test"].tolist() == before.dataset().splits["test"].tolist()
    assert run.summary()["stages"][0]["metrics"]["score"]["before"] == pytest.approx(
        before.headline["accuracy"]["value"]
    )


def test_without_a_budget_nothing_is_trained(fitted, in_folder, capsys):
    steps = "[{name: magnitude, amount: 0.9}]"
    for budget in ([], ["--budget", "none"], ["--budget", "0 steps"]):
        assert main(["compress", str(fitted), "--steps", steps, *budget]) == 0
    said = capsys.readouterr().err
    assert said.count("smaller when packed (gzip), not faster") >= 3
    first, *others = (load_file(p / "model/model.safetensors") for p in sorted(Path("runs").iterdir()))
    source = load_file(fitted / "model/model.safetensors")
    for name, tensor in first.items():
        assert all(torch.equal(tensor, other[name]) for other in others)
        assert torch.equal(tensor[tensor != 0], source[name][tensor != 0])
    summary = read_json("runs/compress/summary.json")
    assert summary["stages"][0]["metrics"]["steps"] is None
    assert "not faster" in summary["warnings"][0]
    sizes = summary["stages"][0]["metrics"]["size"]
    assert (
        sizes["after"]["nonzero"] < 0.2 * sizes["after"]["parameters"] == 0.2 * sizes["before"]["parameters"]
    )
    assert sizes["after"]["packed_bytes"] < 0.4 * sizes["before"]["packed_bytes"]


STEPS = {
    "structured and magnitude": "[{name: structured, amount: 0.5, by: taylor}, {name: magnitude, amount: 0.6, scope: global}]",
    "low rank, taught": "[{name: low-rank, amount: 0.3}, distillation]",
    "movement and 8 bits": "[{name: movement, amount: 0.5}, quantization-aware]",
    "student": "[{name: distillation, student: {name: cnn, widths: [4]}, features: cosine}]",
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_interrupted_and_resumed_it_ends_alike(steps, in_folder, monkeypatch):
    file = recipe(steps)
    assert main(["run", file, "--quiet"]) == 0
    made = Context.__init__

    def presses(self, *arguments, **keywords):
        made(self, *arguments, **keywords)
        if self.step == 7 and self.steps == 12:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Context, "__init__", presses)
    assert main(["run", file, "--quiet"]) == 130
    monkeypatch.undo()
    os.chdir(in_folder)
    assert main(["run", file, "--quiet", "--resume"]) == 0
    one, two = (load_file(f"runs/{name}/models/compress/model.safetensors") for name in ("both", "both-2"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert Path("runs/both/audit.json").read_text() == Path("runs/both-2/audit.json").read_text()
    run = jichu.open("runs/both")
    assert run.summary()["stages"][1]["metrics"]["steps"] == 12
    assert all(
        torch.equal(t, one[n]) for n, t in run.model.state_dict().items()
    )  # the run's model is the smaller


def test_ranges_are_kept_for_who_writes_int8(in_folder):
    assert main(["run", recipe("[quantization-aware]"), "--quiet"]) == 0
    found = ranges.seen(jichu.open("runs/both").model)
    assert list(found) == ["backbone.blocks.0.0", "backbone.blocks.1.0", "heads.label.linear"]
    assert jichu.open("runs/both").config.ranges == list(found)
    with pytest.raises(UsageError, match="rounded already"):
        jichu.compress("runs/both", steps=CUT)
    again = jichu.compress("runs/both", steps=[{"name": "magnitude", "amount": 0.5}], budget="2 steps")
    assert list(ranges.seen(again.model)) == list(found)
    tuned = jichu.finetune(again, "sklearn:digits", budget="2 steps")  # begins plain
    assert not ranges.seen(tuned.model) and not tuned.config.ranges


# ------------------------------------------------------------------- other kinds of data


def people(folder):
    rng = np.random.default_rng(0)
    rows = ["age,height,kind,income"]
    for _ in range(160):
        age, height = rng.integers(20, 60), rng.normal(170, 8)
        rows.append(f"{age},{height:.1f},{'ab'[age % 2]},{1000 + 30 * age + rng.normal():.1f}")
    (folder / "people.csv").write_text("\n".join(rows))
    words = [f"{('good', 'bad')[i % 2]} thing number {i} and more of it,{'yn'[i % 2]}" for i in range(120)]
    (folder / "words.csv").write_text("\n".join(["text,kind", *words]))
    hours = np.datetime64("2030-01-01T00", "h") + np.arange(300)
    series = [f"{h},{100 + 10 * np.sin(i / 4):.2f},{i % 24}" for i, h in enumerate(hours.tolist())]
    (folder / "hours.csv").write_text("\n".join(["date,load,temperature", *series]))
    for i in range(40):
        wave = np.sin(np.arange(1600) * (0.05, 0.4)[i % 2]) + 0.02 * rng.standard_normal(1600)
        (folder / "tones" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "tones" / "ab"[i % 2] / f"{i}.wav", wave.astype(np.float32), 8000)


@pytest.mark.parametrize(
    "path, data, backbone",
    [
        ("people.csv", "target: income, ", "{name: mlp, widths: [16, 8]}"),
        ("people.csv", "target: [income, kind], ", "{name: ft-transformer, width: 16, depth: 1, heads: 4}"),
        ("words.csv", "target: kind, ", "{name: bert, width: 32, depth: 1, heads: 4}"),
        ("words.csv", "target: kind, ", "{name: gpt, width: 32, depth: 1, heads: 4}"),
        ("tones", "", "{name: cnn, widths: [8, 8]}"),
        ("tones", "", "{name: wav2vec2, width: 32, depth: 1, heads: 4, convolutions: 16}"),
        ("hours.csv", "target: load, series: {time: date, context: 24, horizon: 4}, ", "{name: patchtst, width: 16, depth: 1}"),
    ],
    ids=["numbers", "several", "texts", "gpt", "sounds", "wav2vec2", "series"],
)  # fmt: skip
def test_other_kinds_of_data(path, data, backbone, in_folder):
    people(in_folder)
    steps = "[{name: structured, amount: 0.5}, {name: low-rank, amount: 0.2}, {name: magnitude, amount: 0.3}, quantization-aware]"
    file = Path(recipe(steps, "3 steps", backbone, path))
    file.write_text(file.read_text().replace(f"path: '{path}', ", f"path: '{path}', {data}"))
    assert main(["run", str(file), "--quiet"]) == 0
    run = jichu.open("runs/both")
    model, config = load(run.folder.model)
    stage = run.summary()["stages"][1]["metrics"]
    assert stage["size"]["after"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert stage["size"]["after"]["parameters"] < stage["size"]["before"]["parameters"]
    assert {change["name"] for change in config.changes} == {"cut", "low-rank"} and config.ranges
    if path == "people.csv":
        assert len(run.predict({"age": 30, "height": 170.0, "kind": "a", "income": 1.0})) == 1
    if path == "words.csv":
        assert run.predict("good thing")[0]["label"] in ("y", "n")


def test_adapters_are_part_of_the_weights(in_folder):
    people(in_folder)
    base = jichu.finetune("mlp", "people.csv", target="kind", budget="3 steps", name="base")
    run = jichu.finetune(base, "people.csv", target="kind", adapt="lora", budget="3 steps", name="adapted")
    smaller = jichu.compress(run, steps=CUT)
    assert smaller.summary()["stages"][0]["metrics"]["score"]["before"] == pytest.approx(
        run.headline["accuracy"]["value"]
    )


def test_a_module_of_ones_own(in_folder, digits):
    images, labels = (part[:300] for part in digits)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 6, 3), torch.nn.ReLU()
    )
    run = jichu.finetune(module, (images, labels), budget="3 steps")
    with pytest.raises(UsageError, match="given in memory"):
        jichu.compress(run, steps=CUT)
    smaller = jichu.compress(run, (images, labels), steps=CUT, budget="2 steps")
    assert smaller.model.backbone.module[2].weight.shape == (3, 4, 3, 3)
    assert len(smaller.predict(images[:2])) == 2


# ------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "steps, told",
    [
        ("[{name: structured, amount: 0}]", "amount"),
        ("[{name: structured, amount: 1}]", "amount"),
        ("[{name: magnitude, amount: 1.5}]", "amount"),
        ("[{name: magnitude, amount: .nan}]", "amount"),
        ("[{name: magnitude}]", "amount"),
        ("[]", "steps"),
        ("[magnitud]", "did you mean"),
        ("[{name: magnitude, amount: 0.5, layers: nowhere}]", "matches no layer"),
        ("[{name: movement, amount: 0.5}]", "comes to nothing without training"),
        ("[distillation]", "comes to nothing without training"),
    ],
)
def test_bad_steps_are_refused_before_anything_runs(steps, told, fitted, in_folder, capsys):
    assert main(["compress", str(fitted), "--steps", steps]) == 2
    assert told in capsys.readouterr().err and not Path("runs").exists()


@pytest.mark.parametrize(
    "change, told",
    [
        (["patience=2"], "patience would go back"),
        (["privacy={epsilon: 3}"], "privacy"),
        (["backbone=cnn"], "`from` and `backbone`"),
        (["objective=regression"], "asks for classification"),
        (["data.draws=2", "data.labels_per_class=20"], "draws of labels"),
        (["data.target=nothing"], "nothing"),
        (["head=linear"], "unknown key 'head'"),
    ],
)
def test_what_does_not_go_with_it_is_refused(change, told, fitted, in_folder, capsys):
    steps = "[{name: magnitude, amount: 0.5}]"
    sets = [word for each in change for word in ("--set", each)]
    assert main(["compress", str(fitted), "--steps", steps, "--budget", "3 steps", *sets]) in (2, 3)
    assert told in capsys.readouterr().err and not Path("runs").exists()


def test_runs_that_cannot_be_smaller_are_refused(in_folder, capsys):
    people(in_folder)
    jichu.pretrain("sklearn:digits", budget="2 steps", name="bare", batch_size=16)
    jichu.finetune("mlp", "people.csv", target="kind", head="logistic-regression", name="once")
    Path("novel.txt").write_text("\n".join(f"It was the year {i}, as it had been." for i in range(200)))
    jichu.pretrain(
        "novel.txt",
        backbone={"name": "gpt", "width": 16, "depth": 1, "heads": 2},
        budget="2 steps",
        name="novel",
    )
    for name, told in {
        "bare": "has no head to predict with", "once": "estimated in one go", "novel": "language model", "nowhere": "no run at",
    }.items():  # fmt: skip
        with pytest.raises(UsageError, match=told):
            jichu.compress(f"runs/{name}", steps=[{"name": "magnitude", "amount": 0.5}], name="c")
    assert not Path("runs/c").exists()


def test_of_a_private_run_only_the_weights_are_looked_at(in_folder):
    jichu.finetune(
        "cnn",
        "sklearn:digits",
        backbone={"name": "cnn", "norm": "none"},
        privacy={"epsilon": 8, "secret": 0},
        budget="3 steps",
        name="base",
    )
    for steps, budget in (
        (CUT, "2 steps"),
        (["quantization-aware"], "none"),
        ([{**CUT[0], "by": "taylor"}], "none"),
    ):
        with pytest.raises(UsageError, match="keeps its rows private"):
            jichu.compress("runs/base", steps=steps, budget=budget)
    run = jichu.compress("runs/base", steps=CUT)
    assert run.summary()["stages"][0]["metrics"]["steps"] is None


def test_a_stage_that_starts_from_nothing_is_refused(in_folder, capsys):
    file = Path(recipe("[{name: magnitude, amount: 0.5}]"))
    for wrong, told in (("", "expected `from`"), ("from: finetun, ", "did you mean: finetune")):
        file.write_text(
            re.sub("from: \\w+, ", wrong, file.read_text())
            if not wrong
            else file.read_text().replace("compress, ", f"compress, {wrong}")
        )
        assert main(["run", str(file)]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("text, kept", [("none", "none"), (None, "none"), (0, "none"), ("0 steps", "none"), ("0.0 epochs", "none"),
                                        ("05 steps", "05 steps"), ("0.5 epochs", "0.5 epochs")])  # fmt: skip
def test_budgets_of_nothing(text, kept):
    stage = CompressStage(**{"from": "x", "steps": ["distillation"], "budget": text})
    assert stage.budget == kept and stage.trains == (kept != "none")


def test_a_budget_that_is_none_is_refused():
    with pytest.raises(ValueError, match="not a duration"):
        CompressStage(**{"from": "x", "steps": ["distillation"], "budget": "often"})

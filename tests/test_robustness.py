"""The part of an audit that attacks: on images, on tables, on what has no gradients and on what hides them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import nn

import jichu
from jichu.auditing.parts import Subject
from jichu.auditing.parts.robustness import Robustness
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.data.target import Target
from jichu.models.backbone import Features
from jichu.models.heads import Linear
from jichu.models.inputs import Inputs
from jichu.models.model import Model


def run(**recipe):
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    return read_json(Path(f"runs/{recipe['name']}/audit.json"))["parts"]["robustness"]


def test_adversarial_training_stands_where_plain_training_falls(in_folder):
    network = {"stage": "finetune", "backbone": {"name": "cnn", "widths": [16, 32]}, "budget": "120 steps",
               "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.005}}  # fmt: skip
    attacked = {"epsilon": 0.1, "steps": 3}
    found = run(
        name="digits",
        data={"path": "sklearn:digits", "split": {"test": 0.3}},
        stages=[
            {**network, "name": "plain"},
            {**network, "name": "pgd", "wrap": [{"name": "adversarial", **attacked}]},
            {**network, "name": "trades", "wrap": [{"name": "trades", "beta": 3, **attacked}]},
            {"stage": "audit", "parts": [{"name": "robustness", "epsilon": 0.1, "rows": 40}]},
        ],
    )
    models = found["models"]
    assert found["rows"] == 40 and found["unit"] == "of the brightness"
    assert models["plain"]["clean"]["value"] > 0.8 and models["plain"]["strongest"]["value"] < 0.25
    for name in ("pgd", "trades"):
        assert models[name]["strongest"]["value"] > models["plain"]["strongest"]["value"] + 0.2
    for m in models.values():
        values = [m[name]["value"] for name in ("clean", "one_step", "strongest")]
        assert values == sorted(values, reverse=True) and m["strongest"]["high"] > m["strongest"]["value"]
        curve = [point["value"] for point in m["curve"]]
        assert curve == sorted(curve, reverse=True) and curve[0] == m["clean"]["value"]
    assert models["plain"]["hidden"] == []
    page = Path("runs/digits/report.html").read_text()
    assert "When somebody wants it to err" in page and "40 held-out rows" in page


def test_tables_trees_and_what_cannot_be_attacked(in_folder, capsys):
    stages = [
        {
            "stage": "finetune",
            "name": "network",
            "backbone": {"name": "mlp", "widths": [16]},
            "budget": "40 steps",
        },
        {"stage": "finetune", "name": "trees", "head": "gradient-boosting"},
        {"stage": "audit", "parts": [{"name": "robustness", "epsilon": 0.5}]},
    ]
    found = run(name="wine", data={"path": "sklearn:wine", "split": {"test": 0.4}}, stages=stages)
    assert found["models"]["network"]["differentiable"] and "quartiles" in found["unit"]
    trees = found["models"]["trees"]
    assert not trees["differentiable"] and trees["squares"]["value"] < trees["clean"]["value"]
    rows = [f"{['good', 'fine', 'nice'][i % 3]} {i},{'yes' if i % 3 else 'no'}" for i in range(60)]
    Path("t.csv").write_text("\n".join(["text,kind", *rows]))
    stages[0]["backbone"] = "words"
    del stages[1]
    found = run(
        name="texts", data={"path": "t.csv", "target": "kind", "columns": {"text": "text"}}, stages=stages
    )
    assert (
        found["models"] == {} and "cannot be changed a little" in Path("runs/texts/report.html").read_text()
    )
    capsys.readouterr()
    assert main(["audit", "runs/wine", "--parts", "robustnes"]) == 2
    assert "did you mean: robustness" in capsys.readouterr().err


class Rounded(nn.Module):
    """The mean brightness, on a stair whose slope is nothing: gradients do not show the way."""

    width = 1

    def forward(self, batch):
        mean = batch["image"].flatten(1).mean(1, keepdim=True)
        stairs = (mean * 50).round() / 50 + 0 * mean
        return Features(stairs)


def test_hidden_gradients_are_told(in_folder):
    dataset = jichu.load("sklearn:digits")
    truth = (
        dataset.tensors["image"].float().mean((1, 2, 3)) > dataset.tensors["image"].float().mean()
    ).long()
    dataset.tensors["label"] = truth
    model = Model(Rounded(), {"label": Linear(1, 2)}, Inputs(channels=1))
    middle = float(dataset.tensors["image"].float().mean() / 255)
    with torch.no_grad():
        model.heads["label"].linear.weight.copy_(torch.tensor([[-9.0], [9.0]]))
        model.heads["label"].linear.bias.copy_(torch.tensor([9.0 * middle, -9.0 * middle]))
    table = pa.table({"stage": ["stairs"]})
    target = Target("label", "classification", ("dark", "light"), (900, 897), rows=1797)
    rows = torch.arange(200)
    subject = Subject(
        dataset, rows, "label", target, table, ("stairs",), lambda _: model.eval(), Path, 0, rows[:0]
    )
    found = Robustness(epsilon=0.05).measure(subject)["models"]["stairs"]
    said = "; ".join(found["hidden"])
    assert "squares" in said and "gradient" in said
    assert found["many_steps"]["value"] > found["strongest"]["value"] + 0.1


@pytest.mark.parametrize("rows", [1, 7])
def test_a_few_rows(rows, in_folder):
    found = run(
        name="few",
        data={"path": "sklearn:digits", "split": {"test": 0.3}},
        stages=[
            {"stage": "finetune", "head": "logistic-regression"},
            {"stage": "audit", "parts": [{"name": "robustness", "rows": rows}]},
        ],
    )
    assert found["rows"] == rows and found["models"]["finetune"]["clean"]["low"] < 1


def test_an_attack_of_ones_own_choice_is_the_strongest(in_folder, capsys):
    stages = [{"stage": "finetune", "backbone": {"name": "cnn", "widths": [8]}, "budget": "40 steps"}]
    for attack, code in (({"name": "pgd", "steps": 5, "restarts": 2}, 0), ("pdg", 2)):
        asked = {"name": "robustness", "epsilon": 0.1, "rows": 30, "attack": attack}
        recipe = {
            "name": "chosen",
            "data": {"path": "sklearn:digits"},
            "stages": [*stages, {"stage": "audit", "parts": [asked]}],
        }
        Path("r.yaml").write_text(json.dumps(recipe))
        assert main(["run", "r.yaml", "--quiet"]) == code
    assert "did you mean: pgd" in capsys.readouterr().err
    found = read_json(Path("runs/chosen/audit.json"))["parts"]["robustness"]
    (model,) = found["models"].values()
    assert found["attack"] == "pgd" and model["fell"] == {}
    assert model["strongest"]["value"] <= model["many_steps"]["value"] <= model["clean"]["value"]
    assert "The strongest: pgd; a stronger" in Path("runs/chosen/report.html").read_text()

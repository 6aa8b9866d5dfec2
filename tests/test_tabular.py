"""Tables from end to end: any target, several at once, predicted again from a file, a dict, a folder."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

import jichu
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.models.resnet import ResNet18
from jichu.recipe import fitting


def rows(count=240, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        a, b, kind = rng.normal(), rng.normal(), ["red", "green", "blue"][i % 3]
        tags = [t for t, on in (("hot", a > 0.3), ("wet", b > 0), ("odd", kind == "red")) if on]
        found.append({
            "a": a, "b": None if i % 11 == 0 else b, "kind": kind, "day": f"2024-{1 + i % 12:02}-01",
            "tags": tags, "price": 100 + 20 * a - 5 * b, "grade": "low" if a < 0 else "high", "patient": i // 4,
        })  # fmt: skip
    return found


@pytest.fixture
def table(in_folder):
    path = in_folder / "table.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows()))
    return str(path)


def test_several_targets_at_once(table):
    run = jichu.finetune("mlp", table, target=["grade", "price", "tags"], budget="40 epochs", batch_size=32,
                         optimizer={"lr": 0.005})  # fmt: skip
    assert [t.task for t in run.targets.values()] == ["classification", "regression", "multilabel"]
    assert run.headline["accuracy"]["value"] > 0.9
    assert run.headline["price: r2"]["value"] > 0.8 and run.headline["tags: macro_f1"]["value"] > 0.8
    found = run.predict(rows(5, seed=1))
    assert set(found[0]) == {"input", "grade", "price", "tags"}
    assert found[0]["grade"]["scores"].keys() == {"low", "high"}
    again = jichu.audit(run)
    assert again["models"]["finetune"]["metrics"]["accuracy"]["value"] == run.headline["accuracy"]["value"]
    r2 = again["others"]["price"]["models"]["finetune"]["metrics"]["r2"]["value"]
    assert r2 == pytest.approx(run.headline["price: r2"]["value"], rel=1e-5)
    assert (run.path / "predictions.label_3.parquet").exists()


@pytest.mark.parametrize(
    ("head", "target"),
    [
        ("gradient-boosting", "grade"), ("gradient-boosting", "price"), ("gradient-boosting", "tags"),
        ("nearest-neighbours", "grade"), ("nearest-neighbours", "price"), ("logistic-regression", "grade"),
        ("naive-bayes", "grade"), ("ridge", "price"),
    ],
)  # fmt: skip
def test_classical_models_are_saved_and_predict_alike(table, head, target):
    assert main(["finetune", table, "--head", head, "--target", target, "--quiet"]) == 0
    run = jichu.open("runs/finetune")
    own, again = run.predict(rows(6, seed=2)), jichu.open(str(run.path)).predict(rows(6, seed=2))
    assert own == again
    told = {"grade": "accuracy", "price": "r2", "tags": "macro_f1"}[target]
    assert run.headline[told]["value"] > (0.8 if target != "price" else 0.7)


def test_quantiles_hold_what_they_promise(table):
    objective = {"name": "regression", "loss": "quantile", "quantiles": [0.1, 0.5, 0.9]}
    noise = np.random.default_rng(5).normal(size=2000) * 10
    many = [{**r, "price": r["price"] + noise[i]} for i, r in enumerate(rows(2000, seed=5))]
    run = jichu.finetune("mlp", pa.Table.from_pylist(many[:1600]), target="price", objective=objective,
                         budget="6 epochs")  # fmt: skip
    found = run.predict(many[1600:])
    truth = np.array([r["price"] for r in many[1600:]])
    low, middle, high = np.array([list(f["quantiles"].values()) for f in found]).T
    assert [f["value"] for f in found] == middle.tolist()
    assert (low <= high).mean() > 0.99 and 0.7 < ((truth >= low) & (truth <= high)).mean() < 0.9
    assert "pinball" in run.headline


def test_rows_of_any_kind_are_predicted_alike(table, in_folder):
    run = jichu.finetune("mlp", table, target="grade", budget="2 epochs")
    some = [{k: v for k, v in r.items() if k != "grade"} for r in rows(4, seed=4)]
    scores = [f["scores"] for f in run.predict(some)]
    assert [run.predict(r)[0]["scores"]["low"] for r in some] == pytest.approx(
        [s["low"] for s in scores], abs=1e-6
    )
    assert [f["scores"] for f in run.predict(pa.Table.from_pylist(some))] == scores
    with open("some.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, some[0])
        writer.writeheader()
        writer.writerows(some)
    assert [f["scores"]["low"] for f in run.predict("some.csv")] == pytest.approx(
        [s["low"] for s in scores], abs=1e-4
    )
    unseen = run.predict({**some[0], "kind": "purple"})[0]["scores"]
    assert unseen == run.predict({**some[0], "kind": None})[0]["scores"]
    with pytest.raises(DataError, match="the column 'b' is missing"):
        run.predict({k: v for k, v in some[0].items() if k != "b"})
    with pytest.raises(DataError, match="no cell of the column 'a' is a number"):
        run.predict({**some[0], "a": "many"})
    assert run.embed(some).shape == (4, 128)


def test_another_stage_starts_from_a_table_model(table):
    one = jichu.finetune("mlp", table, target="grade", budget="5 epochs", name="one")
    two = jichu.finetune(one, table, target="price", adapt="head", budget="5 epochs", name="two")
    a, b = one.model.state_dict(), two.model.state_dict()
    same = [n for n in a if n.startswith(("backbone.", "inputs."))]
    assert same and all(torch.equal(a[n], b[n]) for n in same)


def test_heads_on_features_computed_once_learn_the_same(in_folder, monkeypatch):
    settings = {"adapt": "head", "budget": "30 steps", "split": {"validation": 0.1, "test": 0.2}}
    once = jichu.finetune("cnn", "sklearn:digits", name="once", **settings)
    monkeypatch.setattr(fitting, "_only_heads_learn", lambda *_: False)
    anew = jichu.finetune("cnn", "sklearn:digits", name="anew", **settings)
    for name, weights in once.model.heads.state_dict().items():
        assert torch.allclose(weights, anew.model.heads.state_dict()[name], atol=1e-5)
    losses = [[r["validation_loss"] for r in run.history if "validation_loss" in r] for run in (once, anew)]
    assert losses[0] and losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_weights_pixels_and_initialisation_of_a_stage(in_folder):
    given = {f"{n}": t for n, t in ResNet18(3, 16, base=4).state_dict().items()}
    save_file({**given, "fc.weight": torch.zeros(5, 32)}, "weights.safetensors")
    path = ["finetune", "sklearn:digits", "--backbone", "{name: resnet18, base: 4}", "--budget", "2 steps",
            "--set", "data.size=16", "--set", "data.channels=3", "--quiet", "--adapt", "head"]  # fmt: skip
    assert main([*path, "--weights", "weights.safetensors"]) == 0
    model = jichu.open("runs/finetune").model
    assert all(torch.equal(model.backbone.state_dict()[n], t) for n, t in given.items())
    imagenet = torch.tensor([0.485, 0.456, 0.406])
    assert torch.allclose(
        model.inputs["image"].mean.flatten(), imagenet
    )  # what such weights were trained with
    assert main([*path, "--set", "pixels={mean: 0.5, std: 0.25}", "--initialise", "orthogonal"]) == 0
    model = jichu.open("runs/finetune-2").model
    assert model.inputs["image"].std.unique().tolist() == [0.25]
    w = model.backbone.layer4[1].conv2.weight.flatten(1)
    assert torch.allclose(w @ w.T, 2 * torch.eye(len(w)), atol=1e-4)  # the gain of ReLU is the root of 2
    layers = [
        json.loads(line) for line in (in_folder / "runs/finetune-2/layers.jsonl").read_text().splitlines()
    ]
    assert layers[0]["name"] == "conv1" and layers[0]["std"] > 0


def test_what_the_first_step_foretells_is_said(in_folder):
    deep = "{name: cnn, widths: [8, 8, 8, 8, 8, 8, 8, 8, 8, 8], norm: none, smallest: 8}"
    assert main(["finetune", "sklearn:digits", "--backbone", deep, "--initialise", "truncated-normal",
                 "--budget", "2 steps"]) == 0  # fmt: skip
    assert "activations vanish" in jichu.open("runs/finetune").summary()["warnings"][0]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (["--backbone", "resnet18", "--target", "grade"], 2, "one of cells, columns, ft-transformer, mlp"),
        (["--head", "ridge", "--target", "grade"], 2, "gradient-boosting"),
        (["--head", "naive-bayes", "--target", "price"], 2, "ridge"),
        (["--objective", "regression", "--target", "grade"], 2, "classification"),
        (["--target", "grades"], 2, "grade"),
        (["--target", "day"], 3, "of dates"),
        (["--set", "augment={flip: true}", "--target", "grade"], 2, "changes images"),
        (["--set", "data.split={group: patients}", "--target", "grade"], 2, "patient"),
        (["--set", "data.weight=kind", "--target", "grade"], 3, "is of kind category"),
        (["--schedule", "plateau", "--target", "grade"], 2, "validation"),
        ([], 2, "the column to predict"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run_begins(table, changes, code, said, in_folder, capsys):
    assert main(["finetune", table, "--quiet", *changes]) == code
    assert said in capsys.readouterr().err and not (in_folder / "runs").exists()


def test_images_are_no_table(in_folder, capsys):
    assert main(["finetune", "sklearn:digits", "--backbone", "ft-transformer"]) == 2
    assert "reads table data" in capsys.readouterr().err
    assert main(["pretrain", "sklearn:iris", "--objective", "masked-images"]) == 2
    assert "learns from images" in capsys.readouterr().err
    assert main(["pretrain", "sklearn:digits", "--objective", "causal"]) == 2
    assert "learns from texts" in capsys.readouterr().err


def test_a_constant_target_is_refused(in_folder):
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(DataError, match="in every labelled training row"):
        jichu.finetune("mlp", (x, np.full(40, 2.5)), budget="1 epochs")
    with pytest.raises(DataError, match="in every labelled training row"):
        jichu.finetune("mlp", (x, np.ones(40, int)), budget="1 epochs")
    with pytest.raises(UsageError, match="no classes to draw"):
        jichu.finetune("mlp", (x, x[:, 0]), budget="1 epochs", labels_per_class=2)

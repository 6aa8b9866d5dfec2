"""Costs against closed forms and published totals."""

import copy
import itertools
import json
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

import jichu
from jichu.cli.main import main
from jichu.core.config import Spec
from jichu.core.files import read_json
from jichu.core.names import construct
from jichu.data.decode import Preprocess
from jichu.data.target import Target
from jichu.models import BACKBONES, cost, folder
from jichu.models.cost import flops, kept_bytes
from jichu.models.folder import ModelConfig


class Head(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.body = module

    def forward(self, batch):
        return {"label": self.body(batch["image"])}


def images(channels, size):
    return lambda rows: {"image": torch.zeros(rows, channels, size, size)}


def backbone(name, channels, size, **arguments):
    return construct("backbone", Spec(name=name, **arguments), BACKBONES, channels=channels, size=size)()


def test_flops_are_those_on_paper():
    convolution = 2 * 3 * 3 * 5 * 7 * 8 * 8
    assert flops(Head(nn.Conv2d(5, 7, 3, padding=1)), images(5, 8))["forward"] == convolution
    dense = Head(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)))
    found = flops(dense, images(3, 4))
    assert found["forward"] == 2 * 48 * 10
    assert found["training"] == 2 * found["forward"]  # and the weight's gradient; the image needs none
    two = Head(nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.ReLU(), nn.Linear(10, 6)))
    assert flops(two, images(3, 4))["training"] == 2 * (2 * 48 * 10) + 3 * (2 * 10 * 6)
    frozen = copy.deepcopy(two).requires_grad_(False)
    assert flops(frozen, images(3, 4))["training"] == 2 * 48 * 10 + 2 * 10 * 6


def test_flops_of_resnet18():
    """1.814 billion multiply-adds at 224 pixels, as torchvision publishes it."""
    found = flops(backbone("resnet18", 3, 224), images(3, 224))
    assert found["forward"] == pytest.approx(2 * 1.814e9, rel=0.01)
    assert found["by_module"]["conv1"] == 2 * 7 * 7 * 3 * 64 * 112 * 112
    assert sum(found["by_module"].values()) == found["forward"]


def test_flops_of_attention_are_counted():
    """A layer of width D on T tokens: four D × D maps, two products of T × T × D, a perceptron of 4 D."""
    pytest.importorskip("transformers")
    d, tokens = 16, 17
    found = flops(backbone("vit", 3, 32, width=d, depth=2, heads=2, patch=8), images(3, 32))
    layer = 2 * tokens * 4 * d * d + 2 * 2 * tokens * tokens * d + 2 * tokens * 8 * d * d
    assert found["forward"] == 2 * layer + 2 * 3 * 8 * 8 * d * 16


def test_cost():
    model = backbone("cnn", 1, 8, widths=[4, 8]).train()
    model.blocks.get_submodule("0.1").running_mean.fill_(3.0)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = cost.cost(model, images(1, 8), batch_sizes=(4, 1), seconds=0.02)
    assert found["parameters"] == sum(p.numel() for p in model.parameters()) == found["trainable"]
    assert found["bytes"] == sum(t.numel() * t.element_size() for t in model.state_dict().values())
    assert [t["batch"] for t in found["throughput"]] == [1, 4]
    assert all(t["rows_per_second"] > 0 for t in found["throughput"])
    assert 0 < found["latency_ms"]["median"] <= found["latency_ms"]["p95"]
    json.dumps(found)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_activations_of_a_row():
    """Autograd keeps each layer's inputs and of the ReLUs their outputs: the next layer's input."""
    network = Head(nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)))
    found = cost.cost(network, images(1, 4), batch_sizes=(), seconds=0)
    assert found["activation_bytes_per_row"] == 4 * (16 + 32)
    assert found["throughput"] == []


def test_the_peak_of_asking():
    """Two layers' outputs stand beside each other, the input's own copy and the weights do not count."""
    network = Head(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU())
    )
    assert cost.peak_bytes(network, images(1, 8)(128)) == 4 * 128 * (1024 + 1024)
    assert cost.peak_bytes(Head(nn.Flatten()), images(1, 8)(128)) == 0


def test_it_stops_before_what_does_not_fit(monkeypatch):
    network = backbone("cnn", 1, 8, widths=[4])
    monkeypatch.setattr(cost, "memory_available", lambda device: 10**5)
    found = cost.cost(network, images(1, 8), batch_sizes=(1, 10**6), seconds=0.01)
    assert [t["batch"] for t in found["throughput"]] == [1] and "memory" in found["stopped"]
    monkeypatch.undo()
    found = cost.cost(network, images(1, 8), batch_sizes=(1, 10**5), seconds=0.001)
    assert [t["batch"] for t in found["throughput"]] == [1] and "would take" in found["stopped"]


def test_energy_where_it_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_POWERCAP", tmp_path)
    assert cost.energy_joules() is None
    for name, value in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 1_000_000), ("intel-rapl:0:0", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{value}\n")
    assert cost.energy_joules() == 6.0
    network = backbone("cnn", 1, 8, widths=[4])
    readings = iter([1.0, 7.0])
    monkeypatch.setattr(cost, "energy_joules", lambda: next(readings))
    monkeypatch.setattr(cost, "_times", lambda *_: [0.1] * 10)
    assert cost.cost(network, images(1, 8), batch_sizes=(5,))["joules_per_row"] == 6.0 / 60
    monkeypatch.undo()
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("none")
    monkeypatch.setattr(cost, "_POWERCAP", tmp_path)
    assert cost.energy_joules() is None


# ------------------------------------------------------------------- the part of an audit

AUDIT = {"name": "cost", "seconds": 1, "batch_sizes": [4, 16], "watts_per_core": 7}


def test_an_audit_of_cost(in_folder, monkeypatch):
    monkeypatch.setattr(cost, "energy_joules", lambda: None)
    stages = [
        {"stage": "pretrain", "budget": "2 steps"}, {"stage": "finetune", "name": "network", "budget": "2 steps"},
        {"stage": "finetune", "name": "linear", "head": "logistic-regression"},
        {"stage": "finetune", "name": "boosted", "head": "gradient-boosting"},
        {"stage": "audit", "parts": [AUDIT]},
    ]  # fmt: skip
    recipe = {"name": "wine", "data": {"path": "sklearn:wine"}, "stages": stages}
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    found = read_json(Path("runs/wine/audit.json"))["parts"]["cost"]["models"]
    assert list(found) == ["network", "pretrain", "linear", "boosted"]
    linear, network = found["linear"], found["network"]
    assert linear["flops_per_row"] == 2 * (2 * 13) * 3 and found["boosted"]["flops_per_row"] is None
    assert linear["parameters"] == 0 and network["precision"] == "float32"
    inside = jichu.open("runs/wine").model
    assert network["parameters"] == sum(p.numel() for p in inside.parameters())
    assert network["bytes"] == sum(t.numel() * t.element_size() for t in inside.state_dict().values())
    files = Path("runs/wine/models/network").rglob("*")
    assert network["bytes_on_disk"] == sum(f.stat().st_size for f in files if f.is_file())
    for model in found.values():
        assert list(model["batches"]) == ["1", "4", "16"] and model["energy"] == "estimated"
        assert 0 < model["latency_p50"]["value"] <= model["latency_p99"]["value"]
        assert model["latency_p99"]["low"] <= model["latency_p99"]["value"] <= model["latency_p99"]["high"]
        watts = model["joules_per_row"] * model["rows_per_second"]
        assert watts == pytest.approx(7 * torch.get_num_threads())
    page = Path("runs/wine/report.html").read_text()
    assert "What it costs" in page and "7 watts" in page


def test_the_energy_of_an_audit_is_read_where_it_can_be(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    assert main(["finetune", "photos", "--budget", "2 steps", "--quiet"]) == 0
    readings = itertools.count(step=3.0)
    monkeypatch.setattr(cost, "energy_joules", lambda: next(readings))
    monkeypatch.setattr(cost, "_times", lambda *_: [0.5] * 8)
    patient = AUDIT | {"seconds": 100}
    (model,) = jichu.audit("runs/finetune", parts=[patient])["parts"]["cost"]["models"].values()
    assert model["energy"] == "measured" and model["joules_per_row"] == 3.0 / (16 * 10)
    assert model["rows_per_second"] == 32 and model["latency_p50"] == dict.fromkeys(
        ("value", "low", "high"), 0.5
    )
    monkeypatch.setattr(cost, "_times", lambda *_: [0.2] * 8)
    (model,) = jichu.audit("runs/finetune", parts=[AUDIT])["parts"]["cost"]["models"].values()
    assert list(model["batches"]) == ["1"] and "4 rows would take" in model["stopped"]


@pytest.mark.parametrize(
    "table",
    [
        "text,label\n" + "\n".join(f"{'so much ' * (i % 9)} is said of {i},{'ab'[i % 2]}" for i in range(60)),
        "question,answer\n" + "\n".join(f"what is {i},it is {i}" for i in range(60)),
    ],
)
def test_the_cost_of_what_reads_texts(table, in_folder):
    pytest.importorskip("transformers")
    Path("t.csv").write_text(table)
    answers = {"target": "answer", "columns": {"answer": "text"}} if "answer" in table else {}
    backbone = "llama-tiny" if answers else {"name": "bert", "width": 16, "depth": 1, "heads": 2}
    stages = [
        {"stage": "finetune", "backbone": backbone, "budget": "2 steps"},
        {"stage": "audit", "parts": [AUDIT]},
    ]
    Path("r.yaml").write_text(
        json.dumps({"name": "t", "data": {"path": "t.csv", **answers}, "stages": stages})
    )
    assert main(["run", "r.yaml", "--quiet"]) == 0
    (model,) = read_json(Path("runs/t/audit.json"))["parts"]["cost"]["models"].values()
    assert model["flops_per_row"] > 0 and model["peak_bytes"] > 0


# ------------------------------------------------------------------- jichu doctor MODEL


def doctor(*arguments):
    return main(["doctor", *arguments, "--size", "16", "--batch-sizes", "1,2", "--seconds", "0.01"])


def test_doctor_of_a_name(capsys):
    assert doctor("cnn", "--channels", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "cnn" and found["flops"]["forward"] > 0 and found["warnings"] == []
    assert [t["batch"] for t in found["throughput"]] == [1, 2]
    assert [w["type"] for w in found["layers"] if w["weighted"]] == ["Conv2d"] * 4
    assert doctor("cnn") == 0
    out = capsys.readouterr().out
    assert "parameters" in out and "rows/s" in out and "blocks.0.0" in out and "GFLOP forward" in out


class Plain(nn.Module):
    """A deep network that no data can move."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), *[nn.Linear(8, 8) for _ in range(9)])
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.01)

    def forward(self, images):
        return self.layers(images)


def test_doctor_of_an_import_path(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plain_net", __import__(__name__))
    assert doctor("plain_net:Plain") == 0
    assert "gradients vanish" in capsys.readouterr().out


def test_doctor_of_a_checkpoint_and_of_a_run(capsys, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    assert doctor(f"hf:{tmp_path}/vit", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] > 1000
    spec = {"name": "cnn", "widths": [4]}
    target = Target("label", "classification", ("a", "b"))
    made = ModelConfig(spec, Preprocess(8, 1, "crop"), None, {"label": {"name": "linear"}}, {"label": target})
    folder.save(tmp_path / "run" / "model", made.build(), made)
    assert doctor(str(tmp_path / "run"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 4 * 9 + 4 + 4 + (4 + 1) * 2
    assert list(found["flops"]["by_module"]) == ["inputs", "backbone", "heads"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet81"], "did you mean: resnet18"),
        (["a" * 5000], "unknown backbone"),
        (["cnn", "--batch-sizes", "1,x"], "such as 1,8,32"),
        (["cnn", "--batch-sizes", "True"], "such as 1,8,32"),
        (["cnn", "--size", "0"], "--size"),
        (["pathlib:PurePath"], "torch.nn.Module"),
    ],
)
def test_doctor_of_nothing(capsys, arguments, words):
    assert main(["doctor", *arguments]) == 2
    assert words in capsys.readouterr().err


nodes = weakref.WeakSet()  # of a graph, those that are alive


class Same(torch.autograd.Function):
    @staticmethod
    def forward(node, x):
        nodes.add(node)
        return x.clone()

    @staticmethod
    def backward(node, gradient):
        return gradient


def test_nothing_of_what_is_counted_stays():
    """A node that keeps its own output is a cycle through C++, which nothing would ever free."""
    x = torch.ones(3, 4, requires_grad=True)
    found = kept_bytes(lambda rows: Same.apply(x[:rows]).softmax(1), 3)
    assert found == x.numel() * x.element_size() and not nodes

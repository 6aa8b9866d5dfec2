"""Adapters on a base of another run: small, bound to its weights, made whole, taken away."""

import gc
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import jichu
from jichu import adapters as runs_adapters
from jichu.adapt import lora, rules
from jichu.adapt.bases import Bases
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.core.folder import RunFolder
from jichu.data.batches import Batches
from jichu.data.decode import Preprocess
from jichu.data.special import Special
from jichu.data.target import Target
from jichu.models import adapters, folder
from jichu.models.cnn import Cnn
from jichu.models.folder import ModelConfig
from jichu.models.heads import Linear
from jichu.models.model import Model
from jichu.models.recurrent import LstmText
from jichu.objectives.supervised import Classification
from jichu.train import checkpoint
from jichu.train.config import TrainConfig

peft = pytest.importorskip("peft")

BERT = "{name: bert, width: 32, depth: 2, heads: 2}"
TRAIN = ["--set", "precision=float32", "--set", "optimizer.lr=0.01", "--set", "data.text=text"]


def run(*words, code=0):
    assert main([str(word) for word in words]) == code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base and, on it, adapters for two tasks."""
    place = tmp_path_factory.mktemp("adapters")
    subjects, verdicts, tongues = ("bird", "cat", "dog"), ("rude", "kind"), ("says", "sagt")
    rows = [
        f"{i} : my {subjects[i % 3]} {tongues[i // 2 % 2]} {verdicts[i % 2]} words .,{['no', 'yes'][i % 2]},{['en', 'de'][i // 2 % 2]}\n"
        for i in range(160)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("s.csv").write_text("text,verdict,tongue\n" + "".join(rows))
        run("pretrain", "s.csv", "--name", "base", "--backbone", BERT, "--objective", "masked", "--budget", "20 steps",
            "--set", "data.context=16", "--set", "data.target=verdict",
            "--set", "data.tokenizer={name: wordpiece, vocabulary: 200}", *TRAIN)  # fmt: skip
        for target, adapt in {"verdict": "lora", "tongue": "dora"}.items():
            run("finetune", "s.csv", "--name", target, "--target", target, "--from", "runs/base", "--adapt", adapt,
                "--budget", "60 steps", *TRAIN)  # fmt: skip
    return place


def size(path):
    return sum(f.stat().st_size for f in Path(path).rglob("*.safetensors"))


ASKED = ["31 : my bird says kind words .", "8 : my dog sagt rude words ."]


def test_a_run_on_a_base_holds_no_copy_of_it(place):
    base = Path("runs/base/model/model.safetensors").stat().st_size
    for target in ("verdict", "tongue"):
        there = jichu.open(f"runs/{target}")
        assert not (there.folder.model / "model.safetensors").exists()
        assert size(there.folder.model) < base / 3
        state = checkpoint.read_tensors(there.folder.checkpoints / "last.safetensors", torch.device("cpu"))
        assert not any(".base_layer." in n or "embeddings" in n for n in state)


@pytest.mark.parametrize("target", ["verdict", "tongue"])
def test_what_is_loaded_is_what_was_trained(place, target):
    """The audit predicted with the model in memory; what is loaded measures the same."""
    there = jichu.open(f"runs/{target}")
    assert there.headline["accuracy"]["value"] > 0.8
    again = jichu.audit(there)["models"]
    (before,) = json.loads(there.folder.audit.read_text())["models"].values()
    (after,) = again.values()
    for name, interval in before["metrics"].items():
        assert after["metrics"][name]["value"] == pytest.approx(interval["value"], abs=1e-6)


def test_models_on_one_base_share_its_memory(place):
    bases = Bases()
    base, *others = (jichu.runs.Run(f"runs/{name}", bases=bases) for name in ("base", "verdict", "tongue"))
    memory = {tensor.data_ptr() for tensor in base.model.parameters()}
    texts = ["my cat says kind words", "5 : my dog sagt rude words ."]
    for run in others:
        own = [p for p in run.model.parameters() if p.data_ptr() not in memory]
        shared = sum(p.numel() for p in run.model.parameters()) - sum(p.numel() for p in own)
        assert shared > 0.8 * sum(p.numel() for p in base.model.backbone.body.parameters())
        assert lora.is_adapted(run.model) and sum(p.numel() for p in own) < shared / 2
        alone = jichu.open(str(run.path))
        assert torch.allclose(torch.tensor(run.embed(texts)), torch.tensor(alone.embed(texts)), atol=1e-5)
        for row, other in zip(run.predict(texts), alone.predict(texts), strict=True):
            assert row["label"] == other["label"] and row["scores"] == pytest.approx(
                other["scores"], abs=1e-5
            )
        twin = run.twin()
        pairs = zip(run.model.parameters(), twin.model.parameters(), strict=True)
        assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)
        assert twin.model is not run.model and twin.model.stands_on is run.model.stands_on
        before = run.predict(texts)
        assert twin.predict(texts) == before
        for parameter in twin.model.parameters():  # laid out anew while the other is asked
            parameter.data = torch.zeros_like(parameter)
        file = next(run.folder.model.rglob("adapter_model.safetensors"))
        file.write_bytes(bytes(file.stat().st_size))  # another model is put into its place
        assert run.predict(texts) == before
    del base, others, run, own, twin
    gc.collect()
    assert not bases._kept


def test_from_elsewhere_and_after_a_move(place, monkeypatch):
    before = jichu.open("runs/verdict").predict(ASKED)
    monkeypatch.chdir(place / "runs")
    assert jichu.open("verdict").predict(ASKED) == before
    monkeypatch.chdir(place.parent)
    (place).rename(place.parent / "moved")
    assert jichu.open("moved/runs/verdict").predict(ASKED) == before


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
def test_peft_takes_the_adapters(place):
    from transformers import AutoModelForSequenceClassification

    there = jichu.open("runs/verdict")
    base = AutoModelForSequenceClassification.from_pretrained("runs/base/model", num_labels=2)
    theirs = peft.PeftModel.from_pretrained(base, "runs/verdict/model/adapter").eval()
    ids = torch.tensor([[2, *there.tokenizer.encode([ASKED[0]])[0], 3]])
    with torch.no_grad():
        scores = theirs(ids).logits.softmax(1)[0].tolist()
    assert list(there.predict(ASKED[0])[0]["scores"].values()) == pytest.approx(scores, abs=1e-5)


def test_list(place, capsys):
    found = runs_adapters.found()
    assert [(a.run, a.kind, a.rank, a.state, a.base) for a in found] == [
        ("runs/tongue", "DoRA", 8, "there", "runs/base/model"), ("runs/verdict", "LoRA", 8, "there", "runs/base/model")
    ]  # fmt: skip
    assert found[1].score == {"accuracy": jichu.open("runs/verdict").headline["accuracy"]["value"]}
    assert found[1].pattern == ", ".join(
        f"bert.encoder.layer.*.attention.self.{n}" for n in ("query", "value")
    )
    run("adapters", "list", "runs/verdict", "--json")
    (told,) = json.loads(capsys.readouterr().out)
    assert told["run"] == "runs/verdict" and told["bytes"] == found[1].bytes
    run("adapters", "list")
    assert "self.query, self.value" in capsys.readouterr().out
    run("adapters", "list", "elsewhere", code=2)
    run("adapters", "lst", code=2)
    assert "did you mean: list" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["verdict", "tongue"])
def test_merged_in_place_and_beside(place, target, capsys):
    from transformers import AutoModelForSequenceClassification

    before = jichu.open(f"runs/{target}").predict(ASKED)
    run("adapters", "merge", f"runs/{target}", "--out", "whole")
    run("adapters", "merge", f"runs/{target}", "--out", "whole", code=2)
    assert adapters.is_based(Path(f"runs/{target}/model"))
    run("adapters", "merge", f"runs/{target}")
    run("adapters", "merge", f"runs/{target}", code=2)
    assert "has its weights itself" in capsys.readouterr().err
    shutil.rmtree("runs/base")
    for path in ("whole", f"runs/{target}"):
        assert jichu.open(path).predict(ASKED) == before
        assert AutoModelForSequenceClassification.from_pretrained(f"{path}/model").num_labels == 2
    run("embed", "whole", "--output", "e.parquet")
    run("audit", "whole")
    run(
        "finetune",
        "s.csv",
        "--target",
        target,
        "--from",
        "whole",
        "--adapt",
        "lora",
        "--budget",
        "2 steps",
        *TRAIN,
    )
    assert next(a.base for a in runs_adapters.found() if a.run == "runs/finetune") == "whole/model"


def test_several_stages_of_one_run(place, capsys):
    """Two tasks' worth of adapters in one recipe; one of them made a run of its own, one taken away."""
    train = {"budget": "20 steps", "precision": "float32", "from": "runs/base"}
    stages = [{"stage": "finetune", "name": "a", "adapt": "lora", **train},
              {"stage": "finetune", "name": "b", "adapt": "dora", **train}, {"stage": "audit"}]  # fmt: skip
    Path("r.yaml").write_text(
        json.dumps({"name": "two", "data": {"path": "s.csv", "target": "verdict"}, "stages": stages})
    )
    run("run", "r.yaml")
    capsys.readouterr()
    run("adapters", "list", "runs/two")
    assert "runs/two a" in (told := capsys.readouterr().out) and "runs/two b" in told
    run("adapters", "merge", "runs/two", "--stage", "b", "--out", "b")
    assert jichu.open("b").recipe.result == "b" and size("b/model") >= size("runs/base/model") * 0.9
    run("adapters", "merge", "runs/two", "--stage", "c", code=2)
    assert "one of a, b" in capsys.readouterr().err
    before = jichu.open("runs/two").predict(ASKED)
    runs_adapters.remove("runs/two", "b")
    assert [a.stage for a in runs_adapters.found(["runs/two"])] == ["a"]
    assert jichu.open("runs/two").predict(ASKED) == before


def test_adapters_on_adapters(place):
    """A base may itself be adapters on a base."""
    run("finetune", "s.csv", "--target", "tongue", "--from", "runs/verdict", "--adapt", "lora", "--budget", "20 steps",
        "--name", "third", *TRAIN)  # fmt: skip
    third = jichu.open("runs/third")
    assert adapters.is_based(third.folder.model) and size(third.folder.model) < size("runs/base/model") / 3
    before = third.predict(ASKED)
    with pytest.raises(UsageError, match=r"runs/third stand on the adapters of runs/verdict"):
        runs_adapters.remove("runs/verdict")
    runs_adapters.merge("runs/third")
    runs_adapters.remove("runs/verdict")
    assert jichu.open("runs/third").predict(ASKED) == before


def test_remove_and_train_again(place, capsys):
    before = jichu.open("runs/verdict").predict(ASKED)
    run("adapters", "remove", "runs/verdict")
    assert [a.run for a in runs_adapters.found()] == ["runs/tongue"]
    with pytest.raises(UsageError, match="no model in"):
        jichu.open("runs/verdict").predict(ASKED)
    run("adapters", "remove", "runs/verdict", code=2)
    assert "no adapters in runs/verdict" in capsys.readouterr().err
    run("finetune", "s.csv", "--name", "verdict", "--target", "verdict", "--from", "runs/base", "--adapt", "lora",
        "--budget", "60 steps", *TRAIN, "--resume")  # fmt: skip
    assert jichu.open("runs/verdict").predict(ASKED) == before
    runs_adapters.merge("runs/tongue")
    assert runs_adapters.remove("runs/tongue") > 0  # what is merged is whole without them
    assert jichu.open("runs/tongue").predict(ASKED)


def test_another_base_is_refused(place, capsys):
    file = Path("runs/base/model/model.safetensors")
    tensors = load_file(file)
    name = "bert.embeddings.word_embeddings.weight"
    changed = {**tensors, name: tensors[name] + 1e-7 * torch.ones(())}
    changed[name][3, 3] += 1e-3
    file.unlink()
    save_file(changed, file, {"format": "pt"})
    for words in (
        ["predict", "runs/verdict", "text"],
        ["finetune", "s.csv", "--target", "verdict", "--from", "runs/verdict"],
    ):
        run(*words, code=2)
        told = capsys.readouterr().err
        assert "runs/verdict" in told and "runs/base/model" in told and "other weights" in told
        assert adapters.fingerprint(changed) in told and adapters.fingerprint(tensors) in told
    assert {a.state for a in runs_adapters.found()} == {"changed"}
    file.unlink()
    save_file(dict(sorted(tensors.items(), reverse=True)), file, {"other": "header"})
    assert {a.state for a in runs_adapters.found()} == {"there"}  # it is the content that counts


def test_a_base_that_is_gone(place, capsys):
    shutil.rmtree("runs/base")
    run("predict", "runs/verdict", "text", code=2)
    told = capsys.readouterr().err
    assert "runs/verdict/model holds adapters on runs/base/model" in told
    run("adapters", "list")
    assert capsys.readouterr().out.count("gone") == 2


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"\0" * 50), "cannot read the weights"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "adapter_config.json"),
        (lambda f: _set(f, "lora_alpha", "much"), "lora_alpha is 'much'"),
        (lambda f: _set(f, "r", None), "r is None"),
        (lambda f: _cut(f), "fit no weight"),
    ],
)
def test_damaged_adapters(place, damage, words, capsys):
    damage(Path("runs/verdict/model/adapter"))
    run("predict", "runs/verdict", "text", code=3)
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told
    states = {a.run: a.state for a in runs_adapters.found()}
    assert states["runs/tongue"] == "there" and set(states) == {"runs/tongue", "runs/verdict"}


def _set(at, key, value):
    file = at / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))


def _cut(at):
    file = at / "adapter_model.safetensors"
    with adapters.safe_open(file, "pt") as opened:
        about = opened.metadata()
    tensors = load_file(file)
    tensors = {n: t[:, :-1].contiguous() if ".lora_A." in n else t for n, t in tensors.items()}
    file.unlink()
    save_file(tensors, file, about)


# ------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 1)])
def test_what_is_added_is_what_peft_merges(layer, dora):
    model = nn.Sequential(layer)
    weight = layer.weight.detach().clone()
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"], use_dora=dora)
    peft.inject_adapter_in_model(config, model)
    adapted = model[0]
    for part in (adapted.lora_A, adapted.lora_B, *([adapted.lora_magnitude_vector] if dora else [])):
        nn.init.normal_(part["default"].weight)
    a, b = adapted.lora_A["default"].weight.detach(), adapted.lora_B["default"].weight.detach()
    magnitude = adapted.lora_magnitude_vector["default"].weight.detach() if dora else None
    adapted.merge()
    found = adapters.learned(weight, a, b, 1.5, magnitude)
    torch.testing.assert_close(found, adapted.get_base_layer().weight.detach())


@pytest.mark.parametrize("adapt", ["lora", "dora"])
def test_convolutions_have_adapters_too(adapt, batch, tmp_path):
    torch.manual_seed(0)
    config = ModelConfig({"name": "cnn", "widths": [8, 8]}, image=IMAGE, heads={"label": {"name": "linear"}},
                         targets={"label": TARGET})  # fmt: skip
    model = config.build()
    folder.save(tmp_path / "base", model, config)
    train = TrainConfig(budget="20 steps", batch_size=48, precision="float32", optimizer={"lr": 0.01})
    jichu.fit(model, Classification(), Batches(batch, batch_size=48), train, adapt=adapt)
    found = model.eval()(batch)["label"].detach()
    lora.save(model, tmp_path / "on" / "adapter", "base", adapters.tensors(tmp_path / "base"))
    lora.merge(model)
    torch.testing.assert_close(model(batch)["label"], found)
    folder.save(tmp_path / "on", model, config, weights=False)
    loaded, _ = folder.load(tmp_path / "on")
    torch.testing.assert_close(loaded(batch)["label"], found)
    assert {n for n, t in load_file(tmp_path / "on/adapter/adapter_model.safetensors").items() if "backbone" not in n} == {
        "base_model.model.heads.label.linear.weight", "base_model.model.heads.label.linear.bias"
    }  # fmt: skip


IMAGE = Preprocess(size=8, channels=1, resize="stretch")
TARGET = Target("label", "classification", tuple("0123456789"))


def test_a_layer_that_shares_its_weight_has_none():
    model = nn.ModuleDict(
        {"one": nn.Linear(4, 4), "two": nn.Linear(4, 4), "three": nn.Conv2d(4, 4, 3, groups=2)}
    )
    model["free"] = nn.Linear(4, 4)
    model["two"].weight = model["one"].weight
    assert adapters.layers(model) == {"free.weight": "free"}


# ------------------------------------------------------------------- rules and checkpoints


def small():
    torch.manual_seed(0)
    return Model(Cnn(1, 8, widths=[4, 4]), {"label": Linear(4, 10)})


@pytest.mark.parametrize(
    ("adapt", "words"),
    [
        ([["backbone.blcks.*", 0.1], [".*", 1.0]], "did you mean: backbone.blocks"),
        ([["backbone.*", 0.1], ["backbone.blocks.0.*", "frozen"], [".*", 1.0]], "the narrower pattern first"),
        ([["backbone.*", 0.1]], "no pattern matches the parameter heads.label"),
        ([[r"backbone\.blocks\.0\.1\.weight", {"lora": 2}], [".*", 1.0]], r"did you mean: backbone.blocks.\d.0.weight"),
    ],
)  # fmt: skip
def test_patterns_that_cannot_be(adapt, words, batch):
    with pytest.raises(UsageError, match=words):
        jichu.fit(small(), Classification(), [batch], TrainConfig(budget="1 steps"), adapt=adapt)


def test_lora_where_nothing_can_have_it():
    model = Model(Cnn(1, 8, widths=[4, 4]), {"label": Linear(4, 10)})
    model.backbone = LstmText(50, 16, Special(pad=0, unknown=1, mask=2, begin=3, end=4), width=8, hidden=8)
    with pytest.raises(UsageError, match=r"no dense layer.*\n.*\n.*full, head, discriminative, gradual"):
        rules.resolve("lora", model)


def test_what_is_frozen_is_not_in_checkpoints(batch, tmp_path):
    """And training goes on to the same weights; beside other frozen weights it does not."""
    images = {k: v for k, v in batch.items() if k != "row"}
    settings = {
        "precision": "float32",
        "batch_size": 16,
        "patience": 9,
        "average": "ema",
        "evaluate_every": 2,
    }

    def train(model, steps, **more):
        config = TrainConfig(budget="8 steps", checkpoint_every="4 steps", **settings)
        watch = {"evaluate": Stops(steps), "monitor": "loss"}
        jichu.fit(
            model, Classification(), Batches(images, batch_size=16), config, adapt="last-1", **watch, **more
        )

    whole = small()
    train(whole, None)
    run_folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(small(), 6, folder=run_folder)
    kept = checkpoint.read_tensors(run_folder.checkpoints / "last.safetensors", torch.device("cpu"))
    assert any("blocks.1.0.weight" in n for n in kept) and not any("blocks.0.0.weight" in n for n in kept)
    assert {n.partition(".")[0] for n in kept} == {"learner", "best", "average", "optimizer"}
    other = small()
    with torch.no_grad():
        other.backbone.blocks[0][0].weight += 1e-3
    with pytest.raises(DataError, match="the frozen weights are not those"):
        train(other, None, folder=run_folder, resume=True)
    again = small()
    train(again, None, folder=run_folder, resume=True)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True)
    )


class Stops:
    """An evaluation that gets worse, and at a step is interrupted."""

    def __init__(self, at):
        self.at, self.calls = at, 0

    def __call__(self, model):
        self.calls += 1
        if self.at is not None and 2 * self.calls >= self.at:
            raise KeyboardInterrupt
        return {"loss": float(self.calls) if self.at is None else 0.1 * self.calls}

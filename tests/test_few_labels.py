"""Rows without label, teachers and their students: against closed forms, and from end to end."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import jichu
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.data.augment import Augment
from jichu.data.batches import Batches, MixedBatches, dealt, largest, peek, typical
from jichu.data.config import SIGNS, AugmentConfig, TableAugmentConfig
from jichu.data.target import Target
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.base import Context
from jichu.objectives.distillation import Distillation, class_order
from jichu.objectives.fixmatch import FixMatch
from jichu.objectives.mean_teacher import MeanTeacher
from jichu.objectives.mixup import Mixup
from jichu.objectives.pseudo_labels import PseudoLabels
from jichu.objectives.supervised import Classification, Regression
from jichu.objectives.unlabelled import ramp_up
from jichu.objectives.wrapper import Augmented
from jichu.train.learner import Learner


def small(norm="none", width=8, seed=0):
    torch.manual_seed(seed)
    return Model(Cnn(1, 8, widths=[width, width], norm=norm), {"label": Linear(width, 10)})


def weak():
    return Augmented(Classification(), Augment(SIGNS))


@pytest.fixture
def half(batch):
    """The digits, of which every second is without label."""
    return {**batch, "label": torch.where(batch["row"] % 2 == 0, batch["label"], -1)}


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: PseudoLabels(Classification(), threshold=0.0, ramp=0.0),
        lambda: PseudoLabels(weak()),
        lambda: FixMatch(weak(), threshold=0.12),
        lambda: FixMatch(Classification()),
        lambda: MeanTeacher(weak(), weight=1.0),
        lambda: MeanTeacher(PseudoLabels(Classification(), threshold=0.12), weight=1.0),
        lambda: Distillation(weak(), small(seed=1)),
        lambda: Distillation(FixMatch(weak()), small(width=12, seed=1), features="cosine"),
        lambda: Distillation(Mixup(Classification()), small(seed=1), features="squared", alpha=0.5),
    ],
)
def test_each_keeps_its_contract(make, norm, half):
    jichu.check_objective(make(), small(norm), half)


def logits(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- semi-supervised


def test_pseudo_labels_are_the_confident_answers(half):
    """Against a loop over the rows; the confident answers get no gradient as targets."""
    objective, found = PseudoLabels(Classification(), threshold=0.7, weight=3.0, ramp=0.5), logits(48, 10)
    prepared = objective.prepare(half, Context(0, 20, 100))
    losses, weights = objective.losses({"label": found}, prepared), objective.weights(prepared)
    kept = 0
    for i, row in enumerate(found.tolist()):
        p = np.exp(row) / np.exp(row).sum()
        kept += i % 2 and p.max() >= 0.7
        wanted = -math.log(p.max()) * math.exp(-5 * 0.6**2) * (p.max() >= 0.7)
        assert float(losses["pseudo-labels"][i]) == pytest.approx(wanted, rel=1e-4)
    assert (
        weights["pseudo-labels"].tolist() == [0.0, 1.0] * 24 and weights["loss"].tolist() == [1.0, 0.0] * 24
    )
    assert torch.equal(losses["loss"], Classification().losses({"label": found}, half))
    assert objective.scales() == {"pseudo-labels": 3.0}
    told = objective.diagnose({"label": found}, prepared)
    assert 0 < kept < 24 and float(told["mask_rate"]) == pytest.approx(kept / 24)


def test_the_weight_rises():
    assert ramp_up(0, 0.5) == pytest.approx(math.exp(-5)) and ramp_up(0.5, 0.5) == ramp_up(0.9, 0.5) == 1
    assert ramp_up(0.25, 0.5) == pytest.approx(math.exp(-1.25)) and ramp_up(0, 0) == 1


class Mean(nn.Module):
    """Its logits are the mean of the image and its negative."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(8.0))

    def forward(self, batch):
        mean = batch["image"].float().mean((1, 2, 3)) * self.slope
        return {"label": torch.stack([mean, -mean], 1)}


def test_fixmatch_takes_the_label_of_the_weak_view_for_the_strong_one(half):
    darker = AugmentConfig(erase=1.0)
    objective = FixMatch(Augmented(Classification(), Augment(SIGNS)), threshold=0.6, strong=darker)
    context = Context(0, 3)
    prepared = objective.prepare(half, context)
    known, unknown = half["label"] >= 0, half["label"] < 0
    plain = weak().prepare(half, context)["image"]
    assert torch.equal(prepared["image"][known], plain[known])
    erased = Augment(darker)(plain, context.for_rows(half["row"], "fixmatch."))
    assert torch.equal(prepared["image"][unknown], erased[unknown]) and not torch.equal(erased, plain)
    seen = prepared["fixmatch.view.image"]
    assert torch.equal(seen, weak().prepare(half, context.again("fixmatch"))["image"])
    assert not torch.equal(seen, plain) and set(prepared) - set(half) == {
        "fixmatch.view.image",
        "fixmatch.ramp",
    }
    outputs = objective(Mean(), prepared)
    logit = 8 * seen.mean((1, 2, 3))
    assert (
        torch.allclose(outputs["fixmatch"][:, 0], logit, atol=1e-5) and not outputs["fixmatch"].requires_grad
    )
    strong = 8 * prepared["image"].mean((1, 2, 3))
    wanted = (torch.sigmoid(2 * logit) >= 0.6) * -F.logsigmoid(2 * strong)
    assert torch.allclose(objective.unsupervised_loss(outputs, prepared), wanted, atol=1e-5)
    assert (prepared["fixmatch.ramp"] == 1).all()
    rate = objective.diagnose(outputs, prepared)["mask_rate"]
    assert float(rate) == pytest.approx((torch.sigmoid(2 * logit) >= 0.6)[unknown].float().mean().item())


def test_without_augmentation_bytes_and_fractions_go_together(half):
    prepared = FixMatch(Classification(), strong=AugmentConfig(erase=1.0)).prepare(half, Context(0))
    known = half["label"] >= 0
    assert torch.allclose(prepared["image"][known], half["image"][known] / 255)
    assert prepared["image"].max() <= 1 and torch.equal(prepared["fixmatch.view.image"], half["image"])


def test_of_tables_cells_are_swapped_and_masked():
    generator = torch.Generator().manual_seed(0)
    batch = {
        "numbers": torch.randn(40, 3, generator=generator), "categories": torch.randint(1, 5, (40, 2), generator=generator),
        "label": torch.tensor([0, 1, -1, -1] * 10), "row": torch.arange(40),
    }  # fmt: skip
    prepared = FixMatch(Classification()).prepare(batch, Context(0))
    known = batch["label"] >= 0
    for name in ("numbers", "categories"):
        assert torch.equal(prepared[name][known], batch[name][known])
        changed = prepared[name][~known] != batch[name][~known]  # NaN is not itself
        assert 0.1 < changed.float().mean() < 0.6 and prepared[name].dtype == batch[name].dtype
        assert torch.equal(prepared[f"fixmatch.view.{name}"], batch[name])
    model = Model(Mlp(numbers=3, categories=[5, 5], widths=[8]), {"label": Linear(8, 2)})
    strong = AugmentConfig(table=TableAugmentConfig(mask=0.3))  # swapping alone looks at the other rows
    jichu.check_objective(FixMatch(Classification(), threshold=0.4, strong=strong), model, batch)


def test_a_teacher_is_the_mean_of_the_students(half):
    objective, model = MeanTeacher(weak(), momentum=0.8), small("batch")
    objective.bind(model, half)
    teacher = objective.teacher["model"]
    wanted = {n: t.clone() for n, t in teacher.named_parameters()}
    for step in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 1
        objective.after_step(model, Context(0, step, 20))
        keep = min(0.8, 1 - 1 / (step + 2))
        for name, parameter in model.named_parameters():
            wanted[name] = keep * wanted[name] + (1 - keep) * parameter.detach()
    for name, tensor in teacher.named_parameters():
        assert torch.allclose(tensor, wanted[name], atol=1e-4) and not tensor.requires_grad
    learner = Learner(model, objective).train()
    model.backbone.eval()  # frozen
    prepared = objective.prepare(half, Context(0, 1, 4))
    before = {n: b.clone() for n, b in teacher.named_buffers()}
    outputs = learner.objective(model, prepared)
    assert all(torch.equal(b, before[n]) for n, b in teacher.named_buffers())
    p, q = (
        outputs["label"].softmax(1),
        teacher({**prepared, "image": prepared["mean-teacher.view.image"]})["label"],
    )
    terms = objective.losses(outputs, prepared)
    assert torch.allclose(
        terms["mean-teacher"], math.exp(-1.25) * ((p - q.softmax(1)) ** 2).sum(1), atol=1e-6
    )
    assert objective.weights(prepared)["mean-teacher"].tolist() == [1.0] * 48


def test_rows_that_are_alike_make_no_loss_of_consistency(half):
    objective, model = MeanTeacher(Classification(), ramp=0.0), small()
    objective.bind(model, half)
    prepared = objective.prepare(half, Context(0))
    outputs = objective(model, prepared)
    assert objective.losses(outputs, prepared)["mean-teacher"].abs().max() < 1e-12
    assert float(objective.diagnose(outputs, prepared)["agreement"]) == 1


# --- distillation


def test_the_loss_of_distillation_is_hintons(half):
    teacher, objective = (
        logits(48, 10, seed=1),
        Distillation(Classification(), small(), temperature=3.0, alpha=0.7),
    )
    mine = logits(48, 10).requires_grad_()
    outputs = {"label": mine, "distillation.logits": teacher}
    losses = objective.losses(outputs, half)
    p, q = (teacher / 3).softmax(1), (mine / 3).softmax(1)
    wanted = 9 * (p * (p / q).log()).sum(1)
    assert torch.allclose(losses["distillation"], wanted, rtol=1e-4)
    assert torch.equal(losses["loss"], Classification().losses(outputs, half))
    scales = objective.scales()
    assert (scales["loss"], scales["distillation"]) == (pytest.approx(0.3), 0.7)
    assert objective.weights(half)["distillation"].tolist() == [1.0] * 48
    # at high temperatures the gradient is that of half the squared distance of centred logits, over K (their eq. 4)
    warm = Distillation(Classification(), small(), temperature=1e3)
    (slope,) = torch.autograd.grad(warm.losses(outputs, half)["distillation"].sum(), mine)
    centred = (mine - mine.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert torch.allclose(slope, centred / 10, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("distance", ["cosine", "squared"])
def test_features_are_compared_after_a_learnt_projection(distance, half):
    teacher, model = small(width=12, seed=1), small()
    objective = Distillation(Classification(), teacher, features=distance, feature_weight=2.0)
    objective.bind(model, half)
    assert objective.projection.weight.shape == (12, 8)
    outputs = objective(model, half)
    projected = objective.projection(model(half)["features"].pooled)
    theirs = teacher(half)["features"].pooled
    cosine = (F.normalize(projected) * F.normalize(theirs)).sum(1)
    wanted = 1 - cosine if distance == "cosine" else (projected - theirs).square().mean(1)
    assert torch.allclose(objective.losses(outputs, half)["features"], wanted, atol=1e-5)
    assert objective.scales()["features"] == 2.0


def test_the_teacher_stays_as_it_is_and_is_no_part_of_what_is_trained(half):
    teacher, model = small("batch", seed=1), small("batch")
    objective = Distillation(Classification(), teacher)
    before = copy.deepcopy(teacher.state_dict())
    config = jichu.TrainConfig(budget="5 steps", precision="float32", optimizer={"lr": 0.1})
    jichu.fit(model, objective, [half], config)
    assert all(torch.equal(before[n], t) for n, t in teacher.state_dict().items())
    assert not any(m.training for m in teacher.modules()) and not any(
        p.requires_grad for p in teacher.parameters()
    )
    assert list(objective.parameters()) == [] == list(objective.buffers())
    assert float(objective.diagnose(objective(teacher, half), half)["agreement"]) == 1


def target(*classes):
    return Target("kind", "classification", classes)


def test_classes_in_another_order_are_put_into_ours():
    assert class_order(target("a", "b", "c"), target("a", "b", "c")) is None
    assert class_order(target("c", "a", "b"), target("a", "b", "c")) == [1, 2, 0]
    assert class_order(target("a"), None) is None
    for theirs, said in (
        (target("a", "b"), "teacher does not know c"),
        (target("a", "b", "c", "d"), "student does not know d"),
        (None, "learnt no classes"),
        (Target("price", "regression"), "learnt regression"),
    ):
        with pytest.raises(UsageError, match=said):
            class_order(theirs, target("a", "b", "c"))


def test_one_target_of_classes_is_asked_for():
    for inner in (Regression(), Augmented(Regression(), Augment(SIGNS))):
        with pytest.raises(UsageError, match="fixmatch goes around regression"):
            FixMatch(inner)


# --- batches


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 30))
def test_mixed_batches_are_two_kinds_dealt_evenly_and_resume_anywhere(n, m, size, ratio, taken):
    tensors = {"x": torch.arange(n + m)}
    rows, others = torch.arange(n), n + torch.arange(m)
    mixed, plain = (MixedBatches(tensors, rows, others, ratio, batch_size=size, seed=5) for _ in range(2))
    alone = Batches(tensors, rows, batch_size=size, seed=5)
    assert len(mixed) == len(alone)
    for _ in range(taken):
        found = next(mixed)["row"]
        first, second = found[found < n], found[found >= n]
        assert torch.equal(first, next(alone)["row"]) and len(second.unique()) == min(m, ratio * min(size, n))
        start = found[: math.ceil(len(found) / 2)]
        assert abs(int((start < n).sum()) - len(first) / 2) <= 1
    plain.load_state_dict(json.loads(json.dumps(mixed.state_dict())))
    for _ in range(3):
        assert torch.equal(peek(mixed)["row"], next(plain)["row"])
        next(mixed)


def test_ranks_share_mixed_batches(monkeypatch):
    def make():
        rows, others = torch.arange(9), 9 + torch.arange(21)
        return next(MixedBatches({"x": torch.arange(30)}, rows, others, 2, batch_size=5))

    whole, shares = make()["row"], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shares.append(make()["row"])
    assert sorted(torch.cat(shares).tolist()) == sorted(whole.tolist())
    assert dealt(torch.tensor([1, 2]), torch.tensor([5, 6, 7, 8])).tolist() == [5, 1, 6, 7, 2, 8]


def test_mixed_batches_to_judge_others_by():
    lengths = torch.tensor([3] * 50 + [90] * 10 + [20] * 40)
    batches = MixedBatches({"x": torch.arange(100)}, torch.arange(0, 100, 2), torch.arange(1, 100, 2), 1, batch_size=4,
                           lengths=lengths)  # fmt: skip
    assert set(lengths[typical(batches)["row"]].tolist()) == {20}
    assert set(lengths[largest(batches)["row"]].tolist()) == {90} and len(largest(batches)["row"]) == 8


# --- from end to end


def moons(rows=400, seed=0):
    """Two half-moons of scikit-learn's as a table; 4 of each have a label, and 200 are for testing."""
    from sklearn.datasets import make_moons

    x, y = make_moons(rows, noise=0.1, random_state=seed)
    y = np.array(["up", "down"])[y]
    split = np.where(np.arange(rows) % 2, "test", "train")
    return {"a": x[:, 0], "b": x[:, 1], "kind": y, "split": split}


@pytest.fixture
def table(in_folder):
    found = moons()
    lines = ["a,b,kind,split", *(",".join(map(str, row)) for row in zip(*found.values(), strict=True))]
    Path("moons.csv").write_text("\n".join(lines))
    return {"path": "moons.csv", "target": "kind", "labels_per_class": 4}


def recipe(data, *stages, name="few"):
    Path(f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "data": data, "stages": list(stages)}))
    return ["run", f"{name}.yaml", "--quiet"]


def stage(*wrap, name="finetune", **changes):
    usual = {"backbone": {"name": "mlp", "widths": [32, 32]}, "budget": "6 steps", "precision": "float32"}
    return {"stage": "finetune", "name": name, "wrap": list(wrap), **usual, **changes}


AUDIT = {"stage": "audit"}


def test_rows_without_label_tell_the_gap_between_the_classes(table):
    """Two half-moons, 4 labels of each: what follows the gap between them is right."""
    trained = {"budget": "500 steps", "optimizer": {"lr": 0.01}}
    fixmatch = {"name": "fixmatch", "strong": {"table": {"noise": 0.3}}, "threshold": 0.8}
    both = stage(name="alone", **trained), stage(fixmatch, name="fixmatch", **trained)
    assert main(recipe(table, *both, AUDIT)) == 0
    found = json.loads(Path("runs/few/summary.json").read_text())["headline"]
    assert found["fixmatch"]["value"] > 0.02 + found["alone"]["value"]
    logged = [json.loads(line) for line in Path("runs/few/metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["mask_rate"] > 0.9


def test_what_is_hidden_is_not_looked_at(table, monkeypatch):
    """No label but the 8 drawn reaches the training, whatever the others are."""
    seen = {}
    original = MixedBatches.__next__

    def looking(self):
        batch = original(self)
        seen.update({int(r): int(c) for r, c in zip(batch["row"], batch["label"], strict=True) if c >= 0})
        return batch

    monkeypatch.setattr(MixedBatches, "__next__", looking)
    assert (
        main(recipe(table, stage("pseudo-labels", "mean-teacher", "fixmatch", budget="60 steps"), AUDIT)) == 0
    )
    assert len(seen) == 8 and sorted(seen.values()) == [0] * 4 + [1] * 4


@pytest.mark.parametrize("wrap", ["pseudo-labels", "fixmatch", "mean-teacher"])
def test_semi_supervision_resumes_to_the_same(wrap, table, monkeypatch, capsys):
    first = stage({"name": wrap, "ratio": 3}, budget="30 steps", batch_size=3, checkpoint_every="7 steps")
    assert main(recipe(table, first, AUDIT, name="whole")) == 0
    original, calls = MixedBatches.__next__, []

    def stopping(self):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(MixedBatches, "__next__", stopping)
    assert main(recipe(table, first, AUDIT, name="half")) == 130
    assert main([*recipe(table, first, AUDIT, name="half"), "--resume"]) == 0
    one, two = (load_file(f"runs/{name}/model/model.safetensors") for name in ("whole", "half"))
    assert one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)
    assert not any("teacher" in n for n in one)


def test_a_student_of_an_earlier_stage_and_of_a_run_beside_the_recipe(table, tmp_path, monkeypatch):
    taught = {"name": "distillation", "teacher": "big", "ratio": 2, "features": "cosine"}
    data = {**table, "path": str(Path("moons.csv").resolve())}
    little = {"backbone": {"name": "mlp", "widths": [4]}}
    stages = [stage(name="big", budget="60 steps"), stage(taught, name="little", **little), AUDIT]
    assert main(recipe(data, *stages)) == 0
    saved = load_file("runs/few/models/little/model.safetensors")
    kept = load_file("runs/few/checkpoints/last.safetensors")
    assert {n.split(".")[0] for n in saved} == {"backbone", "heads", "inputs"}
    objectives = {n.split(".")[2] for n in kept if n.startswith("learner.objective.")}
    assert objectives == {"projection"}
    again = {**taught, "teacher": "runs/few/models/big"}
    arguments = recipe(data, stage(again, name="little", **little), AUDIT, name="again")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["run", str(tmp_path / arguments[1]), "--quiet"]) == 0
    other = load_file("runs/again/model/model.safetensors")
    assert all(torch.equal(saved[n], other[n]) for n in saved)


def test_a_teacher_with_its_classes_in_another_order(table):
    """A teacher of the same columns whose classes were read the other way round teaches the same."""
    assert (
        main(recipe(table, stage(name="big", budget="200 steps", optimizer={"lr": 0.01}), AUDIT, name="big"))
        == 0
    )
    config, model = Path("runs/big/model/config.json"), Path("runs/big/model/model.safetensors")
    told, weights = json.loads(config.read_text()), load_file(model)
    told["targets"]["label"]["classes"].reverse()
    for name in ("heads.label.linear.weight", "heads.label.linear.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    config.write_text(json.dumps(told))
    save_file(weights, model, {"format": "pt"})
    student = stage(
        {"name": "distillation", "teacher": "runs/big", "ratio": 10},
        budget="200 steps",
        optimizer={"lr": 0.01},
    )
    assert main(recipe(table, student, AUDIT)) == 0
    big, little = (jichu.open(f"runs/{name}") for name in ("big", "few"))
    assert little.headline["accuracy"]["value"] == pytest.approx(big.headline["accuracy"]["value"], abs=0.05)
    assert big.headline["accuracy"]["value"] > 0.7


def test_texts_have_pseudo_labels(in_folder, capsys):
    words = {"good": "fine lovely great nice sweet", "bad": "poor awful bitter sad grim"}
    rng = np.random.default_rng(0)
    lines = [
        f"{label},the film was {' '.join(rng.choice(said.split(), 3))}"
        for label, said in words.items()
        for _ in range(60)
    ]
    Path("said.csv").write_text("\n".join(["label,text", *lines]))
    data = {"path": "said.csv", "text": "text", "labels_per_class": 3}
    bert = {"backbone": {"name": "bert", "width": 16, "depth": 1, "heads": 2}}
    for wrap in ("pseudo-labels", "mean-teacher"):
        assert main(recipe(data, stage({"name": wrap, "ratio": 3}, **bert), AUDIT, name=wrap)) == 0
    capsys.readouterr()
    assert main(recipe(data, stage("fixmatch", **bert))) == 2
    said = capsys.readouterr().err
    assert (
        "fixmatch is for images and sounds and tables, and these are texts" in said
        and "pseudo-labels, mean-teacher" in said
    )


@pytest.mark.parametrize(
    ("data", "stages", "said"),
    [
        ({"labels_per_class": None}, [stage("fixmatch")], ["every training row has a label", "labels_per_class"]),
        ({"target": "a", "labels_per_class": None}, [stage("fixmatch")], ["goes around regression", "the objective of one target of classes"]),
        ({"target": ["kind", "a"]}, [stage("pseudo-labels")], ["around several targets"]),
        ({}, [stage("fixmatch", "mixup")], ["mixes or compares"]),
        ({}, [stage({"name": "fixmatch", "strong": {"flip": True}})], ["changes nothing of these rows", "swap"]),
        ({}, [stage({"name": "fixmatch", "treshold": 0.9})], ["did you mean: threshold"]),
        ({}, [stage("fixmach")], ["did you mean: fixmatch"]),
        ({}, [stage({"name": "pseudo-labels", "ratio": 0})], ["greater than or equal to 1"]),
        ({}, [stage("classification")], ["goes around no other", "mixup, cutmix, pseudo-labels, fixmatch"]),
        ({}, [stage("distillation")], ["teacher"]),
        ({}, [stage({"name": "distillation", "teacher": "runs/none"})], ["no model in runs/none"]),
        ({}, [stage(name="big"), stage({"name": "distillation", "teacher": "bigg"}, name="b")], ["did you mean: big"]),
        (
            {"labels_per_class": None},
            [stage(name="big"), stage({"name": "distillation", "teacher": "big", "ratio": 1}, name="b")],
            ["every training row has a label"],
        ),
        ({}, [stage({"name": "distillation", "teacher": "b"}, name="a"), stage(name="b")], ["no model in b"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_anything_runs(data, stages, said, table, capsys):
    given = {name: value for name, value in {**table, **data}.items() if value is not None}
    assert main(recipe(given, *stages)) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error
    assert not Path("runs").exists()


def test_a_teacher_of_other_data_is_refused(table, digits, in_folder, capsys):
    for size in (8, 12):
        data = {"path": "sklearn:digits", "size": size, "labels_per_class": 2}
        assert main(recipe(data, stage(backbone="cnn", budget="2 steps"), AUDIT, name=f"images{size}")) == 0
    capsys.readouterr()
    student = stage({"name": "distillation", "teacher": "runs/images12"})
    assert main(recipe(table, student)) == 2
    assert "these are no images" in capsys.readouterr().err
    data = {"path": "sklearn:digits", "labels_per_class": 2}
    student = stage({"name": "distillation", "teacher": "runs/images12"}, backbone="cnn")
    assert main(recipe(data, student)) == 2
    assert "takes images of 12 pixels, these have 8" in capsys.readouterr().err
    config = Path("runs/images8/model/config.json")
    told = json.loads(config.read_text())
    told["targets"]["label"]["classes"][3] = "three"
    config.write_text(json.dumps(told))
    student = stage({"name": "distillation", "teacher": "runs/images8"}, backbone="cnn")
    assert main(recipe(data, student)) == 2
    assert "the teacher does not know 3" in capsys.readouterr().err

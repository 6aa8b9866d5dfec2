"""Optimizers and schedules against torch's and closed forms; averages, memory formats, and their resume."""

import copy
import functools
import itertools
import math
import os
import time

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils

import jichu
from jichu.core.config import Spec, check
from jichu.core.errors import UsageError
from jichu.core.files import read_jsonl
from jichu.core.folder import RunFolder
from jichu.data.batches import Batches
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.layout import lay_out
from jichu.models.model import Model
from jichu.objectives.supervised import Classification
from jichu.objectives.wrapper import Wrapper
from jichu.train import plan, schedules
from jichu.train.config import OptimizerConfig, TrainConfig
from jichu.train.fitted import lower_is_better
from jichu.train.learner import Learner
from jichu.train.muon import Muon, matrices, orthogonalise
from jichu.train.optimizers import build
from jichu.train.settings import Settings, choose, seconds_per_step


def network(norm="batch", seed=0):
    torch.manual_seed(seed)
    return Model(Cnn(1, 8, widths=[8, 16], norm=norm), {"label": Linear(16, 10)})


@pytest.fixture(scope="module")
def tensors(digits):
    return {
        "image": torch.from_numpy(digits[0][:200])[:, None],
        "label": torch.from_numpy(digits[1][:200]).long(),
    }


def config(budget="20 steps", **settings):
    plain = {"precision": "float32", "batch_size": 16, "log_every": 1, "checkpoint_every": "1h"}
    return check(TrainConfig, {"budget": budget, **plain, **settings})


def train(model, tensors, settings, objective=None, **options):
    batches = Batches(tensors, batch_size=16, seed=3)
    return jichu.fit(model, objective or Classification(), batches, settings, **options)


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# --- schedules


def rates(name, n=20, seen=(), **arguments):
    """The factors in the middle of n steps, without a warm-up."""
    factor = schedules.schedule(Spec(name=name, **arguments), 0.0)
    return [factor((i + 0.5) / n, seen) for i in range(n)]


def torchs(make, n=20):
    """The factors of one of torch's schedules in n steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(n):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_closed_forms():
    x = [(i + 0.5) / 20 for i in range(20)]
    assert rates("constant") == [1.0] * 20
    assert rates("linear", final=0.2) == pytest.approx([1 - 0.8 * p for p in x])
    assert rates("cosine", final=0.2) == pytest.approx([0.6 + 0.4 * math.cos(math.pi * p) for p in x])
    stable = [max(0.0, (p - 0.75) / 0.25) for p in x]
    assert rates("wsd", decay=0.25) == pytest.approx([1 - q for q in stable])
    assert rates("wsd", decay=0.25, fall="sqrt", final=0.1) == pytest.approx(
        [1 - 0.9 * math.sqrt(q) for q in stable]
    )


def test_steps_are_torchs():
    wanted = torchs(lambda o: lr_scheduler.MultiStepLR(o, [10, 15], 0.3))
    assert rates("step", milestones=[0.5, 0.75], gamma=0.3) == pytest.approx(wanted)


def test_one_cycle_is_torchs():
    n, share = 41, 0.3
    wanted = torchs(lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=n, pct_start=share), n)
    rise = (share * n - 1) / (n - 1)  # where torch's peak is
    factor = schedules.schedule(Spec(name="one-cycle", rise=rise), 0.05)
    assert [factor(i / (n - 1)) for i in range(n)] == pytest.approx(wanted, abs=1e-9)


def test_plateau_is_torchs():
    values = [3.0, 2.0, 2.0, 2.5, 1.0, math.nan, 1.5, 1.2, 1.1, 1.0, 0.5, 0.6]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0)
    factor = schedules.schedule(Spec(name="plateau", gamma=0.5, patience=2), 0.0)
    for i, value in enumerate(values):
        scheduler.step(value)
        assert factor(0.3, values[: i + 1]) == optimizer.param_groups[0]["lr"]
    floor = schedules.schedule(Spec(name="plateau", gamma=0.5, patience=1, final=0.3), 0.0)
    assert floor(0.5, [1.0] * 9) == 0.3


def test_the_warm_up_comes_before():
    step = schedules.schedule(Spec(name="step", milestones=[0.5], gamma=0.1), 0.2)
    assert [step(p) for p in (0.1, 0.2, 0.59, 0.61)] == pytest.approx([0.5, 1, 1, 0.1])


def late(progress, power: float = 1.0):
    """A schedule of one's own."""
    return progress**power


def test_a_schedule_of_ones_own():
    settings = config(schedule={"name": f"{__name__}:late", "power": 2.0}, warmup=0.0)
    assert schedules.schedule(settings.schedule, 0.0)(0.5) == 0.25


@pytest.mark.parametrize(
    ("settings", "where", "said"),
    [
        ({"schedule": "cosin"}, "schedule", "did you mean: cosine"),
        ({"schedule": {"name": "cosine", "milestones": [0.5]}}, "schedule", "unknown key 'milestones'"),
        ({"schedule": {"milestons": [0.5]}}, "schedule", "unknown key 'milestons'"),
        ({"schedule": "step"}, "schedule", "'milestones' is missing"),
        ({"schedule": {"name": "step", "milestones": [1.5]}}, "schedule", "less than 1"),
        ({"schedule": {"name": "wsd", "fall": "root"}}, "schedule", "'linear' or 'sqrt'"),
        ({"schedule": "one-cycle", "warmup": 0.2}, "", "schedule.rise"),
        ({"average": "emma"}, "average", "did you mean: ema"),
        ({"average": {"name": "ema", "start": 0.5}}, "average", "unknown key 'start'"),
        ({"average": {"name": "swa", "start": 1.0}}, "average", "less than 1"),
        ({"optimizer": {"name": "sgd", "betas": [0.9, 0.99]}}, "optimizer", "betas does nothing with sgd"),
        ({"optimizer": {"momentum": 0.5}}, "optimizer", "momentum does nothing with adamw"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "optimizer.betas.1", "less than 1"),
        ({"optimizer": {"name": "moun"}}, "optimizer.name", "did you mean: muon"),
        ({"memory_format": "channel_last"}, "memory_format", "did you mean: channels_last"),
    ],
)
def test_what_training_cannot_be(settings, where, said):
    with pytest.raises(UsageError, match=said) as caught:
        config(**settings)
    assert where in str(caught.value.where or "")


def test_a_resolved_configuration_is_read_again():
    for settings in (
        {"schedule": "one-cycle"}, {"average": "swa"}, {"optimizer": {"name": "sgd"}},
        {"schedule": {"name": "step", "milestones": [0.5]}},
    ):  # fmt: skip
        written = config(**settings).model_dump(mode="json")
        assert check(TrainConfig, written).model_dump(mode="json") == written


# --- optimizers


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"name": "sgd", "lr": 0.1, "momentum": 0.8, "nesterov": False},
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.8),
        ),
        (
            {"name": "adamw", "lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-4},
            lambda p: torch.optim.AdamW(p, 0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0),
        ),
    ],
)
def test_settings_reach_the_optimizer(ours, theirs, tensors):
    model, other = network("none"), network("none")
    train(model, tensors, config(optimizer=ours, schedule="constant", warmup=0.0))
    optimizer, order = theirs(other.parameters()), Batches(tensors, batch_size=16, seed=3)
    for _ in range(20):
        batch = next(order)
        optimizer.zero_grad()
        nn.functional.cross_entropy(other(batch)["label"], batch["label"]).backward()
        optimizer.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_patterns_that_do_not_decay(tensors):
    still = {**tensors, "weight": torch.zeros(200)}  # rows without weight: only the decay is left
    settings = {"lr": 0.1, "weight_decay": 0.5, "no_decay": [r"backbone\.blocks\.0\..*"]}
    for name in ("adamw", "muon"):
        model = network("none")
        before = copy.deepcopy(model)
        train(
            model,
            still,
            config("1 steps", optimizer={"name": name, **settings}, schedule="constant", warmup=0.0),
        )
        for (where, a), b in zip(model.named_parameters(), before.parameters(), strict=True):
            decays = b.ndim > 1 and not where.startswith("backbone.blocks.0.")
            assert torch.allclose(a, b * 0.95 if decays else b, atol=1e-6), where
    for pattern, said in (("haeds.*", "matches no parameter"), ("(", "not a regular expression")):
        with pytest.raises(UsageError, match=said):
            train(network(), tensors, config(optimizer={"no_decay": [pattern]}))


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (3, 16, 24)])
def test_orthogonal_up_to_the_quintics_slack(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.mT @ orthogonalise(matrix) @ v.mT  # diagonal where the singular vectors are kept
    values = found.diagonal(dim1=-2, dim2=-1)
    assert (found - torch.diag_embed(values)).abs().max() < 1e-3
    assert values.min() > 0.3 and values.max() < 1.3 and values.mean() == pytest.approx(0.95, abs=0.1)


def test_muon_is_torchs():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch.optim.Muon is newer")
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(s, generator=generator) for s in ((16, 16), (16, 16), (8, 40))]
    ours, theirs = ([nn.Parameter(t.clone()) for t in start] for _ in range(2))
    one = Muon([{"params": ours, "matrices": True}], 0.02, momentum=0.95, weight_decay=0.1)
    other = torch.optim.Muon(theirs, 0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = b.grad = torch.randn(a.shape, generator=generator)
        one.step(), other.step()
    for a, b, c in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.02 * (a - c).norm()  # theirs is rounded to bfloat16


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest(tensors):
    model = network()
    names = {n for n, p in model.named_parameters() if p in matrices(Learner(model, Classification()))}
    assert names == {"backbone.blocks.0.0.weight", "backbone.blocks.1.0.weight"}
    other = nn.ModuleDict({"e": nn.Embedding(5, 4), "a": nn.MultiheadAttention(4, 2), "v": nn.Linear(4, 1)})
    assert {n for n, p in other.named_parameters() if p in matrices(other)} == {
        "a.in_proj_weight",
        "a.out_proj.weight",
    }
    learner = Learner(model, Classification())
    optimizer = build(learner, {}, OptimizerConfig(name="muon", lr=0.01, weight_decay=0.1))
    rest = copy.deepcopy(model)
    adamw = build(Learner(rest, Classification()), {}, OptimizerConfig(lr=0.01, weight_decay=0.1))
    before = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for p, q in zip(model.parameters(), rest.parameters(), strict=True):
            p.grad = q.grad = torch.randn(p.shape, generator=generator)
        optimizer.step(), adamw.step()
    moved = zip(model.named_parameters(), rest.parameters(), before.parameters(), strict=True)
    for (name, a), b, c in moved:
        if name in names:  # a move of the size of AdamW's
            assert not torch.equal(a, b) and 0.2 < (a - c).norm() / (b - c).norm() < 2
        else:
            assert torch.equal(a, b)


def test_muon_learns(tensors):
    settings = config("60 steps", optimizer={"name": "muon", "lr": 0.03, "weight_decay": 0.01})
    history = train(network(), tensors, settings).history
    assert sum(r["loss"] for r in history[-5:]) < 0.6 * sum(r["loss"] for r in history[:5])


# --- averages


class Watched(Wrapper):
    """Keeps the weights after each step."""

    def __init__(self):
        super().__init__(Classification())
        self.kept = []

    def after_step(self, model, context):
        self.kept.append([p.detach().clone() for p in model.parameters()])


def test_ema_is_the_recursion(tensors):
    model, watched = network("none"), Watched()
    mean = [p.detach().clone() for p in model.parameters()]
    train(model, tensors, config(average={"name": "ema", "decay": 0.6}, accumulate=3), watched)
    assert len(watched.kept) == 20  # once a step, not once a micro-batch
    for t, weights in enumerate(watched.kept):
        decay = min(0.6, (1 + t) / (10 + t))
        mean = [decay * a + (1 - decay) * b for a, b in zip(mean, weights, strict=True)]
    for a, b in zip(model.parameters(), mean, strict=True):
        assert torch.allclose(a, b, atol=1e-6) and a.requires_grad


def test_swa_is_the_mean_with_statistics_of_its_own(tensors):
    model, watched = network("batch"), Watched()
    train(model, tensors, config(average={"name": "swa", "start": 0.5}, schedule="constant"), watched)
    assert [schedules.averaging(Spec(name="swa"))(step=i, steps=8) for i in (0, 5, 6, 7)] == [1, 1, 1, 0.5]
    reference = network("batch")
    with torch.no_grad():
        for p, *kept in zip(reference.parameters(), *watched.kept[10:], strict=True):
            p.copy_(torch.stack(kept).mean(0))
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    order = Batches(tensors, batch_size=16, seed=3)
    swa_utils.update_bn([next(order) for _ in range(20)], reference)
    for (name, a), b in zip(model.named_buffers(), reference.buffers(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5), name


def test_the_mean_is_what_is_evaluated_and_kept(tensors):
    seen, values = [], iter([0.1, 0.5, 0.3, 0.2])

    def evaluate(model):
        assert not model.training
        seen.append(copy.deepcopy(model))
        return {"accuracy": next(values)}

    model, watched = network("none"), Watched()
    train(
        model,
        tensors,
        config("8 steps", average="ema", evaluate_every=2, patience=9),
        watched,
        evaluate=evaluate,
    )
    assert same(model, seen[1])
    assert not any(torch.equal(a, b) for a, b in zip(model.parameters(), watched.kept[3], strict=True))


def test_what_is_frozen_is_not_averaged(tensors):
    model = network("batch")
    before = copy.deepcopy(model)
    train(model, tensors, config(average={"name": "swa", "start": 0.0}), adapt="head")
    assert same(model.backbone, before.backbone) and not same(model.heads, before.heads)


def test_swa_needs_batches_that_come_again(tensors):
    batches = list(zip(tensors["image"].split(16), tensors["label"].split(16), strict=True))
    made = lambda: ({"image": x, "label": y} for x, y in batches)  # noqa: E731
    settings = config("5 steps", average="swa")
    with pytest.raises(UsageError, match="goes over training batches again"):
        jichu.fit(network("batch"), Classification(), made(), settings)
    jichu.fit(network("none"), Classification(), made(), settings)
    jichu.fit(network("batch"), Classification(), list(made()), settings)


# --- plateau


def test_the_rate_falls_on_a_plateau(tensors):
    values = iter([0.5, 0.4, 0.3, 0.6, 0.5, 0.5, 0.5])
    settings = config("14 steps", schedule={"name": "plateau", "gamma": 0.5, "patience": 2}, warmup=0.0,
                      evaluate_every=2, optimizer={"lr": 0.01})  # fmt: skip
    history = train(network(), tensors, settings, evaluate=lambda m: {"accuracy": next(values)}).history
    rates = [row["lr"] for row in history if "lr" in row]
    assert rates == pytest.approx([0.01] * 6 + [0.005] * 6 + [0.0025] * 2)
    with pytest.raises(UsageError, match="needs something to follow"):
        train(network(), tensors, settings)


def test_which_way_is_better():
    lower = ("validation_loss", "log_loss", "error", "rmse", "train_mae", "mean_pinball", "brier_score")
    assert all(map(lower_is_better, lower))
    assert not any(map(lower_is_better, ("accuracy", "macro_f1", "r2", "auroc")))


# --- memory format


def test_the_memory_format_changes_the_order_only(tensors):
    one, other = network("batch"), network("batch")
    settings = {"optimizer": {"name": "adam", "lr": 1e-4}}
    a = train(one, tensors, config(**settings))
    b = train(other, tensors, config(memory_format="channels_last", **settings))
    assert [r["loss"] for r in a.history] == pytest.approx([r["loss"] for r in b.history], rel=1e-3)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-3) and q.is_contiguous()


@pytest.fixture
def spent(monkeypatch, tmp_path):
    """Seconds a step of each setting, as if they had been measured; a cache of its own."""
    table, asked = {}, []

    def measured(*given):
        settings = given[-4]
        asked.append(settings)
        return table[settings[:3]]

    monkeypatch.setattr(plan, "seconds_per_step", measured)
    monkeypatch.setattr(plan, "_WORTH_MEASURING", 1)
    monkeypatch.setenv("JICHU_CACHE", str(tmp_path / "cache"))
    table["asked"] = asked
    return table


def planned(tensors, tmp_path, **settings):
    folder = RunFolder(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
    train(network(), tensors, config("2 steps", **{"precision": "auto", **settings}), folder=folder)
    return folder.notes()["plans"]["fit"]


def test_settings_are_chosen_by_measurement(tensors, spent, tmp_path):
    spent |= {("float32", "channels_last", 1): 1.0, ("float32", "contiguous", 1): 0.95,
              ("bfloat16", "channels_last", 1): 0.8, ("bfloat16", "contiguous", 1): 0.5}  # fmt: skip
    noted = planned(tensors, tmp_path)
    assert (noted["precision"], noted["memory_format"]) == ("bfloat16", "contiguous")
    assert "bfloat16 contiguous 1 thread 500.0 ms" in noted["why"]
    spent["bfloat16", "contiguous", 1] = 0.78  # not enough better than what is plainer
    noted = planned(tensors, tmp_path, compile=False)
    assert (noted["precision"], noted["memory_format"]) == ("bfloat16", "channels_last")
    assert planned(tensors, tmp_path, memory_format="contiguous")["precision"] == "bfloat16"


def test_a_processor_that_is_slow_in_bfloat16_does_not_train_in_it(tensors, spent, tmp_path):
    spent |= {("float32", f, 1): 1.0 for f in ("channels_last", "contiguous")}
    spent |= {("bfloat16", f, 1): 3.0 for f in ("channels_last", "contiguous")}
    noted = planned(tensors, tmp_path)
    assert (noted["precision"], noted["memory_format"]) == ("float32", "channels_last")


def test_a_hopeless_setting_is_given_up_after_a_step(tensors):
    steps = []

    class Slow(Classification):
        def prepare(self, batch, context):
            steps.append(context.step)
            time.sleep(0.02)
            return batch

    learner = Learner(network(), Slow())
    sample = {**{name: t[:16] for name, t in tensors.items()}, "row": torch.arange(16)}
    settings = Settings("float32", "channels_last", 1)
    measure = functools.partial(
        seconds_per_step, learner, sample, config(), {}, 0, torch.device("cpu"), settings
    )
    assert measure(0.001, min, 1) >= 0.02 and steps == [0, 1]  # the first may be long for other reasons
    steps.clear()
    measure(1.0, min, 1)
    assert steps == list(range(7))


def test_what_was_measured_is_remembered(tensors, spent, tmp_path, monkeypatch):
    spent |= {(p, f, 1): 1.0 for p in ("float32", "bfloat16") for f in ("channels_last", "contiguous")}
    planned(tensors, tmp_path)
    count = len(spent["asked"])
    noted = planned(tensors, tmp_path)
    assert count == 4 == len(spent["asked"]) and noted["why"].startswith("measured: float32")
    planned(tensors, tmp_path, memory_format="contiguous")  # another question
    assert len(spent["asked"]) == 6
    for kept in (tmp_path / "cache" / "plans").iterdir():
        kept.write_text("{")
    planned(tensors, tmp_path)
    assert len(spent["asked"]) == 10
    for kept in (tmp_path / "cache" / "plans").iterdir():
        os.utime(kept, (0, 0))
    planned(tensors, tmp_path)
    assert len(spent["asked"]) == 14
    monkeypatch.setattr(plan, "_WORTH_MEASURING", 10)
    assert planned(tensors, tmp_path, batch_size=32, compile=False)["why"] == "2 steps are too few to measure"
    monkeypatch.setattr(plan, "_FEW", 1)
    monkeypatch.setattr(plan, "_LONG", 1)  # second, and a step takes half of one
    assert planned(tensors, tmp_path, batch_size=16, compile=False)["why"].startswith("measured")


def test_what_was_measured_beside_other_work_is_not_remembered(tensors, spent, tmp_path, monkeypatch):
    spent |= {(p, m, 1): 1.0 for p in ("float32", "bfloat16") for m in ("contiguous", "channels_last")}
    monkeypatch.setattr(plan, "preemptions", itertools.count(step=10**9).__next__)
    assert planned(tensors, tmp_path)["why"].endswith("beside other work: not remembered")
    count = len(spent["asked"])
    monkeypatch.setattr(plan, "preemptions", lambda: 0)
    assert planned(tensors, tmp_path)["why"].startswith("measured") and len(spent["asked"]) == 2 * count
    planned(tensors, tmp_path)
    assert len(spent["asked"]) == 2 * count


def test_threads_are_halved_while_that_is_faster(tensors, spent, tmp_path):
    torch.set_num_threads(4)
    spent |= {("float32", "channels_last", 4): 0.01, ("float32", "channels_last", 2): 0.008,
              ("float32", "channels_last", 1): 0.0078, ("float32", "channels_last", 3): 0.01}  # fmt: skip
    given = {"precision": "float32", "memory_format": "channels_last"}
    try:
        assert planned(tensors, tmp_path, **given)["threads"] == 2
        assert torch.get_num_threads() == 4
        assert planned(tensors, tmp_path, threads=3, **given)["threads"] == 3
    finally:
        torch.set_num_threads(1)


def test_compilation_is_tried_on_a_gpu_where_training_is_long(tensors, tmp_path, monkeypatch):
    learner = Learner(network(), Classification())
    given = {"precision": "float32", "memory_format": "channels_last", "threads": 1}
    for device, seconds, expected in (("cuda", 700, True), ("cuda", 500, False), ("cpu", 700, False)):
        chosen, _ = choose(
            learner, config(**given), torch.device(device),
            lambda settings, limit: 0.5 if settings.compiled else 1.0, lambda step, seconds=seconds: seconds,
        )  # fmt: skip
        assert chosen.compiled == expected
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    assert planned(tensors, tmp_path, **given, compile=True)["why"] == "as configured" and compiled


def test_images_of_one_channel_say_the_order_they_lie_in():
    """torch takes their strides for any order, and convolutions with them are ten times slower."""
    model = network()
    lay_out(model, "channels_last")
    image = model.inputs({"image": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)})["image"]
    assert image.stride() == (64, 1, 8, 1)
    weight = next(m.weight for m in model.modules() if isinstance(m, nn.Conv2d))
    assert weight.stride() == (9, 1, 3, 1)
    assert model.backbone({"image": image}).maps.stride()[1] == 1
    lay_out(model, "contiguous")
    assert weight.stride() == (9, 9, 3, 1) == next(model.parameters()).stride()


# --- resuming


class Stop(Exception):
    pass


class StopsAt(Classification):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def prepare(self, batch, context):
        if context.step == self.step:
            raise Stop
        return super().prepare(batch, context)


@pytest.mark.parametrize("stop", [7, 17])
@pytest.mark.parametrize(
    "settings",
    [
        {"average": {"name": "ema", "decay": 0.7}, "patience": 50},
        {"average": {"name": "swa", "start": 0.5}, "schedule": "constant"},
        {"schedule": {"name": "plateau", "patience": 1, "gamma": 0.5}, "patience": 50},
        {"optimizer": {"name": "muon", "lr": 0.01}, "memory_format": "channels_last"},
        {"optimizer": {"name": "adamw", "lr": 0.01}, "memory_format": "channels_last", "average": "ema"},
    ],
)
def test_resumed_equals_undisturbed_bit_for_bit(settings, stop, tensors, tmp_path):
    settings = config(checkpoint_every="3 steps", evaluate_every=2, **settings)

    def run(folder, objective=None, resume=False):
        values = {2: 0.5, 4: 0.4, 6: math.nan, 8: 0.6, 10: 0.6, 12: 0.9, 14: 0.1, 16: 0.2, 18: 0.3, 20: 0.4}
        steps = iter(v for s, v in values.items() if s > (6 if stop == 7 else 15) or not resume)
        model = network()
        result = train(model, tensors, settings, objective, folder=folder, resume=resume,
                       evaluate=lambda m: {"accuracy": next(steps)})  # fmt: skip
        return model, result

    folders = [RunFolder(tmp_path / n) for n in ("whole", "broken")]
    whole, a = run(folders[0])
    with pytest.raises(Stop):
        run(folders[1], StopsAt(stop))
    resumed, b = run(folders[1], resume=True)
    assert same(whole, resumed) and a.best == b.best
    assert read_jsonl(folders[0].metrics) == read_jsonl(folders[1].metrics)
    again = network()  # a finished training is gone on with: nothing happens
    train(again, tensors, settings, folder=folders[1], resume=True, evaluate=lambda m: {})
    assert same(again, whole)


def test_a_machine_that_is_faster_than_remembered_is_measured_again(tensors, monkeypatch):
    monkeypatch.setattr("jichu.train.fit.matmul_rate", lambda *about, refresh=False: 1e18 if refresh else 1.0)
    assert 0 < train(network(), tensors, config("3 steps")).utilisation < 1

"""The loop: equal to a plain one, exact under accumulation, resumable, interruptible, refusing what cannot be."""

import copy
import math
import os
import signal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import jichu
from jichu.core.config import Spec
from jichu.core.errors import Interrupted, NotFinite, UsageError
from jichu.core.files import read_jsonl
from jichu.core.folder import RunFolder
from jichu.data.augment import Augment
from jichu.data.batches import Batches, select
from jichu.data.config import SIGNS
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.mixup import Mixup
from jichu.objectives.supervised import Classification
from jichu.objectives.wrapper import Augmented, Wrapper
from jichu.train import checkpoint
from jichu.train.config import OptimizerConfig, TrainConfig
from jichu.train.predict import embed, predict
from jichu.train.schedules import schedule


def network(norm="none", seed=0):
    torch.manual_seed(seed)
    return Model(Cnn(1, 8, widths=[8, 8], norm=norm), {"label": Linear(8, 10)})


def config(budget="20 steps", **settings):
    settled = {"precision": "float32", "memory_format": "channels_last", "compile": False}
    plain = settled | {"batch_size": 16, "log_every": 5, "checkpoint_every": "1h"}
    return TrainConfig(budget=budget, **{**plain, **settings})


@pytest.fixture(scope="module")
def tensors(digits):
    return {
        "image": torch.from_numpy(digits[0][:200])[:, None],
        "label": torch.from_numpy(digits[1][:200]).long(),
    }


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def train(model, tensors, settings=None, **options):
    objective = options.pop("objective", None) or Classification()
    batches = Batches(tensors, batch_size=16, seed=3)
    return jichu.fit(model, objective, batches, settings or config(), **options)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (OptimizerConfig(name="sgd", lr=0.1, momentum=0.0), lambda p: torch.optim.SGD(p, 0.1)),
        (
            OptimizerConfig(name="sgd", lr=0.1, momentum=0.9),
            lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True),
        ),
        (OptimizerConfig(name="adam", lr=0.01), lambda p: torch.optim.Adam(p, 0.01)),
        (OptimizerConfig(name="adamw", lr=0.01), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0)),
    ],
)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_equals_a_plain_loop(ours, theirs, norm, tensors):
    model, plain = network(norm), network(norm)
    result = train(
        model, tensors, config(optimizer=ours, schedule="constant", warmup=0.0, log_every=1, clip=1.0)
    )
    optimizer, order = theirs(plain.parameters()), Batches(tensors, batch_size=16, seed=3)
    losses = []
    for _ in range(20):
        batch = next(order)
        loss = F.cross_entropy(plain(batch)["label"], batch["label"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert [row["loss"] for row in result.history] == pytest.approx(losses, rel=1e-4)
    for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-5)


def test_weight_decay_spares_vectors(tensors):
    model = network()
    before = copy.deepcopy(model)
    still = {**tensors, "weight": torch.zeros(200)}  # rows without weight: only the decay is left
    train(
        model,
        still,
        config(
            "1 steps", optimizer=OptimizerConfig(lr=0.1, weight_decay=0.5), schedule="constant", warmup=0.0
        ),
    )
    for (name, a), b in zip(model.named_parameters(), before.parameters(), strict=True):
        expected = b * 0.95 if b.ndim > 1 else b
        assert torch.allclose(a, expected, atol=1e-6), name


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_accumulation_is_exact(parts, tensors):
    """Uneven micro-batches with uneven weights: a mean of means would differ."""
    weighted = {**tensors, "weight": torch.rand(200, generator=torch.Generator().manual_seed(0)) ** 4}
    half = {**weighted, "label": torch.where(torch.arange(200) % 3 == 0, -1, tensors["label"])}
    one, many = network(), network()
    a = train(one, half, config(log_every=1))
    b = train(many, half, config(log_every=1, accumulate=parts))
    assert [r["loss"] for r in a.history] == pytest.approx([r["loss"] for r in b.history], rel=1e-4)
    for x, y in zip(one.parameters(), many.parameters(), strict=True):
        assert torch.allclose(x, y, rtol=1e-3, atol=1e-5)


def test_augmentation_is_the_same_in_micro_batches(tensors):
    one, many = network(), network()
    for model, parts in ((one, 1), (many, 4)):
        train(model, tensors, config(accumulate=parts), objective=Augmented(Classification(), Augment(SIGNS)))
    for x, y in zip(one.parameters(), many.parameters(), strict=True):
        assert torch.allclose(x, y, rtol=1e-3, atol=1e-5)


def test_objectives_that_compare_rows_refuse_to_be_cut(tensors):
    with pytest.raises(UsageError, match="compares the rows of a batch"):
        train(network(), tensors, config(accumulate=2), objective=Mixup(Classification()))


def test_a_row_by_itself_has_no_batch_statistics(tensors):
    with pytest.raises(UsageError, match="a row by itself") as caught:
        train(Model(Mlp(1, 8, norm="batch"), {"label": Linear(128, 10)}), tensors, config(accumulate=9))
    assert caught.value.where == "accumulate"
    train(network("batch"), tensors, config("2 steps", accumulate=16))  # of a map there are more places


def test_schedules():
    cosine = schedule(Spec(name="cosine"), 0.1)
    assert cosine(0.05) == pytest.approx(0.5)
    assert cosine(0.1) == 1 and cosine(1.0) == pytest.approx(0)
    assert cosine(0.55) == pytest.approx(0.5)
    linear = schedule(Spec(name="linear"), 0.0)
    assert [linear(p) for p in (0, 0.25, 1)] == [1, 0.75, 0]
    assert schedule(Spec(name="constant"), 0.0)(0.7) == 1


# --- adaptation


def test_head_only_leaves_the_backbone_and_its_statistics(tensors):
    model = network("batch")
    train(model, tensors, config("5 steps"))
    before = copy.deepcopy(model)
    train(model, tensors, adapt="head")
    assert same(model.backbone, before.backbone) and not same(model.heads, before.heads)
    assert all(p.requires_grad for p in model.parameters()) and model.training == before.training


def test_rates_are_factors(tensors):
    fast, slow = network(), network()
    settings = config(
        "1 steps",
        optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.0),
        schedule="constant",
        warmup=0.0,
    )
    before = copy.deepcopy(fast)
    train(fast, tensors, settings)
    train(slow, tensors, settings, adapt=[[r"backbone\..*", 0.1], [r"heads\..*bias", "frozen"], [".*", 1.0]])
    moved = [
        (n, a - c, b - c)
        for (n, a), b, c in zip(fast.named_parameters(), slow.parameters(), before.parameters(), strict=True)
    ]
    for name, one, other in moved:
        factor = 0.1 if name.startswith("backbone") else 0.0 if name.endswith("bias") else 1.0
        assert torch.allclose(other, factor * one, atol=1e-7), name


def test_a_rule_may_follow_progress(tensors):
    model = network()
    before = copy.deepcopy(model)
    late = lambda progress: float(progress >= 0.5)  # noqa: E731
    train(model, tensors, config("10 steps"), adapt=[(r"heads\..*", 1.0), (".*", late)])
    assert not same(model.backbone, before.backbone)
    model = copy.deepcopy(before)
    train(model, tensors, config("10 steps"), adapt=[(r"heads\..*", 1.0), (".*", lambda p: 0.0)])
    assert same(model.backbone, before.backbone)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([(r"heads\..*", 1.0)], "no pattern matches the parameter backbone"),
        ([(r"haeds\..*", 1.0), (".*", "frozen")], "decides nothing"),
        ([(".*", "froze")], "'froze'"),
        ([("(", 1.0)], "not a regular expression"),
        ([(".*", -1.0)], "-1.0"),
        ("everything", "unknown adaptation"),
    ],
)
def test_rules_that_are_wrong(rules, said, tensors):
    with pytest.raises(UsageError, match=said):
        train(network(), tensors, adapt=rules)


# --- early stopping


def test_early_stopping_restores_the_best(tensors):
    model, values, kept = network(), iter([0.1, 0.5, 0.3, 0.4, 0.2, 0.9]), []

    def evaluate(m):
        kept.append(copy.deepcopy(m))
        return {"accuracy": next(values)}

    result = train(model, tensors, config("100 steps", evaluate_every=2, patience=3), evaluate=evaluate)
    assert result.stopped_early and result.steps == 10 and result.best == {"accuracy": 0.5, "step": 4}
    assert same(model, kept[1])


def test_a_loss_is_better_when_lower(tensors):
    values = iter([3.0, 2.0, 1.0, 1.5])
    result = train(
        network(),
        tensors,
        config("8 steps", evaluate_every=2, patience=9),
        evaluate=lambda m: {"loss": next(values)},
        monitor="loss",
    )
    assert result.best == {"loss": 1.0, "step": 6} and not result.stopped_early
    with pytest.raises(UsageError, match="gives no 'accuracy'"):
        train(
            network(),
            tensors,
            config("2 steps", evaluate_every=1, patience=1),
            evaluate=lambda m: {"loss": 1.0},
        )


# --- resuming


class Stop(Exception):
    pass


class StopsAt(Wrapper):
    """Breaks off at a step as a killed process does: nothing is saved on the way out."""

    def __init__(self, inner, step):
        super().__init__(inner)
        self.step = step

    def prepare(self, batch, context):
        if context.step == self.step:
            raise Stop
        return super().prepare(batch, context)


@pytest.mark.parametrize("stop", [1, 7, 13, 19])
def test_resumed_equals_undisturbed_bit_for_bit(stop, tensors, tmp_path):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.dropout = network("batch"), nn.Dropout(0.3)

        def forward(self, batch):
            out = self.model(batch)
            return {**out, "label": self.dropout(out["label"])}

    def evaluate(model):
        return {
            "accuracy": float(
                (
                    predict(model, tensors, torch.arange(50), ["label"])["label"].argmax(1)
                    == tensors["label"][:50]
                )
                .float()
                .mean()
            )
        }

    settings = config(
        checkpoint_every="3 steps", evaluate_every=4, patience=50, optimizer=OptimizerConfig(lr=0.01)
    )
    make = lambda: Mixup(Augmented(Classification(), Augment(SIGNS)))  # noqa: E731
    whole, broken, resumed = Dropped(), Dropped(), Dropped()
    folders = [RunFolder(tmp_path / n) for n in ("whole", "broken")]
    a = train(whole, tensors, settings, objective=make(), folder=folders[0], evaluate=evaluate)
    with pytest.raises(Stop):
        train(
            broken, tensors, settings, objective=StopsAt(make(), stop), folder=folders[1], evaluate=evaluate
        )
    b = train(resumed, tensors, settings, objective=make(), folder=folders[1], evaluate=evaluate, resume=True)
    assert same(whole, resumed) and a.history == b.history and a.best == b.best
    assert read_jsonl(folders[0].metrics) == read_jsonl(folders[1].metrics)


def test_a_damaged_checkpoint_is_told(tensors, tmp_path):
    folder = RunFolder(tmp_path)
    train(network(), tensors, folder=folder)
    (folder.checkpoints / "last.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(jichu.JichuError, match="damaged checkpoint") as caught:
        train(network(), tensors, folder=folder, resume=True)
    assert caught.value.code == 3


def test_checkpoints_by_epochs(tensors, tmp_path):
    folder, seen = RunFolder(tmp_path), []

    class Watches(Classification):
        def prepare(self, batch, context):
            state = checkpoint.read_state(folder.checkpoints / "last.safetensors")
            seen.append(state["step"] if state else None)
            return batch

    train(
        network(),
        tensors,
        config("30 steps", checkpoint_every="1 epochs"),
        objective=Watches(),
        folder=folder,
    )
    assert {None, 13, 26} == set(seen)  # 200 rows in batches of 16
    with pytest.raises(UsageError, match="patience needs"):
        train(network(), tensors, config(patience=1))


def test_a_checkpoint_of_another_stage_is_not_taken(tensors, tmp_path):
    folder, model = RunFolder(tmp_path), network()
    train(network(seed=1), tensors, folder=folder, name="first")
    reference = network()
    train(reference, tensors)
    train(model, tensors, folder=folder, name="second", resume=True)
    assert same(model, reference)
    assert {r["stage"] for r in read_jsonl(folder.metrics)} == {"first", "second"}


class Presses(Wrapper):
    """Ctrl-C within a step."""

    def __init__(self, step, inner=None):
        super().__init__(inner or Classification())
        self.step = step

    def prepare(self, batch, context):
        if context.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
        return super().prepare(batch, context)


def test_ctrl_c_keeps_a_checkpoint(tensors, tmp_path):
    folder, whole, resumed = RunFolder(tmp_path), network(), network()
    with pytest.raises(Interrupted, match="step 8 of 20") as caught:
        train(network(), tensors, objective=Presses(7), folder=folder)
    assert caught.value.code == 130
    assert checkpoint.read_state(folder.checkpoints / "last.safetensors")["step"] == 8
    train(whole, tensors)
    train(resumed, tensors, folder=folder, resume=True)
    assert same(whole, resumed)


# --- what cannot be


class Infinite(Classification):
    """The loss of some rows is not finite."""

    def __init__(self, *rows):
        super().__init__()
        self.rows = rows

    def losses(self, outputs, batch):
        bad = torch.isin(batch["row"], torch.tensor(self.rows))
        return super().losses(outputs, batch) + torch.where(bad, math.inf, 0.0)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_row_whose_loss_is_not_finite_is_left_out_and_named(tensors, tmp_path, norm):
    """Training goes on as if the row had never been there, and so it does after a resume."""
    names = [f"digit {i}" for i in range(200)]
    folder, model = RunFolder(tmp_path / "a"), network(norm)
    result = train(model, tensors, config("30 steps"), objective=Infinite(17), folder=folder, records=names)
    assert [r["record"] for r in read_jsonl(folder.quarantine)] == ["digit 17"]
    assert "digit 17" in result.remarks[0]

    class Without(Classification):
        def prepare(self, batch, context):
            return select(batch, batch["row"] != 17)

    other = network(norm)
    train(other, tensors, config("30 steps"), objective=Without())
    assert same(model, other)

    half, resumed = RunFolder(tmp_path / "b"), network(norm)
    with pytest.raises(Interrupted):
        train(network(norm), tensors, config("30 steps"), objective=Presses(20, Infinite(17)), folder=half)
    train(resumed, tensors, config("30 steps"), objective=Infinite(17), folder=half, resume=True)
    assert same(model, resumed) and len(read_jsonl(half.quarantine)) == 1


def test_an_input_that_is_not_finite_is_found_among_rows_that_share_statistics(tensors):
    spoilt = {**tensors, "image": tensors["image"].float() / 255}
    spoilt["image"][[5, 60], 0, 0, 0] = math.nan
    model = network("batch")
    result = train(model, spoilt, config("30 steps"))
    assert result.steps == 30 and all(torch.isfinite(t).all() for t in model.state_dict().values())


def test_many_rows_that_are_not_finite_stop_the_training(tensors):
    model = network()
    with pytest.raises(NotFinite, match=r"the loss is not finite at step \d+ of fit") as caught:
        train(model, tensors, objective=Infinite(*range(0, 200, 3)))
    assert "rows [" in str(caught.value) and "optimizer.lr" in str(caught.value)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("adam", 30.0), ("adamw", 30.0), ("muon", 300.0), ("sgd", 100.0)]
)
def test_a_rate_far_too_large_is_told(tensors, tmp_path, optimizer, rate):
    """The loss runs away, or is not finite; what was saved before is whole."""
    folder = RunFolder(tmp_path)
    settings = config("400 steps", optimizer={"name": optimizer, "lr": rate}, checkpoint_every="1 steps")
    with pytest.raises(NotFinite, match=r"ran away|not finite") as caught:
        train(network(), tensors, settings, folder=folder)
    assert "a lower optimizer.lr" in str(caught.value)
    state = checkpoint.read_tensors(folder.checkpoints / "last.safetensors", torch.device("cpu"))
    assert all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point())


def test_a_model_that_learns_nothing_is_told(tensors):
    """A thousand times Adam's usual rate leaves a network whose units are all dead."""
    settings = config("200 steps", optimizer={"name": "adam", "lr": 1.0})
    assert "learnt nothing" in train(network(), tensors, settings).remarks[0]
    settings = config("200 steps", optimizer={"name": "adam", "lr": 0.01})
    assert not train(network(), tensors, settings).remarks


def test_a_loss_that_runs_away_late_leaves_the_best_weights(tensors):
    class Runs(Classification):
        def losses(self, outputs, batch):
            return super().losses(outputs, batch)

        def after_step(self, model, context):
            if context.step >= 15:
                with torch.no_grad():
                    for p in model.parameters():
                        p.mul_(3)

    model, seen = network(), []

    def evaluate(model):
        seen.append({n: t.clone() for n, t in model.state_dict().items()})
        return {"accuracy": float(len(seen))}

    with pytest.raises(NotFinite, match="ran away"):
        settings = config("100 steps", patience=9, evaluate_every=10)
        train(model, tensors, settings, objective=Runs(), evaluate=evaluate)
    assert any(all(torch.equal(t, w[n]) for n, t in model.state_dict().items()) for w in seen)


def test_nothing_is_left_changed(tensors):
    model, state = network("batch"), torch.get_rng_state()
    model.backbone.eval()
    model.heads["label"].linear.bias.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    train(model, tensors)
    assert ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_budgets_in_time_become_steps_once(tensors, tmp_path):
    folder = RunFolder(tmp_path)
    result = train(network(), tensors, config("0.2s"), folder=folder)
    noted = folder.notes()["plans"]["fit"]
    assert result.steps == noted["steps"] >= 1 and noted["seconds_per_step"] > 0


def test_precision_is_measured_where_it_pays_to(tensors, tmp_path):
    folder = RunFolder(tmp_path)
    train(
        network(),
        tensors,
        config("1000 steps", precision="auto", memory_format="auto", log_every=500),
        folder=folder,
    )
    noted = folder.notes()["plans"]["fit"]
    assert noted["precision"] in ("float32", "bfloat16") and noted["why"].startswith("measured")
    train(network(), tensors, config(precision="auto"), folder=folder)
    assert folder.notes()["plans"]["fit"]["precision"] == "float32"
    half = network()
    train(half, tensors, config(precision="bfloat16"))
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in half.parameters())


def test_batches_of_ones_own_and_a_model_of_ones_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, batch):
            return {"label": self.layer(batch["x"]), "features": batch["x"]}

    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    batches = [{"x": x[i : i + 16], "label": (x[i : i + 16, 0] > 0).long()} for i in range(0, 64, 16)]
    torch.manual_seed(0)
    model = Net()
    result = jichu.fit(
        model, Classification(), batches, config("30 epochs", optimizer=OptimizerConfig(lr=0.1))
    )
    assert result.steps == 120 and result.history[-1]["loss"] < 0.2
    with pytest.raises(UsageError, match="how many make an epoch"):
        jichu.fit(model, Classification(), iter(batches), config("1 epochs"))


def test_prediction_keeps_the_order_and_the_mode(tensors):
    model = network("batch").train()
    rows = torch.tensor([5, 3, 199])
    out = predict(model, tensors, rows, ["label"])["label"]
    assert model.training and out.shape == (3, 10)
    model.eval()
    with torch.no_grad():
        wanted = model({"image": tensors["image"][rows]})
    assert torch.allclose(out, wanted["label"], atol=1e-6)
    assert torch.allclose(embed(model, tensors, rows), wanted["features"].pooled, atol=1e-6)


def test_tensorboard_by_one_key(tensors, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path)
    train(network(), tensors, config(tensorboard=True), folder=folder)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "fit"))
    events.Reload()
    logged = [row["loss"] for row in read_jsonl(folder.metrics)]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(logged)


# --- what once went wrong


def test_what_the_user_froze_stays_frozen(tensors):
    model = network("batch")
    model.backbone.requires_grad_(False)
    before = copy.deepcopy(model)
    train(model, tensors)
    assert same(model.backbone, before.backbone) and not same(model.heads, before.heads)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    with pytest.raises(UsageError, match="every parameter is frozen"):
        train(model, tensors, adapt=[(".*", "frozen")])


def test_a_shuffled_loader_resumes_to_the_same(tensors, tmp_path):
    from torch.utils.data import DataLoader

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, i):
            return {"image": tensors["image"][i], "label": tensors["label"][i]}

    loader = lambda: DataLoader(Rows(), batch_size=16, shuffle=True)  # noqa: E731
    whole, resumed, folder = network(), network(), RunFolder(tmp_path)
    settings = config(checkpoint_every="3 steps")
    jichu.fit(whole, Classification(), loader(), settings)
    with pytest.raises(Stop):
        jichu.fit(network(), StopsAt(Classification(), 11), loader(), settings, folder=folder)
    torch.rand(5)  # the process's generator is somewhere else by now
    jichu.fit(resumed, Classification(), loader(), settings, folder=folder, resume=True)
    assert same(whole, resumed)


def test_an_evaluation_that_is_not_a_number_is_never_the_best(tensors):
    values = iter([math.nan, 3.0, 2.0])
    result = train(
        network(),
        tensors,
        config("6 steps", evaluate_every=2, patience=9),
        evaluate=lambda m: {"loss": next(values)},
        monitor="loss",
    )
    assert result.best == {"loss": 2.0, "step": 6}


def test_half_a_logged_line_is_taken_back(tensors, tmp_path):
    folder, whole = RunFolder(tmp_path), RunFolder(tmp_path / "whole")
    settings = config(checkpoint_every="5 steps")
    train(network(), tensors, settings, folder=whole)
    with pytest.raises(Stop):
        train(network(), tensors, settings, objective=StopsAt(Classification(), 11), folder=folder)
    with open(folder.metrics, "a") as file:
        file.write('{"stage": "fit", "st')
    train(network(), tensors, settings, folder=folder, resume=True)
    assert folder.metrics.read_text() == whole.metrics.read_text()


def test_weights_that_are_not_finite_are_never_saved(tensors, tmp_path):
    class Breaks(Classification):
        def after_step(self, model, context):
            if context.step == 7:
                with torch.no_grad():
                    next(model.parameters()).fill_(math.nan)

        def losses(self, outputs, batch):
            return super().losses(outputs, batch).nan_to_num()

    folder = RunFolder(tmp_path)
    with pytest.raises(NotFinite, match="a weight is not finite"):
        train(network(), tensors, config(checkpoint_every="4 steps"), objective=Breaks(), folder=folder)
    state = checkpoint.read_tensors(folder.checkpoints / "last.safetensors", torch.device("cpu"))
    assert all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point())

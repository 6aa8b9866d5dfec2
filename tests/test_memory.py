"""Memory: what is predicted against counts by hand and against a child's peak; what is done where it runs out."""

import copy
import multiprocessing
import os
import resource
import signal
import sys

import psutil
import pytest
import torch
from torch import nn

import jichu
from jichu.core.errors import UsageError
from jichu.core.folder import RunFolder
from jichu.data.batches import Batches
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.supervised import Classification
from jichu.train import memory
from jichu.train.config import TrainConfig
from jichu.train.memory import Buffers, Memory, halving, in_child, micro_batches

CPU = torch.device("cpu")
MIB = 2**20
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(autouse=True)
def _allocator():
    yield
    memory.keep_freed(False)


@pytest.fixture(scope="module")
def tensors(digits):
    return {
        "image": torch.from_numpy(digits[0][:200])[:, None],
        "label": torch.from_numpy(digits[1][:200]).long(),
    }


def network(norm="none"):
    torch.manual_seed(0)
    return Model(Cnn(1, 8, widths=[8, 8], norm=norm), {"label": Linear(8, 10)})


def train(model, tensors, objective=None, folder=None, resume=False, **settings):
    plain = {"budget": "20 steps", "precision": "float32", "batch_size": 16, "checkpoint_every": "1h"}
    config = TrainConfig(**{**plain, **settings})
    return jichu.fit(
        model, objective or Classification(), Batches(tensors, batch_size=16, seed=3), config,
        folder=folder, resume=resume,
    )  # fmt: skip


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


# --- predicted


def test_the_prediction_is_what_is_kept_counted_by_hand():
    """Of a multi-layer perceptron: inputs, and two hidden layers, kept by the layers after them and by ReLU."""
    body, rows = Mlp(1, 8, widths=[512, 256]), 1000
    x = torch.randn(rows, 1, 8, 8)
    found = memory.memory(lambda n: body({"image": x[:n]}).pooled.sum(), rows, body, 2, CPU)
    assert found.parameters == (64 * 512 + 512 + 512 * 256 + 256) * 4 * 4
    assert found.per_row == pytest.approx((64 + 512 + 256) * 4, rel=0.35)
    assert found.fixed < 1000  # the weights are there anyway


class Tower(nn.Module):
    """Layers of 256 units, whose 256 × 4 bytes a row and layer are kept twice: as input and by ReLU's output."""

    def __init__(self, depth=8, norm=False):
        super().__init__()
        parts = [
            [nn.Linear(256, 256), *([nn.BatchNorm1d(256)] if norm else []), nn.ReLU()] for _ in range(depth)
        ]
        self.layers = nn.Sequential(*[m for part in parts for m in part])

    def forward(self, x):
        return self.layers(x)


def tower_probe(model, rows):
    x = torch.randn(rows, 256)

    def fresh():
        optimizer = torch.optim.AdamW(model.parameters())

        def step(n):
            model(x[:n]).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    added = memory.memory(lambda n: model(x[:n]).sum(), rows, model, 2, CPU)
    return added, fresh


@linux
def test_a_child_process_finds_what_a_step_takes(monkeypatch):
    monkeypatch.setattr(memory, "_PROBED", 24 * MIB)
    model = Tower()
    before = copy.deepcopy(model.state_dict())
    added, fresh = tower_probe(model, 20_000)
    found = memory.probe(added, fresh, model)
    assert found.probed and found.parameters == added.parameters
    assert found.per_row == pytest.approx(8 * 256 * 4, rel=0.4)  # kept, and the gradients on their way
    assert found.needed == pytest.approx(added.needed, rel=0.5)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@linux
def test_the_probe_is_used_where_memory_is_near(monkeypatch):
    model = Tower(2)
    added, fresh = tower_probe(model, 4000)
    asked, x = [], torch.randn(4000, 256)
    monkeypatch.setattr(memory, "probe", lambda found, *_: asked.append(found) or found._replace(probed=True))
    for free, probed in ((added.needed * 10, False), (added.needed * 2, True), (added.needed // 2, True)):
        monkeypatch.setattr(memory, "memory_available", lambda device, free=free: free)
        found = memory.predict(lambda n: model(x[:n]).sum(), fresh, 4000, model, 2, CPU)
        assert found.probed == probed and bool(asked) == probed
    monkeypatch.setattr(memory, "probe", lambda *_: None)
    assert not memory.predict(lambda n: model(x[:n]).sum(), fresh, 4000, model, 2, CPU).probed


@linux
def test_a_child_that_fails_hangs_or_is_killed_gives_none():
    assert in_child(lambda: [1, {"a": 2}], 5) == [1, {"a": 2}]
    assert in_child(lambda: 1 / 0, 5) is None
    assert in_child(lambda: signal.pause(), 1) is None
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGKILL), 5) is None
    with pytest.raises(ChildProcessError):  # none is left behind
        os.waitpid(-1, os.WNOHANG)


@linux
def test_a_child_runs_beside_threads_of_the_parent():
    """A fork copies no threads: what waits for one would hang."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        x = torch.randn(600, 600, requires_grad=True)
        (x @ x).sum().backward()

        def work():
            torch.set_num_threads(1)
            y = torch.randn(600, 600, requires_grad=True)
            (y @ y).relu().sum().backward()
            return list(y.grad.shape)

        assert in_child(work, 20) == [600, 600]
    finally:
        torch.set_num_threads(threads)


@linux
def test_the_limit_of_a_process_counts():
    def work():
        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + 100 * MIB,) * 2)
        return memory.memory_available(CPU)

    assert 50 * MIB < in_child(work, 20) <= 100 * MIB


@linux
def test_freed_memory_is_kept_or_given_back_as_told():
    """Many tensors beside each other, freed: kept they stay resident, and the next ones lie in their place."""

    def work(keep):
        torch.set_num_threads(1)
        chose = memory.keep_freed(keep)
        before = memory.resident("VmRSS")
        tensors = [torch.ones(MIB) for _ in range(16)]  # 4 MiB each
        del tensors
        return chose, (memory.resident("VmRSS") - before) / MIB

    chose, left = in_child(lambda: work(True), 20)
    if not chose:
        pytest.skip("another C library than GNU's")
    assert left > 48
    assert in_child(lambda: work(False), 20)[1] < 16


# --- cut


def test_batches_are_cut_until_they_fit():
    plain, normed = nn.Linear(2, 2), nn.BatchNorm1d(2)
    found = Memory(parameters=1000, fixed=0, per_row=100, rows=64, available=3310)
    assert found.fits == 20
    assert micro_batches(found, 64, 1, plain, True) == 4
    assert micro_batches(found, 64, 3, plain, True) == 6
    assert micro_batches(found._replace(available=10**6), 64, 3, plain, True) == 3
    assert micro_batches(found._replace(available=1300), 64, 1, plain, True) == 64
    with pytest.raises(UsageError, match="batch_size: 20"):
        micro_batches(found, 64, 1, plain, False)
    with pytest.raises(UsageError, match="not even 2 rows"):
        micro_batches(found._replace(available=1300), 64, 1, normed, True)
    with pytest.raises(UsageError, match="its parameters alone do not fit"):
        micro_batches(found._replace(available=900), 64, 1, plain, True)


def test_a_batch_that_does_not_fit_is_cut_to_the_same_effect(tensors, monkeypatch, tmp_path, capsys):
    whole, cut, folder = network(), network(), RunFolder(tmp_path)
    train(whole, tensors, optimizer={"name": "sgd", "lr": 0.1})
    monkeypatch.setattr(memory, "memory_available", lambda device: 60_000)
    monkeypatch.setattr(memory, "probe", lambda *_: None)
    train(cut, tensors, optimizer={"name": "sgd", "lr": 0.1}, folder=folder)
    noted = folder.notes()["plans"]["fit"]
    assert noted["accumulate"] > 1 and f"{noted['accumulate']} micro-batches" in noted["accumulate_why"]
    assert noted["accumulate_why"] in capsys.readouterr().err.replace("\n", "")
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_what_cannot_be_cut_is_refused(tensors, monkeypatch):
    class Together(Classification):
        independent = False

    monkeypatch.setattr(memory, "probe", lambda *_: None)
    monkeypatch.setattr(memory, "memory_available", lambda device: 60_000)
    with pytest.raises(UsageError, match="MiB are free") as caught:
        train(network(), tensors, Together())
    assert str(caught.value.expected).startswith("batch_size: ")
    monkeypatch.setattr(memory, "memory_available", lambda device: 100)
    with pytest.raises(UsageError, match="a smaller model"):
        train(network(), tensors)


# --- out of memory on the way


class OnlySo(Classification):
    """Runs out of memory for more than `most` rows, from a step on, after all layers have run."""

    def __init__(self, most, error=torch.OutOfMemoryError, since=0):
        super().__init__()
        self.most, self.error, self.since, self.steps = most, error, since, 0
        self.register_buffer("seen", torch.zeros(()))

    def losses(self, outputs, batch):
        self.seen += len(batch["row"])
        if len(batch["row"]) > self.most and self.steps >= self.since:
            raise self.error("out of memory. Tried to allocate much")
        return super().losses(outputs, batch)

    def after_step(self, model, context):
        self.steps += 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_a_step_that_runs_out_of_memory_is_made_again_in_halves(tensors, tmp_path, capsys, error):
    folder, objective = RunFolder(tmp_path), OnlySo(4, error, since=3)
    model, other = network(), network()
    train(model, tensors, objective, folder, optimizer={"name": "sgd", "lr": 0.1})
    noted = folder.notes()["plans"]["fit"]
    assert noted["accumulate"] == 4 and "at step 3" in noted["accumulate_why"]
    assert "to the same effect" in capsys.readouterr().err
    train(other, tensors, optimizer={"name": "sgd", "lr": 0.1})
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert objective.seen == 12 * 16 + 8 + 7 * 16  # each row once: an epoch is 12 batches and one of 8


def test_batch_statistics_are_those_before_the_step(tensors):
    """Equal to a run that was cut so from the beginning: nothing of the failed step is left."""
    one, other = network("batch"), network("batch")
    train(one, tensors, OnlySo(8), budget="5 steps")
    train(other, tensors, budget="5 steps", accumulate=2)
    assert same(one, other)


def test_running_out_of_memory_is_an_error_where_nothing_helps(tensors):
    class Together(OnlySo):
        independent = False

    with pytest.raises(UsageError, match="batch_size: 8"):
        train(network(), tensors, Together(4))
    with pytest.raises(UsageError, match="a smaller model"):
        train(network(), tensors, OnlySo(0, since=1))
    with pytest.raises(RuntimeError, match="another matter"):
        halving(
            lambda parts: (_ for _ in ()).throw(RuntimeError("another matter")), 1, 8, nn.Linear(1, 1), True
        )


def halved():
    torch.set_num_threads(1)
    model, x = Tower(), torch.randn(96_000, 256)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 220 * MIB,) * 2)

    def step(parts):
        for part in x.tensor_split(parts):
            (model(part).sum() / parts).backward()
        return True

    return halving(step, 1, len(x), model, True, model.zero_grad)


@linux
def test_a_process_that_may_have_no_more_halves_its_batch():
    """A real one, new, so that no other test has left it any memory: the address space is limited, and an allocation
    fails."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        done, parts = pool.apply(halved)
    assert done and 2 <= parts <= 64


def test_buffers_come_back_also_where_they_were_replaced():
    module = nn.BatchNorm1d(3)
    before = Buffers(module)
    before.keep()
    module.running_mean.add_(1)
    module.running_var = torch.full((3,), 7.0)
    before.keep()
    module.running_var = torch.zeros(3)
    module(torch.randn(4, 3))
    before.restore()
    assert module.running_mean.tolist() == [1, 1, 1] and module.running_var.tolist() == [7, 7, 7]
    assert module.num_batches_tracked == 0

"""Differentially private training: gradients by row, noise, the accountant, and what cannot be private."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import jichu
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.core.files import read_json
from jichu.data.poisson import PoissonBatches
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.layout import lay_out
from jichu.models.model import Model
from jichu.models.small_convnext import SmallConvNext
from jichu.objectives.adversarial import Adversarial
from jichu.objectives.base import Context
from jichu.objectives.mixup import Mixup
from jichu.objectives.several import Several
from jichu.objectives.supervised import Classification
from jichu.train.config import OptimizerConfig, PrivacyConfig, TrainConfig
from jichu.train.learner import Learner
from jichu.train.private import Private, epsilon_of, noise_for

pytest.importorskip("opacus")


@pytest.fixture
def rows(batch):
    return {name: value for name, value in batch.items() if name != "row"}


def small(norm="group"):
    torch.manual_seed(0)
    return Model(Cnn(1, 8, widths=[8, 8], norm=norm), {"label": Linear(8, 10)})


def made(rows, clip=0.5, epsilon=3.0, model=None, objective=None):
    batches = PoissonBatches(rows, torch.arange(48), batch_size=16, secret=1)
    learner = Learner(model or small(), objective or Classification())
    return Private(PrivacyConfig(epsilon=epsilon, delta=1e-3, clip=clip), batches, learner, 50), learner


def plain(learner, batch):
    """The gradient of each row by itself, from as many backward passes."""
    found = []
    for i in range(len(batch["row"])):
        one = {name: value[i : i + 1] for name, value in batch.items()}
        learner.zero_grad()
        learner(one, {"loss": torch.ones(())}, 1)[0].backward()
        found.append(torch.cat([p.grad.flatten() for p in learner.parameters()]))
    learner.zero_grad()
    return torch.stack(found)


def step(private, batch, number=0):
    def still(phase):
        return None

    objective = private.learner.objective
    private.gradients(
        batch,
        lambda part: objective.prepare(part, Context(0)),
        torch.enable_grad,
        number,
        diagnose=False,
        lap=still,
    )
    return torch.cat([p.grad.flatten() for p in private.parameters])


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_gradients_are_cut_by_row_and_summed(rows, clip):
    private, learner = made(rows, clip)
    batch = {**rows, "row": torch.arange(48)}
    each = plain(learner, batch)
    wanted = (each * (clip / each.norm(dim=1)).clamp(max=1)[:, None]).sum(0) / 16
    private.noise = 0.0
    assert torch.allclose(step(private, batch), wanted, atol=1e-5)
    private.at_once = 7  # in parts, to the same effect
    assert torch.allclose(step(private, batch), wanted, atol=1e-5)
    private.noise = 1.0
    found = private.close(50)
    assert found["epsilon"] > 0 and not any(hasattr(p, "grad_sample") for p in learner.parameters())


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("network", [lambda: Cnn(1, 8, widths=[8, 8], norm="group"),
                                     lambda: SmallConvNext(1, 8, widths=[8, 8], depths=[1, 1])])  # fmt: skip
@pytest.mark.parametrize("order", ["contiguous", "channels_last"])
def test_gradients_by_row_in_every_order_of_memory(rows, network, order):
    torch.manual_seed(0)
    backbone = network()
    private, learner = made(rows, 1e6, model=Model(backbone, {"label": Linear(backbone.width, 10)}))
    lay_out(learner, order)
    batch = {**rows, "row": torch.arange(48)}
    private.noise = 0.0
    wanted = plain(learner, batch).sum(0) / 16
    assert torch.allclose(step(private, batch), wanted, atol=1e-5 * float(wanted.abs().max()) + 1e-6)


def test_a_loss_that_is_not_of_rows_is_refused(rows):
    """Its gradient would not be seen, and the noise alone be learnt from."""

    class Penalised(Classification):
        def forward(self, model, batch):
            self.weights_of = list(model.heads.parameters())[:1]
            return super().forward(model, batch)

        def losses(self, outputs, batch):
            return {"loss": super().losses(outputs, batch), "penalty": self.weights_of[0].square().sum()}

        def weights(self, batch):
            return {"loss": super().weights(batch)["loss"], "penalty": torch.ones(1)}

    private, _ = made(rows, objective=Penalised())
    with pytest.raises(UsageError, match=r"by row of model\.heads\S+ do not add up"):
        step(private, {**rows, "row": torch.arange(48)})


def test_noise_has_its_deviation_and_needs_no_rows(rows):
    private, _ = made(rows, clip=0.5)
    nothing = {**{name: value[:0] for name, value in rows.items()}, "row": torch.arange(0)}
    noise = step(private, nothing)
    assert abs(float(noise.std()) / (private.noise * 0.5 / 16) - 1) < 0.05
    assert torch.equal(noise, step(private, nothing)) and not torch.equal(noise, step(private, nothing, 1))


def test_a_row_without_a_finite_gradient_has_no_part(rows):
    private, _ = made(rows, 1.0)
    private.noise = 0.0
    batch = {**rows, "row": torch.arange(48)}
    batch["image"] = batch["image"].float() / 255
    without = step(private, {name: value[1:] for name, value in batch.items()})
    batch["image"][0] = torch.nan
    assert torch.allclose(step(private, batch), without, atol=1e-6)


def test_rows_are_drawn_by_chance(rows):
    batches = PoissonBatches(rows, torch.arange(40), batch_size=10, secret=3)
    drawn = [batches.take() for _ in range(2000)]
    sizes = np.array([len(d) for d in drawn])
    assert abs(sizes.mean() - 10) < 0.3 and abs(sizes.var() - 40 * 0.25 * 0.75) < 0.8
    counts = torch.bincount(torch.cat(drawn), minlength=48)
    assert counts[40:].sum() == 0 and abs(counts[:40].float().mean() - 500) < 15
    again = PoissonBatches(rows, torch.arange(40), batch_size=10, secret=3)
    state = batches.state_dict()
    assert torch.equal(again.take(), drawn[0])
    other = PoissonBatches(rows, torch.arange(40), batch_size=10)
    other.load_state_dict(state)
    assert torch.equal(other.take(), batches.take())
    assert PoissonBatches(rows, torch.arange(40), batch_size=10).secret != other.secret


def test_the_accountant():
    """Opacus', and what is published: Abadi et al. tell 1.26 of noise 4, a hundredth of the rows and 10,000 steps, and
    TensorFlow Privacy's tutorial 2.92; what turns moments into epsilon was sharpened since (Balle et al., 2020)."""
    assert 0.9 < epsilon_of(4.0, 0.01, 10_000, 1e-5) < 1.26
    assert 2.4 < epsilon_of(1.1, 250 / 60000, 60 * 240, 1e-5) < 2.92
    assert (
        epsilon_of(8.0, 1.0, 1, 1e-5) < (2 * np.log(1.25 / 1e-5)) ** 0.5 / 8
    )  # the Gaussian mechanism's own bound
    config = PrivacyConfig(epsilon=3.0)
    noise = noise_for(config, 1.0, 100)  # of all rows: others take a second for each noise that is tried
    assert 2.98 < epsilon_of(noise, 1.0, 100, 1e-5) <= 3.0
    with pytest.raises(UsageError, match="cannot be reached in 100,000 steps") as told:
        noise_for(PrivacyConfig(epsilon=1e-3), 1.0, 100_000)
    assert "at least" in str(told.value.expected)


def test_what_cannot_be_private(rows):
    for wrong, said in (
        ({"model": small("batch")}, "statistics over the rows"),
        ({"objective": Mixup(Classification())}, "compares the rows"),
        ({"objective": Adversarial(Classification())}, "gradients of its own"),
        ({"model": nn.Sequential(nn.LSTM(4, 4))}, "recurrent"),
        ({"objective": Several({"label": Classification()}, balance="dwa")}, "that nothing hides"),
    ):
        with pytest.raises(UsageError, match=said) as told:
            made(rows, **wrong)
        assert told.value.expected
    batches = PoissonBatches(rows, torch.arange(48), batch_size=16)
    with pytest.raises(UsageError, match="whole rows"):
        Private(PrivacyConfig(epsilon=3, delta=0.1), batches, Learner(small(), Classification()), 5)
    config = TrainConfig(budget="3 steps", privacy=PrivacyConfig(epsilon=3, delta=1e-3))
    with pytest.raises(UsageError, match="drawn by chance"):
        jichu.fit(small(), Classification(), [{**rows, "row": torch.arange(48)}], config)


def test_learning_with_privacy_from_python(rows):
    """With a wide epsilon it learns; the noise is the accountant's."""
    model = small("none")
    config = TrainConfig(
        budget="60 steps", privacy=PrivacyConfig(epsilon=500, delta=1e-3, secret=5),
        optimizer=OptimizerConfig(name="adamw", lr=0.01), log_every=10,
    )  # fmt: skip
    fitted = jichu.fit(
        model, Classification(), PoissonBatches(rows, torch.arange(48), batch_size=24, secret=5), config
    )
    assert 400 < fitted.privacy["epsilon"] <= 500 and fitted.privacy["rate"] == 0.5
    losses = [row["loss"] for row in fitted.history]
    assert losses[-1] < losses[0]


def run(name, capsys, **stage):
    recipe = {"name": name, "data": {"path": "sklearn:digits"}, "stages": [
        {"stage": "finetune", "backbone": {"name": "mlp", "widths": [32]}, "budget": "40 steps",
         "privacy": {"epsilon": 8, "delta": 1e-4}, "batch_size": 128, **stage}, {"stage": "audit"}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    code = main(["run", "r.yaml"])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_recipe_with_privacy(in_folder, capsys):
    code, said = run("private", capsys)
    assert code == 0 and "private to epsilon" in said
    summary = read_json(Path("runs/private/summary.json"))
    about = next(s for s in summary["stages"] if s["name"] == "finetune")["metrics"]["privacy"]
    assert 7.5 < about["epsilon"] <= 8 and about["delta"] == 1e-4
    assert (
        "differential privacy of every training row: epsilon"
        in Path("runs/private/MODEL_CARD.md").read_text()
    )
    code, said = run("shared", capsys, backbone={"name": "cnn", "norm": "batch"})
    assert code == 2 and "statistics over the rows" in said and "norm: group" in said
    code, said = run("mixed", capsys, wrap=[{"name": "mixup"}])
    assert code == 2 and "compares the rows" in said
    code, said = run("strict", capsys, privacy={"epsilon": 0.0001, "delta": 1e-4})
    assert code == 2 and "cannot be reached in 40 steps" in said
    code, said = run("trees", capsys, head="gradient-boosting", backbone=None)
    assert code == 2 and "does nothing with the head" in said


def test_private_training_goes_on_to_the_same_weights(in_folder, capsys, monkeypatch):
    """A run that was interrupted draws what it would have drawn, since the secret is in its checkpoint."""
    stage = {"privacy": {"epsilon": 8, "delta": 1e-4, "secret": 7}}
    assert run("whole", capsys, **stage)[0] == 0
    from jichu.train import fit as fitting

    steps = fitting._Loop._one_step
    count = []

    def stopping(self, stop, shown):
        count.append(1)
        if len(count) == 20:
            stop.requested = True
        return steps(self, stop, shown) or len(count) == 20

    monkeypatch.setattr(fitting._Loop, "_one_step", stopping)
    assert run("part", capsys, **stage)[0] == 130
    monkeypatch.setattr(fitting._Loop, "_one_step", steps)
    assert main(["run", "r.yaml", "--resume", "--quiet"]) == 0
    from safetensors.torch import load_file

    one, two = (load_file(next(Path(f"runs/{n}/model").glob("*.safetensors"))) for n in ("whole", "part"))
    assert all(torch.equal(one[k], two[k]) for k in one)

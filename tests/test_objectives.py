"""Objectives against their contract, closed forms and reference formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import jichu
from jichu.data.augment import Augment
from jichu.data.config import SIGNS, AugmentConfig
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.base import Context, Objective
from jichu.objectives.cutmix import CutMix
from jichu.objectives.mixup import Mixup
from jichu.objectives.supervised import Classification, Regression
from jichu.objectives.vicreg import VICReg, covariance_loss, variance_loss
from jichu.objectives.views import collapse
from jichu.objectives.wrapper import Augmented


def small(outputs=10, norm="none", name="label"):
    body = Cnn(1, 8, widths=[8, 8], norm=norm)
    return Model(body, {name: Linear(8, outputs)})


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    "make",
    [
        Classification,
        lambda: Classification(smoothing=0.1),
        lambda: Augmented(Classification(), Augment(SIGNS)),
        lambda: Mixup(Classification(), alpha=0.4),
        lambda: CutMix(Mixup(Classification())),
        lambda: Mixup(Augmented(Classification(), Augment(SIGNS))),
    ],
)
def test_supervised_objectives_keep_their_contract(make, norm, batch):
    jichu.check_objective(make(), small(norm=norm), batch)


def test_regression_keeps_its_contract(batch):
    batch = {**batch, "target": batch["label"].float() / 10}
    jichu.check_objective(Regression(), small(1, name="target"), batch)
    jichu.check_objective(Mixup(Regression()), small(1, name="target"), batch)


def test_vicreg_keeps_its_contract(batch):
    jichu.check_objective(VICReg(Augment(SIGNS), width=16, hidden=32), Model(Cnn(1, 8, widths=[8, 8])), batch)


class Broken(Classification):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.extra = nn.Parameter(torch.zeros(1)) if fault == "gradient" else None

    def prepare(self, batch, context):
        if self.fault == "random":
            return {**batch, "image": batch["image"] / 255 + 0.1 * torch.randn(batch["image"].shape)}
        return batch

    def losses(self, outputs, batch):
        loss = super().losses(outputs, batch)
        if self.fault == "mean":
            return {"other": loss}
        if self.fault == "nan":
            return loss / 0 * 0
        if self.fault == "rows":
            return loss * loss.mean()
        if self.fault == "shape":
            return loss[:, None]
        return loss


@pytest.mark.parametrize("fault", ["gradient", "mean", "nan", "rows", "shape", "random"])
def test_the_check_finds_what_is_wrong(fault, batch):
    said = {"gradient": "no gradient reaches", "mean": "no weight|row losses", "nan": "not finite", "rows": "change the gradient",
            "shape": "has shape|shape", "random": "differ|change"}[fault]  # fmt: skip
    with pytest.raises(jichu.JichuError, match=said):
        jichu.check_objective(Broken(fault), small(), batch)


def test_classification_is_cross_entropy(batch):
    model, objective = small(), Classification(smoothing=0.2)
    outputs = model(batch)
    wanted = F.cross_entropy(outputs["label"], batch["label"], label_smoothing=0.2, reduction="none")
    assert torch.equal(objective.losses(outputs, batch), wanted)
    half = {**batch, "label": torch.where(batch["row"] % 2 == 0, batch["label"], -1)}
    assert objective.weights(half)["loss"].tolist() == [1.0, 0.0] * 24
    assert (objective.losses(outputs, half)[1::2] == 0).all()


def test_vicreg_equals_the_papers_formulas():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    std = (z.var(0) + 1e-4).sqrt()
    assert torch.allclose(variance_loss(z), F.relu(1 - std).mean())
    covariance = torch.from_numpy(__import__("numpy").cov(z.numpy().T))
    off = covariance - torch.diag(covariance.diagonal())
    assert torch.allclose(covariance_loss(z), off.square().sum() / 6)
    objective = VICReg(Augment(AugmentConfig()))
    pair = torch.stack([z, z + 1], dim=1)
    terms = objective.losses({"embeddings": pair}, {})
    assert torch.allclose(terms["invariance"], torch.ones(50))
    assert objective.scales() == {"invariance": 25, "variance": 25, "covariance": 1}


def test_collapse_is_found_and_said(batch):
    objective = VICReg(Augment(SIGNS), variance=0.0, covariance=0.0, width=16, hidden=16)
    model = Model(Cnn(1, 8, widths=[8, 8], norm="none"))
    config = jichu.TrainConfig(
        budget="150 steps", batch_size=48, optimizer={"name": "adamw", "lr": 0.02}, precision="float32"
    )
    collapsed = jichu.fit(model, objective, [batch], config).history[-1]
    assert "Likely cause" in collapse(collapsed)
    healthy = VICReg(Augment(SIGNS), width=16, hidden=16)
    row = jichu.fit(Model(Cnn(1, 8, widths=[8, 8])), healthy, [batch], config).history[-1]
    assert collapse(row) is None and row["effective_rank"] > 2
    assert collapse({"loss": 1.0}) is None
    assert "directions" in collapse({"rank_share": 0.01, "spread": 1.0, "effective_rank": 1.2})


def test_mixup_blends_inputs_and_losses(batch):
    context = Context(0, 5)
    objective, plain, model = Mixup(Classification(), alpha=1.0), Classification(), small()
    mixed = objective.prepare(batch, context)
    partner, share = mixed["mixup.partner"], mixed["mixup.share"]
    assert sorted(partner.tolist()) == list(range(48)) and (partner != torch.arange(48)).all()
    x = batch["image"].float() / 255
    lam = share[:, None, None, None]
    assert torch.allclose(mixed["image"], lam * x + (1 - lam) * x[partner])
    outputs = objective(model, mixed)
    swapped = {**mixed, "label": batch["label"][partner]}
    wanted = share * plain.losses(outputs, mixed) + (1 - share) * plain.losses(outputs, swapped)
    assert torch.allclose(objective.losses(outputs, mixed)["loss"], wanted)
    shares = objective.prepare({**batch, "row": batch["row"]}, Context(1))["mixup.share"]
    assert not torch.equal(shares, share)
    blind = objective.prepare(
        {**batch, "label": torch.full((48,), -1).scatter(0, torch.arange(24), 1)}, context
    )
    assert (blind["mixup.share"][blind["mixup.partner"] >= 24] == 1).all()


def test_mixups_share_is_beta():
    rows = torch.arange(4000)
    batch = {"image": torch.zeros(4000, 1, 1, 1), "label": torch.zeros(4000, dtype=torch.long), "row": rows}
    for alpha in (0.2, 1.0, 4.0):
        share = Mixup(Classification(), alpha).prepare(batch, Context(0))["mixup.share"]
        variance = 1 / (4 * (2 * alpha + 1))
        assert share.mean() == pytest.approx(0.5, abs=0.02) and share.var() == pytest.approx(
            variance, rel=0.1
        )


def test_an_objective_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match=r"Objective\.losses"):
        Objective().losses({}, {})
    assert math.isclose(Context(0, 5, 10).progress, 0.5)
    assert Mlp(1, 8).width == 128

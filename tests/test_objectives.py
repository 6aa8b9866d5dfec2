"""Objectives against their contract, closed forms and reference formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import jichu
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct
from jichu.data.augment import Augment
from jichu.data.config import SIGNS, AugmentConfig
from jichu.data.target import Target
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.inputs import Inputs
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives import OBJECTIVES
from jichu.objectives.base import Context, Objective
from jichu.objectives.cutmix import CutMix
from jichu.objectives.masked_cells import MaskedCells
from jichu.objectives.mixup import Mixup
from jichu.objectives.several import Several
from jichu.objectives.supervised import Classification, MultiLabel, Regression
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


# --- losses: each against torch or the paper's formula


CLASSES = Target("label", "classification", tuple("0123456789"), (5, 1, 2, 0, 3, 4, 5, 6, 7, 8), rows=41)
MANY = Target("tags", "multilabel", tuple("abc"), (10, 2, 0), rows=40)
NUMBER = Target("price", "regression", rows=48, mean=200.0, std=50.0)
TARGETS = {"label": CLASSES, "tags": MANY, "price": NUMBER}


@pytest.fixture
def mixed(batch):
    """The digits with a second and a third target, each unknown for some rows."""
    generator = torch.Generator().manual_seed(1)
    tags = (torch.rand(48, 3, generator=generator) < 0.3).float()
    tags[torch.rand(48, 3, generator=generator) < 0.3] = math.nan
    tags[7] = math.nan
    price = 200 + 50 * torch.randn(48, generator=generator)
    price[3] = math.nan
    label = torch.where(torch.arange(48) % 5 == 4, -1, batch["label"])
    return {**batch, "label": label, "tags": tags, "price": price}


def heads(**outputs):
    torch.manual_seed(0)
    return Model(Cnn(1, 8, widths=[8, 8], norm="none"), {n: Linear(8, k) for n, k in outputs.items()})


def many(**arguments):
    return Several(
        {
            "label": Classification(targets=TARGETS, class_weights="balanced"),
            "tags": MultiLabel("tags", targets=TARGETS, positive_weights="balanced"),
            "price": Regression("price", "quantile", targets=TARGETS),
        },
        **arguments,
    )


def mean_of(objective, outputs, batch):
    """The loss as the loop makes it."""
    weights, losses = objective.weights(batch)["loss"], objective.losses(outputs, batch)
    return (weights * losses).sum() / weights.sum()


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (lambda: Classification(focal=2.0, smoothing=0.1), {"label": 10}),
        (lambda: Classification(class_weights="balanced", targets=TARGETS, smoothing=0.1), {"label": 10}),
        (lambda: MultiLabel("tags"), {"tags": 3}),
        (lambda: MultiLabel("tags", focal=0.5, positive_weights=[1.0, 2.0, 3.0]), {"tags": 3}),
        (lambda: Regression("price", "mae", targets=TARGETS), {"price": 1}),
        (lambda: Regression("price", "huber", delta=0.5, targets=TARGETS), {"price": 1}),
        (lambda: Regression("price", "quantile", targets=TARGETS), {"price": 3}),
        (lambda: many(scales={"tags": 0.5}), {"label": 10, "tags": 3, "price": 3}),
        (lambda: Mixup(many()), {"label": 10, "tags": 3, "price": 3}),
    ],
)
def test_losses_keep_their_contract(make, outputs, mixed):
    jichu.check_objective(make(), heads(**outputs), mixed)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_are_torchs(smoothing, mixed):
    outputs = {"label": torch.randn(48, 10, generator=torch.Generator().manual_seed(0))}
    weights = [0.5, 2.0, 1.0, 1.0, 3.0, 0.1, 1.0, 1.0, 1.5, 1.0]
    objective = Classification(smoothing=smoothing, class_weights=weights, targets=TARGETS)
    wanted = F.cross_entropy(
        outputs["label"], mixed["label"], torch.tensor(weights), ignore_index=-1, label_smoothing=smoothing
    )
    assert mean_of(objective, outputs, mixed) == pytest.approx(wanted.item(), rel=1e-5)


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    found = Classification(class_weights="balanced", targets=TARGETS).class_weights
    labels = [c for c, n in enumerate(CLASSES.counts) for _ in range(n)]
    there = sorted(set(labels))
    wanted = compute_class_weight("balanced", classes=torch.tensor(there).numpy(), y=labels)
    assert found[there].numpy() == pytest.approx(wanted * len(there) / 10) and found[3] == 0
    assert MultiLabel("tags", positive_weights="balanced", targets=TARGETS).positive_weights.tolist() == [
        3,
        19,
        1,
    ]


def test_focal_loss_is_the_papers(mixed):
    logits = torch.randn(48, 10, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(1).gather(1, mixed["label"].clamp(min=0)[:, None])[:, 0]
    known = mixed["label"] >= 0
    for gamma in (0.5, 2.0):
        found = Classification(focal=gamma).losses({"label": logits}, mixed)[known]
        assert torch.allclose(found, (-((1 - p) ** gamma) * p.log())[known], rtol=1e-4)
    assert (Classification(focal=2.0).losses({"label": logits}, mixed)[~known] == 0).all()
    sure = torch.tensor([[100.0, 0.0]], requires_grad=True)  # p is exactly 1
    one = {"label": torch.tensor([0]), "row": torch.tensor([0])}
    Classification(focal=0.5).losses({"label": sure}, one).sum().backward()
    assert torch.isfinite(sure.grad).all()
    logits, tags = logits[:, :3], mixed["tags"].nan_to_num()
    p = torch.where(tags == 1, logits.sigmoid(), 1 - logits.sigmoid())
    whole = {**mixed, "tags": tags}
    found = MultiLabel("tags", focal=2.0).losses({"tags": logits}, whole)
    assert torch.allclose(found, (-((1 - p) ** 2) * p.log()).mean(1), rtol=1e-4)


def test_multilabel_is_torchs_where_all_is_known(mixed):
    logits = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
    whole = {**mixed, "tags": mixed["tags"].nan_to_num()}
    objective = MultiLabel("tags", positive_weights=[1.0, 2.0, 4.0])
    wanted = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 4.0]))(logits, whole["tags"])
    assert mean_of(objective, {"tags": logits}, whole) == pytest.approx(wanted.item(), rel=1e-5)
    found, known = objective.losses({"tags": logits}, mixed), ~mixed["tags"].isnan()
    for i in (0, 1, 2, 7):
        own = F.binary_cross_entropy_with_logits(
            logits[i], whole["tags"][i], pos_weight=objective.positive_weights, reduction="none"
        )
        wanted = own[known[i]].mean() if known[i].any() else torch.tensor(0.0)
        assert torch.allclose(found[i], wanted, rtol=1e-5)
    assert not known[7].any() and torch.equal(objective.weights(mixed)["loss"], known.any(1).float())


def test_regression_in_units_of_the_deviation(mixed):
    found = torch.randn(48, 1, generator=torch.Generator().manual_seed(0))
    wanted, known = (mixed["price"] - 200) / 50, ~mixed["price"].isnan()
    for loss, reference in (
        ("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", lambda a, b: F.huber_loss(a, b, delta=0.7)),
    ):  # fmt: skip
        objective = Regression("price", loss, delta=0.7, targets=TARGETS)
        value = reference(found[known, 0], wanted[known])
        assert mean_of(objective, {"price": found}, mixed) == pytest.approx(value.item(), rel=1e-5)
        assert objective.answer("price", NUMBER) is NUMBER
    rmse = (200 + 50 * found[:, 0] - mixed["price"])[known].square().mean().sqrt()
    told = Regression("price", targets=TARGETS).diagnose({"price": found}, mixed)["train_rmse"]
    assert told == pytest.approx(rmse.item(), rel=1e-5)


def test_the_pinball_loss_is_least_at_the_quantiles(mixed):
    from sklearn.metrics import mean_pinball_loss

    levels = [0.2, 0.5, 0.8]
    objective = Regression("price", "quantile", quantiles=levels, targets=TARGETS)
    assert objective.answer("price", NUMBER).outputs == 3 and objective.answer("label", CLASSES) is CLASSES
    known = ~mixed["price"].isnan()
    best = torch.quantile(((mixed["price"] - 200) / 50)[known], torch.tensor(levels)).expand(48, 3)
    least = mean_of(objective, {"price": best}, mixed)
    y = mixed["price"][known].numpy()
    wanted = [
        mean_pinball_loss(y, [200 + 50 * best[0, i].item()] * len(y), alpha=q) for i, q in enumerate(levels)
    ]
    assert 50 * least.item() == pytest.approx(sum(wanted) / 3, rel=1e-4)
    assert objective.diagnose({"price": best}, mixed)["train_pinball"] == pytest.approx(
        50 * least.item(), rel=1e-4
    )
    for shift in (-0.3, 0.3):
        assert mean_of(objective, {"price": best + shift}, mixed) > least


def test_several_heads_are_learned_as_each_alone(mixed):
    """Each term is the mean over the rows that have its target."""
    model, objective = heads(label=10, tags=3, price=3), many(scales={"tags": 0.5})
    outputs, weights = objective(model, mixed), objective.weights(mixed)
    losses = objective.losses(outputs, mixed)
    assert set(losses) == set(weights) == {"label", "tags", "price"}
    assert objective.scales() == {"label": 1, "tags": 0.5, "price": 1}
    assert objective.answer("price", NUMBER).outputs == 3
    for name, alone in zip(losses, objective.inner, strict=True):
        wanted = mean_of(alone, model(mixed), mixed)
        assert ((losses[name] * weights[name]).sum() / weights[name].sum()).item() == pytest.approx(
            wanted.item()
        )
    assert set(objective.diagnose(outputs, mixed)) == {
        "label/train_accuracy", "tags/train_accuracy", "price/train_pinball"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (Spec(name="classification", class_weights=[1.0, 2.0]), "2 weights for 10 classes"),
        (Spec(name="classification", target="tags"), "expected: multilabel"),
        (Spec(name="classification", target="labl"), "did you mean: label"),
        (Spec(name="classification", targets={}), "unknown key 'targets'"),
        (Spec(name="regression", target="price", loss="quantile", quantiles=[0.9, 0.1]), "rising numbers"),
        (Spec(name="regression", target="price", quantiles=[1.5]), "less than 1"),
        (Spec(name="multilabel", target="tags", focal=-1.0), "greater than or equal to 0"),
    ],
)
def test_what_a_loss_cannot_be(spec, said):
    with pytest.raises(UsageError, match=said):
        construct("objective", spec, OBJECTIVES, targets=TARGETS)()


def test_balanced_needs_counts():
    with pytest.raises(UsageError, match="need the counts"):
        Classification(class_weights="balanced")
    with pytest.raises(UsageError, match="did you mean: label"):
        Several({"label": Classification()}, {"labl": 1.0})


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


def test_what_cannot_be_mixed_is_told():
    batch = {"row": torch.arange(4), "label": torch.tensor([0, 1, 0, 1]), "numbers": torch.rand(4, 3)}
    with pytest.raises(UsageError, match=r"(?s)mixes 'image', which.*column: numbers"):
        Mixup(Classification()).prepare(batch, Context(0))
    mixed = Mixup(Classification(), column="numbers").prepare(batch, Context(0))
    share, partner = mixed["mixup.share"][:, None], mixed["mixup.partner"]
    blend = share * batch["numbers"] + (1 - share) * batch["numbers"][partner]
    assert torch.allclose(mixed["numbers"], blend)
    with pytest.raises(UsageError, match="no cutmix"):
        CutMix(Classification(), column="label").prepare(batch, Context(0))


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


# --- masked cells


@pytest.fixture
def cells():
    """60 rows of a table: a number and what follows from it, a category that does, gaps."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, generator=generator)
    numbers = torch.stack([x, -2 * x + 5, torch.randn(60, generator=generator)], 1)
    numbers[::7, 2] = math.nan
    codes = torch.stack([1 + (x > 0).long(), torch.randint(0, 4, (60,), generator=generator)], 1)
    return {"numbers": numbers, "categories": codes, "row": torch.arange(60)}


def of_cells(cells, **changes):
    inputs = Inputs(numbers=3, categories=[3, 4])
    inputs.estimate(cells, cells["row"])
    return Model(Mlp(numbers=3, categories=[3, 4], widths=[32]), inputs=inputs), MaskedCells(
        {name: cells[name] for name in ("numbers", "categories")}, cells["row"], **changes
    )


def test_masked_cells_keep_their_contract(cells):
    model, objective = of_cells(cells)
    jichu.check_objective(objective, model, cells)


def test_masked_cells_are_hidden_and_asked_for(cells):
    _, objective = of_cells(cells, share=0.4)
    prepared = objective.prepare(cells, Context(0, 3))
    hidden = prepared["numbers"].isnan() & ~cells["numbers"].isnan()
    assert torch.equal(hidden, prepared["asked.numbers"]) and 0.3 < hidden[:, :2].float().mean() < 0.5
    gone = (prepared["categories"] == 0) & (cells["categories"] != 0)
    assert torch.equal(gone, prepared["asked.categories"])
    kept = ~prepared["asked.numbers"]
    assert torch.equal(prepared["numbers"][kept].nan_to_num(), cells["numbers"][kept].nan_to_num())
    assert torch.equal(objective.weights(prepared)["loss"] > 0, hidden.any(1) | gone.any(1))


def test_the_loss_of_masked_cells_is_the_mean_over_those_asked_for(cells):
    model, objective = of_cells(cells)
    objective.bind(model, cells)
    prepared = objective.prepare(cells, Context(0, 3))
    outputs = objective(model, prepared)
    found, told = objective.losses(outputs, prepared).detach(), outputs["told"].detach()
    wanted = Inputs(numbers=3)
    wanted.estimate(cells, cells["row"])
    truth = wanted({"numbers": cells["numbers"]})["numbers"]
    for row in range(60):
        parts = [
            min(8.0, float(told[row, c] - truth[row, c]) ** 2)
            for c in range(3)
            if prepared["asked.numbers"][row, c]
        ]
        for column, (start, size) in enumerate([(3, 3), (6, 4)]):
            if prepared["asked.categories"][row, column]:
                logits = told[row, start : start + size].log_softmax(0)
                parts.append(-float(logits[cells["categories"][row, column]]) / math.log(size))
        assert float(found[row]) == pytest.approx(sum(parts) / max(1, len(parts)), rel=1e-4)


def test_what_follows_from_other_cells_is_learnt(cells):
    """The first two columns and the first category tell each other; the third number and category nothing."""
    model, objective = of_cells(cells, share=0.3)
    config = jichu.TrainConfig(
        budget="400 steps", batch_size=60, precision="float32", optimizer={"lr": 0.01}, log_every=20
    )
    fit_to = jichu.fit(model, objective, [cells], config)
    assert fit_to.history[-1]["loss"] < 0.75 * fit_to.history[0]["loss"]
    only = objective.prepare(cells, Context(0))
    only["numbers"], only["categories"] = cells["numbers"].clone(), cells["categories"]
    only["numbers"][:, 0] = math.nan
    with torch.no_grad():
        told = objective(model.eval(), only)["told"][:, 0]
    truth = objective.ready(cells["numbers"])[:, 0]
    assert torch.corrcoef(torch.stack([told, truth]))[0, 1] > 0.95


def test_masked_cells_need_a_table():
    with pytest.raises(UsageError, match="these data have none"):
        MaskedCells({"image": torch.zeros(4, 1, 8, 8)}, torch.arange(4))

"""Joint-embedding objectives against their contract, closed forms and plain loops over the papers' formulas."""

import contextlib
import copy
import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import jichu
from jichu.data.augment import Augment
from jichu.data.config import PHOTOGRAPHS, SIGNS
from jichu.metrics.representation import alignment, uniformity
from jichu.models.averaging import follow
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.model import Model
from jichu.objectives.barlow_twins import BarlowTwins, cross_correlation
from jichu.objectives.base import Context
from jichu.objectives.byol import BYOL
from jichu.objectives.contrastive import MoCo, SimCLR, info_nce, nt_xent
from jichu.objectives.dino import DINO
from jichu.objectives.lejepa import LeJEPA, epps_pulley
from jichu.objectives.mixup import Mixup
from jichu.objectives.supervised import Classification
from jichu.objectives.vicreg import VICReg
from jichu.train.learner import Learner, backward, cached, cut, total_weights

SIZES = {"width": 16, "hidden": 32}
ALL = [VICReg, BarlowTwins, SimCLR, MoCo, BYOL, DINO, LeJEPA]


def made(objective, **changes):
    return objective(Augment(SIGNS), **SIZES | changes)


def net(norm="batch"):
    return Model(Cnn(1, 8, widths=[8, 8], norm=norm))


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("objective", ALL)
def test_each_keeps_its_contract(objective, batch):
    # DINO's loss is that against a teacher which grows more certain: it may rise while all is well
    jichu.check_objective(made(objective), net(), batch, overfits=objective is not DINO)


@pytest.mark.parametrize("objective", [VICReg, BarlowTwins, SimCLR, MoCo, DINO, LeJEPA])
def test_a_batch_of_any_size_is_made_of_small_ones(objective, batch, monkeypatch):
    """Gradients of 48 rows at once, and of 5 micro-batches whose outputs are cached."""
    for module in ("views", "taught", "dino"):  # without batch statistics, which are of a micro-batch
        monkeypatch.setattr(f"jichu.objectives.{module}.mlp", lambda a, h, b, layers: nn.Linear(a, b))
    torch.manual_seed(0)
    learner = Learner(Model(Cnn(1, 8, widths=[8, 8], norm="group")), made(objective))
    learner.objective.bind(learner.model, batch)
    found = []
    for parts in (1, 5):
        copied = copy.deepcopy(learner)
        micro = [copied.objective.prepare(part, Context(0, 3, 10)) for part in cut(batch, parts)]
        totals, _ = total_weights(copied.objective, micro, False)
        torch.manual_seed(1)
        how = functools.partial(backward, copied) if parts == 1 else functools.partial(cached, copied, copied)
        loss, terms, told = how(micro, totals, contextlib.nullcontext, diagnose=True)
        found.append((loss, {n: p.grad for n, p in copied.named_parameters()}, terms, told))
    (loss, whole, terms, told), (again, pieces, terms_again, told_again) = found
    assert torch.allclose(loss, again, rtol=1e-4)
    assert terms.keys() == terms_again.keys() and told.keys() == told_again.keys()
    largest = max(float(g.abs().max()) for g in whole.values() if g is not None)
    for name, gradient in whole.items():
        if gradient is None:
            assert pieces[name] is None
        else:
            assert torch.allclose(gradient, pieces[name], rtol=1e-3, atol=1e-5 * (1 + largest)), name


def test_what_is_mixed_beforehand_is_not_cut(batch):
    config = jichu.TrainConfig(budget="2 steps", batch_size=48, accumulate=2, precision="float32")
    jichu.fit(net(), made(SimCLR), [batch], config)
    model = Model(Cnn(1, 8, widths=[8, 8]), {"label": Linear(8, 10)})
    with pytest.raises(jichu.JichuError, match="cannot be cut into 2 micro-batches"):
        jichu.fit(model, Mixup(Classification()), [batch], config)


class Fragile(Cnn):
    """Gives no numbers for an image that begins with white."""

    def forward(self, batch):
        found = super().forward(batch)
        broken = (batch["image"][:, 0, 0, 0] > 3) & (batch["image"][:, 0, 0, 1] > 3)
        return found._replace(pooled=torch.where(broken[:, None], torch.nan, found.pooled))


@pytest.mark.parametrize("objective", [BarlowTwins, SimCLR])
def test_a_row_that_breaks_a_loss_of_all_is_found(objective, batch, capsys):
    plain = Augment(
        SIGNS.model_copy(update={"rotate": 0, "shear": 0, "translate": 0, "scale": [1.0, 1.0], "colour": 0})
    )
    images = batch["image"].clamp(max=100)
    images[5, 0, 0, :2] = 255
    model = Model(Fragile(1, 8, widths=[8, 8]))
    model.inputs.set_pixels(0.0, 0.2)
    config = jichu.TrainConfig(budget="3 steps", batch_size=48, precision="float32")
    jichu.fit(model, objective(plain, **SIZES), [{**batch, "image": images}], config)
    assert "the loss of row 5 was not finite; left out" in capsys.readouterr().err


def test_the_two_passes_of_caching_draw_the_same(batch):
    """With dropout the gradients are those of one draw: of one micro-batch cached, the plain ones."""
    learner = Learner(net(), made(SimCLR))
    learner.objective.bind(learner.model, batch)
    learner.objective.projector.append(nn.Dropout(0.5))
    learner.train()
    found = []
    for how in (backward, functools.partial(cached, copy.deepcopy(learner))):
        copied = copy.deepcopy(learner) if how is backward else how.args[0]
        call = functools.partial(how, copied)
        micro = [copied.objective.prepare(batch, Context(0))]
        totals, _ = total_weights(copied.objective, micro, False)
        torch.manual_seed(1)
        loss, _, _ = call(micro, totals, contextlib.nullcontext)
        found.append((loss, [p.grad for p in copied.parameters()], list(copied.buffers())))
    (loss, plain, buffers), (again, cached_ones, buffers_again) = found
    assert torch.allclose(loss, again)
    for a, b in zip(plain + buffers, cached_ones + buffers_again, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_simclr_is_the_papers_sum():
    z = points(7, 2, 5)
    flat = [view / view.norm() for row in z for view in row]
    wanted = []
    for i, mine in enumerate(flat):
        likeness = [math.exp(float(mine @ other) / 0.3) for other in flat]
        wanted.append(-math.log(likeness[i ^ 1] / (sum(likeness) - likeness[i])))
    found = nt_xent(z, 0.3)
    assert found.tolist() == pytest.approx(
        [(a + b) / 2 for a, b in zip(wanted[::2], wanted[1::2], strict=True)]
    )
    assert float(nt_xent(torch.ones(4, 2, 3), 1.0)[0]) == pytest.approx(math.log(7))  # one of 2N - 1


def test_info_nce_finds_the_key_of_its_row():
    queries, keys = points(6, 4), points(6, 4, seed=1)
    likeness = np.exp(F.normalize(queries).numpy() @ F.normalize(keys).numpy().T / 0.2)
    wanted = -np.log(np.diag(likeness) / likeness.sum(1))
    assert np.allclose(info_nce(queries, keys, 0.2).numpy(), wanted)
    objective = MoCo(Augment(SIGNS), temperature=0.2)
    outputs = {"embeddings": queries[:, None], "predictions": torch.stack([queries, keys], 1),
               "targets": torch.stack([keys, queries], 1)}  # fmt: skip
    same = 0.4 * (info_nce(queries, queries, 0.2) + info_nce(keys, keys, 0.2))
    assert torch.allclose(objective.losses(outputs, {}).double(), same, atol=1e-5)


def test_barlow_twins_correlates_as_numpy_does():
    one, two = points(40, 5), points(40, 5, seed=1)
    wanted = np.corrcoef(one.numpy().T, two.numpy().T)[:5, 5:]
    assert np.allclose(cross_correlation(one, two).numpy(), wanted, atol=1e-4)
    terms = BarlowTwins(Augment(SIGNS)).losses({"embeddings": torch.stack([one, one], 1)}, {})
    assert float(terms["invariance"]) == pytest.approx(0, abs=1e-6)
    off = np.corrcoef(one.numpy().T) - np.eye(5)
    assert float(terms["redundancy"]) == pytest.approx((off**2).sum(), rel=1e-3)


def test_byol_is_the_distance_of_unit_vectors_across_views():
    predictions, targets = points(6, 2, 4), points(6, 2, 4, seed=1)
    outputs = {"embeddings": targets, "predictions": predictions, "targets": targets}
    unit, other = F.normalize(predictions, dim=2), F.normalize(targets, dim=2)
    wanted = (unit[:, 0] - other[:, 1]).square().sum(1) + (unit[:, 1] - other[:, 0]).square().sum(1)
    assert torch.allclose(BYOL(Augment(SIGNS)).losses(outputs, {}).double(), wanted, atol=1e-5)


def test_dino_crosses_each_whole_view_with_all_others():
    given, cosines = points(3, 2, 6), points(3, 5, 6, seed=1)
    objective = DINO(Augment(SIGNS), prototypes=6, temperature=0.5, teacher_temperature=0.25, **SIZES).eval()
    objective.centre += points(6, seed=2)
    found = objective.losses({"embeddings": given, "targets": given, "cosines": cosines}, {})
    targets = ((given - objective.centre) / 0.25).softmax(2)
    assigned = (cosines / 0.5).log_softmax(2)
    for row in range(3):
        pairs = [(t, s) for t in range(2) for s in range(5) if t != s]
        wanted = [-float(targets[row, t] @ assigned[row, s]) for t, s in pairs]
        assert float(found[row]) == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)


def test_dino_looks_closely_and_keeps_its_centre(batch):
    objective, model = made(DINO, local=3), net()
    objective.bind(model, batch)
    prepared = objective.prepare(batch, Context(0, 1))
    assert prepared["views.image"].shape == (48, 2, 1, 8, 8) and prepared["local.image"].shape == (
        48,
        3,
        1,
        4,
        4,
    )
    outputs = objective.train()(model, prepared)
    assert outputs["cosines"].shape == (48, 5, 1024) and outputs["targets"].shape == (48, 2, 1024)
    objective.losses(outputs, prepared)
    centre = objective.centre.clone()
    assert torch.allclose(centre, 0.1 * outputs["targets"].mean((0, 1)), atol=1e-6)
    objective.eval().losses(outputs, prepared)
    assert torch.equal(objective.centre, centre)  # which evaluation leaves


def test_the_statistic_of_lejepa_is_the_closed_form_of_epps_and_pulley():
    """Integrated over all frequencies, up to the weight's constant: see Epps and Pulley (1983)."""
    x = points(30, 4)
    differences = (x[:, None] - x[None]).square()
    closed = (
        (-differences / 2).exp().mean((0, 1))
        - math.sqrt(2) * (-x.square() / 4).exp().mean(0)
        + 1 / math.sqrt(3)
    )
    wanted = 30 * math.sqrt(2 * math.pi) * closed
    assert torch.allclose(epps_pulley(x), wanted, rtol=0.02, atol=0.02)  # 17 places, up to 3
    spread = torch.special.ndtri((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)[:, None]
    assert float(epps_pulley(spread)) < 0.01 < 10 < float(epps_pulley(torch.zeros(1000, 1)))


def test_views_agree_with_lejepa_where_they_are_at_their_mean():
    z = points(8, 4, 16)
    terms = LeJEPA(Augment(SIGNS), views=4).losses({"embeddings": z}, {})
    assert torch.allclose(terms["invariance"].double(), z.var(1, correction=0).mean(1), atol=1e-5)
    still = LeJEPA(Augment(SIGNS)).losses({"embeddings": z[:, :1].expand(-1, 2, -1)}, {})
    assert still["invariance"].abs().max() < 1e-6


def test_a_teacher_follows_and_comes_to_rest(batch):
    objective, model = made(BYOL, momentum=0.9), net()
    objective.bind(model, batch)
    teacher = objective.teacher["model"]
    assert not any(p.requires_grad for p in teacher.parameters())
    old = {name: t.clone() for name, t in teacher.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    objective.after_step(model, Context(0, 5, 10))  # half of the way: half of 1 - 0.9
    for name, t in teacher.named_parameters():
        assert torch.allclose(t, old[name] + 0.05, atol=1e-6), name
    objective.after_step(model, Context(0, 10, 10))
    for name, t in teacher.named_parameters():
        assert torch.allclose(t, old[name] + 0.05, atol=1e-6), name


def test_what_follows_takes_counts_over():
    mine, theirs = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    theirs(torch.randn(5, 2))
    follow(mine, theirs, 0.5)
    assert mine.num_batches_tracked == 1
    assert torch.allclose(mine.running_mean, theirs.running_mean / 2)


def test_a_close_up_shows_a_small_part():
    ramp = torch.linspace(0, 1, 32).expand(64, 1, 32, 32)
    rows = torch.arange(64)
    augment = Augment(PHOTOGRAPHS.model_copy(update={"colour": 0.0, "grey": 0.0, "flip": False}))
    close = augment.close_up(0.05, 0.2, 16)(ramp, Context(0).for_rows(rows))
    assert close.shape == (64, 1, 16, 16)
    width = close[:, 0, 0, -1] - close[:, 0, 0, 0]  # the share of the side that is seen, less a pixel
    assert width.max() < math.sqrt(0.2 * 4 / 3) + 0.01 and width.min() > 0.1
    whole = augment(ramp, Context(0).for_rows(rows))
    assert (whole[:, 0, 0, -1] - whole[:, 0, 0, 0]).mean() > 2 * width.mean()


def test_alignment_and_uniformity_on_a_circle():
    angles = torch.linspace(0, 2 * math.pi, 401)[:-1]
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    assert float(alignment(circle, 3 * circle)) == pytest.approx(0, abs=1e-6)
    assert float(alignment(circle, circle.roll(100, 0))) == pytest.approx(2)
    # the mean of exp(-2 |x - y|²) = exp(-4 + 4 cos) over the circle: a Bessel function
    assert float(uniformity(circle)) == pytest.approx(
        math.log(float(torch.special.i0e(torch.tensor(4.0)))), abs=0.02
    )
    assert float(uniformity(torch.ones(5, 3))) == pytest.approx(0)

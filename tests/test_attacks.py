"""Attacks against what is known in closed form of linear models, and against bounds that they must keep."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import nn

import jichu
from jichu.attacks import ATTACKS, Threat, Victim, drawing, fooled, make
from jichu.attacks.auto import _looks
from jichu.attacks.losses import difference_of_logits_ratio, margin, towards
from jichu.attacks.space import space
from jichu.attacks.threat import length
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.inputs import Inputs
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.adversarial import Adversarial, Trades
from jichu.objectives.base import Context
from jichu.objectives.mixup import Mixup
from jichu.objectives.supervised import Classification, Regression

QUICK = {
    "fgsm": {}, "pgd": {"steps": 20}, "apgd": {"steps": 20}, "fab": {"steps": 20}, "square": {"queries": 300},
    "ensemble": {"steps": 10, "queries": 50},
}  # fmt: skip


def attack(name, **given):
    made = make(Spec(name=name, **{**QUICK[name], **given}))
    return lambda net, x, *rest: made(Victim(lambda z, _: net(z), torch.arange(len(x))), x, *rest)


@pytest.fixture
def linear():
    """Two classes, told apart by one hyperplane; wide bounds."""
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(12, generator=generator), 0.5 * torch.randn(40, 12, generator=generator)

    def logits(x):
        z = x @ weight
        return torch.stack([-z, z], 1)

    return logits, x, (x @ weight > 0).long(), weight


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd"])
def test_of_a_linear_model_the_worst_input_is_found(name, norm, linear):
    """The margin falls by epsilon times the dual norm of the weights, and no attack can do more."""
    logits, x, truth, weight = linear
    threat = Threat(0.05, norm, -10, 10)
    steps = {"fgsm": {}, "pgd": {"steps": 100, "size": 0.1}, "apgd": {"steps": 100}}[name]
    found = attack(name, **steps)(logits, x, truth, threat, drawing(0))
    most = 2 * 0.05 * (weight.abs().sum() if norm == "linf" else weight.norm())
    fallen = margin(logits(found), truth) - margin(logits(x), truth)
    stands = ~fooled(logits(found), truth)  # apgd is content with the first that fools
    assert stands.any() and torch.allclose(fallen[stands], most.expand(40)[stands], rtol=3e-3)
    assert bool((margin(logits(x), truth) + most < 1e-4).eq(stands).all())


@pytest.mark.parametrize("name", ["square", "ensemble"])
def test_squares_and_the_ensemble_come_near_it(name, linear):
    logits, x, truth, weight = linear
    threat = Threat(0.3, "linf", -10, 10)
    must = margin(logits(x), truth) + 2 * 0.3 * weight.abs().sum() > 0
    told = fooled(logits(attack(name)(logits, x, truth, threat, drawing(0))), truth)
    assert not (told & ~must).any() and (told | ~must).float().mean() >= (0.9 if name == "square" else 1)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(ATTACKS)), norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.01, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_what_an_attack_gives_is_allowed(name, norm, epsilon, seed):
    """Within epsilon and the bounds, the same for the same seed, and no row that was wrong is mended by the ensemble."""
    if name == "square" and norm == "l2":
        return
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(6, 1, 5, 5, generator=generator)
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    truth = torch.randint(4, (6,), generator=generator)
    threat = Threat(epsilon, norm)
    small = {
        "pgd": {"steps": 3, "restarts": 2},
        "apgd": {"steps": 5, "loss": "targeted"},
        "fab": {"steps": 4, "restarts": 2},
        "square": {"queries": 9},
    }
    one, two = (attack(name, **small.get(name, {}))(net, x, truth, threat, drawing(seed)) for _ in range(2))
    assert torch.equal(one, two) and one.min() >= 0 and one.max() <= 1
    change = (one - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert bool((size <= epsilon * (1 + 1e-4) + 1e-6).all())
    assert all(p.grad is None for p in net.parameters())
    if name in ("ensemble", "fab"):
        was = fooled(net(x), truth)
        assert torch.equal(one[was], x[was])
    if name == "fab":  # it changes what it can fool, and nothing else
        changed = change.abs().amax(1) > 0
        assert bool(fooled(net(one), truth)[changed].all())


def _by_solver(x, normal, rise, norm):
    """The same as `Threat.onto` for one row between 0 and 1, by scipy: its size in the norm."""
    n = len(x)
    if norm == "linf":  # of (change, size) the least size that no change is above
        each = np.hstack([np.eye(n), -np.ones((n, 1))])
        least = linprog(
            [0] * n + [1], np.vstack([each, each * ([-1] * n + [1])]),
            np.zeros(2 * n), [[*normal, 0]], [rise], [*zip(-x, 1 - x, strict=True), (0, None)],
        )  # fmt: skip
        return least.fun if least.success else None
    least = minimize(
        lambda d: d @ d, np.zeros(n), jac=lambda d: 2 * d, method="SLSQP", bounds=[*zip(-x, 1 - x, strict=True)],
        constraints={"type": "eq", "fun": lambda d: normal @ d - rise, "jac": lambda d: normal},
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return least.fun**0.5 if least.success else None


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_nearest_place_on_a_hyperplane_in_a_box(norm):
    """The smallest change that a solver finds, too, where there is one; else the corner that is nearest to it."""
    rng = np.random.default_rng(0)
    x, normal, part = rng.random((60, 7)), rng.normal(size=(60, 7)), rng.uniform(-1.3, 1.3, 60)
    normal[rng.random((60, 7)) < 0.2], x[rng.random((60, 7)) < 0.2] = 0, 1
    most = (
        np.maximum(normal, 0) * (1 - x) + np.maximum(-normal, 0) * x
    )  # that the sum can rise by, in each place
    least = np.maximum(normal, 0) * x + np.maximum(-normal, 0) * (1 - x)
    rise = np.where(part > 0, part * most.sum(1), part * least.sum(1))
    threat = Threat(1, norm)
    found = threat.onto(*(torch.tensor(v) for v in (x, normal, rise)))
    sizes = threat.size(found)
    assert bool((x + found.numpy() > -1e-12).all()) and bool((x + found.numpy() < 1 + 1e-12).all())
    reached = (torch.tensor(normal) * found).sum(1)
    for row in range(60):
        if abs(part[row]) > 1:
            assert reached[row] == pytest.approx(rise[row] / abs(part[row]))
        else:
            assert reached[row] == pytest.approx(rise[row])
            assert sizes[row] == pytest.approx(_by_solver(x[row], normal[row], rise[row], norm), abs=1e-6)
    free = Threat(1, norm, -torch.inf, torch.inf).onto(*(torch.tensor(v) for v in (x, normal, rise)))
    dual = torch.tensor(normal).norm(dim=1, p=1 if norm == "linf" else 2)
    assert torch.allclose(threat.size(free), torch.tensor(rise).abs() / dual)
    assert not threat.onto(*(torch.tensor(v) for v in (x, 0 * normal, rise))).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_finds_how_far_the_nearest_class_of_a_linear_model_is(norm):
    """By a solver, of three classes, in a box: it fools within a little more than that, and never within less."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, 6, generator=generator, dtype=torch.double)
    x = torch.rand(20, 6, generator=generator, dtype=torch.double)
    truth = (x @ weight.T).argmax(1)
    far = []
    for row, t in zip(x, truth, strict=True):
        others = [weight[k] - weight[t] for k in range(3) if k != t]
        sizes = [_by_solver(row.numpy(), n.numpy(), float(-n @ row), norm) for n in others]
        far.append(min((s for s in sizes if s is not None), default=np.inf))
    far = torch.tensor(far)
    assert far.isfinite().sum() > 10
    for epsilon in (0.01, 0.05, 0.1, 0.2):
        threat = Threat(epsilon, norm)
        found = attack("fab", steps=60)(lambda z: z @ weight.T, x, truth, threat, drawing(0))
        fell, size = fooled(found @ weight.T, truth), threat.size(found - x)
        assert bool(fell[far < epsilon / 1.02].all()) and not fell[far > epsilon].any()
        assert bool((size[fell] >= far[fell]).all())


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.08), ("l2", 0.5)])
def test_fab_is_as_strong_as_auto_pgd(norm, epsilon, digits):
    """On a small network: about as few rows stand, and the changes are about those at which auto-PGD begins to fool."""
    images, labels = (torch.tensor(v) for v in digits)
    x, truth = images[:, None].float() / 255, labels.long()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(768, 10))
    step = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        step.zero_grad()
        nn.functional.cross_entropy(net(x[:1400]), truth[:1400]).backward()
        step.step()
    x, truth = x[1400:1500], truth[1400:1500]
    one, two = (
        fooled(net(attack(name, steps=30)(net, x, truth, Threat(epsilon, norm), drawing(0))), truth)
        for name in ("fab", "apgd")
    )
    assert 0.2 < two.float().mean() < 0.9
    assert one.float().mean() > two.float().mean() - 0.03


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "fab"])
def test_a_slope_that_is_no_number_is_not_followed(name, norm):
    """The root of 0 has an infinite slope; times 0 it is no number."""
    x = torch.rand(8, 5, generator=torch.Generator().manual_seed(0))
    x[::2] = 0

    def logits(z):
        return torch.stack([0 * z.abs().sqrt().sum(1) + 0.1, z.sum(1) - 1], 1)

    truth = logits(x).argmax(1)
    found = attack(name)(logits, x, truth, Threat(0.1, norm), drawing(0))
    assert found.isfinite().all() and (found - x).abs().max() <= 0.1 + 1e-6


def test_the_losses_of_attacks():
    logits, truth = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.0, -1.0]]), torch.tensor([0, 0])
    assert margin(logits, truth).tolist() == [-2, 2]
    assert torch.allclose(difference_of_logits_ratio(logits, truth), torch.tensor([-2 / 3, 2 / 2]))
    assert torch.allclose(difference_of_logits_ratio(9 * logits, truth), torch.tensor([-2 / 3, 2 / 2]))
    aimed = towards(torch.tensor([2, 2]))(logits, truth)
    assert torch.allclose(aimed, torch.tensor([(0 - 3) / (3 - (0 - 1) / 2), (1 - 0) / (2 - (0 - 1) / 2)]))
    two = torch.tensor([[1.0, 4.0]])
    assert difference_of_logits_ratio(two, torch.tensor([0])).tolist() == [3]


def test_when_auto_pgd_looks_at_its_step():
    """The places of the paper, for a hundred steps."""
    assert sorted(_looks(100))[:6] == [22, 41, 57, 70, 80, 87]
    assert max(_looks(100)) >= 99 and min(_looks(2)) == 1


def test_a_random_start_is_allowed_and_fills_the_ball():
    origin = torch.full((2000, 3), 0.5)
    uniform = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    box = Threat(0.1).start(origin, uniform) - origin
    assert box.abs().max() <= 0.1 + 1e-6 and abs(float(box.var()) - 0.2**2 / 12) < 1e-4
    ball = length(Threat(0.1, "l2").start(origin, uniform) - origin)
    assert torch.allclose(ball, torch.tensor(0.1), atol=1e-5)


def test_what_cannot_be_differentiated_says_which_attack_can():
    def steps(x):
        return nn.functional.one_hot((x.sum(1) > 0).long(), 2).float()

    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="cannot be differentiated") as told:
        attack("fgsm")(steps, x, torch.zeros(10, dtype=torch.long), Threat(0.1, low=-9, high=9), drawing(0))
    assert "square" in str(told.value.expected)
    truth = (x.sum(1) > 0).long()
    found = attack("square")(steps, x, truth, Threat(3, low=-9, high=9), drawing(0))
    assert fooled(steps(found), truth).float().mean() >= 0.8  # of steps there is nothing to climb
    with pytest.raises(UsageError, match="not for l2"):
        attack("square")(steps, x, truth, Threat(3, "l2"), drawing(0))
    with pytest.raises(UsageError, match="changed a little"):
        space(nn.Identity(), {"tokens": torch.zeros(3, 4)})


# --- training


def small():
    return Model(Cnn(1, 8, widths=[8, 8], norm="batch"), {"label": Linear(8, 10)})


@pytest.mark.parametrize("made", [
    lambda: Adversarial(Classification(), epsilon=0.05, steps=2),
    lambda: Adversarial(Mixup(Classification()), epsilon=0.05, steps=2, norm="l2", ramp=0.5),
    lambda: Trades(Classification(), epsilon=0.05, steps=2),
])  # fmt: skip
def test_adversarial_objectives_keep_their_contract(made, batch):
    jichu.check_objective(made(), small(), batch)


def test_tables_are_attacked_in_distances_of_their_quartiles():
    numbers = torch.randn(16, 3) * torch.tensor([1.0, 100.0, 0.01])
    numbers[0, 1] = math.nan
    batch = {"numbers": numbers, "target": torch.randn(16), "row": torch.arange(16)}
    model = Model(Mlp(numbers=3, widths=[8]), {"target": Linear(8, 1)}, Inputs(numbers=3))
    model.inputs.estimate({"numbers": numbers}, torch.arange(16))
    jichu.check_objective(Adversarial(Regression(), steps=2), model, batch)
    objective = Adversarial(Regression(), epsilon=0.2, steps=3)
    ready = objective.prepare(batch, Context(0))
    changed = objective.attacked(model, ready, lambda b: model(b)["target"][:, 0].square())["numbers"]
    moved = ((changed - numbers) / model.inputs["numbers"].spread).abs()
    assert math.isnan(changed[0, 1]) and 0.1 < moved.nan_to_num(0).max() <= 0.2 + 1e-5


def test_the_attack_raises_the_loss_and_the_model_is_left_as_it_was(batch):
    model = small().train()
    objective = Adversarial(Classification(), epsilon=0.2, steps=5)
    objective.bind(model, batch)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ready = objective.prepare(batch, Context(0))
    model.eval()
    clean = objective.losses(objective.inner(model, ready), ready)
    hard = objective.losses(objective(model, ready), ready)
    assert (hard > clean).float().mean() > 0.9
    model.train()
    objective.attacked(model.eval(), ready, lambda b: objective.inner.losses(model(b), b))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    again = objective.prepare(batch, Context(0))
    assert torch.equal(again["adversarial.start"], ready["adversarial.start"])


def test_trades_of_no_attack_is_the_loss_itself(batch):
    """With an epsilon of almost nothing the second term is nothing, and beta multiplies it."""
    model = small().eval()
    plain = Classification().losses(model(batch), batch)
    for beta in (0.0, 6.0):
        objective = Trades(Classification(), epsilon=1e-9, beta=beta)
        ready = objective.prepare(batch, Context(0))
        assert torch.allclose(objective.losses(objective(model, ready), ready)["loss"], plain, atol=1e-5)
    one, six = (Trades(Classification(), epsilon=0.1, beta=beta) for beta in (1.0, 6.0))
    ready = one.prepare(batch, Context(0))
    out = one(model, ready)
    extra = [o.losses(out, ready)["loss"] - plain for o in (one, six)]
    assert torch.allclose(6 * extra[0], extra[1], atol=1e-5) and (extra[0] > -1e-6).all()


def test_bad_adversarial_training_is_told(batch):
    with pytest.raises(UsageError, match="classes"):
        Trades(Regression())
    with pytest.raises(UsageError, match="wrapped in itself"):
        Adversarial(Adversarial(Classification())).prepare(batch, Context(0))

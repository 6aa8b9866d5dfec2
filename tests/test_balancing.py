"""How much each of several losses counts: closed forms, formulas of the papers, and a table with two targets."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import jichu
from jichu.cli.main import main
from jichu.core.files import read_jsonl
from jichu.models.heads import Linear
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.balancing import DynamicWeightAverage, Uncertainty
from jichu.objectives.base import Context, Objective, row_weight
from jichu.objectives.mixup import Mixup
from jichu.objectives.several import Several
from jichu.objectives.supervised import Classification, Regression


class Constant(Objective):
    """A loss that nothing changes."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def losses(self, outputs, batch):
        return self.value * row_weight(batch)


def body(heads=None):
    torch.manual_seed(0)
    return Model(
        Mlp(numbers=4, categories=[], widths=[16]), heads or {"a": Linear(16, 2), "b": Linear(16, 1)}
    )


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(64, 4, generator=generator)
    return {
        "numbers": numbers, "row": torch.arange(64), "a": (numbers[:, 0] > 0).long(),
        "b": numbers[:, 1] + 0.5 * numbers[:, 2],
    }  # fmt: skip


@pytest.mark.parametrize("balance", ["fixed", "uncertainty", "dwa"])
def test_the_contract_is_kept(balance, rows):
    """Also the resume to the same bytes, with what is learned and what is remembered."""
    make = lambda: Several({"a": Classification("a"), "b": Regression("b")}, {"b": 3.0}, balance)  # noqa: E731
    jichu.check_objective(make(), body(), rows)
    jichu.check_objective(Mixup(make(), column="numbers"), body(), rows, overfits=False)


def test_the_best_log_variance_of_constant_losses_is_their_logarithm(rows):
    """d/ds (exp(-s) L + s) / 2 = 0 at s = log L, whatever it begins at; and there it begins."""
    losses = [0.02, 1.0, 700.0]
    objective = Several({str(i): Constant(value) for i, value in enumerate(losses)}, balance="uncertainty")
    objective.bind(body(), rows)
    expected = torch.tensor(losses).log()
    torch.testing.assert_close(objective.balance.log_variance.detach(), expected)
    with torch.no_grad():
        objective.balance.log_variance.zero_()
    optimizer = torch.optim.LBFGS(objective.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        terms, scales = objective.losses(objective(body(), rows), rows), objective.scales()
        loss = sum(scales.get(n, 1.0) * (t if t.ndim == 0 else t.mean()) for n, t in terms.items())
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(step)
    torch.testing.assert_close(objective.balance.log_variance.detach(), expected, atol=1e-3, rtol=1e-3)
    least = sum(1 + math.log(value) for value in losses) / 2
    assert float(step().detach()) == pytest.approx(least, abs=1e-3)


def test_losses_of_rows_that_are_not_known_begin_at_one():
    balance = Uncertainty(3)
    balance.begin(torch.tensor([0.0, math.nan, math.inf]))
    assert balance.log_variance.tolist() == [0, 0, 0]


def test_what_falls_slowly_counts_more():
    """Equation 7 of the paper, on rounds of five steps of a hundred."""
    balance = DynamicWeightAverage(2)
    means = [(8.0, 2.0), (4.0, 1.9), (1.0, 1.8)]
    step, found = 0, []
    for one, two in means:
        for i in range(5):
            shake = 0.1 * (i - 2)  # of which a round's mean knows nothing
            balance.after_step(torch.tensor([one + shake, two - shake]), Context(0, step, 100))
            step += 1
        found.append(balance.factors().tolist())
    assert found[0] == [1, 1]  # nothing to compare yet
    for (before, after), factors in zip(itertools.pairwise(means), found[1:], strict=True):
        r = np.array(after) / np.array(before)
        expected = 2 * np.exp(r / 2) / np.exp(r / 2).sum()
        assert factors == pytest.approx(expected, rel=1e-5) and sum(factors) == pytest.approx(2)


# ------------------------------------------------------------------- a table with two targets


def table():
    """A class that two columns tell together, and a noisy number that two others tell."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6))
    kind = np.where(x[:, 0] * x[:, 1] > 0, "yes", "no")
    price = 3 * x[:, 2] - 2 * x[:, 3] + 2 * rng.normal(size=600)
    lines = [
        ",".join([*(f"{v:.4f}" for v in row), k, f"{p:.4f}"])
        for row, k, p in zip(x, kind, price, strict=True)
    ]
    Path("t.csv").write_text("\n".join(["a,b,c,d,e,f,kind,price", *lines]))


def trained(name, *settings, code=0):
    words = [
        "finetune",
        "t.csv",
        "--name",
        name,
        "--backbone",
        "{name: mlp, widths: [32, 32]}",
        "--budget",
        "300 steps",
    ]
    common = ["data.target=[kind,price]", "optimizer.lr=0.01", "precision=float32", "clip=1.0", *settings]
    assert main([*words, *(w for s in common for w in ("--set", s))]) == code
    return jichu.open(f"runs/{name}") if not code else None


def test_a_loss_a_thousand_times_the_other_does_not_drown_it(in_folder):
    """Whichever it is, balanced both are learned as if they were alike."""
    table()
    score = lambda run: run.headline["accuracy"]["value"]  # noqa: E731
    assert score(trained("plain")) > 0.9
    assert score(trained("drowned", "objective={name: several, scales: {price: 1000}}")) < 0.7
    for large in ("price", "kind"):
        run = trained(
            large,
            f"objective={{name: several, scales: {{{large}: 1000}}, balance: uncertainty}}",
            "data.split.validation=0.1",
        )
        assert score(run) > 0.9 and run.headline["price: r2"]["value"] > 0.65
        last = [row for row in read_jsonl(run.folder.metrics) if "loss/label_2" in row][-1]
        large_one, small_one = ("label_2", "label") if large == "price" else ("label", "label_2")
        assert 100 * last[f"{large_one}/factor"] < last[f"{small_one}/factor"]
        assert "loss/balance" in last and any("validation_loss" in row for row in run.history)


def test_objectives_of_each_column(in_folder, capsys):
    table()
    said = (
        "objective={name: several, inner: {price: {name: regression, loss: huber}, kind: {smoothing: 0.1}}%s}"
    )
    trained("wrong", said % "", "budget=2 steps", code=2)
    assert "the key 'name' is missing" in capsys.readouterr().err
    said = said.replace("{smoothing: 0.1}", "{name: classification, smoothing: 0.1}")
    run = trained("each", said % ", balance: dwa, scales: {kind: 0.5}", "budget=4 steps", "log_every=1")
    assert run.history[0]["label/factor"] == 1
    for wrong, told in {
        "objective={name: several, scales: {prize: 2}}": "did you mean: price",
        "objective={name: several, inner: {kind: regression}}": "regression does not learn kind",
        "objective={name: several, inner: {kind: mixup}}": "mixup does not learn kind",
        "objective={name: several, inner: 3}": "an objective for each column",
        "objective={name: several, balance: uncertain}": "did you mean: uncertainty",
        "objective={name: several, scales: {price: -1}}": "greater than or equal to 0",
    }.items():
        trained("wrong", wrong, "budget=2 steps", code=2)
        assert told in capsys.readouterr().err, wrong
    trained("wrong", "objective=several", "data.target=kind", "data.columns={price: ignore}", code=2)
    assert "is for more than one target" in capsys.readouterr().err
    assert main(["pretrain", "t.csv", "--objective", "several"]) == 2
    assert "learns from labels" in capsys.readouterr().err


def test_objectives_that_call_the_model_themselves_are_balanced_too(rows):
    class Twice(Regression):
        def forward(self, model, batch):
            return {"b": (model(batch)["b"] + model(batch)["b"]) / 2}

    objective = Several({"a": Classification("a"), "b": Twice("b")}, balance="uncertainty")
    assert isinstance(objective.inner, nn.ModuleList)
    jichu.check_objective(objective, body(), rows)

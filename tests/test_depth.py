"""Rules by depth: every parameter of a backbone is in one block, and blocks join as they should."""

import copy
import re

import pytest
import torch

import jichu
from jichu.adapt import rules
from jichu.adapt.depth import blocks
from jichu.core.errors import UsageError
from jichu.data.special import Special
from jichu.models import resnet, transformers_text
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.models.recurrent import LstmText
from jichu.models.transformers_vision import convnext, vit
from jichu.objectives.supervised import Classification

SPECIAL = Special(pad=0, unknown=1, mask=2, begin=3, end=4)
SMALL = {"width": 16, "depth": 3, "heads": 2}


def text(name):
    return getattr(transformers_text, name)(50, 16, SPECIAL, **SMALL)


BACKBONES = {
    "cnn": (lambda: Cnn(1, 8, widths=[4, 8, 8]), 3),
    "resnet18": (lambda: resnet.ResNet18(3, 32, base=4), 6),  # stem, its statistics and four stages
    "vit": (lambda: vit(3, 32, width=16, depth=3, heads=2), 3),
    "convnext": (lambda: convnext(3, 32, widths=[8, 16], depths=[1, 1]), 2),
    "mlp": (lambda: Mlp(numbers=3, categories=[3, 4], widths=[8, 8]), 4),
    "bert": (lambda: text("bert"), 3),
    "gpt": (lambda: text("gpt"), 3),
    "llama": (lambda: text("llama"), 3),
    "lstm": (lambda: LstmText(50, 16, SPECIAL, width=8, hidden=8, layers=2, bidirectional=True), 2),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_each_parameter_is_in_one_block(name):
    make, count = BACKBONES[name]
    model = Model(make(), {"label": Linear(8, 2)})
    patterns = blocks(model)
    for parameter, _ in model.named_parameters():
        found = [pattern for pattern in patterns if re.fullmatch(pattern, parameter)]
        assert len(found) == parameter.startswith("backbone."), parameter
    assert len(patterns) == count, patterns
    for adapt in ("gradual", "last-1", f"last-{count}"):
        assigned = rules.assign(model, rules.resolve(adapt, model))
        assert all(rule == 1.0 for name, rule in assigned.items() if name.startswith("heads."))
    trained = {
        n for n, rule in rules.assign(model, rules.resolve("last-1", model)).items() if rule != "frozen"
    }
    fresh = {n for n in trained if n.startswith(("heads.", "backbone.pooler."))}
    assert {n for n in trained - fresh if not re.fullmatch(patterns[-1], n)} == set() and trained > fresh


def test_blocks_join_from_the_last_to_the_first(batch):
    model = Model(Cnn(1, 8, widths=[4, 4, 4], norm="none"), {"label": Linear(4, 10)})
    assigned = rules.assign(model, rules.resolve("gradual", model))
    rates = [[assigned[f"backbone.blocks.{i}.0.weight"](p) for i in range(3)] for p in (0.0, 0.3, 0.6, 0.9)]
    assert rates == [[0, 0, 0], [0, 0, 1 / 2.6], [0, 2.6**-2, 1 / 2.6], [2.6**-3, 2.6**-2, 1 / 2.6]]
    before = copy.deepcopy(model.state_dict())
    config = jichu.TrainConfig(budget="10 steps", batch_size=48, precision="float32", patience=None)
    moved = {}
    for steps in (2, 5, 10):
        copied = copy.deepcopy(model)
        stop = Stops(steps)
        jichu.fit(
            copied,
            Classification(),
            [batch],
            config.model_copy(update={"evaluate_every": steps}),
            adapt="gradual",
            evaluate=stop,
        )
        moved[steps] = stop.seen(before)
    assert moved[2] == set() and moved[5] == {2} and moved[10] == {0, 1, 2}


class Stops:
    """Remembers the weights at its first look."""

    def __init__(self, step):
        self.weights = None

    def __call__(self, model):
        self.weights = self.weights or {n: t.clone() for n, t in model.state_dict().items()}
        return {}

    def seen(self, before):
        return {
            i
            for i in range(3)
            if not torch.equal(
                self.weights[f"backbone.blocks.{i}.0.weight"], before[f"backbone.blocks.{i}.0.weight"]
            )
        }


@pytest.mark.parametrize(("adapt", "said"), [("last-0", "last-1 to last-3"), ("last-4", "has 3"), ("last", "did you mean: last-2"),
                                             ("gradul", "did you mean: gradual")])  # fmt: skip
def test_what_cannot_be(adapt, said):
    model = Model(Cnn(1, 8, widths=[4, 4, 4]), {"label": Linear(4, 10)})
    with pytest.raises(UsageError, match=said):
        rules.resolve(adapt, model)

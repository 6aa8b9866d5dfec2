"""Augmentation: exact where there is a closed form, and a row's own whatever its batch."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from jichu.core.config import check
from jichu.core.errors import UsageError
from jichu.data import augment as A
from jichu.data.augment import Augment
from jichu.data.config import PHOTOGRAPHS, SIGNS, AugmentConfig, augmentation
from jichu.objectives.base import Context

IMAGES = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ROWS = torch.arange(12) * 7


def constant(value):
    """Random numbers that are all the same, to reach the ends of a range."""
    return lambda n, salt: torch.full((12, n), value)


def apply(images=IMAGES, rows=ROWS, step=0, **settings):
    return Augment(AugmentConfig(**settings))(images, Context(0, step).for_rows(rows))


def test_nothing_asked_for_nothing_changed():
    assert torch.equal(apply(), IMAGES.float() / 255)


def test_flips_are_exact_and_half():
    out = apply(flip=True)
    whole = IMAGES.float() / 255
    flipped = torch.tensor([torch.equal(o, w.flip(2)) for o, w in zip(out, whole, strict=True)])
    kept = torch.tensor([torch.equal(o, w) for o, w in zip(out, whole, strict=True)])
    assert (flipped ^ kept).all() and flipped.any() and kept.any()
    many = Context(0).uniform(torch.arange(10_000), 1, "flip") < 0.5
    assert abs(many.float().mean() - 0.5) < 0.02


@pytest.mark.parametrize("turns", [1, -1])
def test_a_quarter_turn_is_rot90(turns):
    out = Augment(AugmentConfig(rotate=90))(IMAGES, constant(1.0 if turns == 1 else 0.0))
    assert torch.allclose(out, torch.rot90(IMAGES.float() / 255, turns, (2, 3)), atol=1e-4)


def test_rotation_of_a_wide_image_keeps_its_pixels_square():
    wide = torch.zeros(12, 1, 16, 32, dtype=torch.uint8)
    wide[:, :, 8:, :] = 255  # a horizontal edge becomes a vertical one
    out = Augment(AugmentConfig(rotate=90))(wide, constant(1.0))
    middle = out[0, 0, 4:12]
    assert ((middle[:, :15] < 0.1).all() and (middle[:, 17:] > 0.9).all()) or (
        (middle[:, :15] > 0.9).all() and (middle[:, 17:] < 0.1).all()
    )


def test_translation_by_whole_pixels_is_a_shift():
    out = Augment(AugmentConfig(translate=0.25))(IMAGES, constant(1.0))
    assert torch.allclose(out[:, :, :12, :12], (IMAGES.float() / 255)[:, :, 4:, 4:], atol=1e-5)


def test_scale_two_doubles():
    out = Augment(AugmentConfig(scale=[2.0, 2.0]))(IMAGES, constant(0.5))
    doubled = F.interpolate(IMAGES[:, :, 4:12, 4:12].float() / 255, scale_factor=2, mode="bilinear")
    assert torch.allclose(out[:, :, 2:-2, 2:-2], doubled[:, :, 2:-2, 2:-2], atol=1e-4)


def test_a_crop_lies_within_the_image():
    pipeline = Augment(AugmentConfig(crop=0.2))
    for value in (0.0, 0.3, 0.999):
        matrix = pipeline.matrix(constant(value), IMAGES.float())
        corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]]).T
        assert (matrix @ corners).abs().max() <= 1 + 1e-5
    area = torch.linalg.det(
        pipeline.matrix(Context(0).for_rows(torch.arange(5000)), IMAGES.float())[:, :, :2]
    )
    assert area.min() >= 0.19 and area.max() <= 1


def test_shear_moves_rows_sideways():
    matrix = Augment(AugmentConfig(shear=40)).matrix(
        lambda n, s: torch.tensor([[0.5, 1.0, 0.5, 0.5, 0.5]] if n == 5 else [[0.5]]), IMAGES[:1].float()
    )
    assert torch.allclose(
        matrix, torch.tensor([[[1.0, math.tan(math.radians(40)), 0.0], [0.0, 1.0, 0.0]]]), atol=1e-6
    )


def test_colour():
    out = Augment(AugmentConfig(grey=1.0))(IMAGES, constant(0.0))
    assert torch.allclose(out[:, 0], out[:, 1]) and torch.allclose(out[:, 0], out[:, 2])
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert torch.allclose(out[:, 0], (IMAGES.float() / 255 * weights).sum(1), atol=1e-6)
    assert torch.allclose(
        A.jitter(IMAGES.float() / 255, 0.5, torch.full((12, 3), 0.5)), IMAGES.float() / 255, atol=1e-6
    )
    noise = A.normal(Context(0).for_rows(torch.arange(200)), torch.zeros(200, 1, 10, 10))
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


settings_strategy = st.fixed_dictionaries(
    {},
    optional={
        "flip": st.booleans(),
        "rotate": st.floats(0, 180),
        "translate": st.floats(0, 1),
        "shear": st.floats(0, 40),
        "crop": st.floats(0.1, 1),
        "colour": st.floats(0, 1),
        "noise": st.floats(0, 0.5),
        "scale": st.tuples(st.floats(0.3, 1), st.floats(1, 3)).map(list),
    },
)


@settings(deadline=None, max_examples=40)
@given(settings_strategy, st.integers(0, 1000), st.integers(1, 11))
def test_a_rows_augmentation_is_its_own(chosen, step, cut):
    whole = apply(step=step, **chosen)
    assert whole.dtype == torch.float32 and whole.min() >= 0 and whole.max() <= 1
    parts = [apply(IMAGES[s], ROWS[s], step, **chosen) for s in (slice(0, cut), slice(cut, 12))]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-5)


def test_steps_views_and_seeds_differ():
    first = apply(rotate=30)
    assert not torch.equal(first, apply(rotate=30, step=1))
    assert torch.equal(first, apply(rotate=30))
    config = Augment(AugmentConfig(rotate=30))
    views = [
        config(IMAGES, Context(seed).for_rows(ROWS, prefix))
        for seed, prefix in ((0, "a"), (0, "b"), (1, "a"))
    ]
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


def test_auto_follows_the_channels():
    assert augmentation("auto", 3) == PHOTOGRAPHS and augmentation("auto", 1) == SIGNS
    assert not SIGNS.flip
    with pytest.raises(UsageError):
        check(AugmentConfig, {"rotate": 200.0})

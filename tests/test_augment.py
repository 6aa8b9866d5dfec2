"""Augmentation: exact where there is a closed form, and a row's own whatever its batch."""

import colorsys
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from jichu.cli.main import main
from jichu.core.config import check
from jichu.core.errors import UsageError
from jichu.data.augment import Augment, TableAugment, boxes, colour, policies
from jichu.data.augment.draws import grains, normal
from jichu.data.augment.geometry import pad_crop
from jichu.data.config import (
    PHOTOGRAPHS,
    SIGNS,
    AugmentConfig,
    RandAugmentConfig,
    TableAugmentConfig,
    TrivialAugmentConfig,
    augmentation,
)
from jichu.objectives.base import Context
from jichu.objectives.cutmix import CutMix
from jichu.objectives.mixup import Mixup
from jichu.objectives.supervised import Classification

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
        assert (matrix @ corners)[:, :2].abs().max() <= 1 + 1e-5
    area = torch.linalg.det(pipeline.matrix(Context(0).for_rows(torch.arange(5000)), IMAGES.float()))
    assert area.min() >= 0.19 and area.max() <= 1


def test_shear_moves_rows_sideways():
    matrix = Augment(AugmentConfig(shear=40)).matrix(
        lambda n, s: torch.tensor([[0.5, 1.0, 0.5, 0.5, 0.5]] if n == 5 else [[0.5]]), IMAGES[:1].float()
    )
    assert torch.allclose(
        matrix,
        torch.tensor([[[1.0, math.tan(math.radians(40)), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]),
        atol=1e-6,
    )


def test_colour():
    out = Augment(AugmentConfig(grey=1.0))(IMAGES, constant(0.0))
    assert torch.allclose(out[:, 0], out[:, 1]) and torch.allclose(out[:, 0], out[:, 2])
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert torch.allclose(out[:, 0], (IMAGES.float() / 255 * weights).sum(1), atol=1e-6)
    assert torch.allclose(
        colour.jitter(IMAGES.float() / 255, 0.5, torch.full((12, 3), 0.5)), IMAGES.float() / 255, atol=1e-6
    )
    noise = normal(Context(0).for_rows(torch.arange(200)), torch.zeros(200, 1, 10, 10))
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
        "pad": st.integers(0, 20),
        "fill": st.sampled_from(["border", "zeros", "reflection"]),
        "hue": st.floats(0, 0.5),
        "blur": st.floats(0, 5),
        "erase": st.floats(0, 1),
        "policy": st.sampled_from(["randaugment", "trivialaugment"]),
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
    assert not whole.isnan().any()


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
    assert augmentation("auto", "image", 3) == PHOTOGRAPHS and augmentation("auto", "image", 1) == SIGNS
    assert augmentation("auto", "table").table.swap > 0
    assert not SIGNS.flip
    with pytest.raises(UsageError):
        check(AugmentConfig, {"rotate": 200.0})


# --- moves


@pytest.mark.parametrize(
    ("fill", "mode"), [("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")]
)
@pytest.mark.parametrize("pad", [1, 4, 16])
def test_padded_crops_are_numpys(fill, mode, pad):
    place = Context(0).uniform(ROWS, 2, "place")
    out = pad_crop(IMAGES, pad, place, fill)
    padded = np.pad(IMAGES.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode=mode)
    for row, (y, x) in enumerate((place * (2 * pad + 1)).long().tolist()):
        assert np.array_equal(out[row].numpy(), padded[row, :, y : y + 16, x : x + 16])
    assert out.dtype == torch.uint8


def test_padded_crops_reach_every_place():
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(4000, 1, 4, 4) + 1
    out = pad_crop(image, 1, Context(0).uniform(torch.arange(4000), 2, "pad"), "zeros")
    seen, counts = out.flatten(1).unique(dim=0, return_counts=True)
    assert len(seen) == 9 and counts.min() > 350


@pytest.mark.parametrize("fill", ["border", "zeros", "reflection"])
def test_padded_crop_and_resampled_translation_fill_alike(fill):
    moved = Augment(AugmentConfig(translate=0.25, fill=fill))(IMAGES, constant(1.0))
    padded = pad_crop(IMAGES, 4, torch.full((12, 2), 0.9999), fill)
    assert torch.allclose(moved, padded / 255, atol=1e-5)


# --- colour, against PIL


def pil(image):
    array = image.numpy().transpose(1, 2, 0)
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def worst(out, wanted):
    """The largest difference in grey levels from PIL's images."""
    wanted = torch.stack([torch.from_numpy(np.array(w)).view(16, 16, -1).permute(2, 0, 1) for w in wanted])
    return (out * 255 - wanted).abs().max().item()


SMOOTH = (IMAGES[:, :, :, :].float().cumsum(3) / 40 + 30).to(torch.uint8)  # a narrow range, few levels


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:, :1], SMOOTH, torch.full_like(IMAGES, 77)])
def test_colour_operations_are_pils(images):
    whole = images.float() / 255
    factor = torch.linspace(0.01, 1.99, 12)
    for ours, theirs in (
        (colour.brightness, ImageEnhance.Brightness),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.saturation, ImageEnhance.Color),
        (colour.sharpness, ImageEnhance.Sharpness),
    ):
        made = [theirs(pil(i)).enhance(f) for i, f in zip(images, factor.tolist(), strict=True)]
        assert worst(ours(whole, factor), made) <= 2, ours  # one level of PIL's degenerate, times 1.99
    assert worst(colour.autocontrast(whole), [ImageOps.autocontrast(pil(i)) for i in images]) <= 1
    assert worst(colour.equalize(whole), [ImageOps.equalize(pil(i)) for i in images]) < 0.01
    bits = torch.arange(12) % 8 + 1
    made = [ImageOps.posterize(pil(i), b) for i, b in zip(images, bits.tolist(), strict=True)]
    assert worst(colour.posterize(whole, bits), made) < 0.01
    threshold = torch.arange(12) * 23
    made = [ImageOps.solarize(pil(i), t) for i, t in zip(images, threshold.tolist(), strict=True)]
    assert worst(colour.solarize(whole, threshold), made) < 0.01


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.floats(0, 1, width=32)] * 3), st.floats(-0.5, 0.5))
def test_hue_is_colorsys(rgb, turn):
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    wanted = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    out = colour.hue(torch.tensor(rgb).view(1, 3, 1, 1), torch.tensor([turn])).flatten()
    assert np.allclose(out, wanted, atol=1e-5)


def test_hue_keeps_grey_and_its_own_inverse():
    whole = IMAGES.float() / 255
    turn = torch.linspace(-0.5, 0.5, 12)
    assert torch.allclose(colour.hue(colour.hue(whole, turn), -turn), whole, atol=1e-4)
    assert torch.equal(colour.hue(whole[:, :1], turn), whole[:, :1])


def test_blur_is_scipys():
    whole = IMAGES.double() / 255
    deviation = torch.linspace(0, 3, 12, dtype=torch.float64)
    out = colour.blur(whole, deviation)
    assert torch.equal(out[0], whole[0])
    for i in range(1, 12):
        kernel = {"sigma": deviation[i].item(), "truncate": 40 / deviation[i].item(), "mode": "constant"}
        within = gaussian_filter(np.ones((16, 16)), **kernel)
        for c in range(3):
            wanted = gaussian_filter(whole[i, c].numpy(), **kernel) / within
            assert np.allclose(out[i, c], wanted, atol=1e-6)


# --- boxes


def test_crops_and_erasures_have_the_areas_asked_for():
    area, quantile = torch.rand(2, 5000, generator=torch.Generator().manual_seed(0))
    box = boxes.sides(area.clamp(min=0.02), quantile, 1 / 0.3)
    assert torch.allclose(box.prod(1), area.clamp(min=0.02), atol=1e-6) and box.max() <= 1 + 1e-6
    shape = (box[:, 0] / box[:, 1]).log()
    assert shape.abs().max() <= math.log(1 / 0.3) + 1e-5 and abs(shape.mean()) < 0.03


def test_erase():
    blank = torch.full((4000, 1, 20, 30), 0.5)
    out = boxes.erase(blank, 0.3, Context(0).for_rows(torch.arange(4000)))
    hidden = (out != 0.5)[:, 0]
    hit = hidden.flatten(1).any(1)
    assert hit.float().mean() == pytest.approx(0.3, abs=0.02)
    rows, columns = hidden[hit].any(2), hidden[hit].any(1)
    assert torch.equal(hidden[hit], rows[:, :, None] & columns[:, None, :])  # rectangles
    area = hidden[hit].flatten(1).float().mean(1)
    assert area.mean() == pytest.approx(0.21, abs=0.01) and area.min() > 0.01 and area.max() < 0.44
    places = hidden[hit].float().mean(0)
    assert (places - places.flip(0)).abs().max() < 0.08 and (places - places.flip(1)).abs().max() < 0.08


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grains_are_even(channels):
    levels = (grains(Context(0).for_rows(torch.arange(50)), torch.zeros(50, channels, 20, 20)) * 255).round()
    counts = levels.long().flatten().bincount(minlength=256).float()
    assert counts.std() / counts.mean() < 3 / counts.mean().sqrt() and levels.shape[1] == channels
    flat = levels.transpose(0, 1).flatten(1)
    assert channels == 1 or torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.03


# --- policies


@pytest.mark.parametrize("config", [RandAugmentConfig(operations=3, magnitude=5), TrivialAugmentConfig()])
def test_policies_draw_each_operation_alike(config):
    policy = policies.Policy(config)
    operation, strength = policy.draw(Context(0).for_rows(torch.arange(7000)))
    counts = operation.flatten().bincount(minlength=14).float() / operation.numel()
    assert len(policies.OPERATIONS) == 14 and (counts - 1 / 14).abs().max() < 0.015
    assert abs(strength.mean()) < 0.02
    if config.name == "randaugment":
        assert operation.shape == (3, 7000) and torch.allclose(strength.abs(), torch.tensor(0.5))
    else:
        assert operation.shape == (1, 7000)
        assert strength.abs().mean() == pytest.approx(0.5, abs=0.02)


class Scripted(policies.Policy):
    """Draws the operations it is told to, of full positive strength."""

    def __init__(self, *names, strength=1.0):
        super().__init__(RandAugmentConfig(operations=len(names)))
        self.operation = torch.tensor([[policies.OPERATIONS.index(n)] * 12 for n in names])
        self.strength = strength

    def draw(self, uniform):
        return self.operation, torch.full(self.operation.shape, self.strength)


def scripted(*names, images=IMAGES, **settings):
    augment = Augment(AugmentConfig(policy="randaugment"))
    augment.policy = Scripted(*names, **settings)
    return augment(images, constant(0.0))


def test_operations_of_a_policy_come_in_the_order_drawn():
    one = colour.solarize(colour.posterize(IMAGES / 255, torch.full((12,), 4)), torch.zeros(12))
    two = colour.posterize(colour.solarize(IMAGES / 255, torch.zeros(12)), torch.full((12,), 4))
    assert torch.allclose(scripted("posterize", "solarize"), one)
    assert torch.allclose(scripted("solarize", "posterize"), two) and not torch.allclose(one, two)
    assert torch.equal(scripted("identity"), IMAGES / 255)


def test_the_geometry_of_a_policy_is_one_matrix():
    uniform, aspect = constant(0.0), 0.5
    turn, slide = (Scripted(name).matrix(uniform, aspect) for name in ("rotate", "translate_x"))
    assert torch.allclose(Scripted("rotate", "translate_x").matrix(uniform, aspect), turn @ slide)
    back = Scripted("rotate", strength=-1.0).matrix(uniform, aspect)
    assert torch.allclose(turn @ back, torch.eye(3).expand(12, 3, 3), atol=1e-6)
    sheared = Scripted("shear_y").matrix(uniform, 1.0)
    assert torch.allclose(sheared[0], torch.tensor([[1, 0, 0], [0.3, 1, 0], [0, 0, 1]]))
    shifted = scripted("translate_x", strength=4 / 16 / 0.45)
    assert torch.allclose(shifted[:, :, :, :12], (IMAGES / 255)[:, :, :, 4:], atol=1e-5)


def test_policies_and_own_geometry_are_resampled_once(monkeypatch):
    from jichu.data import augment as module

    calls = []
    resample = module.resample
    monkeypatch.setattr(module, "resample", lambda *a: calls.append(1) or resample(*a))
    apply(rotate=20, crop=0.5, policy={"name": "randaugment", "operations": 4})
    assert len(calls) == 1


# --- mixing


def test_cutmix_takes_the_rectangle_and_its_exact_share(batch):
    light = torch.arange(48, dtype=torch.uint8)[:, None, None, None].expand(48, 1, 20, 30)
    plain, batch = Classification(), {**batch, "image": light}
    mixed = CutMix(plain).prepare(batch, Context(0, 5))
    own = mixed["image"] == light
    partner, share = mixed["cutmix.partner"], mixed["cutmix.share"]
    assert torch.equal(torch.where(own, light, light[partner]), mixed["image"])
    assert torch.allclose(own.float().mean((1, 2, 3)), share, atol=1e-6)
    rows, columns = (~own).any(3)[:, 0], (~own).any(2)[:, 0]
    assert torch.equal((~own)[:, 0], rows[:, :, None] & columns[:, None, :])
    outputs = {"label": torch.randn(48, 10, generator=torch.Generator().manual_seed(0))}
    swapped = {"label": batch["label"][partner]}
    wanted = share * plain.losses(outputs, batch) + (1 - share) * plain.losses(outputs, swapped)
    assert torch.allclose(CutMix(plain).losses(outputs, mixed)["loss"], wanted)
    assert mixed["image"].dtype == torch.uint8


def test_cutmix_of_whole_boxes_is_lambda():
    """λ is uniform at alpha 1; a box that lies inside has the share that was drawn."""
    rows = torch.arange(3000)
    batch = {"image": torch.zeros(3000, 1, 64, 64), "label": rows % 2, "row": rows}
    objective, context = CutMix(Classification()), Context(0)
    share = objective.prepare(batch, context)["cutmix.share"]
    drawn = context.uniform(rows, 1, "cutmix")[:, 0]
    assert (share >= drawn - 0.03).all()  # clipping only ever leaves more of its own
    middle = context.uniform(rows, 2, "cutmix.middle")
    half = (1 - drawn).sqrt()[:, None] / 2
    whole = ((middle - half > 0) & (middle + half < 1)).all(1)
    assert whole.sum() > 100 and torch.allclose(share[whole], drawn[whole], atol=0.03)


@pytest.mark.parametrize("outer", [Mixup, CutMix])
@pytest.mark.parametrize("inner", [Mixup, CutMix])
def test_mixing_twice_is_a_loss_for_what_is_in_the_image(inner, outer, batch):
    """Each row's loss against the class shares followed through both by hand."""
    objective = outer(inner(Classification(), alpha=1.0), alpha=1.0)
    if inner is outer:  # what it remembers has one name
        with pytest.raises(UsageError, match="once"):
            objective.prepare(batch, Context(3, 1))
        return
    mixed = objective.prepare(batch, Context(3, 1))
    soft = F.one_hot(batch["label"], 10).float()
    for name in (inner.name, outer.name):
        share = mixed[f"{name}.share"][:, None]
        soft = share * soft + (1 - share) * soft[mixed[f"{name}.partner"]]
    logits = torch.randn(48, 10, generator=torch.Generator().manual_seed(0))
    wanted = F.cross_entropy(logits, soft, reduction="none")
    assert torch.allclose(objective.losses({"label": logits}, mixed)["loss"], wanted, atol=1e-5)


# --- tables

CELLS = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10, 100])
CELLS[::7, 1] = float("nan")
TABLE = {"numbers": CELLS, "categories": torch.arange(8000).view(4000, 2) + 1, "row": torch.arange(4000)}


def table(rows=slice(None), spread=None, **settings):
    part = {name: value[rows] for name, value in TABLE.items()}
    augment = TableAugment(TableAugmentConfig(**settings), spread)
    return augment(part, Context(0, 2).for_rows(part["row"]))


def test_a_table_left_alone_is_left_alone():
    assert table() == {}
    made = Augment(AugmentConfig(rotate=20)).columns(TABLE, Context(0).for_rows(TABLE["row"]))
    assert made == {}


def test_noise_of_tables_is_a_share_of_each_columns_spread():
    spread = torch.tensor([1.0, 10, 100])
    change = table(noise=0.2, spread=spread)["numbers"] - CELLS
    assert torch.equal(change.isnan(), CELLS.isnan())
    assert np.allclose(np.nanstd(change, axis=0), 0.2 * spread, rtol=0.05)
    assert np.allclose(np.nanstd(table(noise=0.2)["numbers"] - CELLS, axis=0), 0.2, rtol=0.05)
    assert torch.equal(table(noise=0.2)["categories"], TABLE["categories"])


def test_masks_make_cells_missing():
    made = table(mask=0.3)
    known = ~CELLS.isnan()
    assert (made["numbers"].isnan() & known).sum() / known.sum() == pytest.approx(0.3, abs=0.02)
    assert (made["categories"] == 0).float().mean() == pytest.approx(0.3, abs=0.02)
    kept = ~made["numbers"].isnan()
    assert torch.equal(made["numbers"][kept], CELLS[kept])


def test_swaps_keep_to_their_column():
    made = table(swap=0.4)["categories"]
    moved = made != TABLE["categories"]
    assert moved.float().mean() == pytest.approx(0.4, abs=0.02)
    assert torch.isin(made[:, 0], TABLE["categories"][:, 0]).all()
    assert torch.equal(made % 2, TABLE["categories"] % 2)
    numbers = table(swap=0.4)["numbers"]
    assert np.allclose(np.nanstd(numbers, axis=0), np.nanstd(CELLS, axis=0), rtol=0.1)
    assert torch.corrcoef(moved.T.float())[0, 1].abs() < 0.05  # cells, not rows


def test_tables_noise_and_masks_are_a_rows_own():
    whole = table(noise=0.5, mask=0.3)
    half = table(rows=slice(1000, 1500), noise=0.5, mask=0.3)
    for name, value in half.items():
        assert torch.allclose(value, whole[name][1000:1500], equal_nan=True)


def test_one_augmenter_changes_all_columns():
    both = {**TABLE, "image": IMAGES[:1].expand(4000, 3, 16, 16)}
    config = AugmentConfig(flip=True, table={"swap": 0.1})
    made = Augment(config).columns(both, Context(0).for_rows(both["row"]))
    assert set(made) == {"image", "numbers", "categories"}


# --- what is said to wrong values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"policy": "randaugmnt"}, "did you mean: randaugment"),
        ({"policy": {"name": "randaugment", "magnitude": 11}}, "less than or equal to 10"),
        ({"policy": {"name": "randaugment", "operation": 1}}, "did you mean: operations"),
        ({"policy": {"name": "trivialaugment", "magnitude": 3}}, "magnitude"),
        ({"pad": -1}, "greater than or equal to 0"),
        ({"pad": 1.5}, "integer"),
        ({"fill": "zero"}, "did you mean: zeros"),
        ({"hue": 0.6}, "less than or equal to 0.5"),
        ({"blur": -1.0}, "blur"),
        ({"zoom": [0.8, 1.2]}, "unknown key 'zoom'"),
        ({"table": {"swap": 2.0}}, "table.swap"),
        ({"table": {"mask": 0.1, "nois": 1.0}}, "did you mean: noise"),
    ],
)
def test_wrong_values_are_named(values, said):
    with pytest.raises(UsageError) as error:
        check(AugmentConfig, values)
    assert said in str(error.value), str(error.value)


def test_a_policy_by_its_name():
    assert check(AugmentConfig, {"policy": "trivialaugment"}).policy == TrivialAugmentConfig()
    assert check(AugmentConfig, {"policy": {"name": "randaugment"}}).policy == RandAugmentConfig()


# --- the picture


def test_the_gallery_has_a_row_for_each_operation():
    from jichu.auditing.gallery import gallery, operations

    config = AugmentConfig(flip=True, rotate=15, scale=[0.5, 1.0], fill="zeros", policy="trivialaugment")
    chosen = operations(config)
    assert list(chosen) == ["flip: true", "rotate: 15", "scale: [0.5, 1]", "trivialaugment"]
    assert all(c.fill == "zeros" for c in chosen.values())
    made = gallery(IMAGES[:2], config, columns=4)
    assert made.height == 4 + 5 * 68 and made.width > 4 * 68  # 16 pixels become 64, and a gap of 4
    assert gallery(IMAGES[:2], config, columns=4).tobytes() == made.tobytes()
    first = np.array(made)[4:68, -272:-208:4][::4]
    assert np.array_equal(first, IMAGES[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 3])
def test_strengths_are_allowed_at_every_size(channels):
    from jichu.auditing.gallery import operations, strengths

    for side in (4, 8, 4096):
        shown = operations(strengths(channels, side))
        assert any(name.startswith("hue") for name in shown) == (channels == 3) and len(shown) >= 12


def test_inspect_draws_augmentation(in_folder, photos, capsys):
    assert main(["inspect", str(photos), "--augment"]) == 0
    assert "augment.png" in capsys.readouterr().out
    with Image.open("augment.png") as made:
        assert made.height > 15 * 64
    assert main(["inspect", "sklearn:digits", "--augment", "here.png", "--json"]) == 0
    assert (in_folder / "here.png").exists()
    assert main(["inspect", str(photos), "--augment", "here.txt"]) == 2
    assert "ends in .png" in capsys.readouterr().err

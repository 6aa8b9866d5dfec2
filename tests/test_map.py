"""The map: like lies beside like, the same each time, and what is new is placed among its like."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.manifold import trustworthiness

from jichu.core.errors import UsageError
from jichu.exploring import maps
from jichu.exploring.examples import sprites
from jichu.exploring.maps import laid
from jichu.runs import Run


@pytest.fixture
def run(explored):
    return Run(explored["images"])


def test_like_lies_beside_like(digits):
    """As scikit-learn measures it; those that are placed among the others are worse off, and not by much."""
    images = digits[0].reshape(-1, 64)[:160].astype(np.float32)
    whole = laid(images, 0)
    assert whole.shape == (160, 2) and whole.min() >= 0 and whole.max() <= 1
    assert trustworthiness(images, whole, metric="cosine", n_neighbors=10) > 0.88
    before, maps._LANDMARKS = maps._LANDMARKS, 80
    try:
        partly = laid(images, 0)
    finally:
        maps._LANDMARKS = before
    assert trustworthiness(images, partly, metric="cosine", n_neighbors=10) > 0.8
    assert (laid(images[:40], 0) == laid(images[:40], 0)).all()


def test_of_a_run(run):
    found = run.map()
    rows = run.dataset().splits["test"].sort().values
    assert found.rows.tolist() == rows.tolist() and run.map() is found
    small = run.map(most=40).places
    told = found.plain()
    said = run.samples(count=1000).page
    assert told["rows"] == [s.example.row for s in said]
    assert told["truth"]["label"] == [s.example.truth["label"] for s in said]
    assert told["prediction"]["label"] == [s.prediction["label"]["label"] for s in said]
    assert len(told["x"]) == len(told["y"]) == len(rows)
    for file in run.folder.cache.iterdir():
        if file.name.startswith("map"):
            file.unlink()
    assert (Run(run.path).map(most=40).places == small).all()
    part = run.map("train", 50)
    assert len(part.rows) == 50 and set(part.rows.tolist()) <= set(run.dataset().splits["train"].tolist())
    for odd in (("tset",), ("test", 0), ("test", 5001)):
        with pytest.raises(UsageError):
            run.map(*odd)


def test_what_is_new_is_placed_among_its_like(run):
    found = run.map()
    assert np.allclose(found.place(found.features[:20]), found.places[:20], atol=1e-4)  # itself
    middle = found.place(found.features[:2].mean(0, keepdims=True))
    assert ((middle >= found.places.min(0)) & (middle <= found.places.max(0))).all()
    item = run.samples(count=1).page[0].example.png(None)
    assert np.allclose(found.place(run.embed(item)), found.places[:1], atol=1e-3)


def test_thumbnails_are_one_sheet(run):
    found = run.map()
    encoded, across, side = found.sheet
    sheet = np.asarray(Image.open(io.BytesIO(encoded)).convert("L"), float)
    assert Image.open(io.BytesIO(encoded)).format == "WEBP"
    pixels = run.dataset().tensors["image"][found.rows][:, 0].float().numpy()
    for i in (0, 1, across, len(pixels) - 1):
        top, left = i // across * side, i % across * side
        cell = sheet[top : top + side, left : left + side].reshape(8, side // 8, 8, side // 8).mean((1, 3))
        assert np.abs(cell - pixels[i]).mean() < 8
    noise = torch.randint(0, 256, (1500, 3, 40, 40), dtype=torch.uint8)
    encoded, _, smaller = sprites(noise, 300_000)
    assert len(encoded) <= 300_000 and smaller < side
    assert sprites(noise[:0]) is None


def test_few_rows_have_a_map_too():
    for count in (1, 2, 3, 6):
        assert np.isfinite(laid(np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32), 0)).all()

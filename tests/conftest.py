"""Shared by all tests: a cache of their own, one thread, small data."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jichu.core.progress import console

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _alone(tmp_path_factory):
    os.environ["JICHU_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["LANGUAGE"] = "en"  # whatever this machine's people speak
    os.environ.pop("RANK", None)
    os.environ.pop("WORLD_SIZE", None)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what is started in the background


@pytest.fixture(autouse=True)
def _heard(monkeypatch):
    monkeypatch.setattr(console, "quiet", False)  # whatever another test made of it


@pytest.fixture(autouse=True)
def _signals_as_found():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits as (images [N, 8, 8] uint8, labels [N])."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.round(found.images * (255 / 16)).astype(np.uint8), found.target


@pytest.fixture(scope="session")
def explored(tmp_path_factory):
    """Runs whose data are at hand, by kind."""
    from explored import Made

    return Made(tmp_path_factory.mktemp("explored"))


@pytest.fixture
def batch(digits):
    """48 digits as a batch."""
    images, labels = digits
    return {
        "image": torch.from_numpy(images[:48])[:, None],
        "label": torch.from_numpy(labels[:48]).long(),
        "row": torch.arange(48),
    }


@pytest.fixture
def photos(tmp_path):
    """A folder of colour images of mixed sizes in three classes, told apart by their hue."""
    rng = np.random.default_rng(0)
    for i in range(60):
        name = ("red", "green", "blue")[i % 3]
        height, width = rng.integers(12, 30, size=2)
        pixels = rng.integers(0, 120, size=(height, width, 3))
        pixels[..., i % 3] += 130
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.{('png', 'jpg')[i % 2]}")
    return tmp_path / "photos"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """Run in an empty folder, so that runs/ is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of what a module's fixture `made` has made, to be changed."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser without a window; what needs one is skipped where there is none."""
    import browser

    if browser.FOUND is None:
        pytest.skip("no Chromium here")
    found = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()

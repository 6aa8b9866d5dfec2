"""Corruptions against their closed forms, and the part of an audit that uses them on every kind of data."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jichu.attacks.corruptions import CORRUPTIONS, STRENGTHS, images, sounds, tables, texts
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.core.names import resolve


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photos():
    """Smooth coloured images of 40 × 32 pixels."""
    small = torch.rand(6, 3, 5, 4, generator=rng())
    return torch.nn.functional.interpolate(small, (40, 32), mode="bilinear").clamp(0, 1)


@pytest.mark.parametrize("name", CORRUPTIONS["image"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_corruption_of_images(name, channels, photos):
    """Changes images of any shape, keeps them between 0 and 1, and gives the same for the same seed."""
    corrupt = resolve("corruption", CORRUPTIONS["image"][name], {})
    x = photos[:, :channels]
    before = x.clone()
    changes = []
    for strength in STRENGTHS:
        one, two = (corrupt(x, strength, rng(1)) for _ in range(2))
        assert torch.equal(one, two) and one.shape == x.shape and torch.equal(x, before)
        assert one.min() >= 0 and one.max() <= 1 and one.isfinite().all()
        changes.append(float((one - x).abs().mean()))
    assert min(changes) > 0
    if name not in ("elastic", "glass_blur", "frost", "pixelate"):  # whose strengths mean other things too
        assert changes == sorted(changes)
    tiny = corrupt(x[:, :, :8, :8], 5, rng())
    assert tiny.shape == (6, channels, 8, 8)


def test_corruptions_of_images_in_closed_form(photos):
    x = photos
    flat = torch.full((200, 1, 16, 16), 0.5)
    noise = images.gaussian_noise(flat, 3, rng()) - 0.5
    assert abs(float(noise.std()) - 0.08) < 0.001 and abs(float(noise.mean())) < 0.001
    shot = images.shot_noise(flat, 5, rng())
    assert abs(float(shot.var()) - 0.5 / 50) < 2e-4  # of Poisson numbers, and divided
    impulse = images.impulse_noise(flat, 5, rng())
    assert abs(float((impulse != 0.5).float().mean()) - 0.07) < 0.003 and set(impulse.unique().tolist()) == {
        0,
        0.5,
        1,
    }
    mean = x.mean((2, 3), keepdim=True)
    assert torch.allclose(images.contrast(x, 3, rng()), (0.4 * x + 0.6 * mean).clamp(0, 1))
    raised = images.brightness(x, 2, rng())
    assert torch.allclose(raised.amax(1), (x.amax(1) + 0.1).clamp(max=1), atol=1e-6)
    for blurred in (images.defocus_blur, images.motion_blur, images.zoom_blur, images.pixelate):
        assert torch.allclose(blurred(flat, 5, rng()), flat, atol=1e-5)  # of one colour nothing is seen
    stored = io.BytesIO()
    whole = (x[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(whole).save(stored, "JPEG", quality=40)
    assert np.array_equal(
        (images.jpeg(x, 5, rng())[0] * 255).round().byte().permute(1, 2, 0), Image.open(stored)
    )


def test_corruptions_of_tables():
    cells = {
        "numbers": torch.randn(4000, 3, generator=rng()),
        "categories": torch.randint(1, 5, (4000, 2), generator=rng()),
    }
    for i, share in enumerate((0.05, 0.1, 0.2, 0.3, 0.5)):
        found = tables.missing(cells, i + 1, rng())
        assert abs(float(found["numbers"].isnan().float().mean()) - share) < 0.02
        assert abs(float((found["categories"] == 0).float().mean()) - share) < 0.02
        mixed = tables.swapped(cells, i + 1, rng())
        assert abs(float((mixed["numbers"] != cells["numbers"]).float().mean()) - share) < 0.02
        assert torch.isin(mixed["numbers"][:, 0], cells["numbers"][:, 0]).all()
    noisy = tables.noise(cells, 4, rng())
    assert abs(float((noisy["numbers"] - cells["numbers"]).std()) - 1) < 0.02
    assert torch.equal(noisy["categories"], cells["categories"])
    gap = {"numbers": torch.tensor([[torch.nan, 1.0]])}
    assert tables.noise(gap, 1, rng())["numbers"].isnan().tolist() == [[True, False]]
    only = {"categories": cells["categories"]}
    assert tables.noise(only, 5, rng()) == only


def test_corruptions_of_sounds():
    time = torch.arange(8000) / 8000
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * time)[None]
    for strength, decibels in zip(STRENGTHS, (25, 20, 15, 10, 5), strict=True):
        off = sounds.noise(tone * 0.2, strength, rng()) - tone * 0.2
        level = 10 * torch.log10((tone * 0.2).square().mean() / off.square().mean())
        assert abs(float(level) - decibels) < 0.3
    for change, factor in ((sounds.faster, 1.4), (sounds.slower, 0.7)):
        found = change(tone, 5, rng())
        assert found.shape == tone.shape
        long = int(8000 / max(1.0, factor)) - 100
        peak = torch.fft.rfft(found[0, :long]).abs().argmax() * 8000 / long
        assert abs(float(peak) - 440 * factor) < 10
    assert abs(float(sounds.quiet(tone, 3, rng()).abs().max()) - 0.05) < 1e-3
    assert sounds.clipped(tone, 5, rng()).abs().max() <= 0.026


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), strength=st.sampled_from(STRENGTHS), seed=st.integers(0, 9))
def test_corruptions_of_texts(text, strength, seed):
    for change in (texts.typos, texts.word_drops, texts.letter_case):
        one, two = (change(text, strength, rng(seed)) for _ in range(2))
        assert one == two
    dropped = texts.word_drops(text, strength, rng(seed))
    assert len(dropped) <= len(text) and (dropped.strip() or not text.strip() or dropped == text)


def test_typos_and_drops_in_their_shares():
    text = "the quick brown fox jumps over the lazy dog " * 60
    for strength, share in zip(STRENGTHS, (0.02, 0.05, 0.1, 0.15, 0.25), strict=True):
        kept = len(texts.word_drops(text, strength, rng()).split()) / len(text.split())
        assert abs(1 - kept - share) < 0.04
    assert texts.typos(text, 1, rng()) != text and texts.letter_case("Abc", 5, rng()) == "aBC"
    chinese = "这家酒店的房间很干净服务也好" * 20
    assert 0.6 < len(texts.word_drops(chinese, 5, rng())) / len(chinese) < 0.85


# --- in an audit


def run(*parts, network="mlp", **data):
    recipe = {"name": "r", "data": data, "stages": [
        {"stage": "finetune", "backbone": network, "budget": "20 steps", "batch_size": 16},
        {"stage": "audit", "parts": list(parts)}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    return read_json(Path("runs/r/audit.json"))


def test_an_audit_of_corrupted_images(in_folder, capsys):
    found = run({"name": "corruptions", "rows": 60}, network="cnn", path="sklearn:digits")["parts"][
        "corruptions"
    ]
    model = found["models"]["finetune"]
    assert found["rows"] == 60 and set(model["corruptions"]) == set(CORRUPTIONS["image"])
    assert all(len(each) == 5 for each in model["corruptions"].values())
    assert model["mean"]["value"] < model["clean"]["value"]
    page = Path("runs/r/report.html").read_text()
    assert "When the inputs are worse" in page and "defocus blur" in page
    assert main(["audit", "runs/r", "--parts", "corruptions", "--quiet"]) == 0
    assert "elastic" in capsys.readouterr().out


def test_an_audit_of_a_corrupted_table(in_folder):
    x = np.random.default_rng(0).normal(size=(300, 3))
    lines = [f"{a:.3f},{b:.3f},{'xyz'[int(c > 0)]},{2 * a + b + (c > 0):.3f}" for a, b, c in x]
    Path("t.csv").write_text("\n".join(["a,b,c,price", *lines]))
    found = run("corruptions", network={"name": "mlp", "widths": [32]}, path="t.csv", target="price")[
        "parts"
    ]["corruptions"]
    model = found["models"]["finetune"]
    assert found["metric"] == "mean absolute error" and set(model["corruptions"]) == set(CORRUPTIONS["table"])
    assert model["corruptions"]["noise"][4]["value"] > model["clean"]["value"]


def test_an_audit_of_corrupted_texts(in_folder):
    good, bad = ["good", "fine", "nice", "great", "lovely"], ["bad", "awful", "poor", "sad", "ugly"]
    draw = np.random.default_rng(0)
    lines = []
    for i in range(200):
        words = " ".join(draw.choice(good if i % 2 else bad, 6))
        lines.append(f"{words},{'yes' if i % 2 else 'no'}")
    Path("t.csv").write_text("\n".join(["text,kind", *lines]))
    found = run(
        {"name": "corruptions", "only": ["typos", "word_drops"]}, network={"name": "lstm-text", "width": 16},
        path="t.csv", target="kind", columns={"text": "text"},
    )["parts"]["corruptions"]  # fmt: skip
    model = found["models"]["finetune"]
    assert set(model["corruptions"]) == {"typos", "word_drops"}
    assert model["corruptions"]["typos"][4]["value"] <= model["clean"]["value"]


def test_an_audit_of_corrupted_sounds(in_folder):
    for i in range(40):
        wave = np.sin(np.arange(2000) / 8000 * 2 * np.pi * (300 if i % 2 else 1200)) * 0.5
        folder = Path("sounds") / ("low" if i % 2 else "high")
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{i}.wav", wave + 0.01 * np.random.default_rng(i).normal(size=2000), 8000)
    found = run("corruptions", network={"name": "cnn", "widths": [8]}, path="sounds")["parts"]["corruptions"]
    assert set(found["models"]["finetune"]["corruptions"]) == set(CORRUPTIONS["audio"])


def test_a_corruption_that_does_not_exist_is_told(in_folder, capsys):
    recipe = {"name": "r", "data": {"path": "sklearn:digits"}, "stages": [
        {"stage": "finetune", "head": "naive-bayes"},
        {"stage": "audit", "parts": [{"name": "corruptions", "only": ["snoww"]}]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 2
    assert "did you mean: snow" in capsys.readouterr().err


def test_a_wide_filter_is_the_same_by_its_spectrum(monkeypatch):
    from jichu.attacks.corruptions import images

    x, weights = torch.rand(2, 3, 40, 36), torch.rand(2, 25, 25)
    weights /= weights.sum((1, 2), keepdim=True)
    found = images._filtered(x, weights)
    monkeypatch.setattr(images, "_WIDE", 1000)
    assert torch.allclose(found, images._filtered(x, weights), atol=1e-5)

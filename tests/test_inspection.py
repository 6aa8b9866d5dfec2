"""What is found by a closer look at data: copies, columns that give the answer away, the page."""

import csv
import html.parser
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

import jichu
from conftest import SHARED
from jichu.auditing import figures
from jichu.cli.main import main
from jichu.data.duplicates import equal_rows, exact_groups, near_images, near_rows
from jichu.data.inspection import auroc, inspect

HOSTILE = "<script>alert(1)</script>"


def scene(rng, side=32):
    """A picture with structure of all sizes, the larger the stronger as in nature, unlike any other."""
    layers = [rng.normal(0, 256 / cells, (cells, cells, 3)) for cells in (4, 8, 16)]
    large = [
        np.stack(
            [
                np.asarray(Image.fromarray(a[..., c].astype(np.float32)).resize((side, side), 3))
                for c in range(3)
            ],
            2,
        )
        for a in layers
    ]
    return Image.fromarray((128 + sum(large)).clip(0, 255).astype(np.uint8))


def recompressed(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


COPIES = {
    "compressed": recompressed,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "smaller": lambda image: image.resize((20, 20)).resize(image.size),
    "sharper": lambda image: ImageEnhance.Sharpness(image).enhance(1.5),
}


def stack(images):
    return torch.from_numpy(np.stack([np.asarray(i) for i in images]).transpose(0, 3, 1, 2).copy())


def write(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


# --- copies


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_pictures_are_found_and_nothing_else(how):
    rng = np.random.default_rng(0)
    images = [scene(rng) for _ in range(120)]
    copied = [COPIES[how](images[i]) for i in range(0, 120, 10)]
    pairs = near_images(stack(images + copied))
    assert pairs.tolist() == [[10 * i, 120 + i] for i in range(12)]


def test_many_copies_of_one_picture_are_all_found():
    rng = np.random.default_rng(1)
    images = [scene(rng) for _ in range(12)]
    burst = [ImageEnhance.Brightness(i).enhance(1 + b / 50) for i in images for b in range(8)]
    pairs = near_images(stack(burst))
    assert len(pairs) == 12 * 7 and (pairs // 8)[:, 0].tolist() == (pairs // 8)[:, 1].tolist()
    assert len(near_images(stack([images[0], recompressed(images[0])]))) == 1, "two are enough"


def test_different_handwritten_digits_are_no_copies(digits):
    assert len(near_images(torch.from_numpy(digits[0])[:, None])) == 0


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data sets")
def test_nor_are_those_of_mnist():
    """Hundreds of its pairs have nearly the same hash and correlate at 0.98; hardly one is apart from all else."""
    import pyarrow.parquet as pq

    cells = pq.read_table(SHARED / "mnist" / "test.parquet")["image"].to_pylist()[:3000]
    images = [np.asarray(Image.open(io.BytesIO(c["bytes"]))) for c in cells]
    assert len(near_images(torch.from_numpy(np.stack(images))[:, None])) <= 5


def test_rows_that_are_equal_and_rows_that_are_nearly_so():
    rng = np.random.default_rng(2)
    numbers = rng.normal(5, 3, (200, 4)).astype(np.float32)
    numbers[0, 1] = np.nan
    numbers[100:110] = numbers[:10]
    numbers[105:110, 2] *= 1 + 1e-6
    tensors = {"numbers": torch.from_numpy(numbers), "categories": torch.arange(200)[:, None] % 5}
    exact, near = equal_rows(tensors), near_rows(tensors)
    assert [len(np.unique(g)) for g in (exact, near)] == [195, 190]
    assert exact[0] == exact[100] and near[9] == near[109] != near[8]
    tensors["categories"][105] += 1
    assert len(np.unique(near_rows(tensors))) == 191
    same = {"numbers": torch.full((3, 1), 1e9)}
    assert len(np.unique(near_rows(same))) == 1
    assert len(np.unique(near_rows({"label": torch.zeros(3)}))) == 3


def test_pairs_are_told_with_their_records_and_splits(tmp_path):
    rng = np.random.default_rng(3)
    images = [scene(rng) for _ in range(24)]
    for i, image in enumerate(images):
        folder = tmp_path / "set" / ("test" if i < 8 else "train") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{i}.png")
    recompressed(images[0]).save(tmp_path / "set/train/a/near.png")
    images[20].save(tmp_path / "set/train/a/same.png")
    images[1].save(tmp_path / "set/train/b/leak.png")
    found = jichu.inspect(str(tmp_path / "set"))
    near, exact = found["near_duplicates"], found["exact_duplicates"]
    assert (near["pairs"], near["across_splits"]) == (1, 1)
    assert set(near["first"][0][:2]) == {"test/a/0.png", "train/a/near.png"}
    assert set(near["first"][0][2].split(" and ")) == {"train", "test"}
    assert (exact["pairs"], exact["across_splits"]) == (2, 0), "what is in both is not used for training"
    assert {"train", "test and not used"} == {splits for *_, splits in exact["first"]}
    assert any("1 records look nearly the same" in r for r in found["remarks"])


def test_of_very_many_images_the_held_out_ones_are_compared(digits, monkeypatch):
    monkeypatch.setattr("jichu.data.inspection._COMPARED", 100)
    images = digits[0][:300].copy()
    labels = digits[1][:300]
    data = jichu.load((images, labels), split={"test": 0.2})
    one, two = data.splits["test"][:2].tolist()
    data.tensors["image"][two] = data.tensors["image"][one]
    data.equal[two] = data.equal[one]
    found = inspect(data)["exact_duplicates"]
    assert found["pairs"] == 1 and set(found["rows"][0]) == {one, two}


# --- leakage


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 2)), rng.integers(0, 2, n)
    return rng, x.round(3), y


def test_columns_that_hold_the_answer_are_named(tmp_path):
    rng, x, y = table()
    told = ["yes" if v else "no" for v in y]
    shown = y * 5.0 + rng.normal(size=400)  # AUROC Φ(5/√2) = 0.9998 in the limit, without the tree's steps
    weak = y * 1.0 + rng.normal(size=400)  # Φ(1/√2) = 0.760
    rows = [
        ["a", "copy", "shown", "weak", "b", "y"],
        *zip(x[:, 0], told, shown.round(3), weak.round(3), x[:, 1], y, strict=True),
    ]
    found = jichu.inspect(write(tmp_path / "t.csv", rows))["leakage"]
    assert [f["column"] for f in found] == ["copy", "shown"]
    assert found[0] == {"column": "copy", "score": pytest.approx(1.0), "measure": "AUROC"}
    assert found[1]["score"] == pytest.approx(0.9998, abs=0.02)


def test_auroc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(7)
    true = np.eye(4, dtype=bool)[rng.integers(0, 4, 300)]
    scores = rng.integers(0, 9, (300, 4)) + true
    expected = [roc_auc_score(true[:, i], scores[:, i]) for i in range(4)]
    assert auroc(true, scores) == pytest.approx(expected, abs=1e-12)


def test_that_a_cell_is_missing_may_tell_the_answer(tmp_path):
    rows = [["a", "b", "y"], *[[1 if i % 2 else "", i % 5, i % 2] for i in range(100)]]
    (found,) = jichu.inspect(write(tmp_path / "t.csv", rows))["leakage"]
    assert found["column"] == "a" and found["score"] == 1


def test_leakage_of_a_number_to_predict(tmp_path):
    rng, x, _ = table()
    y = x[:, 0] * 10
    rows = [
        ["rounded", "half", "y"],
        *zip(y.round(), (y + 10 * rng.normal(size=400)).round(3), y, strict=True),
    ]
    data = jichu.load(write(tmp_path / "t.csv", rows), target="y")
    (found,) = inspect(data)["leakage"]
    assert (found["column"], found["measure"]) == ("rounded", "R²") and found["score"] > 0.97


def test_images_whose_files_tell_the_class(tmp_path):
    rng = np.random.default_rng(4)
    for i in range(160):
        folder = tmp_path / "set" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(rng, 20 + 6 * (i % 2)).save(folder / f"{i:03}.{('png', 'jpg')[i % 2]}")
    (tmp_path / "set/a/000.png").write_bytes(b"broken")  # the headers of those after it stay theirs
    data = jichu.load(str(tmp_path / "set"))
    found = inspect(data)
    assert {f["column"] for f in found["leakage"]} == {
        "width of the image",
        "height of the image",
        "format of the file",
    }
    widths = [data.headers[row].width for row in range(len(data))]
    assert widths == [20 if name.startswith("a/") else 26 for name in data.names]
    images = found["images"]
    assert images["formats"] == {"JPEG": 80, "PNG": 79} and images["width"] == [20, 26, 26]
    assert images["looked_at"] == images["colour"] == 159
    assert sum("may be learned instead" in r for r in found["remarks"]) == 3


def test_no_target_no_leak_and_no_remark(tmp_path):
    _, x, _ = table()
    found = jichu.inspect(write(tmp_path / "t.csv", [["a", "b"], *x.tolist()]))
    assert found["leakage"] == found["remarks"] == [] and found["images"] is None


def test_remarks_on_classes(tmp_path):
    rows = [["a", "y"], *[[i % 7, "rare" if i < 6 else "common"] for i in range(300)]]
    remarks = " ".join(jichu.inspect(write(tmp_path / "t.csv", rows))["remarks"])
    assert "unbalanced (235 to 5 rows)" in remarks and "fewer than 10 training rows of rare" in remarks


def test_missing_cells_are_counted(tmp_path):
    rows = [
        ["a", "b", "y"],
        *[["" if i < 3 else i, "NA" if i == 5 else "xy"[i % 2], i % 2] for i in range(40)],
    ]
    assert jichu.inspect(write(tmp_path / "t.csv", rows))["missing"] == {"cells": 4, "of": 120, "columns": 2}


# --- the page


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def checked(path):
    """A page that asks for nothing and runs nothing."""
    found = Tags(path.read_text())
    assert not {t for t, _ in found.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attrs in found.tags:
        assert not [a for a in attrs if a.startswith("on")], (tag, attrs)
        assert attrs.get("src", "data:image/").startswith("data:image/")
        assert "href" not in attrs or re.fullmatch(r"[\w.]+\.html|#s\d+", attrs["href"])
    policies = [a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "Undefined" not in found.text and not re.search(r"url\((?!#)", path.read_text())
    return found


def test_names_and_cells_of_all_kinds_reach_the_page_as_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells = ['"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "javascript:alert(1)", "中文", "a&amp;b"]
    rows = [[HOSTILE, "style='x'", "n", "y"]]
    rows += [
        [cells[i % 5], cells[i % 3], "x" if i == 7 else i % 11, "<b>" if i % 3 else "</main>"]
        for i in range(90)
    ]
    write(tmp_path / "<i>t.csv", rows)
    assert main(["inspect", "<i>t.csv", "--set", "target=y", "--page"]) == 0
    capsys.readouterr()
    found = checked(tmp_path / "inspect.html")
    for text in [HOSTILE, "style='x'", *cells, "<b>", "</main>", "<i>t.csv", "cells are no numbers"]:
        assert text in found.text, text
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|\b49\b", found.text)


def test_file_and_class_names_reach_the_page_as_text(tmp_path):
    rng = np.random.default_rng(5)
    for i in range(20):
        folder = tmp_path / "set" / ("<u onclick=alert(1)>", "plain")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(rng, 60).save(folder / f'{i}"><svg onload=alert(1)>.png')
    recompressed(Image.open(next((tmp_path / "set/plain").iterdir()))).save(tmp_path / "set/plain/<near>.png")
    (tmp_path / "set/plain/<bad>.png").write_bytes(b"<script>")
    assert main(["inspect", str(tmp_path / "set"), "--page", str(tmp_path / "page.html"), "--quiet"]) == 0
    found = checked(tmp_path / "page.html")
    pictures = [a for t, a in found.tags if t == "img"]
    assert sum("title" in a for a in pictures) == 2 * 8 and len(pictures) == 2 * 8 + 2
    assert pictures[0]["title"].endswith('"><svg onload=alert(1)>.png')
    for text in ("<u onclick=alert(1)>", "plain/<bad>.png", "plain/<near>.png", "all of 60×60 pixels"):
        assert text in found.text


def test_a_page_of_two_hundred_columns_is_small(tmp_path):
    rng = np.random.default_rng(6)
    rows = [[f"c{i}" for i in range(200)] + ["when", "y"]]
    days = np.datetime64("2020-01-01") + np.arange(150)
    rows += [
        [*rng.normal(size=100).round(4), *rng.integers(0, 9, 100), d, "ab"[i % 2]] for i, d in enumerate(days)
    ]
    assert (
        main(["inspect", write(tmp_path / "t.csv", rows), "--page", str(tmp_path / "p.html"), "--quiet"]) == 0
    )
    found = checked(tmp_path / "p.html")
    assert sum(t == "svg" for t, _ in found.tags) == 201 and (tmp_path / "p.html").stat().st_size < 1e6
    assert "2020-05-29" in found.text


def test_many_classes_and_none(tmp_path, digits):
    from jichu.auditing import data_page

    for name, labels in (("many", [f"class {i % 90}" for i in range(360)]), ("none", [None] * 360)):
        data = jichu.load((digits[0][:360], labels))
        data_page.write(tmp_path / name, data, inspect(data))
        found = checked(tmp_path / name)
        images = sum(t == "img" for t, _ in found.tags)
        assert images == (20 * 4 if name == "many" else 24)
    assert "and 70 more classes" in (tmp_path / "many").read_text()


def test_histograms_are_drawn_to_scale():
    drawn = figures.histogram([0, 5, 10, 1], "<n>")
    bars = [(float(x), float(h)) for x, h in re.findall(r"M(\d+) 40V([\d.]+)h", drawn)]
    assert bars == [(10, 20), (20, 0), (30, 36)] and "&lt;n&gt;" in drawn
    assert 'd=""' in figures.histogram([0, 0], "")


def test_sizes_are_drawn_once_each():
    drawn = figures.sizes([10, 10, 20], [10, 10, 5])
    circles = [tuple(map(float, c)) for c in re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', drawn)]
    assert [c[:2] for c in circles] == [(140, 110), (240, 160)] and circles[0][2] > circles[1][2]


# --- the command, and the stage of a recipe


def test_the_command_prints_what_python_gives(tmp_path, photos, capsys):
    (photos / "red/bad.png").write_bytes(b"no")
    assert main(["inspect", str(photos), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(jichu.inspect(str(photos))))
    assert main(["inspect", str(photos), "--quiet"]) == 0
    said = capsys.readouterr().out
    for text in (
        "61 records",
        "30 JPEG",
        "exact duplicates: 0",
        "near duplicates: 0",
        "red/bad.png: ",
        "not used: 1",
    ):
        assert text.replace("61", "60") in said


def test_a_run_has_the_page_and_its_remarks(in_folder, digits):
    images = digits[0][digits[1] < 2][:120]
    labels = digits[1][digits[1] < 2][:120]
    kept = np.flatnonzero((labels == 0) | (np.arange(120) % 6 == 0))
    for i in kept:
        folder = in_folder / "set" / str(labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(folder / f"{i}.png")
    (in_folder / "r.yaml").write_text(
        "data: {path: set}\nstages: [{stage: inspect}, {stage: finetune, budget: 2 steps}, {stage: audit}]"
    )
    assert main(["run", "r.yaml", "--quiet"]) == 0
    run = jichu.open("runs/r")
    checked(run.path / "data.html")
    report = checked(run.path / "report.html")
    assert ("a", {"href": "data.html"}) in report.tags
    warnings = run.summary()["warnings"]
    assert any("unbalanced" in w for w in warnings) and all(w in report.text for w in warnings)


def test_the_groups_of_equal_images_are_those_of_their_bytes(digits):
    images = torch.from_numpy(digits[0][:50].copy())[:, None]
    images[30] = images[3]
    groups = exact_groups(images)
    assert groups[30] == groups[3] and len(np.unique(groups)) == 49

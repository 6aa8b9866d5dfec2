"""What is kept between starts, what makes it be read again, and how changed data are told."""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import jichu
from jichu.core.errors import DataError
from jichu.core.files import read_json, read_table
from jichu.data import large_tables, mapped, media, store
from jichu.data import load as loading
from jichu.data.batches import gather
from jichu.data.source import Names

ROWS = pa.table(
    {
        "x": np.arange(60) * 1.5,
        "c": ["a", "b", "c"] * 20,
        "day": ["2030-01-01", "2031-05-06"] * 30,
        "label": ["u", "v"] * 30,
    }
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("JICHU_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def reads(monkeypatch):
    """How often a source was read."""
    seen = []
    read = loading.read
    monkeypatch.setattr(loading, "read", lambda *a: seen.append(a) or read(*a))
    return seen


def _settled(*paths):
    """Wait until the files are older than a tick of the file system's clock."""
    while any(os.stat(p).st_ctime_ns > time.time_ns() - 2 * store._TICK for p in paths):
        time.sleep(0.005)


def _same(one, other):
    assert one.summary() == other.summary() and one.names == other.names and one.headers == other.headers
    assert one.table == other.table and one.targets == other.targets and one.preprocess == other.preprocess
    assert list(one.tensors) == list(other.tensors) and list(one.splits) == list(other.splits)
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype
        assert np.array_equal(
            tensor.numpy(), other.tensors[name].numpy(), equal_nan=tensor.is_floating_point()
        )
    for name, rows in one.splits.items():
        assert torch.equal(rows, other.splits[name])
    assert np.array_equal(one.equal, other.equal) and one.quarantine == other.quarantine


def _table(folder, suffix):
    path = folder / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(ROWS, path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS.to_pylist()))
    else:
        pa.csv.write_csv(ROWS, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_the_second_start_on_a_table_reads_nothing(tmp_path, reads, suffix):
    path = _table(tmp_path, suffix)
    _settled(path)
    settings = {"columns": {"c": "category"}, "split": {"test": 0.3, "group": "c"}}
    first, again = (jichu.load(path, **settings) for _ in range(2))
    assert len(reads) == 1
    _same(first, again)


def test_the_second_start_on_a_folder_of_images_reads_nothing(photos, reads):
    (photos / "red" / "broken.png").write_bytes(b"no image")
    (photos / "red" / "notes.txt").write_text("no image either")
    _settled(photos / "red" / "notes.txt")
    first, again = jichu.load(photos), jichu.load(photos)
    assert len(reads) == 1 and len(first.quarantine) == 2
    _same(first, again)


def test_other_splits_are_made_without_reading(tmp_path, reads):
    path = _table(tmp_path, ".csv")
    _settled(path)
    one, other, third = (
        jichu.load(path, seed=seed, split={"test": share}) for seed, share in ((0, 0.2), (1, 0.2), (0, 0.4))
    )
    assert len(reads) == 1
    assert not torch.equal(one.splits["test"], other.splits["test"])
    assert len(third.splits["test"]) == 2 * len(one.splits["test"])
    jichu.load(path, target="c")  # what is predicted decides how columns are kept
    assert len(reads) == 2


def _touch(photos):
    path = next((photos / "red").iterdir())
    os.utime(path)


def _rewrite(photos):
    path = next((photos / "red").iterdir())
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)  # of the same length, at what is said to be the same time
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _add(photos):
    Image.new("RGB", (20, 20)).save(photos / "red" / "another.png")


def _rename(photos):
    os.rename(photos / "red", photos / "crimson")


@pytest.mark.parametrize("change", [_touch, _rewrite, _add, _rename])
def test_whatever_happens_to_a_folder_it_is_read_again(photos, reads, change):
    _settled(*photos.iterdir(), *photos.glob("*/*"))
    before = jichu.load(photos, size=12)
    change(photos)
    after = jichu.load(photos, size=12)
    assert len(reads) == 2
    assert (after.fingerprint == before.fingerprint) == (change is _touch)


def test_a_list_of_images_is_read_again_when_an_image_comes_or_goes(tmp_path, reads):
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(tmp_path / f"{i}.png")
    lines = "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(13))  # the last is not there
    (tmp_path / "train.csv").write_text("image,label\n" + lines)
    _settled(*tmp_path.iterdir(), tmp_path)
    counts = [len(jichu.load(tmp_path / "train.csv")) for _ in range(2)]
    assert counts == [12, 12] and len(reads) == 1
    Image.new("L", (8, 8), 255).save(tmp_path / "12.png")
    assert len(jichu.load(tmp_path / "train.csv")) == 13
    os.remove(tmp_path / "0.png")
    assert len(jichu.load(tmp_path / "train.csv")) == 12


def test_what_is_written_to_while_it_is_read_is_not_taken_for_known(tmp_path, reads):
    path = _table(tmp_path, ".csv")
    os.utime(path)  # just now
    jichu.load(path)
    jichu.load(path)
    assert len(reads) == 2


def test_the_fingerprint_is_of_the_contents(tmp_path):
    one, other = tmp_path / "one", tmp_path / "two"
    for folder in (one, other):
        folder.mkdir()
        _table(folder, ".csv")
    assert jichu.load(one / "t.csv").fingerprint == jichu.load(other / "t.csv").fingerprint
    assert jichu.load(ROWS).fingerprint == jichu.load(ROWS.slice(0)).fingerprint
    assert jichu.load(ROWS).fingerprint != jichu.load(ROWS.slice(1)).fingerprint


def test_another_decoder_decodes_again(photos, reads, monkeypatch):
    _settled(*photos.glob("*/*"))
    jichu.load(photos, size=12)
    monkeypatch.setattr(store, "DECODERS", "another")
    decoded = []
    images = media.KINDS["image"]
    counted = images._replace(decode=lambda *a: decoded.append(a) or images.decode(*a))
    monkeypatch.setitem(media.KINDS, "image", counted)
    jichu.load(photos, size=12)
    assert len(reads) == 2 and len(decoded) == 60


def test_a_column_larger_than_memory_can_be_mapped(tmp_path):
    """A hole in a file takes no disk, and private pages that are not written to no memory."""
    import psutil

    rows = 2 * psutil.virtual_memory().total // 2**20
    with open(tmp_path / "image", "wb") as file:
        file.truncate(rows * 2**20)
    tensor = mapped.column(tmp_path / "image", rows, "uint8", [2**20])
    tensor[rows - 1, 0] = 3
    assert tensor[rows - 1].sum() == 3 and os.stat(tmp_path / "image").st_blocks < 100


def test_rows_of_a_column_that_does_not_fit_are_fetched(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (50, 3, 41, 37), np.uint8)
    values.tofile(tmp_path / "image")
    monkeypatch.setattr(mapped, "memory_available", lambda device: 1000)
    tensor = mapped.column(tmp_path / "image", 50, "uint8", [3, 41, 37])
    assert tensor.mapped[1] == 3 * 41 * 37
    rows = torch.tensor([49, 0, 7, 7])
    assert np.array_equal(gather({"image": tensor}, rows)["image"].numpy(), values[rows.numpy()])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_large_table_is_read_through_the_disk(tmp_path, monkeypatch, suffix):
    path = _table(tmp_path, suffix)
    plain = jichu.load(path)
    monkeypatch.setattr(large_tables, "LARGE", 1)
    monkeypatch.setenv("JICHU_CACHE", str(tmp_path / "other"))
    _same(plain, jichu.load(path))


def test_names_are_made_when_asked_for():
    names = Names.joined([Names.numbered("a", 3), Names.numbered("b", [5, 7])])
    assert list(names) == names == ["a:0", "a:1", "a:2", "b:5", "b:7"] and len(names) == 5
    assert names[3] == "b:5" and names[-1] == "b:7" and names[1:3] == ["a:1", "a:2"]
    assert names.take([4, 0]) == ["b:7", "a:0"]
    assert names.take(np.array([True, False, False, True, False])) == ["a:0", "b:5"]
    assert Names(["x", "y"]) == ["x", "y"] and "a:2" in names


# --- between start and resume


def _interrupted(folder, data, monkeypatch, **settings):
    """A run that was stopped at its first step."""
    from jichu.core.errors import Interrupted
    from jichu.train import fit

    with monkeypatch.context() as patch:
        patch.setattr(fit._Loop, "run", lambda *a: (_ for _ in ()).throw(Interrupted("stopped")))
        with pytest.raises(Interrupted):
            jichu.finetune("cnn", data, name="r", budget="1 steps", size=8, **settings)
    return {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_add, "1 file is new: red/another.png; there were 60 rows and are 61"),
        (
            lambda p: os.remove(p / "red" / "0.png"),
            "1 file is gone: red/0.png; there were 60 rows and are 59",
        ),
        (_rewrite, r"1 file is changed: red/\d+.(png|jpg)$"),
        (_rename, "20 files are new: crimson/0.png, .*, …; 20 files are gone: red/0.png"),
    ],
)
def test_changed_data_are_refused_with_the_difference(photos, in_folder, monkeypatch, change, said):
    before = _interrupted(in_folder, photos, monkeypatch)
    assert read_json("runs/r/environment.json")["data"]["rows"] == 60
    assert len(read_table("runs/r/sources.parquet")) == 60
    change(photos)
    with pytest.raises(DataError, match="have changed since it began") as refused:
        jichu.finetune("cnn", photos, name="r", budget="1 steps", size=8, resume=True)
    assert re.search(said, str(refused.value), re.MULTILINE)
    assert {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()} == before


def test_touched_or_moved_data_are_the_same_data(photos, in_folder, monkeypatch):
    _interrupted(in_folder, photos, monkeypatch)
    _touch(photos)
    assert jichu.finetune("cnn", photos, name="r", budget="1 steps", size=8, resume=True).path == Path(
        "runs/r"
    )


def test_vanished_data_are_named_before_anything_is_touched(photos, in_folder, monkeypatch):
    before = _interrupted(in_folder, photos, monkeypatch)
    os.rename(photos, photos.with_name("photographs"))
    with pytest.raises(DataError, match="photos is not there") as gone:
        jichu.finetune("cnn", photos, name="r", budget="1 steps", size=8, resume=True)
    assert "photographs" in str(gone.value)
    assert {p: p.read_bytes() for p in Path("runs").rglob("*") if p.is_file()} == before


def test_changed_arrays_are_refused(digits, in_folder, monkeypatch):
    images, labels = digits
    _interrupted(in_folder, (images[:90], labels[:90]), monkeypatch)
    with pytest.raises(DataError, match="there were 90 rows and are 80"):
        jichu.finetune("cnn", (images[:80], labels[:80]), name="r", budget="1 steps", size=8, resume=True)

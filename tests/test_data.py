"""Readers, decoding, the store, splits, batches."""

import gzip
import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import jichu
from conftest import SHARED
from jichu.core.config import check
from jichu.core.errors import DataError, UsageError
from jichu.data.batches import Batches, IterableBatches, as_source, gather, largest, peek, typical
from jichu.data.config import DataConfig
from jichu.data.decode import Preprocess, decode_image
from jichu.data.duplicates import exact_groups, near_images, near_rows
from jichu.data.media import KINDS
from jichu.data.splits import draw_labels, joined, latest, stratified


def load(path, **config):
    return jichu.load(path, **config)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


# --- readers


def test_image_folder(photos):
    data = load(str(photos))
    assert data.classes == ["blue", "green", "red"]
    assert data.tensors["image"].shape[1] == 3 and len(data) == 60
    assert all(
        name.split("/")[0] == data.classes[code]
        for name, code in zip(data.names, data.tensors["label"], strict=True)
    )
    counts = np.bincount(data.labels("test"))
    assert counts.tolist() == [4, 4, 4]


def test_image_folder_with_splits_and_unlabelled(photos):
    rng = np.random.default_rng(1)
    for part in ("train/a", "train/b", "test/a", "test/b", "val/a", "train/unlabelled"):
        (photos / "set" / part).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8)).save(
                photos / "set" / part / f"{i}.png"
            )
    data = load(str(photos / "set"))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 9, "validation": 3, "test": 6}
    assert (data.labels("train") == -1).sum() == 3
    assert data.preprocess == (9, 1, "crop")


def test_broken_files_go_to_quarantine(photos):
    whole = next((photos / "red").glob("*.png"))
    (photos / "red" / "cut.png").write_bytes(whole.read_bytes()[:-40])
    (photos / "red" / "none.jpg").write_bytes(b"")
    (photos / "red" / "notes.txt").write_text("hello")
    (photos / "red" / ".hidden.png").write_text("hello")
    data = load(str(photos))
    assert len(data) == 60
    assert {q["record"] for q in data.quarantine} == {"red/cut.png", "red/none.jpg", "red/notes.txt"}
    assert all(q["reason"] for q in data.quarantine)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "not there"),
        (lambda p: p.mkdir(), "no images"),
        (lambda p: (p.mkdir(), (p / "a.png").write_bytes(b"x")), "can be read"),
        (lambda p: p.write_text("x"), "no reader recognises"),
    ],
)
def test_nothing_to_read(tmp_path, make, said):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=said) as caught:
        load(str(tmp_path / "data"))
    assert caught.value.code == 3


def test_idx_files(tmp_path, digits):
    images, labels = digits
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images[:100]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels[:100].astype(np.uint8)))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[100:150])))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[100:150].astype(np.uint8))))
    data = load(str(tmp_path))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 100, "test": 50}
    order = torch.cat([data.splits["train"], data.splits["test"]])
    assert np.array_equal(
        np.sort(data.tensors["image"][order].sum((1, 2, 3))), np.sort(images[:150].sum((1, 2)))
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(np.zeros((3, 4, 4), np.uint8))[:-5], "promises 3 × 4 × 4"),
        (idx(np.zeros((3, 4, 4), np.uint8)) + b"x", "promises 3 × 4 × 4"),
        (b"\x00\x00\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31), "promises"),
        (b"\x00\x00\x08\x03\x00\x00", "ends within its header"),
        (b"\x00\x00\x0d\x03" + struct.pack(">3I", 1, 1, 1) + b"0000", "type 0x0d"),
        (b"hello world, hello", "not an idx file"),
        (b"", "not an idx file"),
        (b"\x1f\x8bnot gzip", "decompress"),
    ],
)
def test_idx_headers_that_lie(tmp_path, content, said):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        load(str(path))
    assert "train-images" in str(caught.value.where)


def test_parquet_images(tmp_path, digits):
    images, labels = digits
    for name, part in (("train", slice(0, 60)), ("test", slice(60, 80))):
        cells = [{"bytes": png(i), "path": None} for i in images[part]]
        table = pa.table(
            {"image": cells, "label": [None if i == 3 else int(c) for i, c in enumerate(labels[part])]}
        )
        pq.write_table(table, tmp_path / f"{name}.parquet")
    data = load(str(tmp_path))
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 60, "test": 20}
    assert data.names[19] == "test.parquet:19"
    assert torch.equal(data.tensors["image"][19, 0], torch.from_numpy(images[79]))
    assert (data.tensors["label"] == -1).nonzero()[:, 0].tolist() == [3, 23]
    with pytest.raises(UsageError, match="unknown column 'image'") as caught:
        pq.write_table(pa.table({"images": [1]}), tmp_path / "train.parquet")
        pq.write_table(pa.table({"images": [1]}), tmp_path / "test.parquet")
        load(str(tmp_path), reader={"name": "table", "image": "image"})
    assert caught.value.nearest == "images"
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not readable"):
        load(str(tmp_path))


def test_arrays(digits):
    images, labels = digits
    as_bytes = load((images[:50], labels[:50]))
    as_shares = load((images[:50] / 255.0, [str(c) for c in labels[:50]]))
    assert torch.equal(as_bytes.tensors["image"], as_shares.tensors["image"])
    assert torch.equal(as_bytes.tensors["label"], as_shares.tensors["label"])
    colour = load(np.zeros((4, 3, 9, 9), np.uint8))
    assert colour.tensors["image"].shape == (4, 3, 9, 9)
    broken = images[:5] / 255.0
    broken[2, 0, 0] = np.nan
    data = load(broken)
    assert len(data) == 4 and data.quarantine[0] == {"record": "array:2", "reason": "not finite"}
    for wrong in (np.zeros((4, 4, 4, 4, 1)), np.full((2, 4, 4), 300.0), (images[:3], labels[:2])):
        with pytest.raises(DataError):
            load(wrong)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data sets")
def test_real_parquet():
    data = load(str(SHARED / "pneumoniamnist"))
    assert data.classes == ["normal", "pneumonia"]
    # 10 training images are in the validation split too
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 3872, "test": 624, "validation": 524}
    assert data.duplicates == {"exact": 28, "removed": 10, "conflicting_labels": 0}


# --- decoding


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_every_mode_decodes(mode):
    image = Image.new("L", (10, 6), 128).convert("I;16" if mode == "I;16" else mode)
    for channels in (1, 3):
        assert decode_image(image, Preprocess(8, channels, "crop")).shape == (channels, 8, 8)


def test_decoding_keeps_pixels_colours_and_orientation():
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    to = Preprocess(8, 3, "crop")
    assert np.array_equal(decode_image(png(pixels), to), pixels.transpose(2, 0, 1))
    clear = Image.fromarray(np.dstack([pixels, np.zeros((8, 8), np.uint8)]), "RGBA")
    assert (decode_image(clear, to) == 255).all()
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(turned, "PNG", exif=exif)
    assert np.array_equal(decode_image(turned.getvalue(), to), pixels[::-1, ::-1].transpose(2, 0, 1))


def _smooth(height, width, mode="RGB"):
    pixels = np.random.default_rng(height).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def _jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(16, 16), (33, 50), (128, 128), (301, 97)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("turned", [None, 3, 6])
def test_a_plain_jpeg_is_what_pillow_makes_of_it(monkeypatch, shape, mode, turned):
    from jichu.data import decode

    exif = Image.Exif()
    if turned:
        exif[0x0112] = turned
    for options in (
        {"quality": 40, "progressive": True},
        {"quality": 95},
        {"subsampling": 0} if mode == "RGB" else {},
    ):
        encoded = _jpeg(_smooth(*shape, mode), exif=exif, **options)
        for to in (Preprocess(16, 3, "crop"), Preprocess(32, 1, "pad"), Preprocess(33, 3, "stretch")):
            assert decode._plain_jpeg(encoded, to) is not None
            found = decode_image(encoded, to)
            with monkeypatch.context() as patch:
                patch.setattr(decode, "_plain_jpeg", lambda *a: None)
                slowly = decode_image(encoded, to)
            assert found.shape == slowly.shape and np.abs(found.astype(int) - slowly).max() <= 2


def test_other_jpegs_are_left_to_pillow():
    from jichu.data.decode import _plain_jpeg

    to = Preprocess(16, 3, "crop")
    whole = _jpeg(_smooth(64, 64))
    for encoded in (
        _jpeg(_smooth(20, 20, "CMYK")),
        whole[: len(whole) // 2],
        whole[:30],
        b"\xff\xd8\xff",
        b"GIF89a",
    ):
        assert _plain_jpeg(encoded, to) is None
    assert decode_image(_jpeg(_smooth(20, 20, "CMYK")), to).shape == (3, 16, 16)
    with pytest.raises(OSError, match="truncated"):
        decode_image(whole[: len(whole) // 2], to)
    several = io.BytesIO()  # as many telephones keep them
    _smooth(40, 40).save(several, "MPO", save_all=True, append_images=[_smooth(44, 44)])
    assert np.array_equal(decode_image(several.getvalue(), to), decode_image(_jpeg(_smooth(40, 40)), to))


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_resizing(resize):
    bars = np.zeros((10, 30), np.uint8)
    bars[:, :10] = 255
    out = decode_image(bars, Preprocess(10, 1, resize))[0]
    assert out.shape == (10, 10)
    assert {
        "crop": out.max() == 0,
        "pad": (out[0] == 0).all() and out.max() > 200,
        "stretch": out[:, 0].min() > 200,
    }[resize]


# --- the store


def test_the_second_time_nothing_is_decoded(photos, monkeypatch):
    first = load(str(photos), size=12)
    again = KINDS["image"]._replace(decode=lambda *a: pytest.fail("decoded again"))
    monkeypatch.setitem(KINDS, "image", again)
    again = load(str(photos), size=12)
    assert torch.equal(first.tensors["image"], again.tensors["image"])
    with pytest.raises(pytest.fail.Exception):
        load(str(photos), size=13)


def test_a_changed_file_is_decoded_again(photos):
    before = load(str(photos))
    path = photos / before.names[0]
    Image.new("RGB", (20, 20), (1, 2, 3)).save(path)
    after = load(str(photos), size=before.preprocess.size)
    assert not torch.equal(before.tensors["image"][0], after.tensors["image"][0])


def test_writing_to_a_column_does_not_reach_the_file(digits):
    load(digits).tensors["image"].zero_()
    assert load(digits).tensors["image"].any()


# --- splits

labels_strategy = st.lists(st.integers(-1, 4), min_size=1, max_size=120)


@settings(deadline=None)
@given(labels_strategy, st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 100), st.integers(1, 4))
def test_splits_are_stratified_partitions_that_keep_groups(labels, test, validation, seed, size):
    labels = np.array(labels)
    groups = np.arange(len(labels)) // size
    shares = {"validation": validation, "test": test}
    made = stratified(labels, shares, seed=seed, groups=groups)
    assert sorted(np.concatenate(list(made.values())).tolist()) == list(range(len(labels)))
    owners = {g: {n for n, rows in made.items() if g in groups[rows]} for g in groups}
    assert all(len(names) == 1 for names in owners.values())
    for name in shares:
        assert (labels[made[name]] != -1).all()
    again = stratified(labels, shares, seed=seed, groups=groups)
    assert all(np.array_equal(made[n], again[n]) for n in made)
    if size == 1:
        for code in np.unique(labels[labels >= 0]):
            count = (labels == code).sum()
            assert (labels[made["train"]] == code).any()
            for name, share in shares.items():
                assert abs((labels[made[name]] == code).sum() - share * count) <= 1


@given(labels_strategy, st.integers(1, 5), st.integers(0, 5))
def test_draws_have_so_many_of_each_class(labels, per_class, draw):
    labels = np.array(labels)
    rows = np.flatnonzero(np.arange(len(labels)) % 3 > 0)
    if not (labels[rows] >= 0).any():
        with pytest.raises(DataError):
            draw_labels(labels, rows, per_class, seed=0, draw=draw)
        return
    drawn = draw_labels(labels, rows, per_class, seed=0, draw=draw)
    assert set(drawn) <= set(rows)
    for code in np.unique(labels[rows][labels[rows] >= 0]):
        assert (labels[drawn] == code).sum() == min(per_class, (labels[rows] == code).sum())


def test_draws_differ():
    labels = np.repeat(np.arange(5), 50)
    drawn = {tuple(draw_labels(labels, np.arange(250), 3, seed=0, draw=d)) for d in range(10)}
    assert len(drawn) == 10


def test_duplicates_stay_together_and_leaks_are_removed(digits, tmp_path):
    images, labels = digits
    doubled = load((np.concatenate([images[:200]] * 2), np.concatenate([labels[:200]] * 2)))
    assert doubled.duplicates == {"exact": 200, "removed": 0, "conflicting_labels": 0}
    groups = exact_groups(doubled.tensors["image"])
    assert not set(groups[doubled.splits["train"]]) & set(groups[doubled.splits["test"]])
    for part, rows in (
        ("train/a", range(5)),
        ("train/b", range(5, 10)),
        ("test/a", [3, 20]),
        ("test/b", [21]),
    ):
        (tmp_path / part).mkdir(parents=True)
        for i in rows:
            Image.fromarray(images[i]).save(tmp_path / part / f"{i}.png")
    data = load(str(tmp_path))
    assert data.duplicates["removed"] == 1
    assert data.quarantine == [{"record": "train/a/3.png", "reason": "exact duplicate of a held-out record"}]
    conflict = load((images[[0, 0, 1]], [0, 1, 1]))
    assert conflict.duplicates["conflicting_labels"] == 1


def test_labels_of_every_form():
    data = load(
        (
            np.zeros((6, 8, 8), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None],
            ["b", None, "a", float("nan"), "", "b"],
        )
    )
    assert data.classes == ["a", "b"]
    assert data.tensors["label"].tolist() == [1, -1, 0, -1, -1, 1]
    numbers = load((np.zeros((3, 8, 8), np.uint8), [10, 9, 2.0]), split={"test": 0.0})
    assert numbers.classes == ["2", "9", "10"]


@given(
    st.lists(st.one_of(st.integers(0, 12), st.just(float("nan"))), min_size=1, max_size=60),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
def test_every_held_out_time_is_later_than_every_one_trained_on(times, validation, test):
    times = np.array(times, float)
    shares = {"validation": validation, "test": test}
    instants = len(np.unique(times[~np.isnan(times)]))
    if instants < 3:
        with pytest.raises(DataError, match=f"{instants} different times"):
            latest(times, shares)
        return
    made = latest(times, shares)
    assert sorted(np.concatenate(list(made.values())).tolist()) == list(range(len(times)))
    train = times[made["train"]]
    assert len(made["validation"]) and len(made["test"]) and not np.isnan(train).all()
    assert np.nanmax(train) < times[made["validation"]].min()
    assert times[made["validation"]].max() < times[made["test"]].min()
    if instants == len(times):  # no ties: as many as were asked for, to one
        assert abs(len(made["test"]) - max(1, test * len(times))) <= 1


@settings(deadline=None)  # scipy is imported at the first call
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=30))
def test_groups_of_both_kinds_are_joined(pairs):
    one, other = np.array(pairs).T
    together = joined(one, other)
    found = np.arange(len(pairs))  # by hand: spread the smallest row number until nothing changes
    while True:
        before = found.copy()
        for groups in (one, other):
            for g in np.unique(groups):
                found[groups == g] = found[groups == g].min()
        if np.array_equal(before, found):
            break
    assert np.array_equal(found[:, None] == found, together[:, None] == together)


def test_rows_of_a_group_stay_together_and_those_without_one_alone():
    n = 200
    table = pa.table({
        "who": [None if i % 10 == 0 else f"p{i // 4}" for i in range(n)], "x": np.arange(n) * 0.5,
        "label": ["u", "v"] * (n // 2),
    })  # fmt: skip
    for said in ({}, {"who": "category"}, {"who": "text"}):
        data = load(table, split={"group": "who"}, columns=said)
        who = np.array([w or f"alone {i}" for i, w in enumerate(table["who"].to_pylist())])
        parts = {name: set(who[rows]) for name, rows in data.splits.items()}
        assert not parts["train"] & parts["test"]
        alone = np.array([name.startswith("alone") for name in who])
        assert 0 < alone[data.splits["test"]].sum() < alone.sum()
    keys = pa.table({"who": [f"k{i}" for i in range(50)], "x": np.arange(50) * 0.5, "label": ["u", "v"] * 25})
    assert len(load(keys, split={"group": "who"}).splits["test"]) == 10


def test_numbers_to_predict_are_spread_alike():
    rng = np.random.default_rng(0)
    y = np.exp(3 * rng.normal(size=500))
    data = load(pa.table({"x": rng.normal(size=500), "y": y}))
    edges = np.quantile(y, np.linspace(0, 1, 11))
    counts = np.histogram(y[data.splits["test"]], edges)[0]
    assert len(data.splits["test"]) == 100 and (counts == 10).all()


# --- near duplicates


def photographs():
    """Crops of two photographs, [N, 3, 64, 64], none of which overlap."""
    from sklearn.datasets import load_sample_images

    crops = [p[y : y + 64, x : x + 64] for p in load_sample_images().images
             for y in range(0, 360, 64) for x in range(0, 560, 64)]  # fmt: skip
    return np.stack(crops)


def test_near_duplicates_are_found_and_others_are_not():
    originals = photographs()
    originals = originals[originals.std((1, 2)).mean(1) > 25][:40]  # skies look alike to anybody
    copies = []
    for i, pixels in enumerate(originals[:15]):
        image = Image.fromarray(pixels)
        if i % 3 == 0:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=60)
            image = Image.open(buffer)
        elif i % 3 == 1:
            image = image.resize((48, 48)).resize((64, 64))
        else:
            image = image.point(lambda v: min(255, round(0.9 * v + 20)))
        copies.append(np.asarray(image))
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8)
    images = torch.from_numpy(np.concatenate([originals, copies, noise])).permute(0, 3, 1, 2).contiguous()
    found = {tuple(pair) for pair in near_images(images).tolist()}
    wanted = {(i, len(originals) + i) for i in range(15)}
    assert wanted <= found and len(found - wanted) <= 1


def test_many_images_alike_are_not_compared_all_with_all(monkeypatch):
    import jichu.data.duplicates as duplicates

    compared = []
    candidates = duplicates._candidates

    def counted(packed):
        for one, other in candidates(packed):
            compared.append(len(one))
            yield one, other

    monkeypatch.setattr(duplicates, "_candidates", counted)
    n = 3000
    alike = torch.from_numpy(photographs()[:1]).permute(0, 3, 1, 2)[..., ::4, ::4].repeat(n, 1, 1, 1)
    assert near_images(alike).tolist() == [[0, i] for i in range(1, n)]
    assert not compared  # equal ones are known to be so
    alike[torch.arange(n), 0, torch.arange(n) % 16, torch.arange(n) // 16 % 16] ^= (
        torch.arange(n) // 256 + 1
    ).byte()
    assert len(near_images(alike)) > 0.95 * n  # a crowd is compared with its neighbours only
    assert sum(compared) <= 8 * 64 * n
    blank = torch.zeros(n, 1, 16, 16, dtype=torch.uint8)
    blank[torch.arange(n), 0, 0, 0] = (torch.arange(n) % 256).byte()
    near_images(blank)


def test_rows_that_are_nearly_equal():
    numbers = torch.tensor([[1.0, 5], [1.00001, 5], [2, 5], [float("nan"), 5], [float("nan"), 5], [1, 1e30]])
    codes = torch.tensor([[1], [1], [1], [2], [2], [1]])
    groups = near_rows({"numbers": numbers[:5], "categories": codes[:5]})
    assert groups[0] == groups[1] and groups[3] == groups[4] and len(set(groups.tolist())) == 3
    assert len(set(near_rows({"numbers": numbers}).tolist())) == 4
    assert (
        len(set(near_rows({"numbers": torch.full((3, 2), float("nan")), "categories": codes[:3]}).tolist()))
        == 1
    )


# --- batches


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 20), st.booleans(), st.integers(0, 40))
def test_batches_cover_each_epoch_once_and_resume_anywhere(rows, size, drop, taken):
    tensors = {"x": torch.arange(rows) * 10}
    batches = Batches(tensors, batch_size=size, seed=1, drop_last=drop)
    epoch = [next(batches) for _ in range(len(batches))]
    seen = torch.cat([b["row"] for b in epoch])
    assert len(seen.unique()) == len(seen) and (drop or len(seen) == rows)
    assert all(torch.equal(b["x"], b["row"] * 10) for b in epoch)
    one, two = Batches(tensors, batch_size=size, seed=1), Batches(tensors, batch_size=size, seed=1)
    for _ in range(taken):
        next(one)
    two.load_state_dict(one.state_dict())
    for _ in range(3):
        assert torch.equal(peek(one)["row"], next(two)["row"])
        next(one)
    assert one.state_dict() == two.state_dict()


def test_ranks_share_a_batch(monkeypatch):
    tensors = {"x": torch.arange(10)}
    whole = next(Batches(tensors, batch_size=7, seed=3))["row"]
    shares = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shares.append(next(Batches(tensors, batch_size=7, seed=3))["row"])
    assert sorted(torch.cat(shares).tolist()) == sorted(whole.tolist())


def test_batches_of_ones_own():
    batches = IterableBatches([{"x": torch.ones(2)}, {"x": torch.zeros(2)}])
    assert peek(batches)["x"].sum() == 2
    seen = [next(batches)["x"].sum().item() for _ in range(5)]
    assert seen == [2, 0, 2, 0, 2]
    again = IterableBatches([{"x": torch.ones(2)}, {"x": torch.zeros(2)}])
    again.load_state_dict(batches.state_dict())
    assert next(again)["x"].sum() == next(batches)["x"].sum() == 0
    ended = IterableBatches(iter([{"x": torch.ones(2)}]))
    next(ended)
    with pytest.raises(UsageError, match="ended after 1"):
        next(ended)
    with pytest.raises(UsageError, match="dict of tensors"):
        next(IterableBatches([torch.ones(2)]))
    own = Batches({"x": torch.ones(2)}, batch_size=1)
    assert as_source(own) is own
    assert gather({"x": torch.arange(4)}, torch.tensor([2]))["x"].tolist() == [2]


def test_data_settings_are_checked():
    assert check(DataConfig, {"path": "x"}).draws == 1
    for wrong in ({"size": 2}, {"channels": 2}, {"resize": "zoom"}, {"labels_per_class": 0}):
        with pytest.raises(UsageError):
            check(DataConfig, {"path": "x", **wrong})


# --- what once went wrong


def test_folders_named_by_numbers_keep_their_names(tmp_path, digits):
    for i, name in enumerate(["1", "2", "3", "10"]):
        (tmp_path / name).mkdir()
        for j in range(3):
            Image.fromarray(digits[0][3 * i + j]).save(tmp_path / name / f"{j}.png")
    data = load(str(tmp_path))
    assert data.classes == ["1", "2", "3", "10"]
    assert all(
        n.split("/")[0] == data.classes[c] for n, c in zip(data.names, data.tensors["label"], strict=True)
    )


def test_a_class_may_be_called_train(photos):
    (photos / "red").rename(photos / "train")
    data = load(str(photos))
    assert data.classes == ["blue", "green", "train"] and not data.splits_given


def test_other_labels_for_the_same_images_are_not_confused(digits, tmp_path):
    images = digits[0][:40]
    one, two = load((images, np.arange(40) % 2)), load((images, 1 - np.arange(40) % 2))
    assert (one.tensors["label"] != two.tensors["label"]).all()
    assert load((images, ["a", "b"] * 20)).classes == ["a", "b"]
    assert "label" not in load(images).tensors
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    for shift in (0, 1):
        labels = ((np.arange(40) + shift) % 2).astype(np.uint8)
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
        assert load(str(tmp_path)).tensors["label"].tolist() == labels.tolist()


def test_a_reader_without_a_fingerprint_is_read_anew(tmp_path, monkeypatch):
    (tmp_path / "own_reader.py").write_text(
        "import numpy as np\nfrom pathlib import Path\nfrom jichu.data.source import Column, Source\n"
        "def read(path):\n    value = int(Path(path).read_text())\n"
        "    return Source({'image': Column('image', [np.full((8, 8), value + i, np.uint8) for i in range(4)])}, ['a', 'b', 'c', 'd'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for value in (3, 9):
        (tmp_path / "value.txt").write_text(str(value))
        data = load(str(tmp_path / "value.txt"), reader="own_reader:read")
        assert data.tensors["image"][0, 0, 0, 0] == value


def test_validation_rows_that_are_in_the_test_split_are_not_used(tmp_path, digits):
    for part, rows in (("train/a", range(5)), ("val/a", [5, 6, 7]), ("test/a", [7, 8, 0])):
        (tmp_path / part).mkdir(parents=True)
        for i in rows:
            Image.fromarray(digits[0][i]).save(tmp_path / part / f"{i}.png")
    data = load(str(tmp_path))
    assert {q["record"] for q in data.quarantine} == {"val/a/7.png", "train/a/0.png"}
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 4, "validation": 2, "test": 3}


def test_a_damaged_cache_is_made_anew(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("JICHU_CACHE", str(tmp_path))
    whole = load((digits[0][:30], digits[1][:30]))
    [folder] = (tmp_path / "store").iterdir()
    [split] = folder.glob("split-*")
    for damage in ("store.json", "image", "label", "names.arrow", split.name):
        (folder / damage).write_bytes((folder / damage).read_bytes()[:-7])
        again = load((digits[0][:30], digits[1][:30]))
        assert torch.equal(again.tensors["image"], whole.tensors["image"]) and again.names == whole.names


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1, 2]), "of type int64"),
        (pa.array([[1], [2]]), "of type list"),
        (pa.array([{"x": 1}, {"x": 2}]), "of type struct"),
    ],
)
def test_parquet_of_other_types(tmp_path, column, said):
    pq.write_table(pa.table({"image": column}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=said):
        load(str(tmp_path), reader={"name": "table", "image": "image"})


@pytest.mark.parametrize(
    "wrong",
    [
        torch.rand(4, 5, 8, 8),
        np.full((3, 8, 8), np.nan),
        np.array([["a"]]),
        np.zeros((0, 8, 8)),
        np.zeros((3, 8, 8), complex),
        "a" * 400,
    ],
)
def test_arrays_that_are_no_images(wrong):
    with pytest.raises(DataError):
        load(wrong)


def test_tensors_and_lists_of_images(digits):
    wants = torch.tensor(digits[0][:4] / 255.0, requires_grad=True)
    assert load(wants).tensors["image"].shape == (4, 1, 8, 8)
    assert len(load([digits[0][0], digits[0][1]])) == 2


def test_batches_to_judge_others_by():
    """Of mean length what a step takes, of the longest what it needs; neither is drawn from the others."""
    lengths = torch.tensor([3] * 50 + [90] * 10 + [20] * 40)
    tensors = {"x": torch.arange(100)}
    batches = Batches(tensors, torch.arange(100), batch_size=8, lengths=lengths)
    before = batches.state_dict()
    assert set(lengths[typical(batches)["row"]].tolist()) == {20}  # the mean is 18.5
    assert set(lengths[largest(batches)["row"]].tolist()) == {90}
    assert batches.state_dict() == before
    plain = Batches(tensors, batch_size=8)
    assert torch.equal(typical(plain)["row"], next(plain)["row"])


@given(share=st.floats(0.01, 1), draw=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_a_share_of_the_labels_is_of_each_class_alike(share, draw):
    labels = np.repeat([0, 1, -1], [200, 50, 30])
    drawn = draw_labels(labels, np.arange(280), share, seed=0, draw=draw)
    counts = np.bincount(labels[drawn], minlength=2)
    assert counts.tolist() == [max(1, round(share * 200)), max(1, round(share * 50))]


def test_a_share_of_numbers_and_of_windows(tmp_path):
    rows = "\n".join(f"{np.datetime64('2030-01-01') + i},{i / 7:.3f}" for i in range(100))
    (tmp_path / "t.csv").write_text(f"date,y\n{rows}\n")
    table = jichu.load(tmp_path / "t.csv", target="y", columns={"y": "number"})
    drawn = {tuple(table.draw(share=0.25, seed=0, draw=d).tolist()) for d in range(3)}
    assert len(drawn) == 3 and {len(d) for d in drawn} == {20}
    series = jichu.load(tmp_path / "t.csv", series={"context": 8, "horizon": 2})
    train = series.splits["train"]
    assert torch.equal(series.draw(share=0.1, seed=0, draw=0), train[-round(0.1 * len(train)) :])


@pytest.mark.parametrize(("data", "told"), [
    ({"labels_share": 0.1, "labels_per_class": 2}, "both given"), ({"draws": 2}, "draws without"),
    ({"labels_share": 0.1, "series": {}, "draws": 2}, "all the same"), ({"labels_share": 0}, "labels_share"),
])  # fmt: skip
def test_how_many_labels(data, told):
    with pytest.raises(UsageError, match=told):
        check(DataConfig, {"path": "x", **data})

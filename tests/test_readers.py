"""Files from elsewhere: CIFAR's pickles, folders and images of every sort, whole and broken."""

import contextlib
import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image, ImageOps

import jichu
from jichu.cli.main import main
from jichu.core.errors import DataError
from jichu.data.decode import UNREADABLE, Preprocess, decode_image, peek_image
from jichu.data.formats import inert

EIGHT = Preprocess(8, 3, "crop")


def picture(side=12, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


def save(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed=seed)).save(path, **options)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def two_classes(tmp_path):
    """Ten images in each of a/ and b/."""
    for i in range(20):
        save(tmp_path / "set" / "ab"[i % 2] / f"{i:02}.png", seed=i)
    return tmp_path / "set"


# --- CIFAR


def python_2(data, labels, names):
    """A batch as Python 2 wrote it: protocol 2, texts as SHORT_BINSTRING and BINSTRING, old names of NumPy."""

    def short(text):
        return b"U" + bytes([len(text)]) + text

    raw = data.tobytes()
    dtype = (
        b"cnumpy\ndtype\n"
        + short(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R(K\x01"
             + b"M" + len(labels).to_bytes(2, "little") + b"M\x00\x0c\x86" + dtype + b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb")  # fmt: skip
    listed = b"](" + b"".join(b"K" + bytes([c]) for c in labels) + b"e"
    batch = b"\x80\x02}(" + short(b"data") + array + short(b"labels") + listed + b"u."
    meta = b"\x80\x02}" + short(b"label_names") + b"](" + b"".join(map(short, names)) + b"es."
    return batch, meta


def cifar(folder, version, data, labels):
    names = [f"class {i}" for i in range(10)]
    if version == "binary":
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], data], axis=1)
        batch, meta = rows.tobytes(), "\n".join(names).encode() + b"\n\n"
        files = {"data_batch_1.bin": batch, "test_batch.bin": batch[: 3073 * 4], "batches.meta.txt": meta}
    elif version == "binary 100":
        rows = np.concatenate(
            [np.zeros((len(data), 1), np.uint8), np.array(labels, np.uint8)[:, None], data], axis=1
        )
        files = {
            "train.bin": rows.tobytes(),
            "test.bin": rows[:4].tobytes(),
            "fine_label_names.txt": "\n".join(names).encode(),
        }
    elif version == "python 2":
        batch, meta = python_2(data, labels, [n.encode() for n in names])
        files = {
            "data_batch_1": batch,
            "test_batch": python_2(data[:4], labels[:4], [])[0],
            "batches.meta": meta,
        }
    else:
        kind, protocol = version
        key = {"bytes": str.encode, "text": str}[kind]
        files = {
            "train": pickle.dumps(
                {key("data"): data, key("fine_labels"): labels, key("filenames"): [b"x.png"]}, protocol
            ),
            "test": pickle.dumps(
                {key("data"): np.asfortranarray(data[:4]), key("fine_labels"): labels[:4]}, protocol
            ),
            "meta": pickle.dumps({key("fine_label_names"): [key(n) for n in names]}, protocol),
        }
    for name, content in files.items():
        (folder / name).write_bytes(content)


VERSIONS = ["binary", "binary 100", "python 2", *((kind, p) for kind in ("bytes", "text") for p in range(6))]


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_cifar(tmp_path, version):
    rng = np.random.default_rng(0)
    data, labels = rng.integers(0, 255, (20, 3072), dtype=np.uint8), [i % 10 for i in range(20)]
    data[16:20] = rng.integers(0, 255, (4, 3072))
    cifar(tmp_path, version, data, labels)
    found = jichu.load(tmp_path)
    assert found.classes == [f"class {i}" for i in range(10)]
    test = found.splits["test"]
    assert found.tensors["label"][test].tolist() == labels[:4]
    assert np.array_equal(found.tensors["image"][test].numpy(), data[:4].reshape(-1, 3, 32, 32))
    assert len(found.splits["train"]) == 16  # four are in the test split too


class Poison:
    """Pickled, it asks for `function(argument)` when it is loaded."""

    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


def poisons(target):
    run = f"touch {target}".encode()
    text = b"X" + len(run).to_bytes(4, "little") + run
    plain = Poison(os.system, run.decode())
    yield from (pickle.dumps(plain, protocol) for protocol in range(6))
    yield from (pickle.dumps({"data": [(plain,)], "labels": [plain]}, protocol) for protocol in range(6))
    yield pickle.dumps({plain.call: 1})
    yield b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text + b"\x85R."  # STACK_GLOBAL
    yield b"(" + b"S'touch " + str(target).encode() + b"'\niposix\nsystem\n."  # INST
    yield b"(cposix\nsystem\n" + text + b"o."  # OBJ
    yield b"\x80\x02cposix\nsystem\n" + text + b"\x85\x81."  # NEWOBJ
    yield b"\x80\x04cposix\nsystem\n" + text + b"\x85}\x92."  # NEWOBJ_EX
    yield b"\x80\x02}cposix\nsystem\n" + text + b"\x85Rb."  # in the state of BUILD
    yield b"\x80\x02cnumpy\ndtype\ncposix\nsystem\n" + text + b"\x85R\x85R."
    yield b"\x80\x02c__builtin__\neval\n" + text + b"\x85R."
    yield b"\x80\x02\x82\x01."  # EXT1
    yield b"\x80\x02U\x01xQ."  # BINPERSID


BROKEN = {
    "empty": b"",
    "cut": pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]})[:-20],
    "no pickle": b"hello world",
    "a list": pickle.dumps([1]),
    "in itself": b"\x80\x02}q\x00U\x06labelsh\x00s.",
    "a list in itself": b"\x80\x02}U\x06labels]q\x00h\x00as.",
    "a lie": pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1]}),
    "floats": pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}),
    "no labels": pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}),
    "no rows": pickle.dumps({"data": np.zeros((0, 3072), np.uint8), "labels": []}),
    "huge labels": pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10**30]}),
    "huge shape": b"\x80\x02}U\x04datacnumpy.core.numeric\n_frombuffer\n(U\x01xcnumpy\ndtype\nU\x02u1\x85R\x8a\x10" + b"\xff" * 15 + b"\x0f\x85U\x01CtRs.",
    "nothing to mark": b"\x80\x02u.",
    "marks": b"(" * 200_000 + b"t" * 200_000 + b".",
    "lists of lists": b"\x80\x02}U\x0blabel_names](K\x01e" + b"q\x00](h\x00h\x00e" * 200 + b"s.",
}  # fmt: skip


def test_a_poisoned_pickle_is_not_run(tmp_path):
    target = tmp_path / "executed"
    count = 0
    for program in poisons(target):
        cifar(tmp_path, ("text", 4), np.zeros((4, 3072), np.uint8), [0, 1, 2, 3])
        for name in ("train", "meta"):
            (tmp_path / name).write_bytes(program)
            with pytest.raises(DataError) as caught:
                jichu.load(tmp_path)
            assert str(tmp_path / name) == str(caught.value.where) or name == "meta"
            with pytest.raises(DataError):
                inert.load(tmp_path / name)
            count += 1
        assert not target.exists()
    assert count > 40
    with contextlib.suppress(Exception):  # the poison is a real one
        pickle.loads(pickle.dumps(Poison(os.system, f"touch {target}")))
    assert target.exists()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pickle_is_a_data_error(tmp_path, name):
    for file in ("train", "meta"):
        cifar(tmp_path, ("text", 4), np.zeros((4, 3072), np.uint8), [0, 1, 2, 3])
        (tmp_path / file).write_bytes(BROKEN[name])
        with pytest.raises(DataError) as caught:
            jichu.load(tmp_path)
        assert str(caught.value.where).startswith(str(tmp_path))


def test_pickles_cut_or_changed_anywhere(tmp_path):
    whole = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}, 4)
    rng = np.random.default_rng(0)
    path = tmp_path / "batch"
    head = [*range(150), *range(len(whole) - 60, len(whole))]
    for place in head:
        changed = bytearray(whole)
        changed[place] = rng.integers(256)
        for content in (whole[:place], bytes(changed)):
            path.write_bytes(content)
            with contextlib.suppress(DataError):
                assert not callable(inert.load(path))


def test_binary_files_that_end_too_soon(tmp_path):
    cifar(tmp_path, "binary", np.zeros((4, 3072), np.uint8), [0, 1, 2, 3])
    (tmp_path / "test_batch.bin").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="100 bytes"):
        jichu.load(tmp_path)
    cifar(tmp_path, "binary", np.zeros((4, 3072), np.uint8), [0, 1, 2, 77])
    with pytest.raises(DataError, match="labels up to 77"):
        jichu.load(tmp_path)


# --- images


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_as_pillow_has_it(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    raw = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(raw))))
    assert np.array_equal(decode_image(raw, EIGHT), turned.transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_what_moves_the_first_frame_is_taken(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    raw = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    red = decode_image(raw, EIGHT)
    assert red[0].min() > 240 and red[1:].max() < 20


def test_sixteen_bits_keep_their_upper_eight():
    values = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    for form in ("PNG", "TIFF"):
        found = decode_image(encoded(Image.fromarray(values), form), Preprocess(8, 1, "crop"))[0]
        assert np.array_equal(found, values // 256)


def test_palettes_and_inks():
    clear = Image.new("P", (8, 8), 0)
    clear.putpalette([10, 20, 30, 40, 50, 60])
    clear.putpixel((0, 0), 1)
    found = decode_image(encoded(clear, "PNG", transparency=0), EIGHT)
    assert found[:, 0, 0].tolist() == [40, 50, 60] and (found[:, 1:] == 255).all()
    assert (
        decode_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), EIGHT)[:, 0, 0]
        == [255, 0, 0]
    ).all()


def test_very_wide_images():
    for resize in ("crop", "pad", "stretch"):
        raw = encoded(Image.new("L", (20_000, 3), 9), "PNG")
        assert decode_image(raw, Preprocess(8, 1, resize)).shape == (1, 8, 8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_damaged_images_are_unreadable_and_no_more(form):
    raw = encoded(Image.fromarray(picture()), form)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(raw[: rng.integers(1, len(raw) + 1)])
        for place in rng.integers(0, min(len(damaged), 60), 3):
            damaged[place] = rng.integers(256)
        for look in (peek_image, lambda item: decode_image(item, EIGHT)):
            with contextlib.suppress(*UNREADABLE):
                look(bytes(damaged))


def test_strange_files_in_a_folder(two_classes):
    folder = two_classes / "a"
    whole = (folder / "00.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:-60])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "noise.gif").write_bytes(bytes(range(256)))
    (folder / "notes.csv").write_text("x,y\n1,2\n")
    (two_classes / "train_log.csv").write_text("epoch,loss\n1,2\n")
    Image.new("1", (30_000, 30_000)).save(folder / "bomb.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "really.jpg").write_bytes(encoded(Image.fromarray(picture(seed=99)), "PNG"))
    with open(os.fsencode(folder) + b"/\xff.png", "wb") as file:
        file.write(encoded(Image.fromarray(picture(seed=98)), "PNG"))
    data = jichu.load(two_classes)
    reasons = {q["record"]: q["reason"] for q in data.quarantine}
    assert set(reasons) == {
        "a/cut.png",
        "a/empty.jpg",
        "a/noise.gif",
        "a/notes.csv",
        "train_log.csv",
        "a/bomb.png",
        "a/pipe.png",
    }
    assert reasons["a/empty.jpg"] == "it is empty" and "limit" in reasons["a/bomb.png"]
    assert not any("0x" in reason for reason in reasons.values())  # the same words in every run
    assert {"a/really.jpg", "a/\\xff.png"} <= set(data.names) and len(data) == 22


def test_links(two_classes, tmp_path):
    save(tmp_path / "outside" / "o.png", seed=77)
    (two_classes / "a" / "out.png").symlink_to(tmp_path / "outside" / "o.png")
    (two_classes / "outside").symlink_to(tmp_path / "outside")
    (two_classes / "a" / "in.png").symlink_to(two_classes / "b" / "01.png")
    (two_classes / "a" / "broken.png").symlink_to("nowhere.png")
    (two_classes / "a" / "circle.png").symlink_to("circle.png")
    (two_classes / "b" / "again").symlink_to(two_classes)
    (tmp_path / "link").symlink_to(two_classes)
    data = jichu.load(tmp_path / "link")  # the folder itself may be reached by one
    reasons = {q["record"]: q["reason"] for q in data.quarantine}
    assert set(reasons) == {"a/out.png", "outside", "a/broken.png", "a/circle.png", "b/again"}
    assert "links: true" in reasons["a/out.png"] and "links: true" in reasons["outside"]
    assert reasons["a/broken.png"] == reasons["a/circle.png"] == "a broken link"
    assert "a/in.png" in data.names and len(data) == 21
    followed = jichu.load(tmp_path / "link", reader={"name": "image_folder", "links": True})
    assert {"a/out.png", "outside/o.png"} <= set(followed.names) and followed.classes == ["a", "b", "outside"]


def test_an_unreadable_image_is_quarantined(two_classes):
    path = two_classes / "a" / "00.png"
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert [q["record"] for q in jichu.load(two_classes).quarantine] == ["a/00.png"]


def test_one_class_can_be_pretrained_on_but_not_learned(in_folder, capsys):
    for i in range(12):
        save(in_folder / "set" / "only" / f"{i}.png", seed=i)
    tiny = ["--budget", "1 steps", "--quiet", "--batch-size", "4"]
    assert main(["pretrain", "set", *tiny, "--set", "backbone={name: cnn, widths: [4]}"]) == 0
    assert main(["finetune", "set", *tiny]) == 3
    assert "label is only in every labelled training row" in capsys.readouterr().err


def test_classes_of_one_image_and_classes_of_the_test_split_alone(two_classes, tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("jichu.data.load.say", said.append)
    save(two_classes / "single" / "1.png", seed=50)
    data = jichu.load(two_classes)
    assert data.about_targets(data.splits["train"])["label"].counts[2] == 1
    for i in range(9):
        save(tmp_path / "parts" / "train" / "ab"[i % 2] / f"{i}.png", seed=i)
        save(tmp_path / "parts" / "test" / "abz"[i % 3] / f"{i}.png", seed=100 + i)
    parts = jichu.load(tmp_path / "parts")
    assert parts.classes == ["a", "b", "z"]
    assert parts.about_targets(parts.splits["train"])["label"].counts == (5, 4, 0)
    assert said == ["no labelled training rows for z"]

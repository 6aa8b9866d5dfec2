"""Attribution: captum's own figures, closed forms, planted features, and what is asked wrongly."""

import json
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import nn

import jichu
from jichu.auditing import explaining
from jichu.auditing.explaining import drawing, faithfulness
from jichu.auditing.explaining.methods import Method, rollout
from jichu.auditing.explaining.methods.perturbation import parts
from jichu.cli.main import main
from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError
from jichu.data.decode import Preprocess
from jichu.data.schema import TableSchema
from jichu.data.target import Target
from jichu.explanations import pieces
from jichu.models.backbone import ModuleBackbone
from jichu.models.cnn import Cnn
from jichu.models.folder import ModelConfig
from jichu.models.heads import Linear
from jichu.models.inputs import Inputs
from jichu.models.model import Model
from jichu.models.tables import Columns

CLASSES = Target("kind", "classification", ("a", "b", "c"))
NUMBER = Target("price", "regression", mean=5.0, std=2.0)
TABLE = TableSchema(("x", "y"), ("when",), {"colour": ("red", "green", "blue")})


@pytest.fixture
def images():
    """A small network, and 6 images of 12 × 12."""
    torch.manual_seed(0)
    model = Model(Cnn(1, 12, widths=[4, 8]), {"label": Linear(8, 3)}, Inputs(channels=1)).eval()
    pixels = torch.randint(0, 256, (6, 1, 12, 12), dtype=torch.uint8)
    model.inputs.estimate({"image": pixels}, torch.arange(6))
    return model, {"image": pixels}


def rows_of(count, seed=0):
    """The tensors of a table like `TABLE`."""
    rng = np.random.default_rng(seed)
    numbers = torch.from_numpy(rng.normal(3, 2, (count, 6))).float()
    return {"numbers": numbers, "categories": torch.from_numpy(rng.integers(1, 4, (count, 1)))}


@pytest.fixture
def linear():
    """A model of a number that is linear in all but how far numbers are bent back, and its rows."""
    torch.manual_seed(0)
    columns = rows_of(40)
    model = Model(Columns(6, [4]), {"label": Linear(16, 1)}, Inputs(numbers=6, categories=[4])).eval()
    model.inputs.estimate(columns, torch.arange(40))
    model.inputs["numbers"].forward = lambda n: (
        (n.float() - model.inputs["numbers"].centre) / model.inputs["numbers"].spread
    )
    return model, columns


def worth(model, target, columns, method, rows=None, **others):
    asked = explaining.Asked(model, "label", target)
    spec = Spec(**method) if isinstance(method, dict) else Spec(name=method)
    rows = torch.arange(len(next(iter(columns.values())))) if rows is None else rows
    (found,) = explaining.attributed(lambda r: explaining.view(asked, columns, r, **others), rows, spec)
    return found


# --- as captum has it, of the same model


def test_images_as_captum_called_directly(images):
    model, columns = images
    pixels = columns["image"].float() / 255
    logits = lambda x: model({"image": x})["label"]  # noqa: E731
    best = logits(pixels).argmax(1)
    grey = model.inputs["image"].mean.expand_as(pixels).contiguous()
    x = pixels.clone().requires_grad_()
    wanted = {
        "saliency": captum.attr.Saliency(logits).attribute(x, best),
        "input-x-gradient": captum.attr.InputXGradient(logits).attribute(x, best),
        "integrated-gradients": captum.attr.IntegratedGradients(logits).attribute(x, grey, best),
    }
    cam = captum.attr.LayerGradCam(logits, model.backbone.blocks[1][0]).attribute(
        x, best, relu_attributions=True
    )
    wanted["grad-cam"] = captum.attr.LayerAttribution.interpolate(cam, (12, 12), "bilinear")
    odds = lambda x: logits(x).softmax(1)  # noqa: E731
    wanted["occlusion"] = captum.attr.Occlusion(odds).attribute(pixels, (1, 4, 4), (1, 2, 2), grey, best)
    for name, found in wanted.items():
        method = {"name": name, **({"window": 4, "stride": 2} if name == "occlusion" else {})}
        got = worth(model, CLASSES, columns, method).worth
        assert got.shape == (6, 12, 12) and torch.allclose(got, found.detach()[:, 0], atol=1e-5), name


@pytest.mark.parametrize("by", ["sampling", "kernel"])
def test_shapley_values_of_pictures_add_up_and_are_the_same_alone(images, by):
    model, columns = images
    found = worth(model, CLASSES, columns, {"name": "shapley", "by": by, "parts": 9, "samples": 200})
    view = found.view
    empty = view.shown(torch.zeros(6, 12, 12), view.rows)
    assert torch.allclose(found.worth.sum((1, 2)), view.value() - empty, atol=1e-4)
    alone = worth(
        model, CLASSES, columns, {"name": "shapley", "by": by, "parts": 9, "samples": 200}, torch.tensor([4])
    )
    assert torch.allclose(alone.worth[0], found.worth[4], atol=1e-5)


def test_parts_are_blocks():
    found = parts((8, 12), 6)
    assert found.shape == (8, 12) and found.unique().tolist() == list(range(6))
    assert found[0, 0] == found[3, 3] == 0 and found[4, 11] == 5
    assert parts((5,), 64).tolist() == list(range(5))


# --- closed forms


def test_a_linear_model_is_explained_by_its_weights(linear):
    model, columns = linear
    usual = torch.arange(20, 40)
    others = {"table": TABLE, "background": usual}
    weight = model.heads["label"].linear.weight[0].detach() * NUMBER.std
    numbers, codes = columns["numbers"], columns["categories"]
    spread = model.inputs["numbers"].spread

    def wanted(middle, share):
        by_number = weight[:6] / spread * (numbers[:5] - middle)
        by_colour = weight[12:][codes[:5, 0]] - share @ weight[12:]
        return torch.stack([by_number[:, 0], by_number[:, 1], by_number[:, 2:].sum(1), by_colour], 1)

    share = torch.bincount(codes[usual, 0], minlength=4) / 20
    integrated = worth(model, NUMBER, columns, "integrated-gradients", torch.arange(5), **others)
    middle = numbers[usual].nanmedian(0).values
    assert torch.allclose(integrated.worth.float(), wanted(middle, share), atol=1e-4)
    for method in ({"name": "shapley", "samples": 3}, {"name": "shapley", "by": "kernel"}, "occlusion"):
        found = worth(model, NUMBER, columns, method, torch.arange(5), **others)
        # what is not there is each of the background rows in turn: the mean of them
        assert torch.allclose(found.worth.float(), wanted(numbers[usual].mean(0), share), atol=1e-3), method
    assert torch.allclose(
        found.view.value(), model({k: v[:5] for k, v in columns.items()})["label"][:, 0] * 2 + 5
    )


def test_a_missing_number_is_worth_nothing_to_gradients_and_is_seen_by_the_others(linear):
    model, columns = linear
    with torch.no_grad():
        model.heads["label"].linear.weight[0, 6] = 3.0  # the flag of the first column
    columns["numbers"][0, 0] = torch.nan
    others = {"table": TABLE, "background": torch.arange(20, 40)}
    found = worth(model, NUMBER, columns, "integrated-gradients", torch.arange(3), **others)
    assert found.worth[0, 0] == 0 and faithfulness.incomplete(found.view, found.worth).max() < 1e-3
    hidden = worth(model, NUMBER, columns, "occlusion", torch.arange(3), **others).worth
    assert (
        hidden[0, 0] > 4
    )  # two standard deviations a unit, times three, less what the usual number is worth


def test_integrated_gradients_are_complete(images):
    model, columns = images
    method = {"name": "integrated-gradients", "steps": 200}
    found = worth(model, CLASSES, columns, method)
    view = found.view
    with torch.no_grad():
        difference = view.answer(*view.points, view.rows) - view.answer(*view.baselines, view.rows)
    assert torch.allclose(found.worth.sum((1, 2)), difference, atol=0.02)
    assert faithfulness.incomplete(view, found.worth).max() < 0.02
    assert faithfulness.incomplete(view, 2 * found.worth).mean() == pytest.approx(1.0, abs=0.04)


def test_rollout_by_hand():
    one, two = torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = rollout.rollout([torch.stack([one, two])[None], one[None, None]])
    first = (torch.tensor([[0.5, 0.5], [0.25, 0.75]]) + torch.eye(2)) / 2
    second = (one + torch.eye(2)) / 2
    assert torch.allclose(found[0], second @ first) and torch.allclose(found.sum(2), torch.ones(1, 2))


# --- planted features


class Corner(nn.Module):
    """How bright the upper left corner is."""

    def forward(self, image):
        return image[:, 0, :3, :3].mean((1, 2))[:, None].tanh()


@pytest.mark.parametrize(
    "method", ["saliency", "input-x-gradient", "integrated-gradients", "occlusion", "shapley"]
)
def test_a_bright_corner_is_found(method):
    model = Model(ModuleBackbone(Corner(), 1, 12), {"label": Linear(1, 3)}, Inputs(channels=1)).eval()
    pixels = torch.full((2, 1, 12, 12), 40, dtype=torch.uint8)
    pixels[:, :, :3, :3] = 250
    with torch.no_grad():
        model.heads["label"].linear.weight.copy_(torch.tensor([[3.0], [0.0], [-3.0]]))
        model.inputs.estimate({"image": pixels}, torch.arange(2))
    aligned = {"occlusion": {"window": 3, "stride": 3}, "shapley": {"parts": 16}}
    found = worth(model, CLASSES, {"image": pixels}, {"name": method, **aligned.get(method, {})})
    size = found.worth.abs()
    assert size[:, :3, :3].sum((1, 2)).min() > 0.99 * size.sum((1, 2)).max()
    curves = {insert: faithfulness.curves(found.view, found.worth, insert=insert) for insert in (True, False)}
    lot = faithfulness.at_random(found.view, torch.arange(len(found.view)), 0)
    assert (
        faithfulness.area(curves[False]).max()
        < faithfulness.area(faithfulness.curves(found.view, lot, insert=False)).min()
    )
    assert (
        faithfulness.area(curves[True]).min()
        > faithfulness.area(faithfulness.curves(found.view, lot, insert=True)).max()
    )
    assert torch.allclose(curves[False][:, 0], found.view.value()) and torch.allclose(
        curves[False][:, -1], curves[True][:, 0]
    )


def run_of(recipe, **data):
    Path("r.yaml").write_text(json.dumps({"name": "it", **recipe, "data": data}))
    return jichu.run("r.yaml")


WORDS = ["river", "stone", "cloud", "paper", "window", "garden", "table", "music"]


@pytest.fixture
def reviews(in_folder):
    rng = np.random.default_rng(0)
    lines = []
    for i in range(160):
        words = list(rng.choice(WORDS, 6))
        words[rng.integers(6)] = ("terrible", "excellent")[i % 2]
        lines.append(f"{' '.join(words)},{('bad', 'good')[i % 2]}")
    Path("reviews.csv").write_text("\n".join(["text,label", *lines]))
    return "reviews.csv"


@pytest.mark.parametrize(
    ("backbone", "data"),
    [
        ({"name": "bert", "width": 32, "depth": 1, "heads": 2}, {}),
        (
            {"name": "bert", "width": 32, "depth": 1, "heads": 2, "readout": "mean"},
            {"context": 5, "windows": 2},
        ),
        ({"name": "gru-text", "width": 32, "hidden": 32, "readout": "max"}, {}),
    ],
)
def test_one_decisive_word_is_found(reviews, backbone, data):
    train = {"budget": "100 steps", "optimizer": {"lr": 0.005}}
    run = run_of({"stages": [{"stage": "finetune", "backbone": backbone, **train}]}, path=reviews, **data)
    text = "paper window excellent river garden music"
    state = {name: value.clone() for name, value in run.model.state_dict().items()}
    for method in ("integrated-gradients", "occlusion", "shapley"):
        (found,) = run.explain(text, method)
        assert found.answer == "good" and "".join(found.places) == text
        assert found.top(1)[0][0].strip() == "excellent" and found.top(1)[0][1] > 0, method
    (against,) = run.explain(text, "occlusion", target="bad")
    assert against.answer == "bad" and against.top(1)[0][1] < 0
    (usual,) = run.explain(text)
    assert usual.method == "integrated-gradients" and usual.scale == "logit"
    assert all(torch.equal(state[name], value) for name, value in run.model.state_dict().items())
    assert all(not m._forward_hooks for m in run.model.modules())
    assert "excellent</span>" in usual.write("out").read_text()


def test_a_bag_of_words_and_rollout(reviews, capsys):
    run = run_of({"stages": [{"stage": "finetune", "head": "naive-bayes"}]}, path=reviews)
    (found,) = run.explain("paper excellent music")
    assert found.method == "occlusion" and found.top(1)[0][0] == " excellent"
    for method in ("saliency", "integrated-gradients"):
        with pytest.raises(UsageError, match=r"differentiated[\s\S]*occlusion or shapley"):
            run.explain("paper excellent", method)
    with pytest.raises(UsageError, match="no attention"):
        run.explain("paper", "attention-rollout")
    capsys.readouterr()
    assert main(["explain", "runs/it", "paper excellent music", "--json", "--out", "e"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["places"] == ["paper", " excellent", " music"] and len(told["worth"]) == 3
    assert Path(told["file"]).parent == Path("e") and Path(told["file"]).exists()


def test_rollout_of_texts_and_images(reviews):
    bert = {"name": "bert", "width": 32, "depth": 2, "heads": 2}
    run = run_of(
        {
            "stages": [
                {"stage": "finetune", "backbone": bert, "budget": "60 steps", "optimizer": {"lr": 0.005}}
            ]
        },
        path=reviews,
    )
    attends = run.model.backbone.module.config._attn_implementation
    before = run.predict("paper excellent music")
    (found,) = run.explain("paper excellent music", "attention-rollout")
    assert found.scale == "attention" and found.worth.min() >= 0 and found.worth.sum() <= 1
    assert run.model.backbone.module.config._attn_implementation == attends
    assert run.predict("paper excellent music") == before
    config = ModelConfig(
        {"name": "vit", "width": 16, "depth": 2, "heads": 2}, targets={"label": CLASSES},
        image=Preprocess(7, 1, "crop"), heads={"label": {"name": "linear"}},
    )  # fmt: skip
    model = config.build().eval()
    columns = {"image": torch.randint(0, 256, (3, 1, 7, 7), dtype=torch.uint8)}
    seen = worth(model, CLASSES, columns, "attention-rollout").worth
    assert seen.shape == (3, 7, 7) and seen.min() >= 0
    with torch.no_grad():  # as transformers tells its attention, multiplied through
        inner = model.backbone.module
        inner.set_attn_implementation("eager")
        layers = inner(pixel_values=model.inputs(columns)["image"], output_attentions=True).attentions
    flow = torch.eye(50)
    for layer in layers:
        flow = (layer[0].mean(0) + torch.eye(50)) / 2 @ flow
    assert torch.allclose(seen[0].flatten(), flow[0, 1:], atol=1e-6)  # a patch is a pixel


def test_one_decisive_column_of_a_table(in_folder, capsys):
    rng = np.random.default_rng(0)
    x, y, kind = rng.normal(size=300), rng.normal(size=300), rng.choice(["red", "blue"], 300)
    sold = np.where(kind == "red", "yes", "no")
    price = 3 * x + (kind == "red") + 0.1 * rng.normal(size=300)
    cells = [
        f"{a:.3f},{'' if i % 7 == 0 else round(b, 3)},{k},{s}"
        for i, (a, b, k, s) in enumerate(zip(x, y, kind, sold, strict=True))
    ]
    Path("t.csv").write_text("\n".join(["x,z,kind,sold", *cells]))
    rows = [{"x": 1.0, "z": None, "kind": "red"}, {"x": 1.0, "z": 2.0, "kind": "blue"}]
    for stage in ({"head": "gradient-boosting"}, {"backbone": {"name": "mlp", "widths": [16]}, "budget": "150 steps"},
                  {"backbone": {"name": "ft-transformer", "width": 16, "heads": 2}, "budget": "80 steps"}):  # fmt: skip
        run = run_of(
            {
                "name": stage.get("head") or stage["backbone"]["name"],
                "stages": [{"stage": "finetune", **stage}],
            },
            path="t.csv",
            target="sold",
        )
        for found in run.explain(rows):
            assert (
                found.method == "shapley"
                and found.places == ("x", "z", "kind")
                and found.top(1)[0][0] == "kind"
            )
        if "backbone" in stage:
            assert run.explain(rows, "integrated-gradients")[1].top(1)[0][0] == "kind"
    Path("two.csv").write_text(
        "\n".join(
            [
                "x,kind,sold,price",
                *(f"{a:.3f},{k},{s},{p:.3f}" for a, k, s, p in zip(x, kind, sold, price, strict=True)),
            ]
        )
    )
    stage = {"stage": "finetune", "backbone": "mlp", "budget": "150 steps", "optimizer": {"lr": 0.005}}
    run = run_of({"name": "two", "stages": [stage]}, path="two.csv", target=["sold", "price"])
    (found,) = run.explain({"x": 2.0, "kind": "red"}, column="price", background="two.csv")
    assert found.answer is None and found.scale == "number" and found.top(1)[0][0] == "x" and found.value > 3
    capsys.readouterr()
    Path("one.csv").write_text("x,kind\n2.0,red\n")
    assert (
        main(
            [
                "explain",
                "runs/two",
                "one.csv",
                "--column",
                "price",
                "--method",
                "shapley",
                "--set",
                "by=kernel",
                "--out",
                "o",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "price = " in said and "(by shapley, of the number)" in said and Path("o").glob("*.svg")


def test_sounds_by_time_and_pitch(in_folder):
    rng = np.random.default_rng(0)
    for i in range(60):
        folder = Path("sounds", ("noise", "tone")[i % 2])
        folder.mkdir(parents=True, exist_ok=True)
        wave = rng.standard_normal(3840) * 0.005
        at = int(rng.integers(0, 2000))
        wave[at : at + 800] += 0.3 * (i % 2) * np.sin(np.arange(800) / 8000 * 2 * np.pi * 2500)
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), 8000)
    wave = rng.standard_normal(3840).astype(np.float32) * 0.005
    wave[1600:2400] += 0.3 * np.sin(np.arange(800) / 8000 * 2 * np.pi * 2500).astype(np.float32)
    stage = {
        "stage": "finetune",
        "backbone": {"name": "cnn", "widths": [8, 16]},
        "budget": "120 steps",
        "batch_size": 16,
    }
    run = run_of({"stages": [stage]}, path="sounds")
    (found,) = run.explain((wave, 8000), {"name": "occlusion", "window": 8})
    assert found.answer == "tone" and found.worth.shape == tuple(found.picture.shape[:0:-1])
    time, pitch = np.unravel_index(found.worth.argmax(), found.worth.shape)
    assert 16 <= time < 36 and pitch > 32  # frames of 10 ms
    assert found.write("out").suffix == ".png"
    stage["backbone"] = {"name": "wav2vec2", "width": 16, "depth": 1, "heads": 2, "convolutions": 8}
    run = run_of({"name": "waves", "stages": [{**stage, "budget": "2 steps"}]}, path="sounds")
    for method in ("integrated-gradients", "occlusion", "shapley"):
        (found,) = run.explain((wave, 8000), method)
        assert found.worth.shape == (50,) and found.picture.shape[2] == 50


# --- pictures of it


def test_overlays_are_side_by_side_and_coloured():
    image = torch.full((1, 8, 8), 100, dtype=torch.uint8)
    worth = np.zeros((8, 8))
    worth[0, 0], worth[7, 7] = 1.0, -1.0
    drawn = np.asarray(drawing.overlay(image, worth), int)
    assert drawn.shape == (224, 224 * 2 + 6, 3) and (drawn[:, :224] == 100).all()
    assert drawn[0, 230].tolist() == [0xD5, 0x5E, 0x00] and drawn[-1, -1].tolist() == [0x00, 0x72, 0xB2]
    assert len(set(drawn[100, 300].tolist())) == 1
    assert not drawing.strength(np.zeros(3)).any() and drawing.strength(np.array([2.0, 3.0])).tolist()[0] == 0


def test_what_tokens_are_written_as(in_folder):
    from jichu.data.config import TokenizerConfig
    from jichu.data.tokenizer import Tokenizer

    text = "The cat's hat, 你好 world. Unbelievable!"
    for name in ("wordpiece", "bpe", "characters"):
        tokenizer = Tokenizer.train(TokenizerConfig(name=name, vocabulary=400), [text] * 4)
        (ids,) = tokenizer.encode([text])
        assert "".join(pieces(tokenizer, ids)).lower().replace(" ", "") == text.lower().replace(" ", "")


class Brightness(Method):
    """A method of one's own: what is bright."""

    kinds = ("image",)

    def __init__(self, power: int = 1):
        self.power = power

    def attribute(self, view):
        return view.places(view.points) ** self.power


def test_a_method_of_ones_own(images):
    model, columns = images
    found = worth(model, CLASSES, columns, {"name": "test_explain:Brightness", "power": 2})
    assert torch.allclose(found.worth, (columns["image"][:, 0] / 255) ** 2)
    with pytest.raises(UsageError, match="not for tables"):
        explaining.make(Spec(name="test_explain:Brightness"), "table")


# --- what is asked wrongly


@pytest.fixture
def digits_run(in_folder):
    return jichu.finetune("cnn", "sklearn:digits", budget="3 steps", name="digits")


def test_bad_questions_are_told(digits_run, capsys):
    picture = str(next(digits_run.path.glob("examples/*.png")))
    for options, code, said in (
        (["--method", "ocllusion"], 2, "did you mean: occlusion"),
        (["--method", "attention-rollout"], 2, "no attention"),
        (["--method", "occlusion", "--set", "windw=3"], 2, "did you mean: window"),
        (["--method", "occlusion", "--set", "window=9"], 2, "at most 8"),
        (["--method", "grad-cam", "--set", "layer=blocks.7"], 2, "unknown layer"),
        (["--method", "json:dumps"], 2, "no Method"),
        (["--set", "steps=3"], 2, "--method"),
        (["--target", "seven"], 2, "class of label"),
        (["--column", "lable"], 2, "did you mean: label"),
    ):
        assert main(["explain", "runs/digits", picture, *options]) == code, options
        assert said in capsys.readouterr().err, options
    assert main(["explain", "runs/digits", "nowhere.png", picture, "--out", "e"]) == 3
    told = capsys.readouterr()
    assert "nowhere.png" in told.err and "label = " in told.out and len(list(Path("e").iterdir())) == 1
    assert not Path("explanations").exists()
    jichu.pretrain("sklearn:digits", budget="2 steps", name="blind")
    assert main(["explain", "runs/blind", picture]) == 2
    assert "no head" in capsys.readouterr().err


def test_a_picture_is_explained_and_drawn(digits_run):
    (found,) = digits_run.explain(next(digits_run.path.glob("examples/*.png")))
    assert found.method == "integrated-gradients" and found.worth.shape == (8, 8) and 0 < found.value <= 1
    (again,) = digits_run.explain(next(digits_run.path.glob("examples/*.png")))
    assert (again.worth == found.worth).all()
    with Image.open(found.write("e")) as drawn:
        assert drawn.size == (454, 224)


def test_data_in_memory_want_a_background(in_folder):
    rng = np.random.default_rng(0)
    values = rng.normal(size=60)
    run = jichu.finetune(
        "mlp", (np.stack([values, -values], 1), (values > 0).astype(int)), budget="3 steps", name="memory"
    )
    row = {"x0": 1.0, "x1": 0.0}
    with pytest.raises(UsageError, match="background=…"):
        run.explain(row)
    Path("usual.csv").write_text("x0,x1\n0.0,0.0\n1.0,1.0\n")
    assert run.explain(row, background="usual.csv")[0].places == ("x0", "x1")


def test_the_library_is_asked_for(digits_run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UsageError, match=r"captum is not installed[\s\S]*jichu\[explain\]"):
        digits_run.explain(next(digits_run.path.glob("examples/*.png")))


def test_tags_are_explained_and_numbers_have_no_class(in_folder, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    rows = [
        {"x": a, "z": b, "tags": [t for t, v in (("left", a), ("right", b)) if v > 0], "price": a}
        for a, b in x.tolist()
    ]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stage = {"stage": "finetune", "backbone": "mlp", "budget": "100 steps"}
    run = run_of({"stages": [stage]}, path="t.jsonl", target=["tags", "price"])
    for tag, column in (("left", "x"), ("right", "z")):
        (found,) = run.explain({"x": 1.0, "z": 1.0}, target=tag)
        assert found.answer == tag and found.top(1)[0][0] == column and found.scale == "probability"
    Path("one.csv").write_text("x,z\n1,1\n")
    assert main(["explain", "runs/it", "one.csv", "--column", "price", "--target", "left"]) == 2
    assert "is a number and has no class" in capsys.readouterr().err


def test_what_has_no_answer_and_what_has_no_words(reviews):
    run = run_of(
        {
            "stages": [
                {
                    "stage": "finetune",
                    "backbone": {"name": "lstm-text", "width": 8, "hidden": 8},
                    "budget": "2 steps",
                }
            ]
        },
        path=reviews,
    )
    for method in ("integrated-gradients", "occlusion", "shapley"):
        empty, one = run.explain(["", "river"], method)
        assert empty.places == () and empty.worth.shape == (0,) and len(one.places) > 0
        assert empty.write("out").exists()
    with torch.no_grad():
        run.model.heads["label"].linear.weight.fill_(torch.nan)
    with pytest.raises(DataError, match="not a number"):
        run.explain("river")

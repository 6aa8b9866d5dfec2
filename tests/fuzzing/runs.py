"""Finished runs, damaged, asked and gone on with; the command line; whole trainings."""

import functools
import json
import shutil

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from jichu.cli.main import main
from jichu.core.config import check, parse_yaml
from jichu.models import folder as model_folder
from jichu.models.hub import load as load_checkpoint
from jichu.models.hub import trained_size
from jichu.models.transformers_vision import save_pretrained, vit
from jichu.recipe.config import STAGES, Recipe, read_recipe
from jichu.recipe.run import execute
from jichu.runs import Run

from . import grammar
from .arrays import drawn_array
from .cases import command, tolerant
from .mutations import misspelt, odd, places, spoil_bytes, spoil_text, spoil_tree
from .pictures import spoilt_picture
from .recipes import drawn_assignments, yaml_of
from .tables import CELLS, drawn_arrow, drawn_columns, written_table
from .tensors import spoilt_safetensors


def make_runs(folder):
    """Small finished runs, of a table, of images and two of texts, that cases may damage."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{x:.2f},{c},{'yes' if x > 0 else 'no'}" for x, c in zip(rng.normal(size=40), "ab" * 20)]
    (folder / "data.csv").write_text("\n".join(["x,c,label", *lines]))
    for i in range(16):
        path = folder / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    for name, data, backbone in (("table", "data.csv", {"name": "mlp", "widths": [4]}),
                                 ("images", "photos", {"name": "cnn", "widths": [4]})):  # fmt: skip
        stage = {"stage": "finetune", "backbone": backbone, "budget": "2 steps", "batch_size": 8}
        tree = {"name": name, "data": {"path": str(folder / data)}, "stages": [stage, {"stage": "audit"}]}
        execute(check(Recipe, tree), runs=folder / "runs")
    texts = [f"{i} a good thing" if i % 2 else f"{i} so bad a thing" for i in range(40)]
    (folder / "texts.txt").write_text("\n".join(texts))
    (folder / "said.csv").write_text(
        "\n".join(["text,label", *(f"{t},{'bg'[i % 2]}" for i, t in enumerate(texts))])
    )
    gpt = {"stage": "pretrain", "backbone": {"name": "gpt", "width": 8, "depth": 1, "heads": 2}}
    bert = {"stage": "finetune", "backbone": {"name": "bert", "width": 8, "depth": 1, "heads": 2}}
    for name, data, tokenizer, stage in (
        ("gpt", "texts.txt", {"name": "bpe", "vocabulary": 300}, gpt), ("bert", "said.csv", "wordpiece", bert)
    ):  # fmt: skip
        data = {"path": str(folder / data), "context": 16, "tokenizer": tokenizer}
        stages = [{**stage, "budget": "2 steps", "batch_size": 8}, {"stage": "audit"}]
        execute(check(Recipe, {"name": name, "data": data, "stages": stages}), runs=folder / "runs")
    small = vit(3, 16, width=8, depth=1, heads=2, patch=8)
    small.image_mean, small.image_std, small.image_size = (0.5,) * 3, (0.5,) * 3, 16
    save_pretrained(small, folder / "checkpoint")


def _spoilt_json(rng, path):
    return json.dumps(spoil_tree(rng, json.loads(path.read_text())), default=str, skipkeys=True).encode(
        "utf-8", "replace"
    )


_FILES = ("model/config.json",) * 4 + ("model/model.safetensors", "recipe.yaml", "recipe.yaml", "environment.json",
          "summary.json", "metrics.jsonl", "audit.json")  # fmt: skip


def _spoil_run(case, folder, replaced=0.03, files=_FILES):
    """One file of a run damaged, as a person or a disk might; or a folder in its place."""
    rng = case.rng
    name = rng.choice(files)
    path = folder / name
    if path.exists():
        content = path.read_bytes()
        kind = rng.random()
        if kind < 0.1:
            path.unlink()
            if kind < replaced:
                path.mkdir()
            return
        if name.endswith(".safetensors"):
            content = spoilt_safetensors(rng, content)
        elif name.endswith(".yaml") and kind < 0.8:
            text = yaml_of(rng, spoil_tree(rng, parse_yaml(content.decode())))
            content = (
                spoil_text(rng, text, case.canary).encode("utf-8", "replace")
                if kind > 0.5
                else text.encode("utf-8", "replace")
            )
        elif name.endswith(".json") and kind < 0.8:
            content = _spoilt_json(rng, path)
        elif kind < 0.85:
            content = rng.choice(
                (b"", b"null", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b"3", b'"a"', b"{}\n{]\n{}\n")
            )
        else:
            content = spoil_bytes(rng, content, 3)
        path.write_bytes(content)


def _copied(case, kind):
    folder = case.folder / "run"
    shutil.copytree(
        case.runs / "runs" / kind, folder, ignore=shutil.ignore_patterns("*.html", "examples", "data.html")
    )
    return folder


def model(case):
    """A model's folder."""
    folder = _copied(case, case.rng.choice(("table", "images"))) / "model"
    if case.rng.random() < 0.7:
        (folder / "config.json").write_bytes(_spoilt_json(case.rng, folder / "config.json"))
    else:
        path = folder / "model.safetensors"
        path.write_bytes(spoilt_safetensors(case.rng, path.read_bytes()))
    model_folder.load(folder)


def hub(case):
    """A checkpoint's folder as from the Hugging Face Hub."""
    folder = case.folder / "checkpoint"
    shutil.copytree(case.runs / "checkpoint", folder)
    kind = case.rng.random()
    if kind < 0.6:
        about = json.loads(_spoilt_json(case.rng, folder / "config.json"))
        if kind < 0.1 and isinstance(about, dict):  # code of others, which must not be run
            about |= {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "trust_remote_code": True}
            case.file("checkpoint/evil.py", f"open({str(case.canary)!r}, 'w')")
        (folder / "config.json").write_text(json.dumps(about))
    elif kind < 0.8:
        path = folder / "preprocessor_config.json"
        path.write_bytes(_spoilt_json(case.rng, path))
    else:
        path = folder / "model.safetensors"
        path.write_bytes(spoilt_safetensors(case.rng, path.read_bytes()))
    name = f"hf:{folder}"
    return tolerant(lambda: load_checkpoint(name, channels=3, size=16), lambda: trained_size(name))


def run_folder(case):
    """A run's folder: what it says of itself, and what its model predicts."""
    kind = case.rng.choice(("table", "images"))
    folder = _copied(case, kind)
    _spoil_run(case, folder)
    given = {"x": 0.5, "c": "a"} if kind == "table" else np.zeros((8, 8, 3), np.uint8)
    if case.rng.random() < 0.3:
        path = case.runs / ("data.csv" if kind == "table" else "photos/a/0.png")
        verb = case.rng.choice((["predict", str(folder), str(path)], ["audit", str(folder)]))
        return command(main, [*verb, "--quiet", *case.rng.choice(([], ["--json"]))])

    def use():
        run = Run(folder)
        return tolerant(run.summary, lambda: run.headline, lambda: run.history, lambda: run.recipe, lambda: run.classes,
                        lambda: run.predict(given), lambda: run.dataset())  # fmt: skip

    return use()


def resume(case):
    """A run that stopped within its first stage, damaged, and gone on with."""
    rng = case.rng
    kind = rng.choice(("table", "images"))
    folder = case.folder / "runs" / kind
    shutil.copytree(case.runs / "runs" / kind, folder)
    (folder / "report.html").unlink()
    summary = json.loads((folder / "summary.json").read_text())
    summary["stages"] = []
    (folder / "summary.json").write_text(json.dumps(summary))
    recipe = read_recipe(str(folder / "recipe.yaml"))
    _spoil_run(case, folder, replaced=0)  # what cannot be written there is another matter
    for path in sorted((folder / "checkpoints").rglob("*.safetensors")):
        if rng.random() < 0.5:
            path.write_bytes(spoilt_safetensors(rng, path.read_bytes()))
    execute(recipe, resume=True, runs=case.folder / "runs")


@functools.cache
def _finished(path):
    return Run(path)


def predict(case):
    """Inputs to a run's model."""
    rng = case.rng
    if rng.random() < 0.5:
        run = _finished(case.runs / "runs" / "table")

        def cell():
            return rng.choice((0.5, "a", None, "b", -3, odd(rng), rng.choice(CELLS)))

        rows = [
            {"x": cell(), "c": cell(), **({"label": cell()} if rng.random() < 0.2 else {})}
            for _ in range(rng.randint(1, 3))
        ]
        text = "\n".join(["x,c", *(f"{rng.choice(CELLS)},{rng.choice(CELLS)}" for _ in range(3))])
        given = rng.choice(
            (
                lambda: rows, lambda: rows[0], lambda: spoil_tree(rng, rows), lambda: odd(rng),
                lambda: str(written_table(rng, text.split("\n"), "data/a.csv", case)), lambda: pa.table({"x": [1], "c": ["a"], "x ": [2]}),
                lambda: pa.table({"x": drawn_arrow(rng, ["1", "2"]), "c": drawn_arrow(rng, ["a", "b"])}), lambda: drawn_array(rng),
            )
        )()  # fmt: skip
    else:
        run = _finished(case.runs / "runs" / "images")
        content, suffix = spoilt_picture(case)
        path = case.file(f"case{suffix}", content)
        given = rng.choice((content, path, str(path), [path, content], drawn_array(rng), [drawn_array(rng)], odd(rng), torch.tensor([1.0]),
                            case.folder, [], [None], [[path]], bytearray(content), memoryview(content)))  # fmt: skip
    return tolerant(lambda: run.predict(given), lambda: run.embed(given))


def language(case):
    """A run of texts: damaged, its tokenizer above all, or whole and asked for what is odd."""
    rng = case.rng
    kind = rng.choice(("gpt", "bert"))
    if rng.random() < 0.6:
        folder = _copied(case, kind)
        files = ("model/tokenizer.json",) * 3 + ("model/tokenizer_config.json",) * 2
        _spoil_run(
            case, folder, files=(*files, "model/config.json", "model/model.safetensors", "recipe.yaml")
        )
        run = Run(folder)
    else:
        run = _finished(case.runs / "runs" / kind)

    def words():
        return rng.choice(
            (odd(rng), "a good thing", "a " * 200, "\u2028\u202e💥", "\ud800", "", "\x00", "[MASK] <|end|>")
        )

    settings = {
        key: odd(rng)
        for key in ("most", "temperature", "top_k", "top_p", "repetition_penalty", "beams", "stop", "seed")
        if rng.random() < 0.15
    }
    settings.setdefault("most", 5)
    if isinstance(settings["most"], int) and abs(settings["most"]) > 64:
        settings["most"] = 64  # to ask for much is the user's own
    if isinstance(settings.get("beams"), int) and settings["beams"] > 8:
        settings["beams"] = 8
    given = rng.choice((words(), [words()], [words(), words()], [(words(), words())]))
    if rng.random() < 0.2:
        path = case.file("given.txt", rng.choice((b"", b"\xff\xfe", b"a\x00b", b"so bad\n\na thing")))
        verb = rng.choice((["predict", str(run.path), str(path)], ["generate", str(run.path), str(words())[:50], "--most", "5"],
                           ["audit", str(run.path), "--data", str(path)], ["embed", str(run.path)]))  # fmt: skip
        return command(main, [a.replace("\x00", "") for a in verb])
    return tolerant(
        lambda: run.generate(given, **settings), lambda: run.predict(given), lambda: run.embed(given)
    )


def command_line(case):
    rng = case.rng
    found = drawn_columns(rng)
    lines = [",".join(row) for row in zip(*(values for _, values in found))]
    data = str(written_table(rng, [",".join(n for n, _ in found), *lines], "data/a.csv", case))
    broken = str(case.file("broken.yaml", spoil_text(rng, "name: a\n" + "stages: []\n", case.canary)))
    run = str(case.runs / "runs" / rng.choice(("table", "images")))
    photo = str(case.file("x.png", spoilt_picture(case)[0]))
    verb = rng.choice(
        [
            ["inspect", data], ["inspect", data, "--json"], ["init", data, "--force"], ["init", data, "--target", str(odd(rng, 0))],
            ["run", broken], ["run", broken, "--resume"], ["run", misspelt(rng, "quickstart")], ["predict", run, photo, data],
            ["predict", run, photo, "--json"], ["predict", str(case.folder), photo], ["audit", run, "--data", data],
            ["pretrain", str(case.folder / "nowhere")], ["finetune", data, "--budget", "0 steps"], ["doctor", str(odd(rng, 0))],
            ["doctor", "cnn", "--size", str(rng.choice((-1, 0, 10**9, "x")))], ["doctor", "cnn", "--batch-sizes", str(odd(rng, 0))],
            ["inspect", str(case.folder)], ["inspect", photo], ["inspect", "sklearn:iris"], [misspelt(rng, "inspect"), data], [],
            ["--version"], ["run", "--help"], ["inspect", "sklearn:digits", "--page", str(case.folder / "p.html")],
        ]
    )  # fmt: skip
    for _ in range(rng.choice((0, 0, 1, 2))):
        extra = rng.choice((["--set", *drawn_assignments(case)[:1]], [f"--{misspelt(rng, 'json')}"], [str(odd(rng, 0))], ["--set"],
                            ["--set", rng.choice(("size", "data.size", "split.test", "target", "columns.x0", "reader")) + f"={odd(rng)}"]))  # fmt: skip
        verb = verb + extra
    return command(main, [a.replace("\x00", "") for a in verb])


_SMALL = {"budget": "2 steps", "checkpoint_every": "30s", "batch_size": 8, "device": "auto", "precision": "float32",
          "memory_format": "contiguous", "log_every": 1, "tensorboard": False, "mlflow": False, "wandb": False, "compile": False}  # fmt: skip


_BACKBONES = {
    "table": ("mlp", "columns", "ft-transformer", "gru"),
    "images": ("cnn", "pixels", "resnet9", "small-convnext", "vit-tiny", "gru"),
}


def training(case):
    """A whole run: data of a few rows, a stage drawn from the grammar, two steps."""
    rng = case.rng
    kind = rng.choice(("table", "images"))
    data = {"path": str(case.runs / ("data.csv" if kind == "table" else "photos"))}
    name = rng.choice(("finetune", "finetune", "pretrain"))
    drawn = {
        k: v for k, v in grammar.sample(rng, STAGES[name]).items() if k not in ("from", "weights", "adapt")
    }
    kept = rng.sample(list(drawn), min(len(drawn), rng.randint(1, 5)))
    stage = {k: drawn[k] for k in kept} | _SMALL | {"stage": name, "name": "first"}
    backbone = rng.choice(_BACKBONES[kind])
    stage["backbone"] = {"name": backbone, **({"widths": [4]} if backbone in ("cnn", "mlp") else {})}
    if rng.random() < 0.3:
        stage = {**spoil_tree(rng, stage), "budget": "2 steps"}
    for holder, key in list(places(stage)):  # sizes are the user's own to choose: not the fault looked for
        if isinstance(holder[key], int) and holder[key] > 64:
            holder[key] = 64
    stages = [stage, *([{"stage": "audit"}] if name == "finetune" else [])]
    execute(check(Recipe, {"name": "a", "data": data, "stages": stages}), runs=case.folder / "runs")

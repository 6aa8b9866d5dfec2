"""Every command and code block of the README files and of docs/ is run."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import jichu
from jichu.cli.main import main
from jichu.data.config import AudioAugmentConfig, AugmentConfig, SpectrogramConfig, TableAugmentConfig
from test_processes import environment

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path, language):
    return [
        text for kind, text in BLOCK.findall((ROOT / path).read_text(encoding="utf-8")) if kind == language
    ]


def shrink(text):
    """The same recipe with budgets of a few steps."""
    return re.sub(r"budget: [^,}\n]*", "budget: 3 steps", text)


@pytest.fixture
def extended(in_folder, monkeypatch, digits):
    """An empty folder with the files of docs/extending.md in it."""
    monkeypatch.syspath_prepend(str(in_folder))
    for language in ("python", "yaml"):
        for text in blocks("docs/extending.md", language):
            if match := re.match(r"# (\w+\.(py|yaml))\n", text):
                (in_folder / match[1]).write_text(text)
    images, labels = digits
    lines = [
        ",".join(map(str, [label, *image.ravel()]))
        for image, label in zip(images[:200], labels[:200], strict=True)
    ]
    (in_folder / "digits.txt").write_text("\n".join([*lines, "3,1,2"]))
    yield in_folder
    for name in ("focal", "patches", "lines"):
        sys.modules.pop(name, None)


def test_each_extension_is_one_short_file(extended):
    for name in ("focal", "patches", "lines"):
        assert len((extended / f"{name}.py").read_text().splitlines()) <= 40


def test_extensions_run_from_a_recipe(extended, batch):
    assert main(["run", "mine.yaml", "--quiet"]) == 0
    run = jichu.open("runs/mine")
    assert type(run.model.backbone).__name__ == "Patches" and run.headline["accuracy"]["value"] > 0
    record = (extended / "runs/mine/quarantine.jsonl").read_text()
    assert "digits.txt:201" in record and "2 pixels, not 64" in record
    assert run.predict(next((extended / "runs/mine/examples").glob("*.png")))[0]["label"] in run.classes
    from focal import Focal
    from patches import Patches

    from test_objectives import small

    jichu.check_objective(Focal(), small(), batch)
    jichu.check_backbone(Patches(1, 8), batch)


@pytest.mark.parametrize("number", range(2))
def test_other_blocks_of_extending_run(number, in_folder, capsys):
    own = [text for text in blocks("docs/extending.md", "python") if not text.startswith("# ")]
    exec(compile(own[number], f"extending.md, block {number}", "exec"), {})
    assert capsys.readouterr().out


def test_the_settings_of_extensions_are_checked(extended, capsys):
    text = (extended / "mine.yaml").read_text()
    for wrong, said in (("gama: 1.5", "did you mean: gamma"), ("gamma: much", "gamma")):
        (extended / "wrong.yaml").write_text(text.replace("gamma: 1.5", wrong))
        assert main(["run", "wrong.yaml", "--quiet"]) == 2
        assert said in capsys.readouterr().err
    assert not (extended / "runs").exists()


def test_augmentation_page(photos, monkeypatch):
    """Its recipe and command run, and it names every key."""
    monkeypatch.chdir(photos.parent)
    (text,) = blocks("docs/augmentation.md", "yaml")
    Path("page.yaml").write_text(shrink(text))
    assert main(["run", "page.yaml", "--quiet"]) == 0
    (command,) = blocks("docs/augmentation.md", "bash")
    assert main(shlex.split(command, comments=True)[1:]) == 0 and Path("augment.png").exists()
    page = (ROOT / "docs/augmentation.md").read_text(encoding="utf-8")
    keys = [*AugmentConfig.model_fields, *TableAugmentConfig.model_fields]
    assert [key for key in keys if f"`{key}" not in page] == []
    assert (ROOT / "docs/augmentation.png").stat().st_size < 400_000


@pytest.mark.parametrize(
    "page", ["data", "networks", "training", "pretraining", "few-labels", "adapting", "audits-gone-wrong"]
)
def test_recipes_and_commands_of_pages_run(page, in_folder):
    lines = ["age;height;postcode;remark;family;grade"]
    for i in range(160):
        height = "unknown" if i % 9 == 0 else f"{150 + 7 * i % 50},5"
        lines.append(f"{20 + i % 40};{height};0{1000 + i % 5};some words on {i};{i // 4};{'AB'[i % 40 < 20]}")
    Path("people.csv").write_text("\n".join(lines))
    for text in blocks(f"docs/{page}.md", "yaml"):
        Path("page.yaml").write_text(shrink(text))
        assert main(["run", "page.yaml", "--quiet"]) == 0
    for text in blocks(f"docs/{page}.md", "bash"):
        assert main([*shlex.split(text)[1:], "--seconds", "0.1"]) == 0


def test_recipes_of_the_page_on_texts_run(in_folder):
    said = [
        f"This is what number {i} has to say of it, and it is not the same as another." for i in range(40)
    ]
    Path("corpus").mkdir()
    Path("corpus/a.txt").write_text("\n\n".join(said))
    Path("questions.txt").write_text("\n".join(f"{'AB'[i % 2]}:fine {text}" for i, text in enumerate(said)))
    rows = [{"review": text, "stars": i % 5, "days": 1.5 * i} for i, text in enumerate(said)]
    Path("reviews.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for text in blocks("docs/texts.md", "yaml"):
        Path("page.yaml").write_text(shrink(text))
        assert main(["run", "page.yaml", "--quiet"]) == 0


def test_recipes_of_the_page_on_sounds_run(in_folder):
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = in_folder / "recordings" / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        wave = rng.standard_normal(1600).astype(np.float32) * 0.1 * (1 + i % 2)
        soundfile.write(folder / f"{i % 2}_{'abcd'[i // 10]}_{i}.wav", wave, 8000)
    for text in blocks("docs/sounds.md", "yaml"):
        Path("page.yaml").write_text(shrink(text))
        assert main(["run", "page.yaml", "--quiet"]) == 0
    page = (ROOT / "docs/sounds.md").read_text(encoding="utf-8")
    keys = [*AudioAugmentConfig.model_fields, *SpectrogramConfig.model_fields, "rate", "seconds"]
    assert [key for key in keys if f"{key}:" not in page and f"data.{key}" not in page] == []


def test_recipe_of_the_page_on_fairness_runs(in_folder):
    rows = ["age,sex,town,income,paid"]
    rng = np.random.default_rng(0)
    for i in range(400):
        group, income = rng.integers(2), rng.normal()
        paid = income + 0.6 * group + 0.5 * rng.normal() > 0
        rows.append(f"{20 + i % 60},{'fm'[group]},{'xyz'[i % 3]},{income:.3f},{('no', 'yes')[int(paid)]}")
    Path("loans.csv").write_text("\n".join(rows))
    (text,) = blocks("docs/fairness.md", "yaml")
    Path("page.yaml").write_text(shrink(text))
    assert main(["run", "page.yaml", "--quiet"]) == 0
    page = Path("runs/lending/report.html").read_text()
    assert "Fair to whom?" in page and "Where is it worst?" in page


def test_recipe_of_the_page_on_rules_runs(in_folder):
    rows = ["age,amount,limit,country,decision,price,list price"]
    for i in range(160):
        decision = ("no", "yes", "refer")[i % 3]
        rows.append(f"{20 + i % 40},{i},{60 + i % 9},{('CN', 'DE')[i % 2]},{decision},{i % 30},{30 + i % 30}")
    Path("applications.csv").write_text("\n".join(rows))
    (text,) = blocks("docs/rules.md", "yaml")
    Path("page.yaml").write_text(shrink(text))
    assert main(["run", "page.yaml", "--quiet"]) == 0
    assert main(["predict", "runs/credit", "applications.csv"]) == 0
    (answer,) = blocks("docs/rules.md", "json")
    (row, *_) = jichu.open("runs/credit").predict("applications.csv")
    told = json.loads(answer)
    assert row.keys() == told.keys() and row["rules"].keys() == told["rules"].keys()


def test_recipes_of_the_page_on_series_run(in_folder):
    days = np.datetime64("2030-01-01T00", "h") + np.arange(400)
    rows = [f"{d},{100 + 10 * np.sin(i / 4):.2f},{i % 24}" for i, d in enumerate(days.tolist())]
    Path("load.csv").write_text("\n".join(["date,load,temperature", *rows]))
    for text in blocks("docs/series.md", "yaml"):
        Path("page.yaml").write_text(shrink(text))
        assert main(["run", "page.yaml", "--quiet"]) == 0


@pytest.mark.parametrize(
    "table",
    [
        "BACKBONES",
        "HEADS",
        "METRICS",
        "SCHEDULES",
        "INITIALISATIONS",
        "OBJECTIVES",
        "ATTACKS",
        "PARTS",
        "STEPS",
    ],
)
def test_every_name_is_on_a_page(table):
    import jichu.attacks
    import jichu.auditing.parts
    import jichu.compression
    import jichu.metrics
    import jichu.models
    import jichu.objectives
    import jichu.train.schedules

    homes = (
        jichu.models, jichu.metrics, jichu.objectives, jichu.train.schedules, jichu.attacks, jichu.auditing.parts,
        jichu.compression,
    )  # fmt: skip
    names = next(getattr(home, table) for home in homes if hasattr(home, table))
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    families = re.compile(r"(micro|macro|weighted)_|vgg|(vit|convnext)-|hf:")
    assert [n for n in names if f"`{n}" not in pages and not families.match(n)] == []


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_readme_python_runs(readme, in_folder, monkeypatch, photos, capsys):
    monkeypatch.chdir(photos.parent)
    for text in blocks(readme, "python"):
        exec(compile(re.sub(r'budget="[^"]*"', 'budget="3 steps"', text), readme, "exec"), {})
    said = capsys.readouterr().out.split("\n")
    assert "'low'" in said[0] and said[1] in ("red", "green", "blue")


def test_readme_yaml_is_a_recipe_that_runs(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    for text in blocks("README.md", "yaml"):  # the other has the same, as a test sees to
        assert yaml.safe_load(text)["stages"]
        Path("readme.yaml").write_text(shrink(text))
        assert main(["run", "readme.yaml", "--quiet"]) == 0


def test_readme_commands_run(photos, monkeypatch):
    """In the order in which they stand, with budgets of a few steps; `make` is what calls this test."""
    from test_server_models import Process

    monkeypatch.chdir(photos.parent)
    Path("novel.txt").write_text("\n\n".join(f"It was number {i} of many." for i in range(80)))
    said = [line for text in blocks("README.md", "bash") for line in text.splitlines() if line.strip()]
    assert any(line.startswith("make demo") for line in said) and any(
        line.startswith("jichu run quickstart") for line in said
    )
    for line in said:
        words = shlex.split(line, comments=True)
        if words[0] in ("git", "cd", "make"):
            continue
        assert words[0] == "jichu"
        if words[1] == "serve":
            found = Process(*words[2:])
            with found.client() as client:
                assert client.get("/healthz").status_code == 200
            assert found.end() == 0
            continue
        words = ["llama-tiny" if a == "llama-mini" else a for a in words]  # quicker
        words = [w for a in words[1:] for w in (sorted(map(str, Path().glob(a))) if "*" in a else [a])]
        if words[0] in ("pretrain", "finetune", "compress") and "--head" not in words:
            words = [w for i, w in enumerate(words) if w != "--budget" and words[i - 1] != "--budget"] + [
                "--budget",
                "3 steps",
            ]
        if words[0] == "run":
            words += [
                "--set",
                "stages.pretrain.budget=3 steps",
                "--set",
                "stages.scratch.budget=3 steps",
                "--set",
                "data.draws=2",
            ]
        assert main(words) == 0, line


def test_both_readmes_have_the_same_commands_and_code():
    for language in ("bash", "yaml", "python"):
        strip = lambda text: [re.sub(r"\s*#.*", "", line) for line in text.splitlines()]  # noqa: E731
        one, two = ([strip(t) for t in blocks(name, language)] for name in ("README.md", "README.zh-CN.md"))
        assert one == two


def test_make_knows_its_targets():
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    for target in ("demo", "test", "bench"):
        done = subprocess.run(
            [make, "-n", target], cwd=ROOT, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_recipes_of_the_page_on_language_run(in_folder):
    said = [f"Once upon a time number {i} said that it was {'good' if i % 2 else 'bad'}." for i in range(60)]
    Path("novel.txt").write_text("\n\n".join(said))
    Path("reviews.csv").write_text(
        "text,label\n" + "".join(f"{t},{'ab'[i % 2]}\n" for i, t in enumerate(said))
    )
    rows = [f"{i} who sings ?\t{'birds' if i % 2 else 'people'}" for i in range(60)]
    Path("questions.tsv").write_text("question\tanswer\n" + "\n".join(rows))
    for text in blocks("docs/language.md", "yaml"):
        Path("page.yaml").write_text(
            shrink(text).replace("t5-mini", "{name: t5, width: 32, depth: 1, heads: 2}")
        )
        assert main(["run", "page.yaml", "--quiet"]) == 0
    for text in blocks("docs/language.md", "python"):
        exec(compile(text, "language.md", "exec"), {})


@pytest.mark.parametrize("page", ["robustness", "privacy", "learning-curves"])
def test_recipes_of_audits_run(page, in_folder):
    Path("novel.txt").write_text(
        "\n".join(f"It was the year {i}, and nothing was as it had been." for i in range(400))
    )
    for text in blocks(f"docs/{page}.md", "yaml"):
        Path("page.yaml").write_text(
            shrink(text).replace("rows: 100", "rows: 10").replace("count: 10", "count: 1")
        )
        assert main(["run", "page.yaml", "--quiet"]) == 0


def test_the_page_on_serving_runs(in_folder):
    """Its servers are started, at ports that are free; its code and curl ask the one with both models."""
    from jichu.ship.server.settings import Settings
    from served import make, png
    from test_server_models import Process

    for name, kind in (("digits", "images"), ("gpt", "gpt")):
        make(in_folder / "runs" / name, kind)
    Path("digit.png").write_bytes(png())
    served = {"curl": [], "jichu": []}
    for text in blocks("docs/serving.md", "bash"):
        served[text.split()[0]].append(text)
    one, both = (shlex.split(text)[2:] for text in served["jichu"])
    here = "http://127.0.0.1:8000"
    rows, texts = blocks("docs/serving.md", "python")
    for arguments, code in ((one, rows), (both, texts)):
        found = Process(*arguments)
        exec(compile(code.replace(here, found.address), "serving.md", "exec"), {})
        if arguments is one and shutil.which("curl"):
            words = shlex.split(served["curl"][0].replace(here, found.address))
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            assert "predictions" in json.loads(done.stdout)
        assert found.end() == 0
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    assert [key for key in Settings.model_fields if f"`{key}`" not in page] == []


def test_the_page_on_the_playground_runs(in_folder, explored, capsys):
    """Its code and its commands; that of the server shows what the page says."""
    for name, kind in (("loans", "table"), ("digits", "images")):
        shutil.copytree(explored[kind], in_folder / "runs" / name)
    Path("applicant.csv").write_text("age,income,job\n30,28.0,clerk\n")
    for text in blocks("docs/playground.md", "python"):
        exec(compile(text, "playground.md", "exec"), {})
    commands, serving = blocks("docs/playground.md", "bash")
    for line in commands.splitlines():
        assert main(shlex.split(line)[1:]) == 0
    assert Path("thumbnails.webp").stat().st_size < 2**20 and capsys.readouterr().out
    assert shlex.split(serving)[3:] == ["--open"]


def test_the_page_on_explanations_runs(in_folder):
    """Its code, then its commands on the run that the code made, then its recipe; every method is on it."""
    from jichu.auditing.explaining import METHODS

    for text in blocks("docs/explain.md", "python"):
        exec(compile(text.replace("100 steps", "3 steps"), "explain.md", "exec"), {})
    (commands,) = blocks("docs/explain.md", "bash")
    for line in commands.splitlines():
        words = [
            w for a in shlex.split(line)[1:] for w in (sorted(map(str, Path().glob(a))) if "*" in a else [a])
        ]
        assert main(words) == 0
    assert len(list(Path("explanations").glob("*.png"))) > 1
    for text in blocks("docs/explain.md", "yaml"):
        Path("page.yaml").write_text(shrink(text))
        assert main(["run", "page.yaml", "--quiet"]) == 0
    page = (ROOT / "docs/explain.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if f"| `{name}` |" not in page] == []


def test_fewer_bits_of_the_page_on_compression(in_folder, monkeypatch):
    """Its code and commands on graphs, and every scheme is on it."""
    pytest.importorskip("onnxruntime")
    from jichu.ship import measured
    from jichu.ship.quantize import QUANTIZATIONS

    monkeypatch.setattr(measured, "_SECONDS", 0.005)
    for code in blocks("docs/compression.md", "python")[1:-1]:
        exec(compile(code, "compression.md", "exec"), {"jichu": jichu})
    for line in "".join(blocks("docs/compression.md", "bash")[1:]).splitlines():
        given = [
            name
            for word in shlex.split(line)[1:]
            for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        assert main([*given, "--quiet"]) == 0
    page = (ROOT / "docs/compression.md").read_text(encoding="utf-8")
    assert [name for name in QUANTIZATIONS if f"| `{name}` |" not in page] == []


def test_the_page_on_compression_runs(in_folder, monkeypatch):
    """Its recipe, its command on the run that the recipe made, its code, and a step of one's own."""
    (recipe,), (commands, *_), (code, *_, own) = (
        blocks("docs/compression.md", kind) for kind in ("yaml", "bash", "python")
    )
    Path("page.yaml").write_text(shrink(recipe))
    assert main(["run", "page.yaml", "--quiet"]) == 0
    for line in commands.replace("\\\n", "").splitlines():
        assert main([*shlex.split(line)[1:], "--quiet"]) == 0
    exec(compile(code.replace("2 epochs", "3 steps"), "compression.md", "exec"), {})
    Path("coarse.py").write_text(own)
    monkeypatch.syspath_prepend(".")
    steps = [{"name": "coarse:Coarse", "digits": 2}]
    weight = jichu.compress("runs/smaller", steps=steps).model.backbone.blocks[0][0].weight
    assert bool((100 * weight).sub((100 * weight).round()).abs().max() < 1e-4)


def test_the_page_on_the_report_runs(in_folder, monkeypatch):
    """Its recipe, its command, and its part of an audit, asked of the run."""
    (recipe,), (command,), (part,) = (blocks("docs/report.md", kind) for kind in ("yaml", "bash", "python"))
    Path("page.yaml").write_text(recipe)
    assert main(["run", "page.yaml", "--quiet"]) == 0
    report = Path("runs/wine/report.html")
    assert "校准" in report.read_text()
    assert main(shlex.split(command)[1:]) == 0 and "How sure" in report.read_text()
    Path("empty.py").write_text(part)
    monkeypatch.syspath_prepend(".")
    found = jichu.audit("runs/wine", parts=["empty:Empty"])["parts"]["empty:Empty"]
    assert found["rows"] == 36 and found["empty"]["value"] == 0
    assert (ROOT / "docs/report.png").stat().st_size < 150_000


def test_the_page_on_export_runs(in_folder):
    """Its code, then its commands on the run that the code made; every format is on it."""
    from jichu.ship.export import FORMATS

    pytest.importorskip("onnxruntime")
    for text in blocks("docs/export.md", "python"):
        exec(compile(text.replace("100 steps", "3 steps"), "export.md", "exec"), {})
    (commands,) = blocks("docs/export.md", "bash")
    for line in commands.splitlines():
        words = [
            w for a in shlex.split(line)[1:] for w in (sorted(map(str, Path().glob(a))) if "*" in a else [a])
        ]
        assert main(words) == 0
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    assert [name for name in FORMATS if f"`{name}`" not in page] == []

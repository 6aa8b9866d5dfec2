"""`jichu init`: the recipe it writes is read, says why, fits what was found, and runs."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import jichu
from jichu.cli.main import main
from jichu.core.config import dump_yaml, parse_yaml
from jichu.recipe.config import FinetuneStage, PretrainStage, read_recipe

SMALL = [(r"budget: [^#\n]*", "budget: 2 steps  "), (r"trees: \d+", "trees: 3"), (r"widths: \[.*?\]", "widths: [8]"),
         (r"width: 64", "width: 8"), (r"base: 16", "base: 8")]  # fmt: skip


def init(*arguments, code=0):
    assert main(["init", *map(str, arguments), "--quiet"]) == code


def shrunken(recipe="recipe.yaml"):
    """Run the recipe with budgets of two steps; the run."""
    text = Path(recipe).read_text()
    for before, after in SMALL:
        text = re.sub(before, after, text)
    Path("small.yaml").write_text(text)
    assert main(["run", "small.yaml", "--quiet"]) == 0
    return jichu.open(f"runs/{read_recipe('small.yaml').name}")


def table(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def keys(path="recipe.yaml"):
    """The lines that set a key, without those that only name or begin something."""
    lines = [
        line
        for line in Path(path).read_text().splitlines()
        if ": " in line and not line.strip().startswith("#")
    ]
    return [line for line in lines if not re.match(r" *(name|path|from|head|backbone|target):", line)]


def test_images_with_labels(in_folder):
    init("sklearn:digits")
    recipe = read_recipe("recipe.yaml")
    assert [s.name for s in recipe.stages] == ["inspect", "network", "logistic_regression", "audit"]
    assert recipe.name == "digits" and recipe.data.path == "sklearn:digits"
    assert recipe.stages[1].patience and recipe.data.split.validation == 0.1
    text = Path("recipe.yaml").read_text()
    assert "1,797 images, stored as 8×8; 10 classes, 139 to 146 training rows each" in text
    assert sum("  # " in line for line in keys()) > 0.7 * len(keys())
    run = shrunken()
    assert set(run.headline) == {"network", "logistic_regression"}
    assert (run.path / "data.html").exists()


def test_a_small_folder_of_photos(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    init("photos", "-o", "mine.yaml")
    recipe = read_recipe("mine.yaml")
    network = recipe.stages[1]
    assert network.batch_size == 8 and network.backbone.name == "resnet9" and network.augment == "auto"
    assert network.patience is None and "validation" not in Path("mine.yaml").read_text(), (
        "too few rows to stop by"
    )
    assert "in colour: mirrored" in Path("mine.yaml").read_text()
    assert set(shrunken("mine.yaml").headline) == {"network", "logistic_regression"}


def test_few_labels_are_pretrained_for(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    for path in [p for name in ("red", "green", "blue") for p in sorted((photos / name).iterdir())[5:]]:
        path.rename(photos / path.name)
    init("photos")
    recipe = read_recipe("recipe.yaml")
    names = ["inspect", "pretrain", "pretrained", "scratch", "logistic_regression", "naive_bayes", "audit"]
    assert [s.name for s in recipe.stages] == names
    assert recipe.stages[-1].gain == ["pretrained", "scratch"] and recipe.result == "pretrained"
    assert "12 of 57 training rows have a label" in Path("recipe.yaml").read_text()
    assert "gain" in shrunken().headline


def test_images_without_labels_are_only_pretrained_on(in_folder):
    rng = np.random.default_rng(0)
    (in_folder / "scans").mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 255, (17, 17), dtype=np.uint8)).save(f"scans/{i}.png")
    init("scans")
    recipe = read_recipe("recipe.yaml")
    assert [type(s) for s in recipe.stages[1:]] == [PretrainStage]
    assert "without labels" in Path("recipe.yaml").read_text()
    assert shrunken().headline == {}


def people(n=300, rare=5, seed=0):
    rng = np.random.default_rng(seed)
    yield ["patient_id", "age", "town", "when", "outcome", "grade"]
    for i in range(n):
        grade = "ill" if i % rare == 0 else "well"
        day = np.datetime64("2021-03-01") + i
        yield [f"p{i // 4:03}", rng.integers(20, 80), "ABC"[rng.integers(3)], day, f"{grade}!", grade]


def test_a_table_of_classes(in_folder):
    table("people.csv", people(rare=12))
    init("people.csv", "--target", "grade")
    text = Path("recipe.yaml").read_text()
    recipe = read_recipe("recipe.yaml")
    linear, boosting, mlp, transformer = (s for s in recipe.stages if isinstance(s, FinetuneStage))
    assert (linear.head.name, boosting.head.name) == ("logistic-regression", "gradient-boosting")
    assert (mlp.backbone.name, transformer.backbone.name) == ("mlp", "ft-transformer")
    weighed = [linear.head, boosting.head, mlp.objective, transformer.objective]
    assert all(s.arguments["class_weights"] == "balanced" for s in weighed)
    assert [m.name for m in recipe.stages[-1].metrics][:3] == [
        "balanced_accuracy",
        "auroc",
        "recall_at_specificity",
    ]
    assert re.search(r"#   outcome: ignore  # leaks\? AUROC 1.000 by itself", text)
    assert re.search(r"# group: patient_id  # 75 values, 4.0 rows each", text)
    assert re.search(r"# time: when  # ", text) and re.search(r"#   age: number  # 2\d to 7\d", text)
    # what is only proposed is right: without the mark it is taken
    taken = re.sub(r"# (columns:|  outcome:|group:)", r"\1", text)
    Path("taken.yaml").write_text(taken)
    told = read_recipe("taken.yaml").data
    assert told.columns["outcome"].type == "ignore" and told.split.group == "patient_id"
    assert set(shrunken().headline) >= {"linear", "boosting", "mlp", "ft_transformer"}


def test_a_table_of_numbers(in_folder):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(240, 3)).round(3)
    table(
        "prices.csv",
        [["a", "b", "price", "c"], *zip(x[:, 0], x[:, 1], (50 * x.sum(1)).round(2), x[:, 2], strict=True)],
    )
    init("prices.csv", "--target", "price")
    recipe = read_recipe("recipe.yaml")
    assert recipe.stages[1].head.name == "ridge" and recipe.result == "boosting"
    assert [m.name for m in recipe.stages[-1].metrics] == ["rmse", "mae", "r2"]
    assert "price is a number" in Path("recipe.yaml").read_text()
    assert set(shrunken().headline) >= {"linear", "boosting", "mlp", "ft_transformer"}


def test_tags(in_folder):
    table(
        "tags.csv",
        [["a", "b", "topics"], *[[i % 7, i % 3, "|".join("xyz"[: 1 + i % 3])] for i in range(200)]],
    )
    init("tags.csv", "--target", "topics", "--set", "columns={topics: tags}")
    recipe = read_recipe("recipe.yaml")
    assert recipe.data.columns["topics"].type == "tags", "what was said is kept"
    assert {m.name for m in recipe.stages[-1].metrics} >= {"macro_f1", "average_precision"}
    shrunken()


def test_splits_of_the_source_are_left(in_folder):
    rows = list(people(200))
    (in_folder / "set").mkdir()
    for name, part in (("train", rows[1:120]), ("validation", rows[120:160]), ("test", rows[160:])):
        table(f"set/{name}.csv", [rows[0], *part])
    init("set", "--target", "grade")
    text = Path("recipe.yaml").read_text()
    assert "the splits are those of the source: test, train, validation" in text
    assert "\n  split:" not in text and "# group" not in text
    assert read_recipe("recipe.yaml").stages[3].patience


def test_what_cannot_be_told_is_asked(in_folder, capsys):
    table("people.csv", people(40))
    init("people.csv", code=2)
    said = capsys.readouterr().err
    assert "where: --target" in said and "one of patient_id, age, town, outcome, grade" in said
    init("people.csv", "--target", "grad", code=2)
    assert "did you mean: grade" in capsys.readouterr().err
    table("same.csv", [["a", "y"], *[[i, "one"] for i in range(30)]])
    init("same.csv", "--target", "y", code=3)
    assert "two different values" in capsys.readouterr().err
    assert not (in_folder / "recipe.yaml").exists()


def test_no_file_is_replaced_unasked(in_folder, capsys):
    (in_folder / "recipe.yaml").write_text("mine")
    init("sklearn:iris", code=2)
    assert "is there already" in capsys.readouterr().err and Path("recipe.yaml").read_text() == "mine"
    init("sklearn:iris", "--force")
    assert read_recipe("recipe.yaml").name == "iris"


NAMES = [
    "a: b",
    "it's",
    'say "so"',
    "# not a comment",
    "two\nlines",
    "- item",
    "{x}",
    "yes",
    "1e5",
    "12:30",
    "中文",
    "null",
]


def test_names_of_all_kinds_are_quoted(in_folder):
    path = "my 'data' #1 {x}.parquet"
    cells = {
        n: [f"w\n# {i % 3}: x" if j % 2 else i % (j + 3) for i in range(60)] for j, n in enumerate(NAMES)
    }
    pq.write_table(pa.table({**cells, "tar: get\n# x": list("ab" * 30)}), path)
    told = ['columns={"1e5": category, "two\\nlines": ignore}', "reader={name: table}"]
    init(path, "--target", "tar: get\n# x", "--set", told[0], "--set", told[1])
    recipe = read_recipe("recipe.yaml")
    assert recipe.data.path == path and recipe.data.target == "tar: get\n# x"
    assert set(recipe.data.columns) == {"1e5", "two\nlines"}
    text = Path("recipe.yaml").read_text()
    hints = re.search(r"  # columns:.*\n((?:  #   .*\n)+)", text)[1]
    proposed = yaml.safe_load(re.sub(r"(?m)^  # ", "", hints))
    assert set(map(str, proposed)) == set(NAMES)
    shrunken()
    assert read_recipe("runs/my-data-1-x/recipe.yaml").data == recipe.data


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(max_examples=150, deadline=None)
@given(st.recursive(st.none() | st.booleans() | NUMBERS | TEXT,
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)))  # fmt: skip
def test_yaml_that_is_written_is_read_as_the_same(value):
    inline = dump_yaml(value, inline=True)
    assert parse_yaml(inline) == value == parse_yaml(dump_yaml(value))
    assert len(inline.splitlines()) <= 1 or not inline.isprintable()


def test_texts(in_folder):
    kinds = [("good", "sings well"), ("bad", "bites hard")]
    rows = "".join(f"{i} the bird {deed} .,{label}\n" for i in range(60) for label, deed in kinds)
    Path("reviews.csv").write_text("text,label\n" + rows)
    Path("novel.txt").write_text("\n\n".join(f"{i} once upon a time there was a bird" for i in range(60)))
    message = [{"role": "user", "content": "who sings ?"}, {"role": "assistant", "content": "birds"}]
    Path("chats.jsonl").write_text(
        "".join(
            json.dumps({"messages": [*message, {"role": "user", "content": str(i)}]}) + "\n"
            for i in range(60)
        )
    )
    for path, names in (
        ("reviews.csv", ["inspect", "pretrain", "pretrained", "tf_idf", "naive_bayes", "audit"]),
        ("novel.txt", ["inspect", "pretrain", "audit"]),
        ("chats.jsonl", ["inspect", "writer", "audit"]),
    ):
        init(path, "-o", "texts.yaml", "--force")
        assert [s.name for s in read_recipe("texts.yaml").stages] == names
        Path("texts.yaml").write_text(
            Path("texts.yaml")
            .read_text()
            .replace("llama-mini", "llama-tiny")
            .replace("bert-mini", "bert-tiny")
        )
        assert shrunken("texts.yaml").headline

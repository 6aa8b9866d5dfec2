"""`jichu embed`: what stands in the file is what the model gives, row by row."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import jichu
from jichu.auditing.parts.embeddings import layout
from jichu.cli.main import main
from jichu.core.files import read_json


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_of_images(photos, folder, capsys):
    assert main(["finetune", str(photos), "--budget", "3 steps", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["embed", "runs/finetune", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = pq.read_table("embeddings.parquet")
    run = jichu.open("runs/finetune")
    assert found["rows"] == table.num_rows == len(run.dataset()) and found["path"] == "embeddings.parquet"
    vectors = np.stack(table["embedding"].to_numpy())
    for row in (0, 7, table.num_rows - 1):
        name = table["record"][row].as_py()
        assert np.allclose(
            run.embed(str(photos / name) if not name.startswith("/") else name)[0], vectors[row], atol=1e-5
        )
        assert table["label"][row].as_py() in name
    assert set(table["split"].to_pylist()) == set(run.dataset().splits)


def test_of_other_data_without_labels(photos, folder, capsys):
    assert main(["pretrain", str(photos), "--budget", "3 steps", "--batch-size", "8", "--quiet"]) == 0
    other = folder / "other"
    other.mkdir()
    for i, file in enumerate(sorted(photos.rglob("*.png"))[:9]):
        (other / f"{i}.png").write_bytes(file.read_bytes())
    capsys.readouterr()
    assert main(["embed", "runs/pretrain", "other", "--output", "made/here.parquet"]) == 0
    table = pq.read_table("made/here.parquet")
    assert table.column_names == ["record", "split", "embedding"] and set(table["split"].to_pylist()) == {
        "all"
    }
    assert f"{table.num_rows} rows of " in capsys.readouterr().out


def test_of_tables_and_texts(folder):
    lines = [f"{i % 7},{'ab'[i % 2]},{i % 3 / 2},{'yes' if i % 2 else 'no'}" for i in range(80)]
    (folder / "t.csv").write_text("\n".join(["x,kind,price,sold", *lines]))
    assert main(["finetune", "t.csv", "--target", "sold", "--budget", "2 steps", "--quiet"]) == 0
    assert main(["embed", "runs/finetune", "--quiet"]) == 0
    table = pq.read_table("embeddings.parquet")
    assert set(table["sold"].to_pylist()) == {"yes", "no"} and table["embedding"].type.list_size > 8
    (folder / "u.csv").write_text(
        "\n".join(["text,label", *(f"what is said of it in {i},{'ab'[i % 2]}" for i in range(60))])
    )
    tiny = "{name: bert, width: 16, depth: 1, heads: 2}"
    assert (
        main(
            [
                "finetune",
                "u.csv",
                "--name",
                "u",
                "--budget",
                "2 steps",
                "--quiet",
                "--set",
                f"backbone={tiny}",
            ]
        )
        == 0
    )
    assert main(["embed", "runs/u", "--quiet"]) == 0
    table = pq.read_table("embeddings.parquet")
    assert table["embedding"].type.list_size == 16 and table.num_rows == len(jichu.open("runs/u").dataset())


def test_counts_of_words_are_none(folder, capsys):
    (folder / "u.csv").write_text(
        "\n".join(["text,label", *(f"what is said of it in {i},{'ab'[i % 2]}" for i in range(60))])
    )
    assert main(["finetune", "u.csv", "--head", "naive-bayes", "--quiet", "--set", "backbone=words"]) == 0
    assert main(["embed", "runs/finetune"]) == 2
    assert "counts of words" in capsys.readouterr().err
    assert not [file for file in folder.iterdir() if "parquet" in file.name]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["runs/none"], 2, "no run"), (["runs/finetune", "nowhere"], 3, "nowhere")],
)
def test_what_is_not_there(arguments, code, said, photos, folder, capsys):
    if "nowhere" in arguments:
        assert main(["finetune", str(photos), "--budget", "2 steps", "--quiet"]) == 0
    assert main(["embed", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_target_does_not_take_the_place_of_our_columns(folder):
    lines = [f"{i % 7},{i % 3 / 2},{'uv'[i % 2]}" for i in range(80)]
    (folder / "t.csv").write_text("\n".join(["x,price,split", *lines]))
    assert main(["finetune", "t.csv", "--target", "split", "--budget", "2 steps", "--quiet"]) == 0
    assert main(["embed", "runs/finetune", "--quiet"]) == 0
    table = pq.read_table("embeddings.parquet")
    assert set(table["split"].to_pylist()) == {"train", "test"}
    assert set(table["split (target)"].to_pylist()) == {"u", "v"}


def test_an_audit_of_embeddings(in_folder):
    """Of images with pictures on the map, of a table without; the places are the same each time."""
    stages = [
        {"stage": "pretrain", "budget": "3 steps"}, {"stage": "finetune", "name": "network", "budget": "3 steps"},
        {"stage": "finetune", "name": "linear", "head": "logistic-regression"}, {"stage": "audit", "parts": ["embeddings"]},
    ]  # fmt: skip
    for name, path in (("digits", "sklearn:digits"), ("wine", "sklearn:wine")):
        for again in ("one", "two"):
            recipe = {
                "name": f"{name}-{again}",
                "data": {"path": path},
                "stages": stages,
                "result": "network",
            }
            Path("r.yaml").write_text(json.dumps(recipe))
            assert main(["run", "r.yaml", "--quiet"]) == 0
        one, two = (
            read_json(Path(f"runs/{name}-{n}/audit.json"))["parts"]["embeddings"] for n in ("one", "two")
        )
        assert one == two and set(one["models"]) == {"pretrain", "network"} and one["map"]["of"] == "network"
        assert 0 <= min(one["map"]["x"]) <= max(one["map"]["x"]) <= 1
        assert 0 < one["models"]["network"]["recall_at_1"]["value"] <= 1
        page = Path(f"runs/{name}-one/report.html").read_text()
        assert "Like finds like" in page and ("<image href" in page) == (name == "digits")


def test_a_map_of_few_rows():
    for count in (2, 3, 4, 6):
        places = layout(np.random.default_rng(0).standard_normal((count, 3)))
        assert places.shape == (count, 2) and np.isfinite(places).all()

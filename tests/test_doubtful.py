"""The most doubtful rows: what doubt is, and how rows of each kind are shown."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import entropy

from jichu.auditing.parts.doubtful import doubt
from jichu.cli.main import main
from jichu.core.files import read_json


def test_doubt():
    scores = np.random.default_rng(0).dirichlet(np.ones(4), size=50)
    assert doubt(scores, "entropy") == pytest.approx(entropy(scores, axis=1) / np.log(4))
    sure, torn = np.array([[1.0, 0, 0, 0]]), np.array([[0.25] * 4])
    for by in ("entropy", "margin"):
        assert doubt(sure, by) == 0 and doubt(torn, by) == 1
    assert doubt(np.array([[0.5, 0.3, 0.2]]), "margin") == pytest.approx(0.8)
    for by in ("entropy", "margin"):
        assert (
            np.isnan(doubt(np.ones((3, 1)), by)).all()
            and np.isnan(doubt(np.array([[np.nan, 0.5]]), by)).all()
        )


def audited(name, path, stage, parts, **data):
    stages = [{"stage": "finetune", **stage}, {"stage": "audit", "parts": parts}]
    Path("r.yaml").write_text(json.dumps({"name": name, "data": {"path": path, **data}, "stages": stages}))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    (model,) = read_json(Path(f"runs/{name}/audit.json"))["parts"]["doubtful"]["models"].values()
    return model["rows"], Path(f"runs/{name}/report.html").read_text()


def test_of_pictures(photos, monkeypatch, capsys):
    monkeypatch.chdir(photos.parent)
    rows, page = audited(
        "p", "photos", {"budget": "2 steps"}, [{"name": "doubtful", "by": "margin", "count": 5}]
    )
    table = pq.read_table("runs/p/predictions.parquet")
    scores = np.array(table["scores"].to_pylist())
    order = np.argsort(-doubt(scores, "margin"), kind="stable")[:5]
    assert [row["row"] for row in rows] == table["row"].to_numpy()[order].tolist()
    assert [row["record"] for row in rows] == table["record"].take(order).to_pylist()
    assert rows[0]["scores"][0] == scores[order[0]].max() and rows[0]["scores"][0] >= rows[0]["scores"][1]
    section = page.split("Most in doubt</h2>")[1].split("<h2 ")[0]
    assert section.count('<img src="data:image/png') == 5 and "the second class" in section
    capsys.readouterr()
    assert main(["audit", "runs/p", "--parts", "doubtful"]) == 0
    assert "Most in doubt" in capsys.readouterr().out


def test_of_tables(in_folder):
    lines = [f"{'uv'[i % 2]},{i},{'abc'[i % 3]},{'' if i == 3 else i / 8}" for i in range(120)]
    Path("t.csv").write_text("\n".join(["label,age,town,height", *lines]))
    head = {"head": "logistic-regression"}
    rows, page = audited("t", "t.csv", head, ["doubtful"], columns={"age": {"type": "number"}})
    assert len(rows) == 12
    section = page.split("Most in doubt</h2>")[1].split("<h2 ")[0]
    assert "town " in section and "height" in section and rows[0]["record"] in section
    assert all(f"age {row['row']}, " in section for row in rows)


def test_of_texts_cut_short(in_folder):
    said = [f"{'so it was ' * (40 if i % 3 else 1)}{'good' if i % 2 else 'bad'} {i} <b>" for i in range(60)]
    Path("r.csv").write_text("\n".join(["text,label", *(f"{t},{'ab'[i % 2]}" for i, t in enumerate(said))]))
    _, page = audited("r", "r.csv", {"backbone": "words", "head": "naive-bayes"}, ["doubtful"])
    section = page.split("Most in doubt</h2>")[1].split("<h2 ")[0]
    assert "so it was so it was" in section and " …<" in section and "<b>" not in section
    assert len(max(re.findall(r"<bdi>(.*?)</bdi>", section), key=len)) < 300
    card = Path("runs/r/MODEL_CARD.md").read_text()
    assert "so it was" not in card and "in doubt" not in card


def test_words_of_missing_values(in_folder):
    from jichu.data.schema import TableSchema

    schema = TableSchema(numbers=("x",), categories={"c": ("u", "v")})
    row = {"numbers": torch.tensor([float("nan")]), "categories": torch.tensor([2])}
    assert schema.cells(row) == [("x", "–"), ("c", "v")]
    assert schema.cells(row | {"categories": torch.tensor([0])})[1] == ("c", "–")

"""The model card: what Hugging Face's own parser reads of it, and that it says what a reader has to know."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from jichu.auditing.blocks import Figure, Note, Table
from jichu.auditing.card import _markdown
from jichu.cli.main import main
from jichu.core.config import parse_yaml
from jichu.core.files import read_json

LINEAR = {"stage": "finetune", "name": "linear", "head": "logistic-regression"}


def card(recipe):
    """Front matter and body of the card of a run."""
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) in (0, 4)
    text = Path(f"runs/{recipe['name']}/MODEL_CARD.md").read_text()
    _, front, body = text.split("---\n", 2)
    return parse_yaml(front), body


def section(body, heading):
    return re.search(rf"^## {heading}\n\n(.*?)(?=^## |\Z)", body, re.MULTILINE | re.DOTALL)[1]


def test_a_card_says_what_the_audit_found(in_folder):
    hub = pytest.importorskip("huggingface_hub")
    said = {
        "intended_use": "Sorting of wine.",
        "licence": "Apache-2.0",
        "contact": "cellar@example.org",
        "limits": "No rosé.",
    }
    audit = {"stage": "audit", "parts": ["calibration"], "gates": {"accuracy": 1.01}}
    bayes = {"stage": "finetune", "name": "bayes", "head": "naive-bayes"}
    front, body = card(
        {"name": "wine", "data": {"path": "sklearn:wine"}, "stages": [LINEAR, bayes, audit], "card": said}
    )
    found = read_json(Path("runs/wine/audit.json"))
    assert front["license"] == "apache-2.0" and front["pipeline_tag"] == "tabular-classification"
    parsed = hub.ModelCard.load(Path("runs/wine/MODEL_CARD.md")).data
    told = {result.metric_type: result for result in parsed.eval_results}
    measured = found["models"]["linear"]["metrics"]
    assert parsed.model_name == "wine" and set(told) == set(measured)
    for name, interval in measured.items():
        assert told[name].metric_value == interval["value"] and "36 rows" in told[name].metric_name
        assert told[name].task_type == "tabular-classification" and told[name].dataset_split == "test"
    assert "`columns` with the head `logistic-regression` that tells 3 classes" in body
    for heading, words in (
        ("Intended use", "Sorting of wine."), ("Contact", "cellar@example.org"), ("Training", "| linear |"),
        ("Data", "| test | 36 | 0 |"), ("How good", "| bayes |"), ("How good", "fails"),
        ("How sure, and rightly so\\?", "calibration error"), ("Limits", "No rosé."), ("Limits", "A gate fails: accuracy"),
        ("Limits", "Only 36 held-out rows"), ("Limits", "no validation rows"), ("Limits", "embeddings"),
        ("Limits", "few held-out rows: class_0 (12)"), ("Limits", "Trained once"),
    ):  # fmt: skip
        assert words in section(body, heading), heading


def test_it_is_silent_of_faults_that_are_not_there(in_folder, digits):
    images, labels = digits
    lines = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(images, labels, strict=True)]
    names = ",".join(f"p{i}" for i in range(64))
    Path("d.csv").write_text("\n".join([f"label,{names}", *lines]))
    data = {"path": "d.csv", "split": {"test": 0.3, "validation": 0.1}, "draws": 2, "labels_per_class": 20}
    front, body = card({"name": "d", "data": data, "stages": [LINEAR, {"stage": "audit"}]})
    limits = section(body, "Limits")
    assert "same source" in limits and "Not asked in this audit: calibration, corruptions, cost" in limits
    for words in ("Only", "few held-out", "Trained once", "validation", "gate"):
        assert words not in limits
    assert "license" not in front and "Not stated" in section(body, "Licence")


def test_of_several_targets_and_odd_names(in_folder):
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{'猫|*a*' if x > 0 else '狗 <b>'},{2 * x:.3f}" for x in rng.normal(size=150)]
    Path("t.csv").write_text("\n".join(["x,_kind_,price", *rows]))
    stages = [{"stage": "finetune", "backbone": {"name": "mlp", "widths": [8]}, "budget": "2 steps"},
              {"stage": "audit", "parts": ["calibration"]}]  # fmt: skip
    said = {"licence": "ours, ask us"}
    front, body = card(
        {
            "name": "t",
            "data": {"path": "t.csv", "target": ["_kind_", "price"]},
            "stages": stages,
            "card": said,
        }
    )
    assert (front["license"], front["license_name"]) == ("other", "ours, ask us")
    (model,) = front["model-index"]
    assert [r["task"]["type"] for r in model["results"]] == ["tabular-classification", "tabular-regression"]
    assert {m["type"] for m in model["results"][1]["metrics"]} == {"rmse", "mae", "r2"}
    assert "by \\_kind\\_" in body and "| 狗 \\<b> | 猫\\|\\*a\\* |" in section(body, "Data")
    for table in re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE):  # as many cells in each row
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_of_a_backbone_alone(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    front, body = card(
        {"name": "b", "data": {"path": "photos"}, "stages": [{"stage": "pretrain", "budget": "2 steps"}]}
    )
    assert front == {"library_name": "jichu", "tags": ["jichu", "image"]}
    assert "features of images" in body and "Nothing was measured" in section(body, "How good")
    assert "| pretrain | cnn | vicreg | 2 |" in section(body, "Training")


def test_of_a_language_model(in_folder):
    pytest.importorskip("transformers")
    Path("novel.txt").write_text("\n\n".join(f"It was number {i} of many that were said." for i in range(80)))
    stages = [{"stage": "pretrain", "backbone": "llama-tiny", "budget": "2 steps"}, {"stage": "audit"}]
    front, body = card({"name": "n", "data": {"path": "novel.txt", "context": 16}, "stages": stages})
    assert front["pipeline_tag"] == "text-generation" and "bits_per_byte" in json.dumps(front)
    assert "goes on with texts" in body


def test_blocks_as_markdown():
    interval = {"value": 0.5, "low": 0.25, "high": None}
    table = Table(["model", "a_b"], [["x|y", interval], ["two\nlines", None]])
    told = list(_markdown([Note("Said *so*."), Figure("<svg>"), table]))
    assert told == [
        "Said \\*so\\*.",
        "| model | a_b |\n| --- | ---: |\n| x\\|y | 0.5 [0.25, –] |\n| two lines | – |",
    ]


@pytest.mark.parametrize(("said", "wanted"), [({"license": "mit"}, "licence"), ({"contact": 3}, "a string")])
def test_bad_keys(said, wanted, in_folder, capsys):
    recipe = {
        "name": "b",
        "data": {"path": "sklearn:wine"},
        "stages": [LINEAR, {"stage": "audit"}],
        "card": said,
    }
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 2
    assert wanted in capsys.readouterr().err

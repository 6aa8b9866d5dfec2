"""Audits of what is wrong: each ends with one clear error, or says so in its answer; nothing is wrong in silence."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import jichu
from jichu.auditing.parts import suiting
from jichu.cli.main import main
from jichu.core.errors import CheckFailed, DataError, UsageError
from jichu.core.files import read_json

COLUMNS = ("a", "b", "sex", "empty", "kind", "size", "tags")
NETWORK = {"stage": "finetune", "backbone": {"name": "mlp", "widths": [8]}, "budget": "10 steps"}


def write(path, rows=150, change=lambda row: row, seed=0):
    """A table of classes, numbers and tags that follow two numbers; the change of a row may be None."""
    rng = np.random.default_rng(seed)
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for a, b in rng.normal(size=(rows, 2)).round(3):
            kind = "low" if a < -0.4 else "mid" if a < 0.4 else "high"
            tags = "|".join(t for t, has in (("pos", a > 0), ("up", b > 0)) if has) or "flat"
            row = dict(
                zip(COLUMNS, (a, b, "fm"[rng.integers(2)], "", kind, round(a - b, 3), tags), strict=True)
            )
            if row := change(row):
                out.writerow([row.get(name, "") for name in COLUMNS])


EVERY = [
    "calibration", "corruptions", "doubtful", "embeddings", "explanation", "membership", "robustness", "slices",
]  # fmt: skip


def fitted(name, target, stage=NETWORK, parts=(), metrics=None, **data):
    """Write a recipe and run it; gives the exit code."""
    targets = [target] if isinstance(target, str) else target
    ignored = {c: "ignore" for c in ("kind", "size", "tags") if c not in targets}
    columns = ignored | ({"tags": "tags"} if "tags" in targets else {})
    recipe = {
        "name": name, "data": {"path": "t.csv", "target": target, "columns": columns, **data},
        "stages": [stage, {"stage": "audit", "parts": list(parts), "metrics": metrics}],
    }  # fmt: skip
    Path(f"{name}.yaml").write_text(json.dumps(recipe))
    return main(["run", f"{name}.yaml", "--quiet"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run for each target, and one for two of them."""
    folder = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write("t.csv")
        for target in ("kind", "size", "tags"):
            assert fitted(target, target) == 0
        assert fitted("both", ["size", "kind"]) == 0
    return folder


@pytest.fixture
def there(runs, monkeypatch):
    monkeypatch.chdir(runs)
    return runs


# --- models that answer nothing


@pytest.mark.parametrize("target", ["kind", "size", "tags"])
def test_answers_that_are_no_numbers_are_refused(target, in_folder, capsys):
    write("t.csv")
    assert fitted("spoilt", target) == 0
    for file in Path("runs/spoilt").glob("model*/**/*.safetensors"):
        kept = load_file(file)
        save_file({n: torch.full_like(t, torch.nan) if "heads" in n else t for n, t in kept.items()}, file)
    for asked in (
        [],
        ["--parts", "membership", "robustness"] if target == "kind" else [],
        ["--gate", "accuracy=0"] if target == "kind" else [],
    ):
        assert main(["audit", "runs/spoilt", *asked]) == CheckFailed.code
        said = capsys.readouterr().err
        assert "no finite answer to 30 of 30 held-out rows" in said and "t.csv:" in said


def test_what_gives_no_number_under_attack_has_erred():
    from jichu.attacks import fooled

    out = torch.tensor([[torch.nan, 1.0], [2.0, 1.0], [1.0, 2.0]])
    assert fooled(out, torch.tensor([0, 0, 0])).tolist() == [True, False, True]


# --- other data


def test_classes_and_tags_of_other_data_are_matched_by_name(there):
    """The data hold two of the classes, and the tags in another order: what is found is that of the same rows."""
    write("few.csv", change=lambda row: row if row["kind"] != "high" and "flat" not in row["tags"] else None)
    parts = [{"name": "corruptions", "only": ["noise"]}, "doubtful"]
    found = jichu.audit("runs/kind", "few.csv", parts=parts)
    rows = list(csv.DictReader(Path("few.csv").read_text().splitlines()))
    told = jichu.open("runs/kind").predict("few.csv")
    right = np.mean([t["label"] == row["kind"] for t, row in zip(told, rows, strict=True)])
    (model,) = found["models"].values()
    (corrupted,) = found["parts"]["corruptions"]["models"].values()
    assert model["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert corrupted["clean"]["value"] == pytest.approx(right)
    (doubtful,) = found["parts"]["doubtful"]["models"].values()
    names = found["classes"]
    truth = {f"few.csv:{i + 1}": row["kind"] for i, row in enumerate(rows)}
    assert all(truth[row["record"]] == names[row["truth"]] for row in doubtful["rows"])


def test_tags_of_one_row_and_unknown_tags(there):
    write("up.csv", rows=40, change=lambda row: row if row["tags"] == "up" else None)
    found = jichu.audit("runs/tags", "up.csv")
    assert found["classes"] == ["flat", "pos", "up"]
    write("down.csv", rows=40, change=lambda row: {**row, "tags": "down"})
    with pytest.raises(DataError, match="knows no tag down"):
        jichu.audit("runs/tags", "down.csv")
    write("huge.csv", rows=40, change=lambda row: {**row, "kind": "huge"})
    for run in ("runs/kind", "runs/both"):  # of the second target, too
        with pytest.raises(DataError, match="knows no class huge"):
            jichu.audit(run, "huge.csv")


def test_no_row_of_other_data_is_both_fitted_to_and_measured_on(in_folder):
    """Other data have no validation rows to calibrate by, and none to fit the small tree to but their own halves."""
    write("t.csv", rows=300)
    assert fitted("held", "kind", split={"test": 0.2, "validation": 0.3}) == 0
    parts = [
        "calibration",
        "explanation",
        {"name": "fairness", "by": ["sex"], "favourable": "high", "thresholds": "demographic_parity"},
    ]
    found = jichu.audit("runs/held", "t.csv", parts=parts)["parts"]
    assert found["calibration"]["validation_rows"] == 0
    assert found["fairness"]["thresholds"]["models"] == {}
    assert found["explanation"]["tree"]["rows"] == 150
    own = jichu.audit("runs/held", parts=parts)["parts"]
    assert own["calibration"]["validation_rows"] == 90 and own["explanation"]["tree"]["rows"] == 60


def without(*names):
    return lambda row: {n: v for n, v in row.items() if n not in names}


@pytest.mark.parametrize("run,change,code,said", [
    ("kind", lambda row: {**row, "kind": ""}, 3, "no labelled rows to measure on"),
    ("size", lambda row: {**row, "size": "tall"}, 3, "no cell of the column 'size' is a number"),
    ("kind", lambda row: {**row, "a": "red"}, 3, "no cell of the column 'a' is a number"),
])  # fmt: skip
def test_other_data_that_do_not_fit(run, change, code, said, there, capsys):
    write("other.csv", rows=20, change=change)
    assert main(["audit", f"runs/{run}", "--data", "other.csv"]) == code
    assert said in capsys.readouterr().err


def test_other_data_with_other_columns(there, capsys):
    """A column that the recipe ignores need not be there; one that is read, or predicted, has to."""
    lines = [line.split(",") for line in Path("t.csv").read_text().splitlines()]
    for gone, code, said in (
        ("tags", 0, ""),
        ("a", 3, "the column 'a' is missing"),
        ("kind", 2, "unknown column 'kind'"),
    ):
        at = lines[0].index(gone)
        Path("other.csv").write_text(
            "\n".join(",".join(v for i, v in enumerate(row) if i != at) for row in lines)
        )
        assert main(["audit", "runs/kind", "--data", "other.csv"]) == code
        assert said in capsys.readouterr().err


# --- parts


def test_parts_that_are_for_none_of_the_targets_are_refused(there, capsys):
    with pytest.raises(UsageError, match="calibration asks nothing of multilabel"):
        jichu.audit("runs/tags", parts=["calibration", "embeddings"])
    assert main(["audit", "runs/size", "--parts", "membership"]) == 2
    assert "membership asks nothing of regression" in capsys.readouterr().err
    both = jichu.audit("runs/both", parts=["membership"])
    assert (
        "membership" not in both["parts"] and both["others"]["kind"]["parts"]["membership"]["strangers"] == 30
    )


@pytest.mark.parametrize("part,said", [
    ({"name": "fairness", "by": ["sx"]}, ("unknown column 'sx'", "parts.fairness.by", "did you mean: sex")),
    ({"name": "fairness", "by": ["empty"]}, ("'empty' is not used: every cell is missing", "parts.fairness.by")),
    ({"name": "fairness", "by": []}, ("found []", "at least 1 item")),
    ({"name": "fairness", "by": ["sex"], "favourable": True}, ("true is no name of a class", "in quotes")),
    ({"name": "membership", "shadows": 1}, ("one shadow model", "two at least")),
    ({"name": "corruptions", "only": ["noise", "fog"]}, ("'fog'", "one of missing, noise, swapped")),
    ({"name": "corruptions", "only": []}, ("found []", "at least 1 item")),
])  # fmt: skip
def test_parts_that_cannot_be_asked_are_told_before_anything_runs(part, said, in_folder, capsys):
    write("t.csv")
    assert fitted("asked", "kind", parts=[part]) == UsageError.code
    told = capsys.readouterr().err
    assert all(words in told for words in said) and not Path("runs/asked/models").exists()


def test_what_has_no_gradients_cannot_be_attacked_in_l2(in_folder):
    write("t.csv")
    asked = [{"name": "robustness", "norm": "l2"}, {"name": "explanation", "method": "integrated-gradients"}]
    assert fitted("trees", "kind", {"stage": "finetune", "head": "gradient-boosting"}, asked) == 0
    found = read_json(Path("runs/trees/audit.json"))["parts"]
    (trees,) = found["robustness"]["models"].values()
    assert trees.keys() == {"clean", "differentiable"} and not trees["differentiable"]
    page = Path("runs/trees/report.html").read_text()
    assert "squares are for linf" in page and "differentiated" in found["explanation"]["refused"]


@pytest.mark.filterwarnings("error")
def test_a_slice_without_rows(there):
    found = jichu.audit("runs/kind", parts=[{"name": "slices", "where": ["a > 999"]}])["parts"]["slices"]
    (model,) = found["models"].values()
    assert (
        model["given"][0]["rows"] == 0
        and model["given"][0]["q"] == 1
        and model["given"][0]["error"]["value"] is None
    )


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("run", ["kind", "size", "tags", "both"])
def test_a_row_or_two(run, rows, there):
    """Every part of every kind of target."""
    write("few.csv", rows=rows)
    tasks = {"size": {"regression"}, "tags": {"multilabel"}}.get(run, {"classification"})
    found = jichu.audit(f"runs/{run}", "few.csv", parts=[p for p in EVERY if p in suiting(tasks)])
    assert next(iter(found["models"].values()))["rows"] == rows


# --- runs that are no runs, or not whole ones


def test_a_run_without_its_end_and_an_audit_that_was_edited(runs, in_folder, capsys):
    shutil.copytree(runs, in_folder, dirs_exist_ok=True)
    shutil.copytree("runs/kind", "runs/twin")
    audit = Path("runs/twin/audit.json")
    whole = audit.read_text()
    for text in (whole[: len(whole) // 2], "", "[]", "{}", json.dumps(json.loads(whole) | {"models": {}})):
        audit.write_text(text)
        assert main(["audit", "runs/kind", "--against", "runs/twin"]) == DataError.code
        assert "damaged" in capsys.readouterr().err
        assert main(["audit", "runs/twin"]) == 0  # which measures the model again
        capsys.readouterr()
    shutil.rmtree("runs/twin/model")
    assert main(["audit", "runs/twin"]) == UsageError.code
    assert "no model in" in capsys.readouterr().err


def test_data_of_another_kind(there, capsys):
    assert main(["audit", "runs/kind", "--data", "sklearn:digits"]) == UsageError.code
    assert "unknown column 'kind'" in capsys.readouterr().err
    recipe = {"name": "digits", "data": {"path": "sklearn:digits"}, "stages": [
        {"stage": "finetune", "backbone": {"name": "cnn", "widths": [4]}, "budget": "2 steps"}]}  # fmt: skip
    Path("digits.yaml").write_text(json.dumps(recipe))
    assert main(["run", "digits.yaml", "--quiet"]) == 0
    assert main(["audit", "runs/digits", "--data", "t.csv"]) == DataError.code
    told = capsys.readouterr().err
    assert "of the kind table" in told and "image, which the model reads" in told


# --- classes


def test_a_class_that_only_the_test_rows_have(in_folder):
    Path("t.csv").mkdir()
    write("t.csv/train.csv", change=lambda row: row if row["kind"] != "high" else None)
    write("t.csv/test.csv", rows=60, seed=1)
    assert fitted("unseen", "kind") == 0
    found = read_json(Path("runs/unseen/audit.json"))
    (model,) = found["models"].values()
    assert model["by_class"]["high"]["recall"]["value"] == 0 and model["by_class"]["high"]["support"] > 0
    told = "no training row of kind has high"
    assert told in Path("runs/unseen/report.html").read_text()
    assert told in Path("runs/unseen/MODEL_CARD.md").read_text()


def test_test_rows_of_one_class(there, capsys):
    """What cannot be said of one class is a dash, and no gate on it holds; every part has its answer."""
    write("high.csv", rows=60, change=lambda row: row if row["kind"] == "high" else None)
    fair = "{name: fairness, by: [sex], favourable: high}"
    assert main(["audit", "runs/kind", "--data", "high.csv", "--parts", *EVERY, fair]) == 0
    told = capsys.readouterr().out
    auroc = next(line for line in told.splitlines() if line.startswith("auroc"))
    assert auroc.split() == ["auroc", "–", "–", "to", "–"] and "nan" not in told
    assert main(["audit", "runs/kind", "--data", "high.csv", "--gate", "auroc=0"]) == CheckFailed.code
    assert "auroc >= 0: found is no number" in capsys.readouterr().err


def test_metrics_of_a_recipe_that_are_for_one_of_its_targets(in_folder):
    """An audit anew measures each by those that are for it, as the recipe's own does."""
    write("t.csv")
    assert fitted("mixed", ["size", "kind"], metrics=["accuracy", "rmse"]) == 0
    found = jichu.audit("runs/mixed")
    assert [*next(iter(found["models"].values()))["metrics"]] == ["rmse"]
    assert [*next(iter(found["others"]["kind"]["models"].values()))["metrics"]] == ["accuracy"]

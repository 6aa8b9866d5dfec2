"""Drift: statistics beside closed forms and scipy, alarms that are false and such that are right, and the page."""

import base64
import contextlib
import importlib.util
import io
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy import stats

import jichu
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.core.files import read_table, write_table
from jichu.core.words import speaking
from jichu.data.source import Column
from jichu.drifts import Comparison
from jichu.metrics import drift
from jichu.ship.drift import observed, page
from jichu.ship.drift.compare import Pair, Sides, compare
from jichu.ship.version import version
from served import server
from test_docs import ROOT, blocks


def rng(seed=0):
    return np.random.default_rng(seed)


# --- statistics


def test_statistics_are_scipys():
    counts = rng().integers(0, 30, (5, 2, 6)).astype(float)
    for each, chi, tv in zip(counts, drift.chi_square(counts), drift.total_variation(counts), strict=True):
        kept = each[:, each.sum(0) > 0]
        assert chi == pytest.approx(stats.chi2_contingency(kept, correction=False).statistic)
        assert tv == pytest.approx(np.abs(each[0] / each[0].sum() - each[1] / each[1].sum()).sum() / 2)
    one, two = rng(1).integers(0, 6, 40), rng(2).integers(0, 6, 70)
    both = np.stack([np.bincount(part, minlength=6) for part in (one, two)])
    assert drift.kolmogorov_smirnov(both) == pytest.approx(stats.ks_2samp(one, two).statistic)


def test_the_index_of_equal_shares_is_nothing():
    assert drift.psi(np.array([[10, 20, 30], [10, 20, 30]])) == 0
    one, two = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert drift.psi(np.array([one, two]) * 1e9) == pytest.approx(((two - one) * np.log(two / one)).sum())


def test_permutation_of_two_cells_is_fishers_exact_test():
    """The hypergeometric distribution in closed form."""
    counts = np.array([[40, 20], [12, 18]])
    p = drift.by_chance(counts, drift.chi_square, 20_000, rng())
    assert p == pytest.approx(stats.fisher_exact(counts).pvalue, abs=0.01)


def test_energy_is_the_plain_sum_over_pairs():
    one, two = rng(1).normal(size=(20, 3)), rng(2).normal(0.4, size=(30, 3))

    def apart(a, b):
        return np.linalg.norm(a[:, None] - b, axis=-1).mean()

    plain = (2 * apart(one, two) - apart(one, one) - apart(two, two)) / (2 * apart(one, two))
    found = drift.energy(one, two, 199, rng())
    assert found.distance.value == pytest.approx(plain, rel=1e-4) and found.distance.low <= plain
    assert found.p < 0.05 and drift.energy(one, one.copy(), 199, rng()).p > 0.9


def test_p_is_uniform_where_nothing_has_changed():
    found = [
        drift.by_chance(np.stack([r.multinomial(200, [0.25] * 4), r.multinomial(50, [0.25] * 4)]), drift.chi_square, 199, r)
        for r in map(rng, range(300))
    ]  # fmt: skip
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_intervals_hold_what_is_so():
    one, two = [0.5, 0.3, 0.2], [0.3, 0.3, 0.4]
    held = []
    for r in map(rng, range(100)):
        counts = np.stack([r.multinomial(2000, one), r.multinomial(300, two)])
        low, high = drift.interval(counts, drift.total_variation, r)[1:]
        held.append(low <= 0.2 <= high)
    assert np.mean(held) > 0.88


def test_more_rows_see_more():
    found = [drift.smallest_seen(10**6, rows, 0.05) for rows in (50, 200, 1000)]
    assert found == sorted(found, reverse=True)
    z = stats.norm.isf(0.025) + stats.norm.isf(0.2)
    assert found[1] == pytest.approx(z * 0.5 / np.sqrt(200), rel=1e-3)


# --- columns


def number(values):
    return Column("number", np.asarray(values, float))


def test_new_categories_gaps_and_numbers_are_told():
    r = rng()
    town = Column("category", r.integers(0, 2, 900), ("a", "b"))
    other = Column("category", r.integers(0, 3, 300), ("b", "a", "z"))
    age, gaps = number(r.normal(size=900)), number(np.where(r.random(300) < 0.2, np.nan, r.normal(size=300)))
    same = number(r.normal(size=300))
    sides = Sides(
        [
            Pair("town", "inputs", town, other),
            Pair("age", "inputs", age, gaps),
            Pair("same", "inputs", age, same),
        ]
    )
    found = compare(sides)
    of = {(t["name"], t["test"]): t for t in found["tests"]}
    assert found["alarm"] and set(found["alarms"]) == {"town", "age"}
    assert of["town", "chi-square"]["new"] == {"z": int((other.values == 2).sum())}
    assert of["age", "missing"]["alarm"] and not of["age", "Kolmogorov-Smirnov"]["alarm"]
    assert of["age", "missing"]["missing"][1] == pytest.approx(0.2, abs=0.05)
    assert not of["same", "Kolmogorov-Smirnov"]["alarm"] and of["town", "chi-square"]["psi"]["value"] > 0.25


def test_columns_without_anything_are_no_test():
    found = compare(Sides([Pair("nothing", "inputs", number([np.nan] * 5), number([1.0, 2.0]))]))
    assert found["tests"] == [] and not found["alarm"]
    gone = compare(Sides([Pair("gone", "inputs", number(range(90)), number([np.nan] * 40))]))
    assert [(t["test"], t["alarm"]) for t in gone["tests"]] == [("missing", True)]
    found = compare(Sides([Pair("one", "inputs", number([3.0] * 50), number([3.0]))]))
    assert found["tests"][0]["p"] == 1


def test_the_same_seed_gives_the_same():
    sides = Sides([Pair("x", "inputs", number(rng(1).normal(size=300)), number(rng(2).normal(size=90)))])
    assert compare(sides, seed=3) == compare(sides, seed=3)


# --- a run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A classifier of digits, and those that it has not seen."""
    folder = tmp_path_factory.mktemp("drift")
    with contextlib.chdir(folder):
        split = {"test": 0.3, "validation": 0.0}
        made = jichu.finetune(
            "pixels", "sklearn:digits", head="logistic-regression", name="digits", split=split
        )
        return jichu.open(folder / made.path)


def images(run, split="test"):
    data = run.dataset()
    return data, data.tensors["image"][data.splits[split]], data.tensors["label"][data.splits[split]]


def arrays(tensor):
    return list(tensor.permute(0, 2, 3, 1).numpy())


def test_held_out_rows_are_no_alarm_and_dark_or_missing_ones_are(made, tmp_path):
    _, test, labels = images(made)
    some = test[torch.from_numpy(rng().permutation(len(test))[:150])]
    found = jichu.drift(made, arrays(some), output=tmp_path)
    assert not found["alarm"] and found["told"]["held_out"] == "test" and found["rows"] == 150
    assert {t["group"] for t in found["tests"]} == {"inputs", "predictions", "features"}
    dark = (some.float() * 0.6).byte()
    assert "brightness" in jichu.drift(made, arrays(dark), output=tmp_path)["alarms"]
    missing = test[labels != 3]
    assert jichu.drift(made, arrays(missing), output=tmp_path)["alarm"]


def test_no_alarm_on_95_of_100_resamples(made, monkeypatch):
    """Of test rows, beside the rest of them; each with 100 rows."""
    monkeypatch.setattr("jichu.metrics.drift._RESAMPLES", 10)
    monkeypatch.setattr("jichu.ship.drift.compare._LEAST", 199)
    data, _, _ = images(made)
    comparison = Comparison(made, data, "test", 0)
    rows = comparison.held_out
    said = observed.of_scores(made.targets, comparison.seen(data.tensors, rows)[0])
    columns = {**comparison.inputs_of(rows), **said}
    columns = {name: column for name, column in columns.items() if len(column.values) == len(rows)}
    alarms = 0
    for r in map(rng, range(100)):
        order = r.permutation(len(rows))
        sides = [
            {n: replace(c, values=c.values[part]) for n, c in columns.items()}
            for part in (order[100:], order[:100])
        ]
        pairs = [Pair(name, "inputs", sides[0][name], sides[1][name]) for name in columns]
        alarms += compare(Sides(pairs))["alarm"]
    assert alarms <= 5 and len(columns) >= 4


def test_texts_with_new_words_and_of_another_language(tmp_path):
    with open(tmp_path / "reviews.csv", "w") as file:
        r = rng()
        words = [
            "the",
            "film",
            "was",
            "a",
            "very",
            "good",
            "and",
            "well",
            "made",
            "story",
            "with",
            "some",
            "bad",
            "parts",
            "in",
            "it",
            "that",
            "we",
            "did",
            "not",
            "like",
        ]
        for i in range(400):
            file.write(f"{(i % 2 and 'yes') or 'no'},{' '.join(r.choice(words, 12))}\n")
    with contextlib.chdir(tmp_path):
        made = jichu.finetune("words", "reviews.csv", head="logistic-regression", name="reviews")
        same = [" ".join(r.choice(words, 12)) for _ in range(80)]
        found = jichu.drift(made, same)
        assert not found["alarm"] and {t["name"] for t in found["tests"]} >= {"length", "new words", "label"}
        other = [" ".join([*r.choice(words, 9), "zorgle", "quux", "frob"]) for _ in range(80)]
        assert "new words" in jichu.drift(made, other)["alarms"]
        assert (
            "language" in jichu.drift(made, ["der die und in den von zu das mit sich des auf"] * 80)["alarms"]
        )


def test_what_a_server_kept_is_compared_with_what_it_answered(made, tmp_path):
    """Scores and features as they were kept; of another version's rows only what came in."""
    _, test, _ = images(made)
    asked = [
        base64.b64encode(png(image)).decode() for image in test[rng().permutation(len(test))[:60], 0].numpy()
    ]
    with server({"digits": made.path}, keep=str(tmp_path), sample=1.0) as on, on.client() as client:
        assert client.post("/v1/predict", json={"inputs": asked}).status_code == 200
    found = jichu.drift(made, tmp_path)
    assert not found["alarm"] and found["rows"] == 60 and found["told"].get("other_versions") is None
    assert {t["name"] for t in found["tests"]} >= {"brightness", "label", "features"} and found["times"]
    (file,) = (tmp_path / "digits").glob("requests-*.parquet")
    table = read_table(file)
    write_table(file, table.set_column(3, "version", pa.array(["digits@0123"] * 60)))
    found = jichu.drift(made, tmp_path)
    assert found["told"]["other_versions"] == 60 and {t["group"] for t in found["tests"]} == {"inputs"}
    with speaking("en"):
        assert any("another version" in line for line in page.remarks(found))


def test_where_some_images_were_kept_whole_those_are_asked_again(made, tmp_path):
    """`keep_media` was changed, and the model too: 20 rows of this version, 20 whole ones and 20 small ones of another."""
    _, test, _ = images(made)
    comparison = Comparison(made, made.reference(), "test", 0)
    mine, count = np.repeat([True, False], [20, 40]), 60
    whole = [png(image) if 20 <= i < 40 else None for i, image in enumerate(test[:count, 0].numpy())]
    scores, features = comparison.seen({"image": test}, torch.arange(count))
    kept = [
        [row if m else [] for row, m in zip(part.tolist(), mine, strict=True)]
        for part in (scores["label"], features)
    ]
    (tmp_path / "served.json").write_text("{}")
    lists = pa.list_(pa.float32())
    write_table(tmp_path / "requests-1.parquet", pa.table({
        "time": pa.array([0] * count, pa.timestamp("us", "UTC")), "request": ["a"] * count,
        "row": range(count), "version": [version(made) if m else "digits@0123" for m in mine], "trait.brightness": [0.3] * count,
        "input.image": pa.array(whole, pa.binary()),
        "scores.label": pa.array([k or None for k in kept[0]], lists), "embedding": pa.array([k or None for k in kept[1]], lists),
    }))  # fmt: skip
    table = read_table(tmp_path / "requests-1.parquet")
    side = comparison.of_requests(tmp_path)
    assert (side.predictions["label"].values == scores["label"][:40].argmax(1)).all()
    assert (
        np.allclose(side.features, features[:40], atol=1e-5)
        and len(side.inputs["brightness"].values) == count
    )
    with speaking("en"):
        (again, lost) = page.remarks({"told": comparison.told, "rows": count, "seen": None})
    assert "20 rows" in again and "asked again" in again and "20 rows" in lost and "not compared" in lost
    write_table(tmp_path / "requests-1.parquet", table.slice(40))
    assert {t["group"] for t in jichu.drift(made, tmp_path)["tests"]} == {"inputs"}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_windows_are_as_long_as_there_are_rows():
    hour = np.datetime64("2026-01-01T00", "us") + np.arange(400) * np.timedelta64(15, "m")
    pair = Pair("x", "predictions", number(rng(1).normal(size=300)), number(rng(2).normal(size=400)))
    found = compare(Sides([pair], times=hour))["windows"]
    assert [w["rows"] for w in found] == [96] * 4 + [16] and found[1]["from"] == "2026-01-02T00"


def test_the_page_on_drift_runs(in_folder):
    (code,) = blocks("docs/drift.md", "python")
    exec(compile(code, "drift.md", "exec"), {})


def test_the_benchmark_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("benchmark_of_drift", ROOT / "benchmarks" / "drift.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = module.main(["--sets", "mnist", "--tiny"])
    assert {row["case"] for row in rows} == {"nothing", "darker", "missing class"}


def test_the_command_its_page_and_exit_code(made, tmp_path, capsys):
    _, test, _ = images(made)
    for i, image in enumerate(test[:40, 0].numpy()):
        (tmp_path / "bad").mkdir(exist_ok=True)
        Image.fromarray(image // 2 + 100).save(tmp_path / "bad" / f"<b>{i}.png")
    (tmp_path / "bad" / "broken.png").write_bytes(b"no image")
    code = main(
        [
            "drift",
            str(made.path),
            str(tmp_path / "bad"),
            "--json",
            "--output",
            str(tmp_path),
            "--language",
            "zh",
        ]
    )
    found = json.loads(capsys.readouterr().out)
    assert code == 4 and found["alarm"] and found["told"]["unreadable"] == 1
    text = (tmp_path / "drift.html").read_text()
    assert (
        'lang="zh-Hans"' in text
        and "警报" in text
        and "<script" not in text
        and not re.search(r'(src|href)="http', text)
    )
    assert json.loads((tmp_path / "drift.json").read_text())["alarms"] == found["alarms"]
    with speaking("en"):
        assert page.verdict(found).startswith("Alarm: ")


def test_what_is_asked_wrongly(made, tmp_path, capsys):
    assert main(["drift", str(made.path), str(tmp_path), "--alpha", "2"]) == 2
    assert main(["drift", str(made.path), str(tmp_path / "nowhere")]) == 3
    assert main(["drift", str(tmp_path), str(tmp_path)]) == 2
    with pytest.raises(UsageError, match="reference"):
        jichu.drift(made, [], reference="dev")
    assert "did you mean" not in capsys.readouterr().out


def test_other_data_in_the_place_of_the_runs_own_are_no_reference(made, monkeypatch, tmp_path):
    data, test, _ = images(made)
    assert made.folder.made_of(data.fingerprint)
    asked = arrays(test[:30])
    monkeypatch.setattr(data, "fingerprint", "of other data")
    with pytest.raises(DataError, match="data have changed"):
        jichu.drift(made, asked, output=tmp_path)
    assert not jichu.drift(made, asked, output=tmp_path, data=data)["alarm"]

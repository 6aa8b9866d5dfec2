"""Series in time: put in order, seen through windows, forecast, measured."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from transformers import PatchTSTModel

import jichu
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.core.files import read_json
from jichu.data.inspection import inspect
from jichu.data.target import Target
from jichu.data.windows import SeriesInputs, Windows, statistics
from jichu.metrics.forecasting import scaled_mae, scaled_mse
from jichu.metrics.intervals import mean_interval
from jichu.models.backbone import Features
from jichu.models.classical.forecasting import LinearForecast, SeasonalNaive
from jichu.models.forecasting import Forecast, restored
from jichu.models.inputs import Inputs
from jichu.models.model import Model
from jichu.models.patchtst import PatchTST
from jichu.models.recurrent import Lstm
from jichu.models.series import LEVEL, Series, filled
from jichu.models.window import Window
from jichu.objectives.base import Context
from jichu.objectives.forecast import Forecast as ForecastObjective
from jichu.objectives.masked_series import MaskedSeries

OF = SeriesInputs(("a", "b"), 24, (1,))


def table(folder, rows, name="s.csv", header="date,a,b"):
    (folder / name).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return folder / name


def hours(count, start=0):
    return [
        str(np.datetime64("2030-01-01T00:00:00") + np.timedelta64(start + i, "h")).replace("T", " ")
        for i in range(count)
    ]


def waves(count, period=6):
    rng = np.random.default_rng(0)
    steps = np.arange(count)
    return [(10 + np.sin(2 * np.pi * steps / period) + 0.05 * rng.standard_normal(count)).round(4),
            (0.01 * steps + np.cos(2 * np.pi * steps / period)).round(4)]  # fmt: skip


@pytest.fixture
def hourly(in_folder):
    """300 hours of two waves with a period of 6."""
    return table(in_folder, zip(hours(300), *waves(300), strict=True))


@pytest.fixture
def windows():
    values = torch.from_numpy(np.stack(waves(200), 1)).float()
    series, label = Windows(values, torch.arange(40), 24), Windows(values[:, 1:], torch.arange(40) + 24, 4)
    rows = torch.arange(12)
    return {"series": series[rows], "label": label[rows], "row": rows}


def network(backbone, pictured=False, head=True, targets=OF):
    inputs = Series(targets, pictured, getattr(backbone, "levelled", True))
    heads = {"label": Forecast(backbone.width, 4, targets, backbone)} if head else {}
    return Model(backbone, heads, Inputs(series=inputs))


# ------------------------------------------------------------------- rows and windows


def test_windows_are_what_stands_there(hourly):
    found = jichu.load(hourly, series={"context": 24, "horizon": 6}, split={"test": 0.2, "validation": 0.1})
    assert found.kind == "series" and found.series == SeriesInputs(("a", "b"), 24, (0, 1))
    assert {name: len(rows) for name, rows in found.splits.items()} == {
        "train": 181,
        "validation": 25,
        "test": 55,
    }
    values = np.stack(waves(300), 1).astype(np.float32)
    for split, first in (("train", 24), ("validation", 210), ("test", 240)):
        for place in (0, len(found.splits[split]) - 1):
            row = int(found.splits[split][place])
            origin = first + place
            assert np.allclose(
                found.tensors["series"][[row]][0],
                values[origin - 24 : origin],
            )
            assert np.allclose(found.tensors["label"][[row]][0], values[origin : origin + 6])
            assert found.names[row] == hours(300)[origin]
    (target,) = found.about_targets(found.splits["train"]).values()
    (of_few,) = found.about_targets(found.splits["train"][-3:]).values()  # what few windows are learnt from
    assert (of_few.rows, of_few.stds) == (3, target.stds)
    assert target.outputs == 12
    assert target.means == pytest.approx(values[24:210].mean(0), rel=1e-4)
    told = inspect(found)
    assert told["near_duplicates"]["pairs"] == 0


def test_the_order_of_rows_does_not_count_and_doubles_are_told(hourly, in_folder):
    straight = jichu.load(hourly, series={"context": 24, "horizon": 6})
    lines = hourly.read_text().splitlines()
    rng = np.random.default_rng(1)
    mixed = [lines[1:][i] for i in rng.permutation(300)]
    twice = f"{hours(300)[7]},99,99"
    (in_folder / "m.csv").write_text("\n".join([lines[0], *mixed, twice]) + "\n")
    found = jichu.load(in_folder / "m.csv", series={"context": 24, "horizon": 6})
    rows = torch.arange(len(found))
    assert torch.equal(found.tensors["series"][rows], straight.tensors["series"][rows])
    (fault,) = found.quarantine
    assert "the same time as" in fault["reason"] and fault["record"].endswith(":301")


def test_gaps_are_missing_steps(hourly, in_folder, capsys):
    lines = hourly.read_text().splitlines()
    kept = [line for i, line in enumerate(lines) if i not in (51, 52, 200)]
    (in_folder / "g.csv").write_text("\n".join(kept) + "\n")
    found = jichu.load(in_folder / "g.csv", series={"context": 24, "horizon": 6})
    assert len(found) == len(jichu.load(hourly, series={"context": 24, "horizon": 6}))
    missing = found.tensors["series"].values.isnan().any(1).nonzero()[:, 0].tolist()
    assert missing == [50, 51, 199]
    assert "3 steps without a row" in capsys.readouterr().err
    by_rows = jichu.load(in_folder / "g.csv", series={"context": 24, "horizon": 6, "every": "rows"})
    assert not by_rows.tensors["series"].values.isnan().any()


def test_splits_of_the_source_are_not_taken_silently(hourly, in_folder, capsys):
    lines = hourly.read_text().splitlines()
    (in_folder / "d").mkdir()
    (in_folder / "d" / "train.csv").write_text("\n".join(lines[:200]))
    (in_folder / "d" / "test.csv").write_text("\n".join([lines[0], *lines[200:]]))
    found = jichu.load(in_folder / "d", series={"context": 24, "horizon": 6})
    assert len(found) == len(jichu.load(hourly, series={"context": 24, "horizon": 6}))
    assert "split by time" in capsys.readouterr().err


def test_working_days_are_steps(in_folder, capsys):
    days = np.arange("2030-01-01", "2031-01-01", dtype="datetime64[D]")
    days = days[np.is_busday(days)]
    file = table(in_folder, [(d, i) for i, d in enumerate(days)], header="date,price")
    found = jichu.load(file, series={"context": 5, "horizon": 2})
    assert not found.tensors["series"].values.isnan().any()
    assert "uneven" in capsys.readouterr().err


def test_series_are_kept_apart(in_folder):
    rows = [(d, name, i if name == "x" else -i) for name in "xy" for i, d in enumerate(hours(60))]
    file = table(in_folder, rows, header="date,shop,sales")
    found = jichu.load(file, series={"by": "shop", "context": 10, "horizon": 5}, split={"test": 0.25})
    every = found.tensors["series"][torch.arange(len(found))]
    signs = torch.cat([every, found.tensors["label"][torch.arange(len(found))]], 1).sign()
    assert all(len(row.unique()[row.unique() != 0]) == 1 for row in signs)
    assert found.names[0].startswith("x 2030") and {n[0] for n in found.names} == {"x", "y"}
    assert len(found.splits["test"]) == 2 * 11


@pytest.mark.parametrize(("rows", "header", "key", "told"), [
    ([(d, i) for i, d in enumerate(hours(20))], "date,a", {"context": 30, "horizon": 5}, "no window of 30"),
    ([(d, "w" * (1 + i % 2)) for i, d in enumerate(hours(40))], "date,a", {"context": 4, "horizon": 2}, "no column of numbers"),
    ([(d if i else "", i) for i, d in enumerate(hours(40))], "date,a", {"context": 4, "horizon": 2}, "have no date"),
    ([(d, i) for i, d in enumerate(hours(40))], "date,a", {"time": "day"}, "day"),
    ([(d, i, "xyz"[i % 3]) for i, d in enumerate(hours(40))], "date,a,b", {"time": "b"}, "expected: dates"),
])  # fmt: skip
def test_what_is_no_series(in_folder, rows, header, key, told):
    file = table(in_folder, rows, header=header)
    with pytest.raises((DataError, UsageError), match=told):
        jichu.load(file, series=key)


@pytest.mark.parametrize(("target", "told"), [("c", "unknown column"), ("date", "of kind timestamp")])
def test_what_cannot_be_forecast(hourly, target, told):
    with pytest.raises(UsageError, match=told):
        jichu.load(hourly, series={"context": 4, "horizon": 2}, target=target)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 3))
@settings(deadline=None)
def test_covered_steps_are_those_in_a_window(count, steps, gaps):
    values = torch.arange(60.0)[:, None]
    starts = torch.arange(count) * (1 + gaps)
    starts = starts[starts + steps <= 60]
    found = Windows(values, starts, steps)
    rows = torch.arange(len(starts))[::2]
    expected = found[rows].unique()
    assert torch.equal(found.covered(rows).flatten(), expected)
    assert found.shape == (len(starts), steps, 1) and found.known(rows).all()
    assert not Windows(values * math.nan, starts, steps).known(rows).any()


# ------------------------------------------------------------------- what models do to windows


def test_gaps_take_the_last_value():
    n = math.nan
    x = torch.tensor([[n, 1, n, n, 2, n], [n] * 6]).t()[None]
    assert filled(x)[0, :, 0].tolist() == [1, 1, 1, 1, 2, 2] and not filled(x)[0, :, 1].any()


def test_levels_come_back(windows):
    inputs = Series(OF, False, True)
    inputs.estimate(Windows(windows["series"].flatten(0, 1), torch.arange(12) * 24, 24), torch.arange(12))
    found = inputs(windows["series"])
    assert (
        found["series"].mean(1).abs().max() < 1e-4
        and (found["series"].std(1, correction=0) - 1).abs().max() < 0.01
    )
    again = restored(found["series"][..., 1:], found[LEVEL])
    assert torch.allclose(again, inputs.standardised(windows["series"])[..., 1:], atol=1e-4)
    mean, std = statistics(windows["series"].flatten(0, 1))
    assert torch.allclose(inputs.mean, mean.float()) and torch.allclose(inputs.std, std.float())


@pytest.mark.parametrize(("backbone", "pictured"), [
    (lambda: PatchTST(24, 2, width=8, depth=1, heads=2, patch=6), False),
    (lambda: Lstm(1, 2, hidden=8), True),
])  # fmt: skip
def test_a_shift_of_all_values_shifts_the_forecast(windows, backbone, pictured):
    model = network(backbone(), pictured).eval()
    told = model(windows)["label"]
    assert told.shape == (12, 4, 1)
    moved = model({**windows, "series": 3 * windows["series"] + 7})["label"]
    assert torch.allclose(moved, 3 * told + 7, atol=1e-2)


def test_patchtst_is_that_of_transformers(windows, tmp_path):
    ours = PatchTST(24, 2, width=8, depth=2, heads=2, patch=6).eval()
    jichu.check_backbone(lambda: PatchTST(24, 2, width=8, depth=1, heads=2, patch=6), windows)
    ours.module.save_pretrained(tmp_path)
    theirs = PatchTSTModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        found = ours(windows)
        assert torch.equal(theirs(windows["series"]).last_hidden_state.flatten(2), found.columns)
    # each column by itself
    other = {**windows, "series": windows["series"] * torch.tensor([1.0, 2.0])}
    with torch.no_grad():
        assert torch.equal(ours(other).columns[:, 0], found.columns[:, 0])
    with pytest.raises(UsageError, match="patches of 30"):
        PatchTST(24, 2, patch=30)


# ------------------------------------------------------------------- heads that are estimated


def test_the_season_is_found(windows):
    features = Window(24, 2)(windows).pooled
    head = SeasonalNaive(4, OF)
    head.estimate(features, windows["label"], features)
    assert int(head.period) in (6, 12, 18, 24)
    told = head(Features(features))
    assert torch.equal(told[:, :, 0], windows["series"][:, 24 - int(head.period) :, 1][:, :4])
    naive = SeasonalNaive(4, OF, period=1)
    naive.estimate(features, windows["label"], features)
    assert torch.equal(naive(Features(features)), windows["series"][:, -1:, 1:].expand(-1, 4, -1))
    with pytest.raises(UsageError, match="period of 30"):
        SeasonalNaive(4, OF, period=30)


def test_the_linear_forecast_is_ridge():
    both = SeriesInputs(("a", "b"), 5, (0, 1))
    x, y = torch.randn(200, 5, 2), torch.randn(200, 3, 2)
    head = LinearForecast(3, both, alpha=0.5)
    head.estimate(x.flatten(1), y, x.flatten(1))
    flat, out = ((v - x[:, -1:]).transpose(1, 2).flatten(0, 1).double().numpy() for v in (x, y))
    # scikit-learn's penalty is the same for centred rows, and here the constant is hardly penalised
    penalty = 0.5 * (np.c_[flat].T @ flat).diagonal().mean() / 5
    design = np.c_[flat, np.ones(len(flat))]
    theirs = np.linalg.solve(design.T @ design + np.diag([penalty] * 5 + [1e-9]), design.T @ out)
    assert np.allclose(head.weight.T, theirs[:-1], atol=1e-4) and np.allclose(
        head.bias, theirs[-1], atol=1e-4
    )
    ridge = Ridge(alpha=penalty).fit(flat, out)
    assert np.allclose(head.weight, ridge.coef_, atol=1e-2)
    told = head(Features(x.flatten(1)))
    assert np.allclose(
        told[:, :, 1].numpy(), flat[1::2] @ theirs[:-1] + theirs[-1] + x[:, -1:, 1].numpy(), atol=1e-4
    )


def test_a_linear_forecast_goes_on_with_a_line():
    one = SeriesInputs(("a",), 8, (0,))
    x = torch.arange(8.0)[None, :, None] * torch.rand(50, 1, 1) + torch.randn(50, 1, 1)
    y = x[:, -1:] + (x[:, -1:] - x[:, -2:-1]) * torch.arange(1, 4)[None, :, None]
    head = LinearForecast(3, one, alpha=1e-6)
    head.estimate(x.flatten(1), y, x.flatten(1))
    assert torch.allclose(head(Features(x.flatten(1))), y, atol=1e-3)


# ------------------------------------------------------------------- objectives, metrics


def test_objectives_keep_their_contract(windows):
    target = {"label": Target("b", "forecast", series=("b",), steps=4, means=(1.0,), stds=(2.0,))}
    for loss in ("mse", "mae", "huber"):
        jichu.check_objective(
            ForecastObjective(loss=loss, targets=target), network(Lstm(1, 2, hidden=8), True), windows
        )
    jichu.check_objective(
        ForecastObjective(targets=target), network(PatchTST(24, 2, 8, 1, 2, patch=6, dropout=0.0)), windows
    )
    jichu.check_objective(
        MaskedSeries(), network(Lstm(1, 2, hidden=8, bidirectional=True), True, head=False), windows
    )


def test_what_is_missing_has_no_weight(windows):
    objective, model = ForecastObjective(), network(Lstm(1, 2, hidden=8), True).eval()
    label = windows["label"].clone()
    label[0], label[1, 2] = math.nan, math.nan
    batch = {**windows, "label": label}
    outputs = objective.forward(model, batch)
    assert objective.weights(batch)["loss"].tolist()[:2] == [0, 1]
    losses = objective.losses(outputs, batch).detach()
    error = (outputs["label"][1] - windows["label"][1]).detach().square()[:, 0]
    assert losses.isfinite().all() and losses[1] == pytest.approx(float(error[[0, 1, 3]].mean()), rel=1e-5)


def test_what_is_hidden_is_not_seen(windows):
    model = network(Lstm(1, 2, hidden=8), True, head=False).eval()
    objective = MaskedSeries(share=0.4, span=4)
    objective.bind(model, windows)
    prepared = objective.prepare(windows, Context(0))
    assert 0.2 < prepared["hidden"].float().mean() < 0.6
    assert prepared["series"].isnan().equal(prepared["hidden"])
    outputs = objective(model, prepared)
    other = {**prepared, "truth": torch.where(prepared["hidden"], prepared["truth"], 99.0)}
    assert torch.equal(objective.losses(outputs, prepared), objective.losses(outputs, other))
    with pytest.raises(UsageError, match="a network of series"):
        objective.bind(network(Window(24, 2), head=False), windows)


def test_metrics_by_hand():
    truth = np.array([[1.0, 2.0], [math.nan, 0.0], [5.0, math.nan]])
    told = np.array([[2.0, 4.0], [9.0, 1.0], [5.0, 0.0]])
    assert scaled_mse(truth, told) == pytest.approx((2.5 + 1 + 0) / 3)
    assert scaled_mae(truth, told) == pytest.approx((1.5 + 1 + 0) / 3)


def test_blocks_widen_the_interval_of_what_overlaps():
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.standard_normal(40), 25)[None]
    one, block = mean_interval(alike), mean_interval(alike, block=25)
    wide = alike.std() / math.sqrt(40) * 3.92
    assert block.high - block.low == pytest.approx(wide, rel=0.15)
    assert one.high - one.low < 0.35 * (block.high - block.low)


# ------------------------------------------------------------------- whole runs


RECIPE = """
name: w
data: {{path: {path}, series: {{context: 24, horizon: 6}}, target: {target}, split: {{validation: 0.15, test: 0.2}}}}
stages:
  - {{stage: inspect}}
  - {{stage: finetune, name: naive, head: seasonal-naive}}
  - {{stage: finetune, name: linear, head: linear-forecast}}
  - {{stage: pretrain, backbone: {backbone}, budget: 4 steps, batch_size: 32}}
  - stage: finetune
    name: network
    from: pretrain
    budget: 3 epochs
    patience: 2
    batch_size: 32
    optimizer: {{name: adamw, lr: 0.003}}
  - {{stage: finetune, name: probe, from: pretrain, adapt: head, budget: 4 steps}}
  - {{stage: audit, gain: [network, naive]}}
result: network
"""


@pytest.mark.parametrize(("backbone", "target"), [
    ("{name: patchtst, width: 16, depth: 1, heads: 2, dropout: 0.0}", "[a, b]"),
    ("{name: gru, hidden: 16}", "b"), ("{name: mlp, widths: [32]}", "[b, a]"),
])  # fmt: skip
def test_from_rows_to_forecasts(hourly, in_folder, capsys, backbone, target):
    (in_folder / "r.yaml").write_text(RECIPE.format(path=hourly, backbone=backbone, target=target))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    run = jichu.open("runs/w")
    assert run.headline["linear"]["value"] < 0.1 and run.headline["naive"]["value"] < 1.5
    columns = target.strip("[]").split(", ")
    found = pq.read_table(in_folder / "runs/w/predictions.parquet")
    values = dict(zip("ab", waves(300), strict=True))
    first = found.slice(0, 1).to_pylist()[0]
    origin = hours(300).index(first["record"])
    expected = np.stack([values[c][origin : origin + 6] for c in columns], 1).ravel()
    assert np.allclose(first["truth"], expected, atol=1e-4)
    capsys.readouterr()
    assert main(["predict", "runs/w", str(hourly), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["input"] == hours(300)[-1] and all(len(told[c]) == 6 for c in columns)
    last = [{"date": d, "a": a, "b": b} for d, a, b in zip(hours(300), *waves(300), strict=True)]
    assert run.predict(last)[0][columns[0]] == pytest.approx(told[columns[0]], rel=1e-4)
    assert run.predict(last[-30:])[0][columns[0]] == pytest.approx(told[columns[0]], rel=1e-4)
    assert main(["predict", "runs/w", str(hourly)]) == 0
    assert "Some forecasts" in (in_folder / "runs/w/report.html").read_text()
    assert main(["audit", "runs/w", "--quiet"]) == 0
    assert main(["embed", "runs/w", "--quiet"]) == 0
    config = read_json(in_folder / "runs/w/model/config.json")
    assert config["series"]["steps"] == 24
    with pytest.raises(DataError, match="'b' is missing"):
        run.predict([{"date": d, "a": 1.0} for d in hours(30)])


def test_few_rows_are_filled_up(hourly, in_folder):
    (in_folder / "r.yaml").write_text(
        RECIPE.format(path=hourly, backbone="{name: mlp, widths: [8]}", target="a")
    )
    assert main(["run", "r.yaml", "--quiet"]) == 0
    (told,) = jichu.open("runs/w").predict([{"date": d, "a": 1.0, "b": 2.0} for d in hours(3)])
    assert np.isfinite(told["a"]).all()


def test_a_resumed_run_ends_alike(hourly, in_folder):
    text = RECIPE.format(path=hourly, backbone="{name: gru, hidden: 8}", target="a")
    (in_folder / "r.yaml").write_text(text)
    assert main(["run", "r.yaml", "--quiet", "--name", "one"]) == 0
    assert main(["run", "r.yaml", "--quiet", "--name", "two"]) == 0
    one, two = (jichu.open(f"runs/{name}").model.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize(("change", "told"), [
    ("stages.3.objective=vicreg", "learns from images"),
    ("stages.4.objective=regression", "forecast"),
    ("stages.1.head=ridge", "does no forecast"),
    ("stages.3.backbone=bert-mini", "these are series data"),
    ("stages.6.metrics=[accuracy]", "not for forecast"),
    ("data.series.horizon=0", "horizon"),
    ("data.labels_per_class=3", "no classes"),
    ("data.series.contxt=3", "context"),
])  # fmt: skip
def test_bad_recipes(hourly, in_folder, capsys, change, told):
    (in_folder / "r.yaml").write_text(
        RECIPE.format(path=hourly, backbone="{name: gru, hidden: 8}", target="a")
    )
    assert main(["run", "r.yaml", "--quiet", "--set", change]) == 2
    assert told in capsys.readouterr().err


def test_a_head_of_windows_needs_windows(digits, in_folder, capsys):
    (in_folder / "r.yaml").write_text(
        "name: d\ndata: {path: 'sklearn:digits'}\nstages: [{stage: finetune, head: seasonal-naive}]"
    )
    assert main(["run", "r.yaml", "--quiet"]) == 2
    assert "does no classification" in capsys.readouterr().err


def test_a_constant_series(in_folder, capsys):
    file = table(in_folder, [(d, 5, 5) for d in hours(100)])
    (in_folder / "r.yaml").write_text(RECIPE.format(path=file, backbone="{name: gru, hidden: 8}", target="a"))
    assert main(["run", "r.yaml", "--quiet"]) == 3
    assert "in every labelled training row" in capsys.readouterr().err


def test_init_writes_a_recipe_that_runs(hourly, in_folder):
    assert (
        main(["init", str(hourly), "-o", "made.yaml", "--set", "data.series={context: 24, horizon: 6}"]) == 0
    )
    assert main(["run", "made.yaml", "--quiet", "--set", "stages.3.budget=2 steps"]) == 0

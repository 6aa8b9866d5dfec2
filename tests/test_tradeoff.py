"""Targets, timing, and the search for a smaller model: that it ends with what was asked for, and goes on where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jichu
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.core.words import speaking
from jichu.metrics.intervals import Interval
from jichu.ship import measured as timing
from jichu.ship import tradeoff
from jichu.ship.goal import goal
from jichu.ship.measured import Inputs, Measured, measure
from jichu.ship.scores import Compared
from jichu.ship.tradeoff import Candidate, Plan, chosen, groups, nearest
from jichu.ship.tradeoff_page import remarks

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def run(*words, code=0):
    assert main([str(word) for word in words]) == code


# --- targets


@pytest.mark.parametrize(
    ("text", "kind", "bound"),
    [("size=0.25", "size", 0.25), ("size = .5", "size", 0.5), ("speed=2", "speed", 2), ("latency=5ms", "latency", 5),
     ("latency=0.5s", "latency", 500), ("latency=250us", "latency", 0.25)],
)  # fmt: skip
def test_targets_are_read(text, kind, bound):
    assert (goal(text).kind, goal(text).bound) == (kind, pytest.approx(bound))


@pytest.mark.parametrize(
    ("text", "said"),
    [("size=0", "between 0 and 1"), ("size=2", "between 0 and 1"), ("size=0.2ms", "between 0 and 1"),
     ("size=nan", "between 0 and 1"), ("speed=0.5", "over 1"), ("speed=-2", "over 1"), ("speed=1e999", "over 1"),
     ("latency=5", "with its unit"), ("latency=5parsecs", "with its unit"), ("latency=0ms", "with its unit"),
     ("size=0.5,speed=2", "between 0 and 1"), ("sise=0.5", "did you mean: size"), ("size", "one of size=0.25"),
     ("", "one of size=0.25")],
)  # fmt: skip
def test_other_targets_are_refused(text, said):
    with pytest.raises(UsageError, match=rf"(?s)--target.*{said}|{said}.*--target"):
        goal(text)


def told(size=1.0, speed=1.0, ms=1.0):
    about = Interval(speed, speed, speed)
    return Measured(int(1000 * size), size, Interval(ms, ms, ms), ms, about, about, about, 32, 1, 9)


def lost(points, low=None):
    same = Interval(0.9, 0.9, 0.9)
    return Compared(
        "accuracy", 100, same, same, Interval(points, points if low is None else low, points), 0.0
    )


def test_goals_are_met_by_what_was_measured():
    assert goal("size=0.25").met(told(size=0.25)) and not goal("size=0.25").met(told(size=0.26))
    assert goal("speed=2").met(told(speed=2)) and goal("speed=2").share(told(speed=1)) == 0.5
    assert goal("latency=5ms").met(told(ms=5)) and goal("latency=5ms").share(told(ms=10)) == 0.5


def test_the_candidate_that_loses_least_is_chosen_and_the_nearest_is_told():
    found = [
        Candidate("float32", told(), lost(0)), Candidate("dear", told(0.2, 3), lost(2)),
        Candidate("slow", told(0.2, 1), lost(0.3, low=-0.1)), Candidate("fast", told(0.24, 2), lost(0.4, low=-0.2)),
        Candidate("never", refused="no such layer"),
    ]  # fmt: skip
    aim = goal("size=0.25")
    assert chosen(found, aim, 1).name == "fast"  # both lose nothing that is sure
    assert chosen(found, aim, 5).name == "fast" and chosen(found[:2], aim, 1) is None
    assert nearest(found, goal("size=0.1"), 1).name == "slow" and nearest(found[:2], aim, 1).name == "float32"
    assert [Candidate.of(json.loads(json.dumps(c.plain()))) for c in found] == found


def test_plans_come_from_cheap_to_dear_and_have_names_of_their_own():
    every = [plan for group in groups() for plan in group]
    assert len({plan.name for plan in every}) == len(every) and every[0] == Plan()
    assert not any(plan.steps for plan in next(groups()))
    assert Plan(({"name": "structured", "amount": 0.5},), "int8-static").name == "structured-0.5+int8-static"
    assert tradeoff.bits_of("structured-0.5+int8-static") == "int8-static"
    assert tradeoff.bits_of("structured-0.5") == tradeoff.bits_of("float32") == "float32"


def test_what_makes_nothing_faster_is_said_to_be_so():
    def at(low, value, high):
        made = told(speed=value)
        return Measured(**{**vars(made), "throughput_ratio": Interval(value, low, high)})

    found = [
        Candidate("float32", at(1, 1, 1), lost(0)), Candidate("slower", at(0.6, 0.7, 0.8), lost(0)),
        Candidate("same", at(0.9, 1.01, 1.1), lost(0)), Candidate("faster", at(1.1, 1.2, 1.3), lost(0)),
        Candidate("cut", refused="no channels"),
    ]  # fmt: skip
    with speaking("en"):
        assert remarks(found) == [
            "slower is 0.70× as fast as float32 here",
            "same is no faster than float32 here",
            "cut could not be: no channels",
        ]
    with speaking("zh"):
        assert "0.70" in remarks(found)[0] and "slower is" not in remarks(found)[0]


# --- timing


def test_graphs_are_timed_in_turns(monkeypatch, tmp_path):
    """With a clock of our own: what each call takes is known, and slow rounds hit both."""
    now, calls = [0.0], []
    takes = {"a": 0.010, "b": 0.005}
    rounds = iter([1, 1, 5, 1, 1] * 2)

    def ask(graph, given):
        if graph == "a" and not (calls and calls[-1] == "a"):
            slow[0] = next(rounds)
        calls.append(graph)
        now[0] += takes[graph] * slow[0] * (4 if "many" in given else 1)

    slow = [1]
    monkeypatch.setattr(timing, "ask", ask)
    monkeypatch.setattr(timing, "session", lambda path, threads: path.name)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"x" * 25)
    inputs = Inputs([{"one": np.zeros(1)}], {"many": np.zeros(32)})
    a, b = measure([tmp_path / "a", tmp_path / "b"], inputs, threads=1, rounds=5)
    turns = [name for i, name in enumerate(calls) if not i or calls[i - 1] != name]
    assert turns == ["a", "b"] * 5
    assert (b.size_bytes, b.size_ratio, b.batch_size) == (25, 0.25, 32)
    assert a.latency_ms.value == pytest.approx(10) and b.latency_ms.value == pytest.approx(5)
    assert b.latency_ratio == pytest.approx((2, 2, 2)) and b.throughput_ratio == pytest.approx((2, 2, 2))
    assert b.rows_per_second.value == pytest.approx(32 / 0.02)
    assert a.latency_ms.low == pytest.approx(10) and a.latency_p90_ms >= a.latency_ms.value - 1e-9


# --- the search


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run("finetune", "sklearn:digits", "--backbone", "cnn", "--budget", "150 steps", "--name", "digits", "--quiet",
            "--set", "data.split.validation=0.2")  # fmt: skip
        run("finetune", "sklearn:digits", "--backbone", "pixels", "--head", "logistic-regression", "--name", "linear",
            "--quiet")  # fmt: skip
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setattr(timing, "_LEAST", 1)
    monkeypatch.setattr(timing, "_SECONDS", 0.005)
    return tmp_path / "place"


QUICK = {"rounds": 3, "threads": 1, "allow_loss": 3}


def test_a_target_is_met_by_fewer_bits_alone(place, capsys):
    found = jichu.compress("runs/digits", target="size=0.4", **QUICK)
    whole = Path("runs/digits/compress/candidates/float32.onnx")
    assert found.met and found.path == Path("runs/digits/compress/model.onnx")
    assert found.path.stat().st_size <= 0.4 * whole.stat().st_size
    assert {c.name for c in found.candidates} == {plan.name for plan in next(groups())}  # nothing was trained
    assert found.chosen_on == "validation" and found.final.rows == 359 and found.final.lost.value <= 3
    digit = next(Path("runs/digits/examples").glob("*.png"))
    assert (
        jichu.open(str(found.path)).predict(digit)[0]["label"]
        == jichu.open("runs/digits").predict(digit)[0]["label"]
    )
    kept = json.loads(Path("runs/digits/compress/compression.json").read_text())
    assert kept["met"] and kept["best"] == found.best.name and len(kept["candidates"]) == 5
    page = Path("runs/digits/compress/compression.html").read_text()
    assert (
        "<svg" in page
        and found.best.name in page
        and "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    )
    capsys.readouterr()


def test_less_of_the_network_is_tried_where_bits_do_not_do(place, monkeypatch, capsys):
    cuts = ({"name": "structured", "amount": 0.5}, {"name": "low-rank", "amount": 0.5})
    monkeypatch.setattr(tradeoff, "CUTS", cuts)
    monkeypatch.setattr(tradeoff, "BITS", ("int8-dynamic",))
    run("compress", "runs/digits", "--target", "size=0.15", "--allow-loss", "20", "--budget", "30 steps", "--threads", 1,
        "--json", "--quiet")  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["met"] and told["best"] == "structured-0.5+int8-dynamic"
    whole = Path("runs/digits/compress/candidates/float32.onnx").stat().st_size
    assert Path(told["path"]).stat().st_size <= 0.15 * whole
    changed = next(c for c in told["candidates"] if c["name"] == "structured-0.5")
    digit = next(Path("runs/digits/examples").glob("*.png"))
    assert (
        jichu.open(changed["run"]).predict(digit)[0]["label"] in "0123456789"
    )  # the torch model is there too
    assert Path(told["page"]).exists()


def test_a_target_that_is_not_met_ends_with_4_and_the_curve_is_kept(place, monkeypatch, capsys):
    monkeypatch.setattr(tradeoff, "CUTS", ())
    run("compress", "runs/digits", "--target", "size=0.01", "--threads", 1, "--quiet", code=4)
    out, err = capsys.readouterr()
    assert "size=0.01 is not met" in err and "float32" in out
    kept = json.loads(Path("runs/digits/compress/compression.json").read_text())
    assert not kept["met"] and len(kept["candidates"]) == 5 and kept["final"] is None
    assert Path("runs/digits/compress/compression.html").exists()
    assert not Path("runs/digits/compress/model.onnx").exists()
    before = {p: p.stat().st_mtime_ns for p in Path("runs/digits/compress/candidates").iterdir()}
    run(
        "compress", "runs/digits", "--target", "size=0.5", "--threads", 1, "--quiet"
    )  # of what is known already
    assert before == {p: p.stat().st_mtime_ns for p in Path("runs/digits/compress/candidates").iterdir()}
    run("compress", "runs/digits", "--target", "size=0.5", "--threads", 2, "--quiet", code=2)
    assert "measured with threads 1" in capsys.readouterr().err
    state = Path("runs/digits/compress/compression.json")
    state.write_text(state.read_text().replace('"measured"', '"measure"'))
    run("compress", "runs/digits", "--target", "size=0.5", "--threads", 1, "--quiet", code=3)
    assert "damaged" in capsys.readouterr().err


def test_steps_that_do_not_suit_a_network_are_told_and_passed_over(place, monkeypatch):
    """Of a model that is estimated in one go nothing can be cut out."""
    monkeypatch.setattr(tradeoff, "CUTS", ({"name": "structured", "amount": 0.5},))
    monkeypatch.setattr(tradeoff, "BITS", ("int8-weights",))
    found = jichu.compress("runs/linear", target="size=0.01", **QUICK)
    assert not found.met and found.chosen_on == "test"
    assert [bool(c.refused) for c in found.candidates] == [False, False, True, True]


KILLED = """
import sys, jichu
from jichu.ship import measured, tradeoff
measured._LEAST, measured._SECONDS = 1, 0.005
tradeoff.CUTS = ({"name": "structured", "amount": 0.5},)
jichu.compress("runs/digits", target="size=0.001", budget="200 steps", rounds=3, threads=1)
"""


def test_a_search_that_was_killed_goes_on(place, monkeypatch):
    """While a candidate is trained: what was measured stays as it is, and the training goes on from its checkpoint."""
    going = subprocess.Popen([sys.executable, "-c", KILLED], stderr=subprocess.DEVNULL)
    state = Path("runs/digits/compress/compression.json")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not Path("runs/digits/compress/runs/structured-0.5").exists():
        time.sleep(0.05)
    os.kill(going.pid, signal.SIGKILL)
    going.wait()
    before = json.loads(state.read_text())["candidates"]
    assert len(before) == 5
    monkeypatch.setattr(tradeoff, "CUTS", ({"name": "structured", "amount": 0.5},))
    found = jichu.compress("runs/digits", target="size=0.001", budget="200 steps", rounds=3, threads=1)
    after = json.loads(state.read_text())["candidates"]
    assert after[:5] == before and len(after) == 10 and not found.met
    assert [p.name for p in Path("runs/digits/compress/runs").iterdir()] == ["structured-0.5"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "size=2"], "between 0 and 1"),
        (["--target", "size=0.5", "--steps", "[structured]"], "steps and a target"),
        ([], "neither steps nor a target"),
        (["--steps", "[{name: structured, amount: 0.5}]", "--allow-loss", "1"], "--allow-loss with --steps"),
        (["--target", "size=0.5", "--allow-loss", "-1"], "0 or more"),
        (["--target", "size=0.5", "--rows", "0"], "1 at least"),
        (["--target", "size=0.5", "--threads", "0"], "1 at least"),
        (["--target", "size=0.5", "--budget", "much"], "budget"),
        (["--target", "size=0.5", "--name", "other"], "--name does nothing with --target"),
        (["--target", "size=0.5", "--set", "data.size=3"], "--set does nothing with --target"),
        (["--target", "size=0.5", "--target", "speed=1"], "over 1"),
    ],
)
def test_wrong_use_is_refused(place, words, said, capsys):
    run("compress", "runs/digits", *words, code=2)
    assert said in capsys.readouterr().err
    assert not Path("runs/digits/compress").exists()

"""Run folders listed, compared, tagged and cleaned; whatever state they are in."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jichu
from jichu.cli.main import main
from jichu.core.differences import differences
from jichu.core.errors import DataError, UsageError
from jichu.core.lock import alone, holder, interrupt
from jichu.tracking import cleaning
from jichu.tracking.curves import curves, thinned
from jichu.tracking.details import details, page
from jichu.tracking.facts import STATES, look
from jichu.tracking.runs import Runs, choose, size, tag
from run_folders import make, rows
from test_docs import blocks
from test_processes import environment

WAITS = """
import sys, time
from pathlib import Path
from jichu.core.lock import alone
try:
    with alone(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def runs(in_folder):
    make(in_folder / "runs", "good", accuracy=0.9, logged=5)
    make(in_folder / "runs", "better", accuracy=0.95, lr=0.2)
    make(in_folder / "runs", "broken-off", logged=3)
    make(in_folder / "runs", "failed", ended="the loss is not finite", age=30)
    return Runs("runs")


@pytest.fixture
def worker(runs):
    """A process that holds the lock of a run."""
    path = make(runs.path, "at-work", logged=2)
    process = subprocess.Popen([sys.executable, "-c", WAITS, path], stdout=subprocess.PIPE, env=environment())
    process.stdout.readline()
    yield path, process
    process.kill()
    process.communicate()


def states(runs):
    return {run.name: run.state for run in runs.all()}


def test_states_are_those_that_files_and_lock_tell(runs, worker):
    path, process = worker
    make(runs.path, "killed", logged=2)
    (runs.path / "killed" / "lock").write_text(json.dumps({"pid": os.getppid(), "host": os.uname().nodename}))
    assert states(runs) == {
        "good": "finished", "better": "finished", "broken-off": "interrupted", "failed": "failed", "at-work": "running",
        "killed": "interrupted",
    }  # fmt: skip
    assert holder(path).pid == process.pid
    with pytest.raises(UsageError, match="nothing works on killed"):
        interrupt(runs.path / "killed")  # whose lock names a process that has nothing to do with it
    assert interrupt(path).pid == process.pid
    assert process.wait(20) == 130 and states(runs)["at-work"] == "interrupted"


def test_a_run_that_was_begun_in_the_background_hears_another_signal(runs):
    path = make(runs.path, "behind")
    command = ["sh", "-c", 'trap "" INT; exec "$0" "$@"', sys.executable, "-c", WAITS, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        process.stdout.readline()
        assert interrupt(path).pid == process.pid
        assert process.wait(20) == -signal.SIGTERM
    assert look(path).state == "interrupted"


def test_what_a_lock_says_is_not_believed(runs, worker):
    path, process = worker
    told = json.loads((path / "lock").read_text())
    (path / "lock").write_text(json.dumps(told | {"pid": os.getpid()}))
    with pytest.raises(UsageError, match="does not hold the lock"):
        interrupt(path)
    (path / "lock").write_text(json.dumps(told | {"host": "elsewhere"}))
    assert look(path).state == "running"
    with pytest.raises(UsageError, match="on elsewhere is at work"):
        interrupt(path)
    assert process.poll() is None


def test_what_was_read_is_read_again_where_it_changed(runs):
    old = time.time() - 100
    for run in runs.path.iterdir():
        os.utime(run, (old, old))
    before = {run.name: run for run in runs.all()}
    assert {run.name: run for run in runs.all() if run is before[run.name]}.keys() == before.keys()
    tag(before["good"], ["fine"])
    after = {run.name: run for run in runs.all()}
    assert after["good"].tags == ("fine",) and after["better"] is before["better"]


def test_damaged_folders_are_told_and_no_error(runs, capsys):
    for name in ("none", "json", "link", "pipe", "list"):
        make(runs.path, name, accuracy=0.5)
    (runs.path / "none" / "recipe.yaml").unlink()
    (runs.path / "json" / "summary.json").write_text('{"stages": [')
    (runs.path / "list" / "summary.json").write_text("[" * 100_000)
    (runs.path / "link" / "summary.json").unlink()
    (runs.path / "link" / "summary.json").symlink_to("/etc/passwd")
    (runs.path / "pipe" / "summary.json").unlink()
    os.mkfifo(runs.path / "pipe" / "summary.json")
    half = make(runs.path, "half")
    (half / "metrics.jsonl").write_text(rows(2) + '{"stage": "net", "st')
    odd = make(runs.path, "odd\x1b[31m", accuracy=0.5)
    (odd / "summary.json").write_text(
        json.dumps(
            {"stages": [1, {"name": 3}], "headline": {"a": 1, "b": {"value": "x", "low": float("nan")}}}
        )
    )
    (runs.path / "no-run").mkdir()
    (runs.path / "file").write_text("")
    (runs.path / ".aside").mkdir()
    found = {run.name: run for run in runs.all()}
    assert {n for n, r in found.items() if r.state == "damaged"} == {"none", "json", "link", "pipe", "list"}
    assert found["half"].step == 2 and found["half"].latest["loss"] == 0.5
    assert found["odd\x1b[31m"].headline == {"b": {"value": None, "low": None, "high": None}}
    assert not {"no-run", "file", ".aside"} & found.keys()
    os.mkdir(os.fsencode(runs.path) + b"/no text \xff")
    (runs.path / os.fsdecode(b"no text \xff") / "recipe.yaml").write_text("name: x")
    assert main(["runs", "--json"]) == 0 and "no text ?" in capsys.readouterr().out
    assert main(["runs"]) == 0
    said = capsys.readouterr().out
    assert "no text \ufffd" in said
    assert "recipe.yaml: missing" in said and "\x1b" not in said and "summary.json: damaged: a link" in said
    for run in found.values():
        details(run)
    with pytest.raises(UsageError):
        Runs("nowhere").all()


def test_the_list_is_sorted_and_chosen(runs, capsys):
    tag(runs.find("good"), ["fine", "paper/1"])

    def listed(*arguments):
        assert main(["runs", "--json", *arguments]) == 0
        return [run["name"] for run in json.loads(capsys.readouterr().out)]

    assert listed("--sort", "name") == ["better", "broken-off", "failed", "good"]
    assert listed("--sort", "accuracy")[:2] == ["better", "good"]
    assert listed("--sort", "accuracy", "--reverse")[:2] == ["good", "better"]
    assert listed("--sort", "accuracy", "--state", "failed") == ["failed"]
    assert listed()[-1] == "failed"  # the oldest
    assert listed("--tag", "fine") == ["good"] and listed("--state", "failed") == ["failed"]
    assert listed("--search", "GO fin") == ["good"] and listed("--search", "nothing") == []
    assert main(["runs", "list", "--most", "1"]) == 0
    assert "3 more are not shown" in capsys.readouterr().out
    assert main(["runs", "--sort", "acuracy"]) == 2
    assert "did you mean: accuracy" in capsys.readouterr().err
    for asked, found in (
        (("accuracy > 0.9", "state=finished"), ["better"]), (("tag=fine or accuracy=0.95",), ["better", "good"]),
        (("not tag = fine and accuracy >= 0.9",), ["better"]), (("tag = paper/1 and tag = fine",), ["good"]),
        (("tag in (fine)",), ["good"]), (("tag != fine and state = failed",), ["failed"]), (("tag = not known and accuracy > 0",), ["better"]),
        (("accuracy = not known and loss <= 1",), ["broken-off"]), (("started > 2001-01-01 12:00".replace(" 12", "T12"), "stage=net", "step=3"), ["broken-off"]),
    ):  # fmt: skip
        assert listed("--sort", "name", *(word for text in asked for word in ("--where", text))) == found
    for asked, said in (
        ("acuracy > 0.9", "did you mean: accuracy"), ("tag = fin", "did you mean: fine"), ("tag > fine", "no order"),
        ("state = finishd", "did you mean: finished"), ("accuracy", "no condition"), ("if tag = fine then accuracy > 1", "a rule"),
        ("accuracy > high", "a number"),
    ):  # fmt: skip
        assert main(["runs", "list", "--where", asked]) == 2 and said in capsys.readouterr().err
    assert main(["runs", "--state", "runing"]) == 2 and "did you mean: running" in capsys.readouterr().err


def test_tags(runs, capsys):
    assert main(["runs", "tag", "runs/good", "runs/better", "+fine", "+draft"]) == 0
    capsys.readouterr()
    assert main(["runs", "tag", "runs/good", "-draft", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs/good": ["fine"]}
    assert runs.find("good").tags == ("fine",) and runs.find("better").tags == ("draft", "fine")
    assert main(["runs", "tag", "runs/good", "+../x y"]) == 2 and "is no tag" in capsys.readouterr().err
    assert (
        main(["runs", "tag", "runs/goood", "+x"]) == 2
        and "did you mean: runs/good" in capsys.readouterr().err
    )
    assert main(["runs", "tag", "runs/good"]) == 2


def test_comparison(runs, capsys):
    assert main(["runs", "compare", "runs/good", "runs/better", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipes"] == {"stages.0.optimizer.lr": [0.1, 0.2]}
    assert [m["value"] for m in found["metrics"]["accuracy"]] == [0.9, 0.95]
    assert "was not measured" in found["paired"]["why"]
    assert main(["runs", "compare", "runs/good", "runs/better"]) == 0
    said = capsys.readouterr().out
    assert "stages.0.optimizer.lr" in said and "not compared row by row" in said
    (runs.path / "good" / "recipe.yaml").write_text("a: [")
    assert main(["runs", "compare", "runs/good", "runs/better"]) == 3
    assert main(["runs", "compare", "runs/good"]) == 2


def test_runs_as_they_are_made(in_folder, capsys):
    """What ended one is kept until it is gone on with; those that share rows are compared by them."""

    def finetune(name, head, *more):
        return main(["finetune", "sklearn:breast_cancer", "--name", name, "--head", head, "--quiet", *more])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jichu.recipe.run._finish", lambda work: 1 / 0)
        assert finetune("bayes", "naive-bayes") == 1
    ended = look(Path("runs/bayes"))
    assert (ended.state, ended.why) == ("failed", "ZeroDivisionError: division by zero")
    assert finetune("bayes", "naive-bayes", "--resume") == 0
    assert finetune("linear", "logistic-regression") == 0
    assert {run.state for run in Runs().all()} == {"finished"} and not Path("runs/bayes/ended.json").exists()
    capsys.readouterr()
    assert main(["runs", "compare", "runs/linear", "runs/bayes"]) == 0
    said = capsys.readouterr().out
    assert "linear against bayes" in said and "more than chance" in said and "stages.0.head" in said


def test_cleaning_takes_nothing_that_is_wanted(runs, worker, tmp_path, capsys):
    for name, origin in (("based", "runs/base"), ("base", "null"), ("tagged", "null"), ("linked", "null")):
        make(runs.path, name, accuracy=0.5, origin=origin)
    tag(runs.find("tagged"), ["keep"])
    outside = tmp_path / "outside"
    (runs.path / "linked" / "checkpoints").rename(outside)
    (runs.path / "linked" / "checkpoints").symlink_to(outside)
    (runs.path / "elsewhere").symlink_to(make(tmp_path / "others", "other", accuracy=0.5))
    make(runs.path, "young", ended="why")
    resumable = make(runs.path, "resumable", ended="why", age=30)
    (resumable / "checkpoints").mkdir()
    make(make(runs.path, "sweep", ended="why", age=30) / "runs", "one", accuracy=0.5)  # not a run's own
    thesis = runs.path / "thesis"
    thesis.mkdir()
    (thesis / "recipe.yaml").write_text(
        "\n" * 100_000
    )  # another tool's, and slow to read for a careless pattern
    os.utime(thesis / "recipe.yaml", (0, 0))
    expected = {f"runs/{n}/checkpoints" for n in ("good", "better", "based")} | {"runs/failed"}
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert main(["runs", "clean", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {item["path"] for item in told["items"]} == expected and not told["removed"]
    assert told["bytes"] == sum(item["bytes"] for item in told["items"]) > 3000
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
    with alone(runs.path / "better"):  # somebody has just begun to work on it
        gone = cleaning.remove(cleaning.removable(Runs("runs")), Runs("runs"))
        assert {str(r.path) for r in gone} == expected - {"runs/better/checkpoints"}
    assert main(["runs", "clean", "--yes"]) == 0 and "removed" in capsys.readouterr().out
    left = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert before - left == {
        p for p in before if any(str(p.relative_to(tmp_path)).startswith(f"{e}/") for e in expected)
    }
    assert not left - before and outside.exists()


def test_what_took_the_place_of_a_run_is_read(tmp_path):
    """Though every time of the folder was set back."""
    runs = Runs(make(tmp_path / "runs", "one", accuracy=0.5).parent)
    os.utime(runs.path / "one", (1000, 1000))
    assert [run.value("accuracy") for run in runs.all()] == [0.5]
    (runs.path / "one").rename(tmp_path / "before")
    os.utime(make(runs.path, "one", accuracy=0.9), (1000, 1000))
    assert [run.value("accuracy") for run in runs.all()] == [0.9]


def test_a_run_that_is_gone_gets_no_tags(tmp_path):
    gone = Runs(make(tmp_path / "runs", "one").parent).find("one")
    shutil.rmtree(gone.path)
    with pytest.raises(UsageError, match="is gone"):
        tag(gone, ["best"])
    assert not gone.path.exists()


def test_pages_are_plain_files_of_the_run(runs, tmp_path):
    run = runs.find("good")
    assert page(run, "report")[0].name == "report.html"
    (run.path / "data.html").symlink_to("/etc/passwd")
    (tmp_path / "x.png").write_text("x")
    (run.path / "examples").symlink_to(tmp_path)
    for name in (
        "data",
        "examples/x.png",
        "examples/../report.html",
        "../good/report",
        "recipe.yaml",
        "",
        "/etc/passwd",
    ):
        with pytest.raises(UsageError):
            page(run, name)
    assert details(run)["pages"] == ["report"] and details(run)["examples"] == []
    for name in ("..", ".", "", "good/../good", "\0"):
        with pytest.raises(UsageError, match="no run"):
            runs.find(name)


def test_only_what_is_new_is_read(tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert curves(file)["stages"] == {}
    file.write_text(rows(3) + '{"stage": "net", "st')
    first = curves(file)
    assert first["stages"]["net"]["loss"][0] == [1, 2, 3] and not first["anew"] and not first["damaged"]
    with open(file, "a") as more:
        more.write(
            'ep": 4, "loss": 0.25}\nno row\n{"stage": "net", "step": true}\n{"stage": "net", "step": 5, "loss": NaN}\n'
        )
    second = curves(file, first["at"])
    assert second["stages"]["net"] == {"loss": ([4], [0.25])} and second["damaged"] == 2
    assert curves(file, second["at"])["stages"] == {}
    file.with_suffix(".new").write_text(rows(1))
    os.replace(file.with_suffix(".new"), file)  # as a resumed run cuts its rows
    anew = curves(file, second["at"])
    assert anew["anew"] and anew["stages"]["net"]["loss"][0] == [1]
    file.unlink()
    file.symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="a link"):
        curves(file)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400), st.integers(10, 100))
def test_thinned_lines_keep_ends_and_peaks(values, most):
    steps, kept = thinned(list(range(len(values))), values, most)
    assert len(steps) <= max(most, 1) and steps == sorted(set(steps))
    assert [values[i] for i in steps] == kept
    assert (steps[0], steps[-1]) == (0, len(values) - 1)
    assert {min(values), max(values)} <= {*kept}


def test_differences():
    a, b = {"x": 1, "y": [1, {"z": 2}], "w": [1]}, {"x": 1, "y": [1, {"z": 3}], "w": [1, 2]}
    assert differences([a, b, a]) == [("y.1.z", [2, 3, 2]), ("w", [[1], [1, 2], [1]])]
    assert differences([a, a]) == [] and differences([{}, {"k": 0}]) == [("k", [None, 0])]


def test_sizes_count_a_file_once(tmp_path):
    (tmp_path / "a").write_bytes(b"0" * 100)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("/")
    assert 100 <= size(tmp_path) < 200


def test_many_runs_are_found_soon(tmp_path):
    for i in range(1000):
        (tmp_path / f"r{i}").mkdir()
        (tmp_path / f"r{i}" / "recipe.yaml").write_text("name: x\n")
        os.utime(tmp_path / f"r{i}", (1e9, 1e9))
    runs = Runs(tmp_path)
    assert len(runs.all()) == 1000 and len(choose(runs.all(), search="r99")) == 11
    assert len(runs._known) == 1000 and jichu.Runs is Runs


def test_the_page_on_runs(in_folder):
    """Its commands, then its code."""
    for name, accuracy in (("one", 0.8), ("two", 0.9)):
        make(in_folder / "runs", name, accuracy=accuracy)
    (commands,), (code,) = blocks("docs/runs.md", "bash"), blocks("docs/runs.md", "python")
    for line in commands.splitlines():
        assert main(shlex.split(line)[1:]) == 0
    exec(compile(code, "runs.md", "exec"), {})
    assert look(Path("runs/two")).tags == ("good",)
    page = Path(cleaning.__file__).parents[3] / "docs/runs.md"
    assert all(f"| `{state}` |" in page.read_text() for state in STATES)

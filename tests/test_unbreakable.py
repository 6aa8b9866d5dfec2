"""Killed, refused, full or edited: nothing saved is lost, and what is gone on with ends as if nothing had been.

`benchmarks/kill.py` stops a run at each of its file operations; here are some of them."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

import jichu
import killing
from jichu.cli.main import main
from jichu.core.files import append_jsonl, read_json, read_jsonl, write_text
from jichu.core.lock import alone
from killing import command, differences, fork, forked, strays, wait


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of an uninterrupted run, and what it did to files, in order."""
    folder = tmp_path_factory.mktemp("whole")
    return folder / "runs" / "small", killing.whole(folder)


@pytest.fixture
def place(tmp_path):
    """An empty folder with the recipe."""
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "r.yaml").write_text(killing.RECIPE)
    return folder


@pytest.fixture(scope="module")
def half(undisturbed, tmp_path_factory):
    """A run killed in the middle of its fine-tuning."""
    folder = tmp_path_factory.mktemp("half")
    (folder / "r.yaml").write_text(killing.RECIPE)
    at = instant(undisturbed[1], "os.rename", "last.safetensors", 4)
    assert stopped(folder, at) == -signal.SIGKILL
    return folder


def instant(told, event, name, which=0):
    """The number of a file operation: the `which`-th of that kind on a file of that name."""
    return [i for i, (kind, path) in enumerate(told) if kind == event and name in path][which]


def stopped(folder, at, act=killing.kill, said=None):
    """A run in which `act` happens before its file operation `at`."""

    def do():
        killing.Instants(folder, act, at).watch()
        return command(folder)()

    return forked(do, said)


def resumed(folder, said=None, *extra):
    return forked(command(folder, *extra, resume=True), said)


def ends_like(reference, folder):
    assert resumed(folder, folder.parent / "said") == 0, (folder.parent / "said").read_text()
    assert differences(reference, folder / "runs" / "small") == []
    assert strays(folder) == [] and os.listdir(folder / "runs") == ["small"]


# --- kill -9


@pytest.mark.parametrize(
    ("event", "name", "which", "act"),
    [
        ("os.rename", "store", 0, killing.kill),  # decoded, not yet in its place
        ("os.rename", ".small.", 1, killing.kill),  # the run made, not yet named
        ("open", "metrics.jsonl", 2, killing.tear),
        ("open", "last.safetensors", 4, killing.tear),  # in the middle of a checkpoint
        ("os.rename", "best.safetensors", 1, killing.kill),  # in an evaluation
        ("os.rename", "last.safetensors", -1, killing.kill),  # after the last step
        ("os.rename", "finetune.1.label.parquet", 0, killing.kill),
        ("os.rename", "summary.json", 1, killing.kill),
        ("os.rename", "audit.json", 0, killing.kill),
        ("os.rename", "report.html", -1, killing.kill),
    ],
)
def test_killed_at_an_instant_it_ends_as_if_not(event, name, which, act, undisturbed, place):
    reference, told = undisturbed
    assert stopped(place, instant(told, event, name, which), act) == -signal.SIGKILL
    ends_like(reference, place)


def test_killed_again_and_again(undisturbed, place):
    """Each session gets a few file operations further; what is gone on with is killed too."""
    for at in (40, 60, 30, 90):

        def do(at=at):
            killing.Instants(place, killing.kill, at).watch()
            return command(place, resume=True)()

        forked(do)
    ends_like(undisturbed[0], place)


FRESH = """
name: fresh
data: {path: 'sklearn:digits', labels_per_class: 5, draws: 3}
stages:
  - {stage: finetune, backbone: {name: cnn, widths: [4]}, head: naive-bayes}
  - {stage: audit, metrics: [accuracy]}
"""


def test_each_draw_has_features_of_its_own_weights(place, tmp_path):
    """So that a run killed between two draws ends in the same predictions."""
    (place / "r.yaml").write_text(FRESH)
    (tmp_path / "other").mkdir()
    shutil.copy(place / "r.yaml", tmp_path / "other")
    assert forked(command(place)) == 0
    told = killing.whole(tmp_path / "other", FRESH)
    shutil.rmtree(place / "runs")
    assert stopped(place, instant(told, "os.rename", "finetune.1.label.parquet")) == -signal.SIGKILL
    assert resumed(place) == 0
    assert differences(place / "runs" / "fresh", tmp_path / "other" / "runs" / "fresh") == []


# --- signals that ask


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_first(number, undisturbed, place, tmp_path):
    def do():
        from jichu.objectives.base import Context

        made = Context.__init__

        def signals(self, *arguments, **keywords):
            made(self, *arguments, **keywords)
            if self.step == 5 and self.steps == 9:
                os.kill(os.getpid(), number)

        Context.__init__ = signals
        return command(place)()

    said = tmp_path / "said"
    assert forked(do, said) == 130
    assert "interrupted at step 6 of 9" in said.read_text() and "--resume" in said.read_text()
    with safe_open(place / "runs" / "small" / "checkpoints" / "last.safetensors", "pt") as file:
        assert json.loads(file.metadata()["state"])["step"] == 6
    ends_like(undisturbed[0], place)


def test_between_two_steps_too(undisturbed, place, tmp_path):
    def ask(event, path):
        os.kill(os.getpid(), signal.SIGTERM)

    assert stopped(place, instant(undisturbed[1], "os.rename", "audit.json"), ask, tmp_path / "said") == 130
    assert "--resume to go on with runs/small" in (tmp_path / "said").read_text()
    ends_like(undisturbed[0], place)


def test_what_is_ignored_stays_ignored(place):
    """`nohup`: a terminal that is closed does not end the run."""

    def do():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return stopped_by_itself()

    def stopped_by_itself():
        killing.Instants(place, lambda *_: os.kill(os.getpid(), signal.SIGHUP), 60).watch()
        return command(place)()

    assert forked(do) == 0


# --- no space


@pytest.mark.parametrize(
    ("event", "name", "which"),
    [
        ("open", "store", 1),
        ("os.mkdir", ".small.", 0),
        ("open", "metrics.jsonl", 1),
        ("os.rename", "last.safetensors", 2),
        ("open", "model.safetensors", 0),
        ("open", "report.html", 0),
    ],
)
def test_a_full_disk_is_one_clear_error(event, name, which, undisturbed, place, tmp_path):
    reference, told = undisturbed
    said = tmp_path / "said"
    assert stopped(place, instant(told, event, name, which), killing.full, said) == 1
    error = said.read_text().partition("jichu: ")[2]
    assert "no space is left on the disk" in error and "Traceback" not in said.read_text()
    assert "iB are free" in error and "may be deleted" in error and "where: " in error
    assert strays(place / "runs") == [] if (place / "runs").exists() else True
    ends_like(reference, place)


def test_a_write_that_fails_in_its_middle(half, undisturbed, place, tmp_path):
    """As safetensors and the others meet it: the system lets no file grow so large as a checkpoint."""
    said = tmp_path / "said"

    def do():
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
        return command(place, resume=True)()

    shutil.copytree(half, place, dirs_exist_ok=True)  # where the pages, larger still, are written
    assert forked(do, said) == 1
    assert "the system lets no file grow so large" in said.read_text()
    assert "safetensors" in said.read_text() and "Traceback" not in said.read_text()
    ends_like(undisturbed[0], place)


def _closed():
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stdout = sys.stderr = None


def _broken():
    reads, writes = os.pipe()
    os.close(reads)
    os.dup2(writes, 1)
    os.dup2(writes, 2)


def _full():
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


@pytest.mark.parametrize(("streams", "code"), [(_closed, 0), (_broken, 0), (_full, 1)])
def test_nobody_reads_what_is_told(streams, code, undisturbed, place, tmp_path):
    """Standard output and error that are closed, or whose reader is gone, do not end a run."""
    if streams is _full and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")

    def do():
        streams()
        return command(place)()

    assert forked(do, tmp_path / "said") == code, (tmp_path / "said").read_text()
    assert differences(undisturbed[0], place / "runs" / "small") == []
    assert not code or "jichu: no space left on device" in (tmp_path / "said").read_text()


# --- places and clocks


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EROFS, "read-only file system"), (errno.EACCES, "permission denied")]
)
def test_a_folder_that_may_not_be_written_to(code, words, undisturbed, place, tmp_path):
    def refused(event, path):
        raise OSError(code, os.strerror(code), path)

    said, begins = tmp_path / "said", instant(undisturbed[1], "os.mkdir", ".small.")
    assert stopped(place, begins, refused, said) == 1
    assert words in said.read_text() and "where: runs" in said.read_text()
    assert "a place that may be written to" in said.read_text() and "Traceback" not in said.read_text()


def test_a_clock_that_jumps(undisturbed, place):
    def do():
        jumps = iter(range(10**9))
        time.time = lambda: 1.7e9 + (-1) ** next(jumps) * 1e9
        return command(place)()

    assert forked(do) == 0
    assert differences(undisturbed[0], place / "runs" / "small") == []


def test_two_runs_of_one_name_at_the_same_moment(undisturbed, place):
    said = [place / "said-0", place / "said-1"]
    children = [fork(command(place), path) for path in said]
    codes = [wait(child) for child in children]
    assert codes == [0, 0], [path.read_text()[-2000:] for path in said]
    assert sorted(os.listdir(place / "runs")) == ["small", "small-2"]
    for name in ("small", "small-2"):
        assert differences(undisturbed[0], place / "runs" / name) == []


def test_one_process_at_a_time_goes_on(half, place, tmp_path, undisturbed):
    shutil.copytree(half, place, dirs_exist_ok=True)

    def do():
        killing.Instants(place, lambda *_: os.kill(os.getpid(), signal.SIGSTOP), 10).watch()
        return command(place, resume=True)()

    first = fork(do)
    os.waitpid(first, os.WUNTRACED)
    said = tmp_path / "said"
    assert resumed(place, said) == 2
    assert f"process {first} on " in said.read_text() and "is at work on runs/small" in said.read_text()
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert (place / "runs" / "small" / "lock").exists()
    ends_like(undisturbed[0], place)


def test_a_lock_is_let_go(tmp_path):
    with alone(tmp_path), pytest.raises(jichu.JichuError, match=f"process {os.getpid()} on"), alone(tmp_path):
        pass
    with alone(tmp_path):
        assert read_json(tmp_path / "lock")["pid"] == os.getpid()
    assert not os.listdir(tmp_path)


def test_a_run_goes_on_where_it_was_copied_to(half, place, undisturbed, tmp_path):
    shutil.copytree(half / "runs", place / "runs")
    ends_like(undisturbed[0], place)
    shutil.copytree(half / "runs" / "small", tmp_path / "place" / "runs" / "renamed")
    assert resumed(place, None, "--name", "renamed") == 0
    assert (place / "runs" / "renamed" / "report.html").exists()
    assert differences(undisturbed[0], place / "runs" / "small") == []


def test_an_older_run_that_is_not_finished_is_gone_on_with(half, place, undisturbed):
    shutil.copytree(half / "runs", place / "runs")
    shutil.copytree(undisturbed[0], place / "runs" / "small-2")
    assert resumed(place) == 0
    assert differences(undisturbed[0], place / "runs" / "small") == []


def test_data_that_vanish(tmp_path, photos, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["finetune", "photos", "--budget", "2 steps", "--quiet", "--set", "data.size=8"]
    assert main(arguments) == 0
    (tmp_path / "runs" / "finetune" / "report.html").unlink()
    photos.rename(tmp_path / "away")
    assert main([*arguments, "--resume"]) == 3
    assert "photos" in capsys.readouterr().err
    (tmp_path / "away").rename(photos)
    assert main([*arguments, "--resume"]) == 0


# --- edited by hand


def _half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path):
    path.write_bytes(b"")


def _text(text):
    return lambda path: path.write_text(text)


def _replaced(found, other):
    def edit(path):
        assert found in path.read_text()
        path.write_text(path.read_text().replace(found, other))

    return edit


def _garbage(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{garbage", *lines[1:], ""]))


def _half_line(path):
    path.write_text(path.read_text() + '{"stage": "finetu')


def _of_another(path):
    from jichu.train import checkpoint

    state = checkpoint.read_state(path)
    tensors = {
        n: t.repeat(2) if t.ndim else t for n, t in checkpoint.read_tensors(path, "cpu").items() if t.ndim < 2
    }
    checkpoint.save(path, tensors, state)


@pytest.mark.parametrize(
    ("file", "edit", "code", "words"),
    [
        ("recipe.yaml", _text("name: [small"), 2, ["not valid YAML", "recipe.yaml:1"]),
        ("recipe.yaml", _text("- small"), 2, ["recipe.yaml holds list"]),
        ("environment.json", _half, 3, ["damaged", "environment.json"]),
        (
            "environment.json",
            _replaced('"gpus": []', '"gpus": 7'),
            3,
            ["damaged: gpus is 7", "environment.json"],
        ),
        ("environment.json", Path.unlink, 0, ["written anew"]),
        ("summary.json", _half, 3, ["damaged", "summary.json", "run again"]),
        ("summary.json", _text("[]"), 3, ["summary.json"]),
        ("summary.json", _text('{"stages": [{"name": "audit"}]}'), 3, ["those of the recipe"]),
        ("metrics.jsonl", _half_line, 0, []),
        ("metrics.jsonl", _garbage, 3, ["metrics.jsonl:2"]),
        ("metrics.jsonl", _text('{"loss": 1}\n'), 3, ["metrics.jsonl", "its stage and its step"]),
        ("timing.jsonl", Path.unlink, 0, []),
        (
            "checkpoints/last.safetensors",
            _half,
            3,
            ["damaged checkpoint", "last.safetensors", "starts again"],
        ),
        ("checkpoints/last.safetensors", _empty, 3, ["damaged checkpoint", "last.safetensors"]),
        ("checkpoints/last.safetensors", _of_another, 3, ["another model", "last.safetensors"]),
        ("checkpoints/last.safetensors", Path.unlink, 0, []),
        ("models/pretrain/model.safetensors", _half, 3, ["cannot read the weights", "models/pretrain"]),
        ("models/pretrain/model.safetensors", Path.unlink, 0, ["pretrain is run again"]),
        ("models/pretrain/config.json", _half, 3, ["damaged", "models/pretrain/config.json"]),
    ],
)
def test_edited_by_hand(file, edit, code, words, half, place, undisturbed, tmp_path):
    shutil.copytree(half, place, dirs_exist_ok=True)
    run, said = place / "runs" / "small", tmp_path / "said"
    edit(run / file)
    others = {p: p.read_bytes() for p in run.rglob("*.*") if p.is_file() and not p.name.startswith(".")}
    assert resumed(place, said) == code, said.read_text()
    assert all(word in said.read_text() for word in words), said.read_text()
    assert "Traceback" not in said.read_text()
    if code:
        assert {p: p.read_bytes() for p in others} == others
    else:  # (environment.json knew what memory a step takes)
        lost = ["summary.json differs"] if file == "environment.json" else []
        assert differences(undisturbed[0], run) == lost and strays(place) == []


@pytest.mark.parametrize(
    "file", ["audit.json", "model/model.safetensors", "report.html", "predictions.parquet"]
)
def test_what_is_gone_of_a_finished_run_is_made_again(file, undisturbed, place):
    shutil.copytree(undisturbed[0].parents[1], place, dirs_exist_ok=True)
    (place / "runs" / "small" / file).unlink()
    if file.startswith("model/"):
        (place / "runs" / "small" / "report.html").unlink()
    ends_like(undisturbed[0], place)


# --- what the rest stands on


def test_damaged_lines_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [{"a": 1}, {"a": 2}])
    with open(path, "ab") as file:
        file.write(b'{"a": \x00\x00')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
    for damage in (b"\xff\n", b"[1]\n", b"nul\n"):
        path.write_bytes(b'{"a": 1}\n' + damage + b'{"a": 2}\n')
        with pytest.raises(jichu.JichuError, match=r"rows\.jsonl:2"):
            read_jsonl(path)


def test_only_what_was_written_aside_is_swept(tmp_path):
    from jichu.core.files import sweep

    for name in (
        ".last.safetensors.ab12_xyz",
        ".DS_Store",
        ".nfs00000001",
        "sub/.a.abcdefgh",
        ".tmpA1b2C3",
        "kept.json",
    ):
        write_text(tmp_path / name, "x")
    sweep(tmp_path)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == [".DS_Store", ".nfs00000001", "kept.json"]


def test_seconds_add_up(half, place):
    """Those of the sessions before are counted: a stage's are no less than its checkpoint's."""
    shutil.copytree(half, place, dirs_exist_ok=True)
    run = place / "runs" / "small"
    last = run / "checkpoints" / "last.safetensors"
    with safe_open(last, "pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state["result"]["seconds"] = 1000.0
    from jichu.train import checkpoint

    checkpoint.save(last, tensors, state)
    assert resumed(place) == 0
    summary = read_json(run / "summary.json")
    stage = next(s for s in summary["stages"] if s["name"] == "finetune")
    assert summary["seconds"] > stage["seconds"] > 1000 and stage["samples_per_second"] < 1


# --- two processes


def test_one_of_two_processes_is_killed(place, tmp_path):
    (place / "r.yaml").write_text(killing.RECIPE.replace("budget: 9 steps", "budget: 400 steps").replace("patience: 2", "patience: 500"))  # fmt: skip
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "jichu", "run", "r.yaml"]  # fmt: skip
    about = {**os.environ, "OMP_NUM_THREADS": "1", "JICHU_CACHE": str(place / "cache")}
    said = tmp_path / "said"
    with open(said, "w") as file:
        process = subprocess.Popen(launch, cwd=place, env=about, stderr=file, stdout=file)
        rows, until = place / "runs" / "small" / "metrics.jsonl", time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if rows.exists() and '"finetune/0"' in rows.read_text():
                break
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children()
        workers[-1].kill()
        assert process.wait(60) == 1
    assert "another of the 2 processes has ended" in said.read_text(), said.read_text()
    assert strays(place / "runs") == ["small/parts"] or strays(place / "runs") == []
    assert (place / "runs" / "small" / "models" / "pretrain" / "config.json").exists()


@pytest.mark.parametrize("when", ["on its way up", "told"])
def test_a_process_that_its_launcher_ends_still_tells_of_the_one_that_is_lost(when, tmp_path):
    """`torchrun` ends the processes that are left by SIGTERM, at any moment after one is lost."""
    (tmp_path / "module.py").write_text(
        "import os, signal, sys\n"
        "from jichu.cli import main as command\n"
        "from jichu.core.errors import PeerLost\n"
        "def end(*given):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "def lost(given):\n"
        "    try:\n"
        "        raise PeerLost('another of the 2 processes has ended')\n"
        "    finally:\n"
        f"        {'end()' if when != 'told' else 'pass'}\n"
        "command._command, explain = lost, command._explain\n"
        f"command._explain = lambda error: ({'end()' if when == 'told' else None}, explain(error))[1]\n"
        "raise SystemExit(command.main())\n"
    )
    found = subprocess.run([sys.executable, "-m", "module"], capture_output=True, text=True, cwd=tmp_path)
    assert (found.returncode, found.stderr) == (1, "jichu: another of the 2 processes has ended\n")


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_exit_code_of_an_interruption_is_ours(wrapped, tmp_path):
    """Python ends a module by SIGINT where KeyboardInterrupt came out of a string that was executed; and a
    library may make another error of it."""
    (tmp_path / "module.py").write_text(
        "import os, signal\n"
        "from jichu.cli import main as command\n"
        "def interrupted(given):\n"
        "    try:\n"
        "        exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "    except KeyboardInterrupt as error:\n"
        f"        raise {'ValueError' if wrapped else 'KeyboardInterrupt'}('not built')\n"
        "command._command = interrupted\n"
        "raise SystemExit(command.main())\n"
    )
    found = subprocess.run([sys.executable, "-m", "module"], capture_output=True, text=True, cwd=tmp_path)
    assert (found.returncode, found.stderr) == (130, "jichu: interrupted\n")

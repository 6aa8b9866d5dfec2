"""Runs in forked children that are killed, or find the disk full, at a chosen instant.

The libraries are imported once; a child starts at once. Instants are the file operations of a run, in order,
as Python's audit events tell them: each is told before it happens, so that to stop at every one is to stop
between any two."""

import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import pyarrow.parquet as pq
from safetensors.torch import load_file

RECIPE = """
name: small
data: {path: 'sklearn:digits', labels_per_class: 12, draws: 2, split: {test: 0.3, validation: 0.2}}
stages:
  - stage: inspect
  - stage: pretrain
    backbone: {name: cnn, widths: [4, 8]}
    objective: {width: 8, hidden: 8}
    batch_size: 32
    budget: 7 steps
    log_every: 2
    checkpoint_every: 3 steps
  - stage: finetune
    from: pretrain
    batch_size: 16
    budget: 9 steps
    evaluate_every: 2
    patience: 2
    log_every: 2
    average: {name: ema}
    checkpoint_every: 4 steps
  - {stage: finetune, name: linear, from: pretrain, head: logistic-regression, adapt: head}
  - {stage: audit, metrics: [accuracy, log_loss], gain: [finetune, linear]}
"""


# the same of texts, which lie beside the folder of the run
TEXTS = RECIPE
for _ours, _theirs in (
    ("path: 'sklearn:digits', labels_per_class: 12, draws: 2,",
     "path: ../said.csv, context: 16, tokenizer: {name: wordpiece, vocabulary: 200},"),
    ("{name: cnn, widths: [4, 8]}", "{name: bert, width: 8, depth: 1, heads: 2}"),
    ("{width: 8, hidden: 8}", "{name: masked, whole_words: true}"),
    ("batch_size: 32", "batch_size: 4"),
    ("from: pretrain, head: logistic-regression, adapt: head", "backbone: words, head: naive-bayes"),
):  # fmt: skip
    assert _ours in TEXTS, _ours
    TEXTS = TEXTS.replace(_ours, _theirs)


def write_texts(file):
    """Sentences of two classes."""
    deeds = {"good": ("sings well", "is kind"), "bad": ("bites hard", "is cruel")}
    rows = [
        f"{i} : the {['cat', 'dog', 'bird'][i % 3]} {deeds[label][i % 2]} .,{label}"
        for i in range(60)
        for label in deeds
    ]
    Path(file).write_text("\n".join(["text,label", *rows]))


def whole(folder, recipe=None):
    """An uninterrupted run of the recipe, and every module that it needed imported here, so that other
    children start at once. Gives what the child said of its files."""
    import torch

    import jichu.cli.main  # noqa: F401

    torch.set_num_threads(1)
    folder = Path(folder)
    (folder / "r.yaml").write_text(recipe or RECIPE)
    notes = folder.parent / f"{folder.name}.json"

    def do():
        watched = Instants(folder).watch()
        code = command(folder)()
        notes.write_text(json.dumps([list(sys.modules), watched.told]))
        return code

    said = folder.parent / f"{folder.name}.txt"
    assert forked(do, said) == 0, said.read_text()
    modules, told = json.loads(notes.read_text())
    for name in modules:
        if name != "__main__" and name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return [(event, path) for event, path in told]


def undrawn():
    """Leave out the report's figures, which take most of the time of a small run and write no file."""
    from jichu.auditing import figures

    for name in ("curves", "comparison", "confusion"):
        setattr(figures, name, lambda *_, **__: "")


def fork(do, said=None):
    """Start `do()` in a child, standard error into the file `said`; gives the child's id. What `do` gives is
    its exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        handle = os.open(said or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 (not pytest's)
        from jichu.core.progress import console

        console.file, console.quiet = sys.stderr, False
        code = do() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child):
    """The exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(do, said=None):
    return wait(fork(do, said))


class Instants:
    """Counts what a process does to files under a folder; at number `at` it calls `act(event, path)`."""

    def __init__(self, root, act=None, at=None):
        self.root, self.act, self.at = f"{os.path.realpath(root)}/", act, at
        self.told = []

    def watch(self):
        sys.addaudithook(self._hook)
        return self

    def _hook(self, event, arguments):
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str) or not (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"):
            path = arguments[0]
        else:
            return
        path = str(path)
        if path.startswith("/") and not path.startswith(self.root):
            return
        self.told.append((event, path))
        if self.act and len(self.told) - 1 == self.at:
            self.act(event, path)


def kill(event, path):
    """The end, at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def tear(event, path):
    """The end in the middle of a write: half of what is there, or half a line more."""
    if event == "open" and path.endswith(".jsonl"):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b'{"stage": "pretr')
    elif (
        event == "open" and os.path.isfile(path) and os.stat(path).st_nlink == 1
    ):  # no link, which is flushed
        os.truncate(path, os.path.getsize(path) // 2)
    kill(event, path)


def full(event, path):
    """No space for what is to be made."""
    if event in ("open", "os.mkdir", "os.rename", "os.link"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def command(folder, *extra, resume=False):
    """What runs the recipe `r.yaml` of a folder, with --resume where asked to and there is what to resume."""

    def do():
        os.chdir(folder)
        os.environ["JICHU_CACHE"] = str(Path(folder) / "cache")
        undrawn()
        os.fsync = lambda handle: None  # against the power alone
        from jichu.cli.main import main

        begun = [p for p in Path("runs").glob("*/recipe.yaml") if not p.parent.name.startswith(".")]
        on = ["--resume"] if resume and begun else []
        return main(["run", "r.yaml", *on, *extra])

    return do


def differences(one, two):
    """What of two run folders is not the same bytes; timings do not count, nor what depends on them."""
    files = [{str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()} for f in (one, two)]
    found = [f"{name} is in one alone" for name in sorted(files[0] ^ files[1])]
    timed = ("timing.jsonl", "environment.json", "summary.json", "report.html", "MODEL_CARD.md")
    for name in sorted(files[0] & files[1]):
        a, b = one / name, two / name
        if name.startswith("checkpoints/"):  # whose headers hold seconds
            x, y = load_file(a), load_file(b)
            same = x.keys() == y.keys() and all(x[k].equal(y[k]) for k in x)
        elif name.endswith(".parquet"):
            same = pq.read_table(a).equals(pq.read_table(b)) and a.read_bytes() == b.read_bytes()
        elif name == "summary.json":
            same = _untimed(a) == _untimed(b)
        else:
            same = name in timed or a.read_bytes() == b.read_bytes()
        if not same:
            found.append(f"{name} differs")
    return found


def _untimed(path):
    summary = json.loads(path.read_text())
    for part in (summary, *summary["stages"]):
        for key in ("seconds", "samples_per_second", "utilisation", "shares", "peak_memory_mib"):
            part.pop(key, None)
        part.get("metrics", {}).pop("tokens_per_second", None)
    return summary


def strays(folder):
    """What no run should leave behind: hidden files, locks, parts."""
    names = [str(p.relative_to(folder)) for p in Path(folder).rglob("*")]
    return [n for n in names if Path(n).name.startswith(".") or n.endswith(("/lock", "/parts"))]

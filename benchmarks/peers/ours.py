"""Jichu itself, through `jichu.run`: a recipe, run whole or, where `steps` or a `target` say so, until as
many steps are logged or a metric has come to it, and then stopped. Everything is read from the
files that a run writes.

Settings: recipe, set, stage (whose training counts), warm_steps, steps; target: [metric, value]; `pinned` for
each process on a core of its own; a folder to work in.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch  # here, so that it does not count
from safetensors.torch import load_file

import jichu
from jichu.core.errors import Interrupted
from jichu.core.files import read_json, read_jsonl
from jichu.core.progress import console


def rows_of(file, stage):
    rows = read_jsonl(file) if file.exists() else []
    return [row for row in rows if row.get("stage") == stage]


def learnt(kept):
    """The weights and biases in a checkpoint, those that are tied (an embedding, a language model's head) once."""
    found = []
    for name, tensor in kept.items():
        if name.startswith("learner.model.") and name.endswith((".weight", ".bias")):
            alike = (t for t in found if tensor.ndim > 1 and t.shape == tensor.shape)
            if not any(torch.equal(t, tensor) for t in alike):
                found.append(tensor)
    return found


class Watch(threading.Thread):
    """Looks at the files of the run now and then, and asks it to stop when there is enough."""

    def __init__(self, given, started):
        super().__init__(daemon=True)
        self.given, self.started, self.curve, self.first = given, started, [], None

    def run(self):
        folder = Path("runs") / "duel"
        last = (
            None if self.given.get("steps") is None else self.given.get("warm_steps", 0) + self.given["steps"]
        )
        target = self.given.get("target")
        while last or target:
            time.sleep(0.02 if target else 0.1)
            timing = rows_of(folder / "timing.jsonl", self.given["stage"])
            if timing and self.first is None:
                self.first = time.perf_counter() - self.started
            enough = last and timing and timing[-1]["step"] >= last
            if target:
                metric, value = target
                evaluations = [
                    r[metric] for r in rows_of(folder / "metrics.jsonl", self.given["stage"]) if metric in r
                ]
                for found in evaluations[len(self.curve) :]:
                    self.curve.append([time.perf_counter() - self.started, found])
                enough = enough or (self.curve and self.curve[-1][1] >= value)
            if enough:
                os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in the background
                return


def main():
    given = json.loads(sys.argv[1])
    console.quiet = True
    rank = int(os.environ.get("RANK", 0))
    if given.get("pinned"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    os.chdir(given["folder"])
    started = time.perf_counter()
    watch = Watch(given, started)
    if rank == 0:
        watch.start()
    with contextlib.suppress(Interrupted, KeyboardInterrupt):
        jichu.run(given["recipe"], set={"name": "duel", **given.get("set", {})})
    whole = time.perf_counter() - started
    if rank:
        return
    folder, stage, warm = Path("runs") / "duel", given["stage"], given.get("warm_steps", 0)
    timing = [row for row in rows_of(folder / "timing.jsonl", stage) if row["step"] > warm]
    notes = read_json(folder / "environment.json")
    found = {
        "rows": sum(row["samples_per_second"] * row["seconds"] for row in timing),
        "seconds": sum(row["seconds"] for row in timing),
        "shares": {k: v for k, v in timing[-1].items() if k.startswith("share/")} if timing else {},
        "whole_seconds": whole,
        "plan": notes.get("plans", {}).get(stage),
        "versions": {"jichu": jichu.__version__, "torch": torch.__version__},
    }
    if watch.curve:
        found |= {"curve": watch.curve, "taken": watch.curve[-1][0], "accuracy": watch.curve[-1][1]}
    if (folder / "summary.json").exists():
        summary = read_json(folder / "summary.json")
        mine = next((s for s in summary["stages"] if s["name"] == stage), None)
        if mine is not None:
            found |= {"parameters": mine["metrics"].get("parameters"), "stage_seconds": mine["seconds"]}
            found["before_seconds"] = mine["seconds"] - sum(
                r["seconds"] for r in rows_of(folder / "timing.jsonl", stage)
            )
        for metric in {"accuracy", "token_loss"} & summary["headline"].keys():
            found[metric] = summary["headline"][metric]["value"]
    if found.get("parameters") is None and (file := folder / "checkpoints" / "last.safetensors").exists():
        kept = load_file(file)
        found["parameters"] = sum(tensor.numel() for tensor in learnt(kept))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

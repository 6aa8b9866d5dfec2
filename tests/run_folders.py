"""Run folders as runs leave them, written by hand."""

import json
import os
import time

RECIPE = "name: {name}\nseed: 0\ndata:\n  path: sklearn:digits\nstages:\n- stage: finetune\n  name: net\n  from: {origin}\n  optimizer:\n    lr: {lr}\n- stage: audit\n  name: audit\n"


def rows(count, first=1):
    return "".join(
        json.dumps({"stage": "net", "step": step, "loss": 1 / step, "lr": 0.1}) + "\n"
        for step in range(first, first + count)
    )


def make(folder, name, *, accuracy=None, logged=0, lr=0.1, origin="null", ended=None, age=0.0):
    """A run, finished where it has an accuracy; `age` in days."""
    path = folder / name
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(RECIPE.format(name=name, lr=lr, origin=origin))
    (path / "environment.json").write_text(json.dumps({"python": "3.11", "plans": {"net": {"steps": 100}}}))
    if logged:
        (path / "metrics.jsonl").write_text(rows(logged))
    if ended:
        (path / "ended.json").write_text(json.dumps({"state": "failed", "why": ended}))
    if accuracy is not None:
        headline = {"accuracy": {"value": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}}
        stages = [
            {"name": "net", "stage": "finetune", "seconds": 2.0, "samples_per_second": 10.0, "metrics": {}}
        ]
        told = {"name": name, "seconds": 3.0, "stages": stages, "headline": headline, "warnings": []}
        (path / "summary.json").write_text(json.dumps(told))
        (path / "report.html").write_text("<h1>report</h1><script>document.title = 'hacked'</script>")
        (path / "checkpoints").mkdir()
        (path / "checkpoints" / "last.safetensors").write_bytes(b"0" * 1000)
    if age:
        then = time.time() - age * 86400
        os.utime(path / "recipe.yaml", (then, then))
    return path

"""Six gigabytes of images trained through in a process held to two: 40,000 photographs at 3×224×224 are
decoded into the store, trained on for an epoch in random order, and a tenth of them predicted. The limit is
a control group's, of the first or the second version, where one can be made (as root); elsewhere the
largest anonymous memory seen is compared with it. The peer for a sense of scale is the same without a limit.
About ten minutes and seven gigabytes of disk; --quick: 2,000 images in 0.7 gigabytes."""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import results
from PIL import Image

SIDE = 224
_CHILD = """
import json, sys
from jichu.core.config import check
from jichu.core.files import read_json
from jichu.recipe.config import Recipe
from jichu.recipe.run import execute
data = {"path": sys.argv[1], "size": 224, "split": {"test": 0.1}}
stage = {"stage": "finetune", "budget": "1 epochs", "pixels": {"size": 16}, "precision": "float32",
         "memory_format": "contiguous", "batch_size": 64, "backbone": {"name": "cnn", "widths": [8]}}
execute(check(Recipe, {"name": "held", "data": data, "stages": [stage]}, where="recipe"))
print(json.dumps(read_json("runs/held/summary.json")["stages"][0]))
"""


def photographs(folder, count):
    """`count` different pictures in two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        pixels[..., i % 2] //= 2
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(path)


@contextlib.contextmanager
def held(limit):
    """The file to write a process's number into, and how it is then held; None where it cannot be."""
    for root, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root, f"jichu-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
            yield group / "cgroup.procs", f"control group, {name}"
            return
        except OSError:
            continue
        finally:
            time.sleep(0.5)  # the last of its processes must be gone
            with contextlib.suppress(OSError):
                group.rmdir()
    yield None, "not held: anonymous memory measured"


def run(photos, cache, procs):
    """Start the training in the group; seconds, and the largest anonymous memory seen."""

    def enter():
        if procs is not None:
            procs.write_text(str(os.getpid()))

    with tempfile.TemporaryDirectory() as folder:
        started, peak = time.monotonic(), 0
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(photos)], cwd=folder, preexec_fn=enter,
            stdout=subprocess.DEVNULL, env={**os.environ, "JICHU_CACHE": str(cache)},
        )  # fmt: skip
        while child.poll() is None:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{child.pid}/status").read_text()
                peak = max(
                    peak,
                    *(
                        int(line.split()[1]) << 10
                        for line in status.splitlines()
                        if line.startswith("RssAnon")
                    ),
                    0,
                )
            time.sleep(0.05)
        if child.returncode:
            sys.exit(f"the process ended with {child.returncode} (-9: killed for its memory)")
        return time.monotonic() - started, peak


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    count, limit = (2_000, 700 * 2**20) if quick else (40_000, 2 * 2**30)
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary, "photos")
        photographs(photos, count)
        for name, wanted in (("held", limit), ("without a limit", None)):
            with held(wanted) if wanted else contextlib.nullcontext((None, "")) as (procs, how):
                seconds, peak = run(photos, Path(temporary, name), procs)
            what = f"{name} to {limit / 2**30:.2g} GiB ({how})" if wanted else name
            found.append(
                {
                    "system": what,
                    "value": seconds,
                    "low": seconds,
                    "high": seconds,
                    "anonymous_mib": peak >> 20,
                }
            )
            print(found[-1], flush=True)
            if peak > limit:
                sys.exit(f"{peak >> 20} MiB of anonymous memory, more than the {limit >> 20} allowed")
    if not quick:
        size = count * 3 * SIDE**2 / 1e9
        metric = f"seconds for {size:.1f} GB of images from files to predictions, one run each"
        results.write(
            "memory_held", metric, found, {"without a limit": found[0]["value"] / found[1]["value"]}
        )


if __name__ == "__main__":
    main()

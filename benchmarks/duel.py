"""What the duels with peers share: environments for them, the same data for all, rounds in turns, ratios.

A system is a program in `peers/`, ours among them (`peers/ours.py`), with its settings as JSON. Each run is
a process of its own that ends with one line of JSON: `rows` and `seconds` of training after a few steps that
do not count, `first_step_seconds`, `parameters`, and perhaps `quality` and more. Rounds go A B C A B C, so
that what disturbs the machine disturbs all; ratios are taken within a round.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import results
import torch
import yaml
from PIL import Image

from jichu.core.files import cache_folder
from jichu.recipe.config import find

PEERS = Path(__file__).parent / "peers"
DATA = Path(os.environ.get("JICHU_DATA") or Path(__file__).parents[2] / "shared" / "data")
CACHE = cache_folder() / "benchmarks"
OURS = "jichu"
_TORCH = f"torch=={torch.__version__}"  # peers on PyTorch get the one that we run on
_ENVIRONMENTS = {
    "torch": [_TORCH, "numpy", "pillow", "pandas"],
    "transformers": [_TORCH, "numpy", "transformers==5.*", "accelerate", "peft==0.*", "pillow"],
    "lightly": [
        "numpy",
        "pillow",
        "torchvision",
        "lightly==1.*",
    ],  # torchvision brings the torch that it is built for
    "art": [_TORCH, "numpy", "packaging", "adversarial-robustness-toolbox==1.*"],
    "kornia": [_TORCH, "numpy", "kornia==0.*"],
    "opacus": [_TORCH, "numpy", "pillow", "opacus==1.*"],
    "keras-tensorflow": ["keras==3.*", "tensorflow-cpu"],
    "keras-torch": ["keras==3.*", _TORCH],
    "serving": [_TORCH, "numpy", "transformers==5.*", "fastapi", "uvicorn", "httptools", "uvloop"],
    "litserve": [_TORCH, "numpy", "transformers==5.*", "litserve==0.2.*"],
}
_WHEELS = "https://download.pytorch.org/whl/cpu"  # of builds named 2.13.0+cpu


@dataclass
class System:
    """A contestant: `program` of `peers/` with `settings`, in an environment by name (ours if none is)."""

    name: str
    program: str
    settings: dict
    environment: str | None = None
    variables: dict = field(default_factory=dict)  # of its environment
    processes: int = 1  # under torchrun, where more than one


def arguments(description, rounds, parts=()):
    """The options that every duel has; `parts` are what can be measured by itself."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps, one round: does it run at all?")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each system")
    parser.add_argument("--only", nargs="*", help="words of the names of the systems to run, beside ours")
    if parts:
        parser.add_argument("--parts", nargs="*", choices=parts, default=list(parts), help="what to measure")
    given = parser.parse_args()
    given.rounds = 1 if given.quick else given.rounds
    return given


# --- environments and data


def _python(environment):
    """The interpreter of a peer's environment, made where it is not there yet. RuntimeError where that
    fails."""
    if environment is None:
        return sys.executable
    wanted = _ENVIRONMENTS[environment]
    mark = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:8]
    folder = CACHE / "environments" / f"{environment}-{mark}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"making {folder}: {' '.join(wanted)}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        extra = ["--extra-index-url", _WHEELS] if "+cpu" in _TORCH and _TORCH in wanted else []
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *extra, *wanted]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"could not be installed: {_last_line(done.stderr)}")
        ready.touch()
    return str(python)


def data_set(name):
    """The folder of a data set of Parquet files with encoded images, for us; and one with the same images
    decoded, for the peers: `{train,test}-{images,labels}.npy`, uint8 [N, H, W(, 3)]."""
    folder = DATA / name
    if not folder.exists():
        sys.exit(f"no {folder}; JICHU_DATA names the folder of data sets with {name}/train.parquet in it")
    decoded = CACHE / "decoded" / name
    for split in ("train", "test"):
        file = decoded / f"{split}-images.npy"
        if not file.exists():
            decoded.mkdir(parents=True, exist_ok=True)
            table = pq.read_table(folder / f"{split}.parquet")
            cells = table["image"].to_pylist()
            np.save(decoded / f"{split}-labels.npy", table["label"].to_numpy())
            np.save(file, np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells]))
    return str(folder.resolve()), str(decoded)


def test_as_validation(folder):
    """The same data set with its test images as validation images, which a run looks at as it trains."""
    to = CACHE / "validated" / Path(folder).name
    to.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "train"), ("test", "validation")):
        if not (to / f"{name}.parquet").exists():
            shutil.copy(Path(folder) / f"{split}.parquet", to / f"{name}.parquet")
    return str(to)


def recipe(name, stages, **changes):
    """A shipped recipe with these of its stages alone, as a file."""
    tree = yaml.safe_load(find(name).read_text())
    return write_recipe(
        {**tree, "stages": [s for s in tree["stages"] if s.get("name", s["stage"]) in stages], **changes}
    )


def write_recipe(tree):
    """A recipe as a file."""
    path = Path(tempfile.mkdtemp()) / f"{tree['name']}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return str(path)


# --- rounds


def duel(systems, given):
    """Run all systems in turns. Gives {name: [outcome of each round]}; an outcome of a system that could
    not run is {"failed": why}."""
    words = given.only
    systems = [
        s for s in systems if words is None or s.name.startswith(OURS) or any(w in s.name for w in words)
    ]
    found = {system.name: [] for system in systems}
    for turn in range(given.rounds):
        for system in systems:
            before = found[system.name]
            if before and "failed" in before[0]:
                continue
            outcome = {"load": os.getloadavg()[0], **_run(system, given.threads)}
            told = {k: v for k, v in outcome.items() if k != "curve"}
            print(f"round {turn + 1}, {system.name}: {json.dumps(told)}", file=sys.stderr, flush=True)
            before.append(outcome)
    sizes = {s.name: found[s.name][0].get("parameters") for s in systems}
    assert len({size for size in sizes.values() if size}) <= 1, f"not the same model: {sizes}"
    return found


def _run(system, threads):
    try:
        python = _python(system.environment)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        return {"failed": str(error)}
    start = [python]
    if system.processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={system.processes}"]
    variables = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        settings = json.dumps(system.settings | {"threads": threads, "folder": folder})
        done = subprocess.run(
            [*start, str(PEERS / system.program), settings],
            capture_output=True, text=True, env=os.environ | variables | system.variables,
        )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"failed": f"exit code {done.returncode}: {_last_line(done.stderr or done.stdout)}"}
    return json.loads(lines[-1])


def _last_line(text):
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no word")


# --- figures


def rate(outcome):
    """Rows a second."""
    return outcome["rows"] / outcome["seconds"]


def figures(found, value=rate, ours=OURS, higher_is_better=True):
    """Medians and ranges of {name: outcomes}; of each peer how many times better we are, the median of the
    rounds' own ratios; and the ranges of those."""
    lines, ratios, ranges = [], {}, {}
    for system, outcomes in found.items():
        if "failed" in outcomes[0]:
            lines.append({"system": system, "value": None, "low": None, "high": None, **outcomes[0]})
            continue
        values = [value(o) for o in outcomes]
        lines.append({"system": system, **_spread(values), **_about(outcomes)})
        if system != ours and "failed" not in found[ours][0]:
            mine = [value(o) for o in found[ours]]
            paired = [m / v if higher_is_better else v / m for m, v in zip(mine, values, strict=True)]
            ratios[system] = statistics.median(paired)
            ranges[system] = [min(paired), max(paired)]
    return lines, ratios, ranges


def told(name, metric, given, lines, ratios, ranges, **more):
    """Written, unless the run was a quick one; shown in any case."""
    about = {"rounds": given.rounds, "threads_each": given.threads, "ratio_range": ranges, **more}
    if given.quick:
        print(json.dumps({"name": name, "metric": metric, "rows": lines, "ratio": ratios, **about}, indent=2))
    else:
        results.write(name, metric, lines, ratios, **about)


def _spread(values):
    return {"value": statistics.median(values), "low": min(values), "high": max(values)}


def _about(outcomes):
    """What else the outcomes say: the highest load before one, and medians of their other numbers."""
    kept = (
        "first_step_seconds",
        "before_seconds",
        "accuracy",
        "token_loss",
        "parameters",
        "added_mib",
        "p50_ms",
        "p99_ms",
        "failed_requests",
    )
    numbers = {k: statistics.median(o[k] for o in outcomes) for k in kept if outcomes[0].get(k) is not None}
    words = {k: outcomes[0][k] for k in ("plan", "versions", "load_by") if k in outcomes[0]}
    return numbers | words | {"load": max(o["load"] for o in outcomes)}

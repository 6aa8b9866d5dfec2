"""What only other processes can show: kill -9, torchrun, start-up time."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import jichu
import killing
from jichu.cli.main import main
from jichu.train.predict import predict

JICHU = [sys.executable, "-m", "jichu"]
PRETRAIN = ["pretrain", "sklearn:digits", "--budget", "60 steps", "--precision", "float32", "--checkpoint-every", "4 steps",
            "--log-every", "5", "--set", "objective.width=16", "--set", "objective.hidden=16", "--set", "backbone.widths=[4, 8]"]  # fmt: skip


def environment(**extra):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **extra}


def run(arguments, cwd, check=True, **extra):
    done = subprocess.run(
        [*JICHU, *arguments], cwd=cwd, env=environment(**extra), capture_output=True, text=True, timeout=300
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def torchrun(processes, arguments, cwd):
    """Run a module or script on several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def on_processes(count, arguments, cwd):
    """The command on so many processes, of which one can be this."""
    if count > 1:
        return torchrun(count, ["-m", "jichu", *arguments], cwd)
    with contextlib.chdir(cwd):
        assert main(arguments) == 0


def equal(one, two):
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    run(PRETRAIN, path)
    return path / "runs" / "pretrain"


def test_killed_at_any_instant_it_ends_in_the_same_weights(whole, tmp_path):
    """kill -9 at two random instants of one run, resumed after each (tests/test_unbreakable.py has many)."""
    rng = random.Random(int.from_bytes(os.urandom(4)))
    folder = tmp_path / "runs" / "pretrain"
    for i in range(2):
        resume = ["--resume"] if (folder / "recipe.yaml").exists() else []
        process = subprocess.Popen(
            [*JICHU, *PRETRAIN, *resume],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        rows, before = (
            folder / "metrics.jsonl",
            len((folder / "metrics.jsonl").read_text()) if (folder / "metrics.jsonl").exists() else 0,
        )
        until = time.monotonic() + 120
        while (
            process.poll() is None and time.monotonic() < until
        ):  # into its training, then a random while on
            if rows.exists() and len(rows.read_text()) != before:
                break
            time.sleep(0.005)
        time.sleep(rng.random() * 0.15)
        process.kill()
        process.wait()
        assert (folder / "recipe.yaml").exists(), f"kill {i} came before the run began"
    if not (folder / "report.html").exists():
        run([*PRETRAIN, "--resume"], tmp_path)
    assert equal(folder / "model" / "model.safetensors", whole / "model" / "model.safetensors")
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("wrap", ["[]", "[mean-teacher, {name: fixmatch, ratio: 2}]"])
def test_two_processes_equal_one(wrap, tmp_path):
    """torchrun with two processes on a model without batch statistics."""
    plain = "{name: cnn, widths: [4, 8], norm: group}"
    finetune = ["finetune", "sklearn:digits", "--budget", "25 steps", "--batch-size", "31", "--precision", "float32",
                "--backbone", plain, "--set", "augment=auto", "--set", "data.labels_per_class=7", "--set", f"wrap={wrap}"]  # fmt: skip
    for name, processes in (("one", 1), ("two", 2)):
        on_processes(processes, [*finetune, "--name", name], tmp_path)
    one, two = (load_file(tmp_path / "runs" / n / "model" / "model.safetensors") for n in ("one", "two"))
    for name in one:
        assert torch.allclose(one[name].float(), two[name].float(), rtol=1e-3, atol=1e-5), name
    summaries = [json.loads((tmp_path / "runs" / n / "summary.json").read_text()) for n in ("one", "two")]
    values = [s["headline"]["log_loss"]["value"] for s in summaries]
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    assert not (tmp_path / "runs" / "two-2").exists()


def test_texts_on_two_processes(tmp_path):
    """A run of texts, whose counts of words come from both; they are fitted as on one."""
    killing.write_texts(tmp_path / "said.csv")
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        (folder / "r.yaml").write_text(killing.TEXTS)
        on_processes(processes, ["run", "r.yaml"], folder)
    one, two = (tmp_path / n / "runs" / "small" for n in ("1", "2"))
    assert equal(*(run / "models" / "linear" / "model.safetensors" for run in (one, two)))
    a, b = (json.loads((run / "summary.json").read_text())["headline"]["linear"] for run in (one, two))
    assert a == b


GATHERS = """
import torch, sys
from jichu.core import ranks
from jichu.data.augment import Augment
from jichu.data.batches import Batches
from jichu.data.config import SIGNS
from jichu.models.cnn import Cnn
from jichu.models.model import Model
from jichu.objectives import barlow_twins, byol, contrastive, dino, taught, vicreg, views
from jichu.train.config import TrainConfig
from jichu.train.fit import fit
from safetensors.torch import save_file

def plain(before, hidden, after, layers):  # without batch statistics
    return torch.nn.Linear(before, after)

for module in (views, taught, dino):
    module.mlp = plain
torch.manual_seed(0)
start = Cnn(1, 8, widths=[8], norm="group").state_dict()
images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
config = TrainConfig(budget="10 steps", batch_size=16, precision="float32", optimizer={"name": "sgd", "lr": 0.01})
trained = {}
class Cached(contrastive.SimCLR):
    pass

for objective in (vicreg.VICReg, barlow_twins.BarlowTwins, contrastive.SimCLR, contrastive.MoCo, byol.BYOL, dino.DINO, Cached):
    config = config.model_copy(update={"accumulate": 2 if objective is Cached else 1})
    body = Cnn(1, 8, widths=[8], norm="group")
    body.load_state_dict(start)
    fit(Model(body), objective(Augment(SIGNS), width=16), Batches({"image": images}, batch_size=16), config)
    trained |= {f"{objective.__name__}.{k}": v.contiguous() for k, v in body.state_dict().items()}
if ranks.rank() == 0:
    save_file(trained, sys.argv[1])
"""


def test_objectives_that_compare_rows_gather_them(tmp_path):
    (tmp_path / "gathers.py").write_text(GATHERS)
    for processes in (1, 2):
        torchrun(processes, ["gathers.py", f"{processes}.safetensors"], tmp_path)
    one, two = (load_file(tmp_path / f"{n}.safetensors") for n in (1, 2))
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-5), name
        if name.startswith("SimCLR"):  # and in micro-batches
            assert torch.allclose(one[name], two[name.replace("SimCLR", "Cached")], rtol=1e-3, atol=1e-5), (
                name
            )


def test_it_starts_at_once():
    def cpu_seconds(arguments):
        """The least of three: what the work costs, whatever else the machine does."""
        times = []
        for _ in range(3):
            before = os.times()
            subprocess.run(
                [sys.executable, *arguments], env=environment(), stdout=subprocess.DEVNULL, check=True
            )
            after = os.times()
            times.append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
        return min(times)

    assert cpu_seconds(["-c", "import jichu"]) < 0.3
    assert cpu_seconds(["-m", "jichu", "--help"]) < 0.5


def test_nothing_heavy_is_imported_by_help():
    code = "import sys, jichu, jichu.cli.main as m; m.parser(); print([n for n in ('torch', 'numpy', 'sklearn', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_runs_as_the_command(tmp_path):
    assert "jichu" in run(["--version"], tmp_path).stdout
    assert Path(sys.executable).exists()


STAGES = """
data: {path: 'sklearn:digits', labels_per_class: 3, draws: 2}
stages:
  - {stage: pretrain, backbone: {name: cnn, widths: [4, 8]}, budget: 5 steps, objective: {width: 8, hidden: 8}, tensorboard: false}
  - {stage: finetune, from: pretrain, budget: 5 steps, batch_size: 7}
  - {stage: audit}
"""


def test_a_whole_recipe_on_two_processes(tmp_path):
    """With batch statistics and a stage that starts from another: what the audit says is what the saved
    model does."""
    (tmp_path / "r.yaml").write_text(STAGES)
    torchrun(2, ["-m", "jichu", "run", "r.yaml"], tmp_path)
    run_ = jichu.open(str(tmp_path / "runs" / "r"))
    table = pq.read_table(run_.path / "predictions.parquet").to_pydict()
    dataset = run_.dataset()
    rows = torch.tensor([r for r, d in zip(table["row"], table["draw"], strict=True) if d == 0])
    again = predict(run_.model, dataset.tensors, rows, ["label"])["label"].softmax(1)
    told = torch.tensor(
        [p for p, d in zip(table["scores"], table["draw"], strict=True) if d == 0], dtype=torch.float64
    )
    assert torch.allclose(again.double(), told, atol=1e-5)


MEASURING = """
import itertools, os, time
import torch
import jichu
from jichu.data.batches import Batches
from jichu.models.heads import Linear
from jichu.models.mlp import Pixels
from jichu.models.model import Model
from jichu.objectives.supervised import Classification
from jichu.train import settings
from jichu.train.config import TrainConfig

clock = itertools.count()
slow = int(os.environ["RANK"]) == 1
# to one process every other setting looks hopeless, to the other none does
settings.time.perf_counter = lambda: next(clock) ** 2 if slow else next(clock) / 1000
torch.manual_seed(0)
model = Model(Pixels(1, 4), {"label": Linear(16, 2)})
tensors = {"image": torch.rand(32, 1, 4, 4), "label": torch.arange(32) % 2}
config = TrainConfig(budget="400 steps", batch_size=8, checkpoint_every="1h")
jichu.fit(model, Classification(), Batches(tensors, batch_size=8), config)
"""


def test_processes_agree_on_what_is_fastest(tmp_path):
    """Each measures other times; those who tried a setting for more steps would wait for ever."""
    (tmp_path / "measuring.py").write_text(MEASURING)
    torchrun(2, ["measuring.py"], tmp_path)

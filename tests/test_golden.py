"""The losses of the shipped recipes, shrunken, exactly as they were: what a change moves without meaning to.

They are computed in a process of its own, on one thread, with the instructions that every processor with AVX2
has, so that they are the same on all of these. `python tests/test_golden.py` writes them anew, after a change
that is meant to move them.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).with_name("golden.json")
PLAIN = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE", "PYTHONWARNINGS": "ignore",
}  # fmt: skip
IMAGES = ["data.path=sklearn:digits", "data.draws=1", "data.size=8"]
TABLE = ["data.path=table.csv", "data.target=progress"]
RECIPES = {
    "quickstart": IMAGES,
    "mnist-cnn": IMAGES,
    "mnist-cnn-two": IMAGES,
    "cifar10-vgg": [
        *IMAGES,
        "stages.tutorial.backbone={name: cnn, widths: [4, 8], norm: none, readout: flatten, hidden: [16, 16]}",
        "stages.mended.backbone={name: cnn, widths: [4, 8], readout: flatten, hidden: [16]}",
    ],
    "cifar10-best": [*IMAGES, "stages.resnet9.backbone.base=4"],
    "cifar10-transfer": [*IMAGES, "stages.pretrain.backbone.base=4"],
    "tabular-regression": [*TABLE, "data.columns={}"],
}


def losses():
    """The rows of metrics.jsonl of every recipe, as they are written; a recipe run twice gives the same bytes."""
    from sklearn.datasets import load_diabetes

    from jichu.core.progress import console
    from jichu.recipe.config import read_recipe
    from jichu.recipe.run import execute

    console.quiet = True
    x, y = load_diabetes(return_X_y=True, scaled=False)
    rows = [",".join([*(f"x{i}" for i in range(10)), "progress"])]
    rows += [",".join(map(str, [*row, target])) for row, target in zip(x, y, strict=True)]
    Path("table.csv").write_text("\n".join(rows))
    found = {}
    for name, settings in RECIPES.items():
        stages = read_recipe(name, settings).stages
        trained = [s for s in stages if hasattr(s, "budget") and "budget" in s.model_fields_set]
        small = [f"stages.{s.name}.{key}" for s in trained for key in ("budget=8 steps", "log_every=1")]
        folder = execute(read_recipe(name, [*settings, *small]))
        found[name] = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
        if name == "quickstart":
            again = execute(read_recipe(name, [*settings, *small]))
            for file in ("metrics.jsonl", "model/model.safetensors", "predictions.parquet", "audit.json"):
                assert (folder.path / file).read_bytes() == (again.path / file).read_bytes(), file
    return {"torch": torch.__version__.partition("+")[0], "metrics": found}


def computed(folder):
    """The losses, from a process in which nothing but the plain instructions are used."""
    environment = {**os.environ, **PLAIN, "JICHU_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, __file__, "--print"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of processors with AVX2")
@pytest.mark.skipif("AVX" not in torch.backends.cpu.get_cpu_capability(), reason="of processors with AVX2")
def test_losses_are_exactly_those_they_were(tmp_path):
    golden, found = json.loads(GOLDEN.read_text()), computed(tmp_path)
    same = golden["torch"] == found["torch"]  # another version may add up in another order
    for name, rows in golden["metrics"].items():
        assert len(found["metrics"][name]) == len(rows)
        for was, now in zip(rows, found["metrics"][name], strict=True):
            assert now == (was if same else pytest.approx(was, rel=1e-2)), name


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(json.dumps(losses()))
    else:
        import tempfile

        with tempfile.TemporaryDirectory() as made:
            GOLDEN.write_text(json.dumps(computed(Path(made)), indent=1) + "\n")

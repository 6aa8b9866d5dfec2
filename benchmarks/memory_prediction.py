"""How near the memory predicted for a training step is to what the step then takes, on a processor: six
networks, float32, AdamW; predicted from the tensors that autograd keeps, and from the probe in a child
process. Each network has a process of its own, in which the step is predicted first and then taken; what
it took is the peak of the resident memory above what was resident before. Predicted / taken: 1 is exact,
below 1 is too little. About two minutes on one core; --quick takes smaller batches, for 15 seconds."""

import argparse
import json
import math
import subprocess
import sys

import results
import torch

from jichu.core.config import Spec
from jichu.core.limits import PROC
from jichu.core.names import construct
from jichu.models import BACKBONES
from jichu.models.heads import Linear
from jichu.models.model import Model
from jichu.objectives.supervised import Classification
from jichu.train import memory
from jichu.train.config import TrainConfig
from jichu.train.learner import Learner
from jichu.train.plan import trial, trial_steps

NETWORKS = {  # the shape of an input, and arguments
    "cnn": ((1, 28), {"widths": [32, 64]}),
    "vgg11": ((3, 32), {}),
    "resnet18": ((3, 32), {}),
    "densenet121": ((3, 32), {}),
    "mlp": (20, {"widths": [512, 512, 512]}),
    "ft-transformer": (20, {}),
}
MIB, STEPS = 2**20, 2


def learner_and_batch(name, rows):
    shape, arguments = NETWORKS[name]
    noise = torch.Generator().manual_seed(0)
    if isinstance(shape, int):
        batch = {
            "numbers": torch.randn(rows, shape, generator=noise),
            "categories": torch.zeros(rows, 0).long(),
        }
        given = {"numbers": shape, "categories": []}
    else:
        channels, size = shape
        batch = {"image": torch.randn(rows, channels, size, size, generator=noise)}
        given = {"channels": channels, "size": size}
    batch |= {"label": torch.randint(10, (rows,), generator=noise), "row": torch.arange(rows)}
    torch.manual_seed(0)
    body = construct("backbone", Spec(name=name, **arguments), BACKBONES, **given)()
    objective, model = Classification(), Model(body, {"label": Linear(body.width, 10)})
    objective.bind(model, batch)
    return Learner(model, objective), batch


def measure(name, mib):
    """Predictions and truth for a batch whose activations come to about so many MiB."""
    cpu, config = torch.device("cpu"), TrainConfig()
    few = 8
    learner, batch = learner_and_batch(name, few)
    found = memory.memory(lambda n: trial(learner, batch, 0, "float32", cpu, n), few, learner, 2, cpu)
    rows = max(8, mib * MIB // found.per_row)
    learner, batch = learner_and_batch(name, rows)

    def loss(n):
        return trial(learner, batch, 0, "float32", cpu, n)

    def fresh():
        return trial_steps(learner, loss, config, {})

    added = memory.memory(loss, rows, learner, 2, cpu)
    probed = memory.probe(added, fresh, learner)
    weights = sum(p.numel() * p.element_size() for p in learner.parameters())
    memory.keep_freed(False)  # as where memory is tight
    fresh()(few)
    learner.zero_grad(set_to_none=True)
    before = memory.resident("VmRSS", trimmed=True)
    step = fresh()
    step(few)
    (PROC / "self" / "clear_refs").write_text("5")
    for _ in range(STEPS):
        step(rows)
    taken = memory.resident("VmHWM") - before
    return {
        "rows": rows, "taken": taken, "tensors kept": added.needed - weights,
        "probe": probed.needed - weights if probed else None,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    mib = 256 if options.quick else 1536
    if options.of:
        print(json.dumps(measure(options.of, mib)))
        return
    rows, errors = [], {"tensors kept": [], "probe": []}
    for name in NETWORKS:
        command = [sys.executable, __file__, "--of", name, *(["--quick"] if options.quick else [])]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for how in errors:
            if found[how] is not None:
                value = found[how] / found["taken"]
                errors[how].append(abs(math.log(value)))
                rows.append({
                    "system": f"{name}, {found['rows']:,} rows, {found['taken'] // MIB:,} MiB taken: {how}",
                    "value": round(value, 3), "low": round(value, 3), "high": round(value, 3),
                })  # fmt: skip
    worst = {f"worst of {how}": round(math.exp(max(e)), 3) for how, e in errors.items() if e}
    results.write("memory_prediction", "memory of a step, predicted / taken", rows, worst)


if __name__ == "__main__":
    main()

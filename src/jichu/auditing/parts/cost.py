"""What it costs to ask a model: operations, memory, time and energy of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.auditing.blocks import Block, Note, Table
from jichu.core.progress import say
from jichu.core.words import retold, words
from jichu.data.batches import Batch, gather
from jichu.data.target import Target
from jichu.metrics.intervals import Interval
from jichu.models.cost import Speed, forward_flops, peak_bytes, speeds, weight_bytes
from jichu.models.model import Model
from jichu.models.modes import evaluating

from .base import Look, Part, Subject

_RESAMPLES = 500
_WATTS = 12.0  # of a core, where its processor is not known (Green Algorithms: Lannelongue et al., 2021)
_KWH_OF_A_MILLION = 1e6 / 3.6e6  # rows of a joule each
Size = Annotated[int, Field(ge=1, le=2**20)]


class Cost(Part):
    """Of each model parameters, FLOPs of a row, bytes in memory and on the disk, and, by the size of a batch, latency
    (seconds, median and 99th percentile of some runs, with bootstrap intervals), rows a second and the peak of memory, on
    the machine and threads of the audit and on held-out rows; of texts those of about the median length. A batch that
    would take longer than its share of `seconds`, which are for all models together, is left out. Joules are read from the
    processor's counters, else estimated by `watts_per_core`."""

    title = "What it costs"
    each_target = False

    def __init__(
        self,
        batch_sizes: Annotated[list[Size], Field(min_length=1)] = [1, 8, 64],  # noqa: B006 (never changed)
        seconds: Annotated[float, Field(gt=0, le=3600)] = 3.0,
        watts_per_core: Annotated[float, Field(gt=0)] = _WATTS,
    ):
        self.batch_sizes, self.seconds, self.watts = sorted({1, *batch_sizes}), seconds, watts_per_core

    def measure(self, subject: Subject) -> dict[str, Any]:
        batch_of = _batches(subject)
        found: dict[str, Any] = {
            "watts_per_core": self.watts,
            "threads": torch.get_num_threads(),
            "models": {},
        }
        for stage in subject.stages:
            say(f"  cost of {stage}")
            share = self.seconds / len(subject.stages) / len(self.batch_sizes)
            about = self._of(subject.load(stage), batch_of, share)
            found["models"][stage] = about | {"bytes_on_disk": _size(subject.place(stage))}
        return found

    def _of(self, model: Model, batch_of: Callable[[int], Batch], seconds: float) -> dict[str, Any]:
        with evaluating(model) as device:

            def batch(rows: int) -> Batch:
                return {name: tensor.to(device) for name, tensor in batch_of(rows).items()}

            one = batch(1)
            flops, peak = forward_flops(model, one)["forward"], peak_bytes(model, one)
            found, stopped = speeds(model, batch, self.batch_sizes, seconds, device, peak)
            sizes = {str(s.rows): _speed(s) | {"peak_bytes": peak_bytes(model, batch(s.rows))} for s in found}
        fastest = max(found, key=lambda speed: speed.rows_per_second)
        joules, how = fastest.joules, "measured"
        if joules is None and device.type == "cpu":
            joules = self.watts * torch.get_num_threads() / fastest.rows_per_second
            how = "estimated"
        return {
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops_per_row": flops or None,
            "bytes": weight_bytes(model),
            "precision": _precision(model),
            "device": str(device),
            **sizes["1"],
            "rows_per_second": fastest.rows_per_second,
            "joules_per_row": joules,
            "energy": how if joules is not None else "unknown",
            "batches": sizes,
            "stopped": stopped,
        }

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        models: dict[str, Any] = found["models"]
        heads = [
            words("model"), words("parameters"), words("MFLOPs of a row"), words("MiB of weights"), words("on the disk"),
            words("joules a row"), words("precision of numbers"),
        ]  # fmt: skip
        yield Table(
            heads,
            [
                [name, m["parameters"], _over(m["flops_per_row"], 1e6), m["bytes"] / 2**20, m["bytes_on_disk"] / 2**20,
                 m["joules_per_row"], m["precision"]]
                for name, m in models.items()
            ],
        )  # fmt: skip
        first = next(iter(models.values()))
        yield Note(_of_energy(found, first))
        heads = [
            words("model"), words("batch"), words("ms, median"), words("ms, 99th percentile"), words("runs"),
            words("rows a second"), words("peak MiB"),
        ]  # fmt: skip
        yield Table(
            heads,
            [
                [name, int(size), _ms(s["latency_p50"]), _ms(s["latency_p99"]), s["runs"], _rate(int(size), s),
                 s["peak_bytes"] / 2**20]
                for name, m in models.items()
                for size, s in m["batches"].items()
            ],
        )  # fmt: skip
        yield Note(
            words(
                "On {device}, threads: {threads}, after two runs that do not count; other work on the machine is in it. FLOPs"
                " are those of products; what classical heads do besides is not counted. The peak is of what the model computes,"
                " beside its weights.", device=first["device"], threads=found["threads"],
            )
        )  # fmt: skip
        for name, m in models.items():
            if m["stopped"]:
                about = {"model": name, "why": retold(m["stopped"])}
                yield Note(words("{model}: {why}, so larger batches were left out.", **about))


def _batches(subject: Subject) -> Callable[[int], Batch]:
    """Batches of so many held-out rows, over and over where they are few; of texts those nearest to the median length."""
    inputs, rows = subject.dataset.inputs, subject.rows
    lengths: Tensor | None = getattr(inputs.get("tokens"), "lengths", None)
    if lengths is not None:
        mine = lengths[rows].float()
        rows = rows[(mine - mine.median()).abs().argsort(stable=True)]
    return lambda count: gather(inputs, rows[torch.arange(count) % len(rows)])


def _speed(speed: Speed) -> dict[str, Any]:
    times = np.array(speed.seconds)
    drawn = np.random.default_rng(0).choice(times, (_RESAMPLES, len(times)))
    return {
        f"latency_p{share}": Interval.of(
            np.quantile(times, share / 100), np.quantile(drawn, share / 100, axis=1)
        )._asdict()
        for share in (50, 99)
    } | {"rows_per_second": speed.rows_per_second, "runs": len(times)}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _precision(model: Model) -> str:
    """Of the weights, or of what is kept in their place."""
    kept: list[Tensor] = [*model.parameters()] or [b for b in model.buffers() if b.is_floating_point()]
    return " and ".join(sorted({str(t.dtype).removeprefix("torch.") for t in kept})) or "–"


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _ms(seconds: dict[str, float | None]) -> dict[str, float | None]:
    return {key: _over(value, 1e-3) for key, value in seconds.items()}


def _rate(rows: int, told: dict[str, Any]) -> dict[str, float | None]:
    """Rows a second by the median latency, and by the ends of its interval."""
    ends = {"value": "value", "low": "high", "high": "low"}
    seconds = {end: told["latency_p50"][other] for end, other in ends.items()}
    return {end: rows / taken if taken else None for end, taken in seconds.items()}


def _of_energy(found: dict[str, Any], model: dict[str, Any]) -> str:
    if model["energy"] == "unknown":
        return words("Energy: nothing on this machine tells it.")
    about: dict[str, Any] = {"kwh": model["joules_per_row"] * _KWH_OF_A_MILLION}
    if model["energy"] == "measured":
        return words(
            "Energy by the processor's own counters, of all that the machine did meanwhile: {kwh:.3g} kWh for a million rows.",
            **about,
        )
    return words(
        "Energy is estimated, {kwh:.3g} kWh for a million rows in the fastest batches: {watts:g} watts (watts_per_core) times"
        " {threads} for the threads at work; memory, cooling and idling are not in it.",
        watts=found["watts_per_core"], threads=found["threads"], **about,
    )  # fmt: skip

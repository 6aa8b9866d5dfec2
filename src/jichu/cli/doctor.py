"""`jichu doctor MODEL`: what a model costs on this machine, and how it would begin to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct
from jichu.core.randomness import generator, guarded, seed_step
from jichu.models import BACKBONES, folder
from jichu.models.backbone import Backbone, ModuleBackbone
from jichu.models.cost import cost
from jichu.models.statistics import layer_statistics, warnings

_ROWS = 16  # of noise, for the statistics
Table = tuple[list[str], list[list[str]]]


def examine_model(name: str, channels: int, size: int, batch_sizes: Any, seconds: float) -> dict[str, Any]:
    """Cost, statistics by layer at step 0 on noise, and warnings of a model by name or of a run's.
    `channels` and `size` hold for a name; a run knows its own."""
    if not all(isinstance(n, int) and n > 0 for n in batch_sizes):
        raise UsageError(f"batch sizes {batch_sizes}", where="--batch-sizes", expected="such as 1,8,32")
    if not (1 <= size <= 4096 and 1 <= channels <= 1000):
        expected = "--size from 1 to 4096, --channels from 1 to 1000"
        raise UsageError(f"images of {channels} × {size} × {size}", expected=expected)
    with guarded(torch.device("cpu")):
        seed_step(torch.device("cpu"), "doctor")
        model, batch_of = _of_a_run(name) or _by_name(name, channels, size)
    found = cost(model, batch_of, batch_sizes, seconds)
    layers = layer_statistics(model, batch_of(_ROWS))
    return {
        "model": name,
        **found,
        "layers": [asdict(layer) for layer in layers],
        "warnings": warnings(layers),
    }


Examined = tuple[nn.Module, Callable[[int], dict[str, Tensor]]]


def _of_a_run(name: str) -> Examined | None:
    path = next((p for p in (Path(name) / "model", Path(name)) if (p / "config.json").exists()), None)
    if path is None:
        return None
    model, config = folder.load(path)

    def batch_of(rows: int) -> dict[str, Tensor]:
        noise, batch = generator("doctor"), {}
        if p := config.image:
            batch["image"] = torch.randint(
                256, (rows, p.channels, p.size, p.size), dtype=torch.uint8, generator=noise
            )
        if table := config.table:
            batch["numbers"] = torch.randn(rows, len(table.number_names), generator=noise)
            columns = [torch.randint(size, (rows,), generator=noise) for size in table.sizes]
            batch["categories"] = (
                torch.stack(columns, 1) if columns else torch.zeros(rows, 0, dtype=torch.int64)
            )
        return batch

    return model, batch_of


def _by_name(name: str, channels: int, size: int) -> Examined:
    made = construct("backbone", Spec(name=name), BACKBONES, where="doctor", channels=channels, size=size)()
    if not isinstance(made, nn.Module):
        raise UsageError(f"{name} gave {type(made).__name__}", expected="a torch.nn.Module")
    backbone = made if isinstance(made, Backbone) else ModuleBackbone(made, channels, size)

    def batch_of(rows: int) -> dict[str, Tensor]:
        return {"image": torch.randn(rows, channels, size, size, generator=generator("doctor"))}

    return backbone, batch_of


def lines(found: dict[str, Any]) -> list[str]:
    """What is one number, as text."""
    flops, latency, joules = found["flops"], found["latency_ms"], found["joules_per_row"]
    return [
        f"{found['model']}: {found['parameters']:,} parameters, {found['trainable']:,} trainable,"
        f" {found['bytes'] / 2**20:.1f} MiB",
        f"operations for one row: {flops['forward'] / 1e9:.3g} GFLOP forward, {flops['training'] / 1e9:.3g} with"
        " the backward pass",
        f"kept for each row in training: {found['activation_bytes_per_row'] / 2**20:.3g} MiB",
        f"one row on {found['device']}, threads {found['threads']}: {latency['median']:.3g} ms, 95% within"
        f" {latency['p95']:.3g} ms ({latency['runs']} runs)",
        "energy: " + (f"{joules:.3g} J a row, all that the machine did meanwhile" if joules is not None
                      else "not measured, this machine lets nobody read it"),
        *([f"stopped: {found['stopped']}"] if found["stopped"] else []),
    ]  # fmt: skip


def tables(found: dict[str, Any]) -> list[Table]:
    """Throughput by batch; operations by part; the layers with weights."""
    total = max(1, found["flops"]["forward"])
    speed = [[str(t["batch"]), f"{t['rows_per_second']:,.0f}"] for t in found["throughput"]]
    parts = [
        [n, f"{f / 1e6:,.1f}", f"{100 * f / total:.0f}%"] for n, f in found["flops"]["by_module"].items() if f
    ]
    layers = [
        [w["name"], w["type"], *map(_figure, (w["mean"], w["std"], w["gradient_std"], w["weight_gradient"]))]
        for w in found["layers"]
        if w["weighted"]
    ]
    return [
        (["batch", "rows/s"], speed),
        (["part", "MFLOP", "share"], parts),
        (["layer at step 0", "", "mean", "std", "gradient std", "weight gradient"], layers),
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"

"""`jichu doctor`: what is fast on this machine and what would slow or break a run on it; `jichu doctor
MODEL`: what a model costs here, and how it would begin to train."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from jichu.core import doctor, findings
from jichu.core.config import Spec
from jichu.core.devices import environment
from jichu.core.errors import UsageError
from jichu.core.names import construct
from jichu.core.progress import number, task
from jichu.core.randomness import generator, guarded, seed_step
from jichu.data.decode import Preprocess, decode_image
from jichu.models import BACKBONES, folder
from jichu.models.backbone import Backbone, ModuleBackbone
from jichu.models.cost import cost
from jichu.models.statistics import layer_statistics, warnings

_ROWS = 16  # of noise, for the statistics
Table = tuple[list[str], list[list[str]]]


_PICTURES = (("JPEG", 32), ("JPEG", 96), ("JPEG", 256), ("PNG", 32), ("PNG", 96), ("PNG", 256))


def examine_machine(seconds: float = 0.12) -> dict[str, Any]:
    """Rates by subject, `seconds` for each measurement, what they mean, and what is wrong."""
    processor = torch.device("cpu")
    gpu = torch.device("cuda") if torch.cuda.is_available() else None
    steps = 1 + doctor.count(processor) + len(_PICTURES) + (doctor.count(gpu) if gpu else 0)
    with task("doctor", steps) as shown:
        shown.advance(note="what is there")
        wrong = findings.findings(findings.look())

        def advance(what: str) -> None:
            shown.advance(note=what)

        found: dict[str, Any] = {
            "environment": environment(),
            "machine": doctor.machine_key(),
            "processor": doctor.measure(processor, seconds, advance),
            "decode": [_decoding(kind, size, seconds, advance) for kind, size in _PICTURES],
            "gpu": doctor.measure(gpu, seconds, advance) if gpu else None,
        }
    found["observations"] = doctor.observations(found["processor"])
    found["findings"] = findings.asdicts(wrong)
    return found


def _decoding(kind: str, size: int, seconds: float, advance: Callable[[str], None]) -> dict[str, Any]:
    """Pictures a second, on one core, decoded as data sets are."""
    advance("decoding")
    picture, to = _picture(kind, size), Preprocess(size, 3, "crop")
    speed = doctor.rate(lambda: decode_image(picture, to), 1, seconds, torch.device("cpu"))
    return {"format": kind, "size": size, "best": speed.best, "median": speed.median}


def _picture(kind: str, size: int) -> bytes:
    """A picture with the detail of a photograph: noise, smooth at first and finer and weaker then."""
    noise, pixels = np.random.default_rng(0), np.zeros((size, size, 3))
    for scale in (4, 8, 16, size):
        part = Image.fromarray(noise.integers(0, 256, (scale, scale, 3), np.uint8)).resize((size, size))
        pixels += np.asarray(part, np.float64) / scale
    file = io.BytesIO()
    Image.fromarray((255 * pixels / pixels.max()).astype(np.uint8)).save(file, kind)
    return file.getvalue()


def machine_tables(found: dict[str, Any]) -> list[Table]:
    """One table a subject."""
    made = []
    for where in ("processor", "gpu"):
        rates = found[where]
        if rates is None:
            continue
        counts = list(dict.fromkeys(r["threads"] for r in rates["product"]))
        by = {(r["precision"], r["size"], r["threads"]): r for r in rates["product"]}
        products = [
            [f"{p} {n:,}³", *(f"{by[p, n, t]['best']:,.0f} / {by[p, n, t]['median']:,.0f}" for t in counts)]
            for p, n in dict.fromkeys((p, n) for p, n, _ in by)
        ]
        columns = [f"{t} thread{'s' if t > 1 else ''}" if t else "GPU" for t in counts]
        made.append(([f"{where}: matrix product, GFLOP/s, best / median", *columns], products))
        convolutions = [
            [f"{r['precision']} {r['channels']}→{r['channels']} at {r['size']}²", r["format"],
             f"{r['forward']:,.0f}", f"{r['both']:,.0f}"]
            for r in rates["convolution"]
        ]  # fmt: skip
        made.append(
            ([f"{where}: 3 × 3 convolution, GFLOP/s", "format", "forward", "and backward"], convolutions)
        )
        memory = [[r["what"], number(r["best"]), number(r["median"])] for r in rates["memory"]]
        made.append(([f"{where}: memory, GB/s", "best", "median"], memory))
    decoded = [
        [f"{r['format']} {r['size']}²", number(r["best"]), number(r["median"])] for r in found["decode"]
    ]
    made.append((["decoding, images a second and core", "best", "median"], decoded))
    return made


def machine_lines(found: dict[str, Any]) -> list[str]:
    """What the rates mean, and what is wrong with its remedy."""
    wrong = [f"{f['subject']} ({f['severity']}): {f['what']}\n    {f['remedy']}" for f in found["findings"]]
    return found["observations"] + (wrong or ["nothing found that would slow or break a run"])


def examine_model(name: str, channels: int, size: int, batch_sizes: Any, seconds: float) -> dict[str, Any]:
    """Cost, statistics by layer at step 0 on noise, and warnings of a model by name or of a run's.
    `channels` and `size` hold for a name; a run knows its own."""
    if not all(type(n) is int and n > 0 for n in batch_sizes):
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
    path = None
    with contextlib.suppress(OSError, ValueError):  # too long for a path, or with a NUL
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
        if sound := config.audio:
            waves = torch.randint(-(2**12), 2**12, (rows, sound.samples), generator=noise)
            batch["audio"] = waves.to(torch.int16)
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

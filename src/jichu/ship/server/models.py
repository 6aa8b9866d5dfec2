"""The models that are served: loaded, warmed, asked, and exchanged for newer ones while they are asked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jichu.core.config import check
from jichu.core.errors import DataError, JichuError, UsageError, nearest
from jichu.data.given import Inputs
from jichu.models.continuous import Writing
from jichu.ship.onnx_model import OnnxModel
from jichu.ship.version import version
from jichu.train.config import TrainConfig
from jichu.train.predict import computing
from jichu.train.settings import Settings as Computed
from jichu.train.settings import choose, is_hopeless, plainest

from .batcher import Batcher
from .errors import Refused, refused
from .items import kind
from .kept_rows import Answered
from .metrics import Metrics
from .settings import Settings
from .shown import Shown
from .twin import Twin
from .writer import Writer

if TYPE_CHECKING:
    from jichu.runs import Run

Open = Callable[[Path], "Run | OnnxModel"]
_WARM, _TEXT = 8, "a " * 32  # rows, and each of them where texts are read
_MEASURED = 3  # times
_CPU = torch.device("cpu")


class Served:
    """One version of a model: a run or a graph, read once and warm, with a thread that predicts, one that writes where the model
    is one of language, one that explains as soon as that is asked for, and one that looks at the run's data
    where these are shown."""

    def __init__(self, name: str, run: Run | OnnxModel, settings: Settings, metrics: Metrics):
        self.name, self.run, self.version, self.users, self.retired = name, run, version(run), 0, False
        self.kind = kind(run)
        self.created = int((run.path if isinstance(run, OnnxModel) else run.folder.model).stat().st_mtime)
        self.computed = warm(run, settings.precision)
        self._settings, self._metrics = settings, metrics
        self._explaining: Twin | None = None
        self.shown: Shown | None = None
        self.writing: Writing | None = None
        if version(run) != self.version:
            raise DataError("the model was changed while it was read", where=run.path)
        with contextlib.suppress(UsageError):  # a model that does not go on with texts
            if run.config.language:
                assert not isinstance(run, OnnxModel)
                self._twin = run.twin()
                self.writing = Writing(self._twin.model, run.tokenizer)

    def start(self) -> None:
        """Start the threads, which answer in the event loop that is running."""
        settings = self._settings
        if settings.play and not isinstance(self.run, OnnxModel):
            self.shown = Shown(self._twin_for("shown"))
        common: dict[str, Any] = {"room": settings.queue}
        seen = self._metrics.batches.labels(self.name).observe
        self.predicting = Batcher(
            self.name,
            self._computed,
            self._inside(self.run),
            most=settings.batch,
            wait=settings.wait / 1000,
            seen=seen,
            **common,
        )
        self.writer: Writer | None = None
        if self.writing is not None:
            count = self._metrics.writing.labels(self.name).set
            self.writer = Writer(
                self.name, self.writing, self._inside(self._twin), most=settings.texts, seen=count, **common
            )
        self._metrics.waiting.labels(self.name).set_function(lambda: sum(line.rows for line in self._lines()))

    def _inside(self, run: Run | OnnxModel) -> Callable[[], AbstractContextManager[None]]:
        if isinstance(run, OnnxModel):
            return contextlib.nullcontext
        assert self.computed is not None
        return partial(computing, run.model, self.computed, _CPU)

    @property
    def whole(self) -> Run:
        """The run. UsageError where there is a graph alone, which gives its predictions and nothing else."""
        if isinstance(self.run, OnnxModel):
            raise UsageError(
                f"{self.name} is a graph that predicts alone", expected="the run that it was made of"
            )
        return self.run

    def explain(self, items: list[Any], **settings: Any) -> asyncio.Future[Any]:
        """Explanations of items, by a thread of their own: they take long."""
        if self._explaining is None:
            self._explaining = self._twin_for("explaining")
        return self._explaining.ask(lambda run: run.explain(items, **settings), len(items))

    def _twin_for(self, what: str) -> Twin:
        run = self.whole
        assert self.computed is not None
        return Twin(f"{self.name}, {what}", run, self.computed.threads)

    def read(self, items: list[Any]) -> Any:
        """What is made of a request before it joins others. Each row of a table is read with those that it came with,
        and nobody waits for another's images to be decoded; texts, of which none is wrong, are read together."""
        return self.run.inputs(items) if self.run.joins and self.kind != "text" else items

    def _computed(self, kind: str, given: list[Any]) -> list[Any]:
        """What the model says of each part that was read (`Answered`), or its features, with the number of its tokens."""
        if not self.run.joins:
            return [Answered(self.run.predict(items), {}) for items in given]
        if self.kind == "text":
            sizes = [len(items) for items in given]
            whole = self.run.inputs([item for items in given for item in items])
        else:
            sizes = [len(part.names) for part in given]
            names = [name for part in given for name in part.names]
            whole = Inputs(names, {k: _joined([p.tensors[k] for p in given]) for k in given[0].tensors})
        cuts = [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        if kind == "predict":
            scores, features = self._looked(whole)
            parts = [Inputs(whole.names[cut], {}) for cut in cuts] if self.kind == "text" else given
            return [
                self._answered(
                    part, {k: s[cut] for k, s in scores.items()}, None if features is None else features[cut]
                )
                for part, cut in zip(parts, cuts, strict=True)
            ]
        features, tokens = self.whole.features(whole), whole.tensors.get("tokens")
        return [(features[cut], int(tokens.lengths[cut].sum()) if tokens is not None else 0) for cut in cuts]

    def _looked(self, given: Inputs) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """The scores, and where rows are kept the features too."""
        if self._settings.keep is None or isinstance(self.run, OnnxModel):
            return self.run.scores(given), None
        return self.run.scores_and_features(given)

    def _answered(self, part: Inputs, scores: dict[str, np.ndarray], features: np.ndarray | None) -> Answered:
        return Answered(self.run.told(part, scores), scores, features)

    def _workers(self) -> list[Batcher | Writer | Twin | Shown]:
        workers = (self.predicting, self.writer, self._explaining, self.shown)
        return [worker for worker in workers if worker is not None]

    def _lines(self) -> list[Any]:
        return [worker.line for worker in self._workers()]

    def close(self, seconds: float = 0.0) -> None:
        """Let the threads end when what waits is done; wait for that so long."""
        for worker in self._workers():
            worker.close()
        for worker in self._workers() if seconds else ():
            worker.join(seconds)


def _joined(parts: list[Any]) -> Any:
    return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts)


def warm(run: Run | OnnxModel, precision: str) -> Computed | None:
    """Predict rows of zeros, so that the first request is answered as soon as the others, and measure with how many threads
    and in which order of images that is fastest; of `auto` in which precision too."""
    config = check(TrainConfig, {"precision": precision, "compile": False}, where="serve")
    tensors = _zeros(run)
    if isinstance(run, OnnxModel):  # computes as it was written
        run.require_head()
        run.scores(
            Inputs([""] * _WARM, {name: np.asarray(values) for name, values in (tensors or {}).items()})
        )
        return None
    model, _ = run.model, run.recipe  # which tables are read by
    if tensors is None:
        return plainest(model, config, _CPU)
    given = Inputs([""] * _WARM, tensors)
    say: Callable[[Inputs], Any] = (
        run.scores if run.config.targets and not run.config.language else run.features
    )

    def measure(settings: Computed, limit: float) -> float:
        times: list[float] = []
        with computing(model, settings, _CPU):
            while len(times) < _MEASURED and not (times and is_hopeless(times, limit)):
                started = time.perf_counter()
                say(given)
                times.append(time.perf_counter() - started)
        return min(times)

    return choose(model, config, _CPU, measure, lambda once: once, answers=True)[0]


def _zeros(run: Run | OnnxModel) -> dict[str, Any] | None:
    """A few rows of nothing, as the model reads them; None of series."""
    config = run.config
    if config.text is not None:
        return run.inputs([(_TEXT,) * (1 + config.text.pair)] * _WARM).tensors
    found: dict[str, Any] = {}
    for how in (config.image, config.audio):
        if how is not None:
            found[how.kind] = torch.zeros(_WARM, *how.shape, dtype=getattr(torch, how.dtype))
    if config.table is not None:
        shapes = {"numbers": len(config.table.number_names), "categories": len(config.table.sizes)}
        dtypes = {"numbers": torch.float32, "categories": torch.int64}
        found |= {n: torch.zeros(_WARM, count, dtype=dtypes[n]) for n, count in shapes.items() if count}
    return found or None


def _keep() -> None:
    """Let the collector pass over what stays, libraries above all: to look through it stops every thread for 0.2 s. What
    was kept for a model that is no longer served is let go."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Models:
    """All models by name. `opened` makes a run of a path."""

    def __init__(self, paths: dict[str, Path], opened: Open, settings: Settings, metrics: Metrics):
        self.paths, self._opened, self._settings, self._metrics = paths, opened, settings, metrics
        self._loading = threading.Lock()
        self.served = {name: self._load(name) for name in paths}

    def _load(self, name: str) -> Served:
        with self._loading:  # one at a time: each takes memory for two
            served = Served(name, self._opened(self.paths[name]), self._settings, self._metrics)
            _keep()
            return served

    def start(self) -> None:
        """Start the threads of all."""
        for served in self.served.values():
            self._begin(served)

    def _begin(self, served: Served) -> None:
        served.start()
        self.served[served.name] = served
        self._metrics.versions.labels(served.name, served.version).set(1)

    async def reload(self, name: str) -> Served:
        """Read a model again from its folder. Only when it is warm does it take the other's place, which answers what
        it has begun. 409 where it cannot be read: the other stays."""
        before = self.find(name)
        try:
            served = await asyncio.to_thread(self._load, before.name)
        except JichuError as error:
            raise refused(error, self.paths, 409, "model_unusable") from None
        before = self.served[before.name]
        if served.version == before.version:
            return before
        self._metrics.versions.remove(before.name, before.version)
        self._begin(served)
        before.retired = True
        self._let_go(before)
        return served

    def find(self, name: str | None) -> Served:
        """The model of that name; the only one where none is named. 404 where there is none."""
        if name is None and len(self.served) == 1:
            return next(iter(self.served.values()))
        if name is None:
            raise Refused(
                400,
                f"no model is named; expected one of {', '.join(self.served)}",
                param="model",
                code="model_missing",
            )
        if name not in self.served:
            near = nearest(name, self.served)
            told = f"; did you mean {near}?" if near else ""
            raise Refused(
                404, f"there is no model {name[:100]!r}; expected one of {', '.join(self.served)}{told}", param="model",
                code="model_not_found",
            )  # fmt: skip
        return self.served[name]

    @contextlib.contextmanager
    def using(self, name: str | None) -> Iterator[Served]:
        """A model for the length of a request: it stays until that has its answer, be there a newer one or not."""
        served = self.find(name)
        served.users += 1
        try:
            yield served
        finally:
            served.users -= 1
            self._let_go(served)

    def _let_go(self, served: Served) -> None:
        if served.retired and not served.users:
            served.close()

    def close(self, seconds: float) -> None:
        """End all threads when what waits is done."""
        for served in self.served.values():
            served.close(seconds)

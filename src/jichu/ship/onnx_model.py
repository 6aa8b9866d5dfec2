"""A model in an ONNX file, asked through ONNX Runtime; torch is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jichu.constraints.answering import answered
from jichu.core.errors import DataError, UsageError, missing_extra
from jichu.core.files import fingerprint
from jichu.data.given import Inputs
from jichu.data.lengths import alike
from jichu.data.target import Target

from .signature import TASKS, Signature

PREFIX = "jichu."  # of the keys under which a file says what it is
_ROWS = 256  # asked at once


class OnnxModel:
    """A file that `jichu export` wrote. `signature` says what it reads and gives, and where it comes from."""

    joins = True  # what was read of several inputs can be put together and predicted at once

    def __init__(self, path: str | Path):
        self.path = Path(path)
        content = _content(self.path)
        self._session, self.fingerprint = session(content, where=self.path), fingerprint(content)
        known = self._session.get_modelmeta().custom_metadata_map
        self.signature = Signature.of(
            {key.removeprefix(PREFIX): text for key, text in known.items() if key.startswith(PREFIX)}, path
        )
        self._require_fit()

    def _require_fit(self) -> None:
        """DataError where the graph takes or gives tensors of other shapes than the file says."""
        told = self.signature
        answers = {key: [t.outputs] for key, t in told.targets.items() if t.task in TASKS}
        takes, gives = (
            {tensor.name: list(tensor.shape[1:]) for tensor in tensors}
            for tensors in (self._session.get_inputs(), self._session.get_outputs())
        )
        odd = [name for name, shape in takes.items() if told.shapes.get(name, shape) != shape]
        odd += [name for name, shape in answers.items() if gives.get(name) != shape]
        if odd:
            raise DataError(
                f"damaged: what it says of {odd[0]} is not so of its graph", where=self.path, expected="a file of jichu export"
            )  # fmt: skip

    def __repr__(self) -> str:
        return f"OnnxModel({str(self.path)!r})"

    @property
    def classes(self) -> list[str]:
        """The names of the first target's classes, in the order of its output."""
        return list(next((t.classes for t in self.signature.targets.values()), ()))

    @property
    def config(self) -> Signature:
        """What it reads and predicts, as a run's model tells it."""
        return self.signature

    @property
    def targets(self) -> dict[str, Target]:
        """What it predicts, by head."""
        return self.signature.targets

    def run(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the graph gives, by the names of its outputs, for tensors by those of its inputs."""
        return ask(self._session, tensors)

    def predict(self, items: Any) -> list[dict[str, Any]]:
        """As `Run.predict`: of images, sounds, rows of a table or texts."""
        self.require_head()
        given = self.inputs(items)
        return self.told(given, self.scores(given))

    def require_head(self) -> None:
        """UsageError where what the graph gives is no prediction."""
        targets = self.signature.targets.values()
        odd = [target.task for target in targets if target.task not in TASKS]
        if odd or not targets:
            gives = " and ".join(odd or self.signature.outputs)
            raise UsageError(
                f"{self.path} gives {gives}, which is no prediction to be told row by row",
                expected="jichu predict RUN, or its tensors by .run",
            )

    def inputs(self, items: Any) -> Inputs:
        """What the graph reads of inputs, as for `predict`."""
        return self.signature.arrays(items)

    def scores(self, given: Inputs) -> dict[str, np.ndarray]:
        """Of each target what the graph says: probabilities [N, K], or numbers [N, Q]."""
        varies = isinstance(self.signature.inputs.get("tokens", [0, 0])[1], str)
        lengths = (given.tensors["tokens"] >= 0).sum(1) if varies else np.ones(len(given.names), int)
        order = np.argsort(-lengths, kind="stable")
        parts = []
        for cut in alike(lengths[order], _ROWS):
            asked = {name: array[order[cut]] for name, array in given.tensors.items()}
            if varies:
                asked["tokens"] = asked["tokens"][:, : lengths[order[cut]].max()]
            parts.append(self.run(asked))
        place = np.argsort(order)
        return {
            key: np.concatenate([part[key] for part in parts]).astype(np.float64)[place]
            for key in self.signature.targets
        }

    def told(self, given: Inputs, scores: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """What is said of inputs in the end, answers that keep the rules."""
        return answered(given.names, self.signature.targets, scores, self.signature.kept, given.columns)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"no file at {path}: {error.strerror}", expected="an ONNX file") from None


def session(model: Path | bytes, threads: int = 0, where: Path | None = None) -> Any:
    """ONNX Runtime's session of a file, or of its bytes, which are from `where`, on so many threads, or as many as it likes.
    DataError where it is no graph."""
    try:
        import onnxruntime
    except ImportError:
        raise missing_extra("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what it advises is for those who make graphs
    if threads:  # and those that wait for more to do stand not in the way of another graph's
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors have no common class
        told = str(error).split("\n")[0]
        raise DataError(
            f"ONNX Runtime cannot read it: {told}", where=where, expected="an ONNX file"
        ) from None


def ask(opened: Any, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A session's outputs by name. What the graph does not look at is left out."""
    wanted = {given.name for given in opened.get_inputs()}
    outputs = [made.name for made in opened.get_outputs()]
    return dict(
        zip(outputs, opened.run(None, {n: t for n, t in tensors.items() if n in wanted}), strict=True)
    )

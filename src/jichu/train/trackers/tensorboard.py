"""TensorBoard: files of events in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jichu.core.errors import missing_extra

from .base import Row, State, Tracker, Training


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_extra("tensorboard", "tensorboard") from None
    return SummaryWriter


class TensorBoard(Tracker):
    """Every number as a scalar. What was written after the checkpoint is purged and written again."""

    def __init__(self, training: Training, given: bool | str, id: str | None):
        folder = training.folder.path / "tensorboard" / training.stage
        self._step = training.step
        self._writer = _writer()(str(folder), purge_step=training.step + 1)

    @staticmethod
    def check(given: bool | str, where: str) -> None:
        _writer()

    def known(self, name: str) -> int:
        return self._step

    def write(self, rows: list[Row]) -> None:
        for step, values in rows:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self, state: State, results: Mapping[str, Any]) -> None:
        self._writer.close()

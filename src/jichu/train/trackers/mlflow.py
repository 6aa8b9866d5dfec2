"""MLflow: a run of an experiment, in a database in the run folder or on a server."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any

from jichu.core.errors import UsageError, missing_extra
from jichu.core.folder import RunFolder

from .base import PROJECT, Row, State, Tracker, Training, first_line, reach

_STATES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # what is kept here is told to nobody
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # by its own defaults it waits minutes for a server that is gone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_DATABASE = Path("mlflow", "mlflow.db")  # in the run folder
_NO_NAME = re.compile(r"[^\w\-. :/]", re.ASCII)


class MLflow(Tracker):
    """Rows as metrics, the recipe as parameters, without MLflow's global state of an active run."""

    def __init__(self, training: Training, given: bool | str, id: str | None):
        uri, client = _uri(given), _library()
        with _quietly():
            self._client = client(tracking_uri=uri or _local(training.folder))
            run = self._found(id) or self._begun(training, uri is None)
        self.id = run.info.run_id
        # the public .metrics has no steps
        self._known = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        self.told = (
            _shown(uri)
            if uri
            else f"mlflow ui --backend-store-uri sqlite:///{training.folder.path / _DATABASE}"
        )

    @staticmethod
    def check(given: bool | str, where: str) -> None:
        uri = _uri(given)
        if uri is None and find_spec("mlflow") and not find_spec("alembic"):
            raise missing_extra("the database of mlflow, which mlflow-skinny is without,", "mlflow")
        client = _library()
        if uri is None:
            return
        expected = "a tracking server that answers, or mlflow: true, for a database in the run folder"
        if uri.startswith("http"):
            reach(uri, where, expected)
        try:
            with _quietly():
                client(tracking_uri=uri).search_experiments(max_results=1)
        except Exception as error:  # of a database, of a server, of what it thinks of us
            raise UsageError(
                f"MLflow at {_shown(uri)}: {first_line(error)}", where=where, expected=expected
            ) from None

    def known(self, name: str) -> int:
        return self._known.get(_key(name), -1)

    def write(self, rows: list[Row]) -> None:
        now = int(1000 * time.time())
        numbers = [(_key(name), value, now, step) for step, values in rows for name, value in values.items()]
        self._log("metrics", numbers)

    def close(self, state: State, results: Mapping[str, Any]) -> None:
        numbers = {name: value for name, value in results.items() if isinstance(value, Real)}
        self.write([(0, {n: float(v) for n, v in numbers.items() if self.known(n) < 0})])
        for name in results.keys() - numbers:
            self._client.set_tag(self.id, _key(name), results[name])
        self._client.set_terminated(self.id, _STATES[state])

    def _found(self, id: str | None) -> Any:
        """The run of an earlier session, where the store still has it; it runs again."""
        from mlflow.exceptions import MlflowException

        if id is None:
            return None
        try:
            run = self._client.get_run(id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        if run.info.lifecycle_stage != "active":
            return None
        self._client.update_run(id, status="RUNNING")
        return run

    def _begun(self, training: Training, local: bool) -> Any:
        tags = {"jichu.run": training.run, "jichu.stage": training.stage,
                "mlflow.source.name": str(training.folder.path.resolve()), "mlflow.source.type": "LOCAL"}  # fmt: skip
        run = self._client.create_run(self._experiment(training, local), run_name=training.name, tags=tags)
        self.id = run.info.run_id
        self._log("params", [*_flat(training.settings)])
        return run

    def _experiment(self, training: Training, local: bool) -> str:
        from mlflow.exceptions import MlflowException

        if known := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        # if nothing is said they would go to where the command is given
        artifacts = (training.folder.path / _DATABASE).resolve().with_name("artifacts")
        try:
            if (found := self._client.get_experiment_by_name(name)) is None:
                return self._client.create_experiment(name, artifacts.as_uri() if local else None)
        except MlflowException:  # another made it meanwhile
            if (found := self._client.get_experiment_by_name(name)) is None:
                raise
        return found.experiment_id

    def _log(self, kind: str, items: list[tuple[Any, ...]]) -> None:
        """In as few requests as the tool allows."""
        from mlflow import entities
        from mlflow.utils import validation

        most = {"metrics": validation.MAX_METRICS_PER_BATCH, "params": validation.MAX_PARAMS_TAGS_PER_BATCH}
        of = {"metrics": entities.Metric, "params": entities.Param}[kind]
        made = (of(*item) for item in items)
        while batch := list(itertools.islice(made, most[kind])):
            self._client.log_batch(self.id, **{kind: batch})


def _library() -> Any:
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise missing_extra("mlflow", "mlflow") from None
    return MlflowClient


def _uri(given: bool | str) -> str | None:
    """Where the user wants it; None for the run folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or (given if isinstance(given, str) else None)


def _shown(uri: str) -> str:
    """Without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _local(folder: RunFolder) -> str:
    database = (folder.path / _DATABASE).resolve()
    database.parent.mkdir(exist_ok=True)
    return f"sqlite:///{database.as_posix()}"


def _key(name: str) -> str:
    """A name that MLflow takes."""
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

    return _NO_NAME.sub("_", name)[:MAX_ENTITY_KEY_LENGTH]


def _flat(settings: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its dotted name, a list as one text."""
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield _key(name), str(settings)[:MAX_PARAM_VAL_LENGTH]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what it says of tables that it makes."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(loggers, before, strict=True):
            log.setLevel(level)

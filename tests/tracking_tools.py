"""MLflow and Weights & Biases, as far as a training asks for them, in memory; and what the real ones keep, read back."""

import json
import sys
import time
import types
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType

VARIABLES = ["MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "WANDB_MODE", "WANDB_PROJECT",
             "WANDB_DIR", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_NAME", "WANDB_RUN_GROUP", "WANDB_BASE_URL"]  # fmt: skip


@dataclass
class Seen:
    """What a tool has of a run."""

    name: str
    state: str
    project: str
    settings: dict
    rows: dict = field(default_factory=lambda: defaultdict(list))  # {name: [(step, value)]}
    results: dict = field(default_factory=dict)

    def __post_init__(self):
        self.dotted = dict(_dotted(self.settings))


def _dotted(settings, name=""):
    for key, value in settings.items():
        whole = f"{name}.{key}" if name else key
        if isinstance(value, dict) and value:
            yield from _dotted(value, whole)
        else:
            yield whole, str(value)


def _module(monkeypatch, name, **names):
    made = types.ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    vars(made).update(names)
    monkeypatch.setitem(sys.modules, name, made)


class FakeMlflow:
    """A client with a store in memory; `fails` is called before rows are written."""

    key, states = (
        "mlflow",
        MappingProxyType({"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}),
    )

    def __init__(self, monkeypatch):
        self.runs, self.experiments, self.uris, self.fails, self.batches = {}, {}, [], None, []
        tool = self

        @dataclass
        class Metric:
            key: str
            value: float
            timestamp: int
            step: int

        @dataclass
        class Param:
            key: str
            value: str

        class MlflowException(Exception):
            def __init__(self, told, error_code="INTERNAL_ERROR"):
                super().__init__(told)
                self.error_code = error_code

        class Run:
            def __init__(self, id, experiment, name):
                self.info = types.SimpleNamespace(run_id=id, lifecycle_stage="active", run_name=name)
                self.metrics, self.params, self.tags, self.status, self.experiment = (
                    [],
                    {},
                    {},
                    "RUNNING",
                    experiment,
                )
                self.data = self

            def to_proto(self):
                last = {m.key: m for m in sorted(self.metrics, key=lambda m: m.step)}
                return types.SimpleNamespace(metrics=[*last.values()])

        class MlflowClient:
            def __init__(self, tracking_uri):
                tool.uris.append(tracking_uri)

            def search_experiments(self, max_results):
                return []

            def get_experiment_by_name(self, name):
                found = tool.experiments.get(name)
                return found and types.SimpleNamespace(experiment_id=found)

            def create_experiment(self, name, artifact_location=None):
                tool.experiments[name] = name
                return name

            def create_run(self, experiment, run_name, tags):
                run = Run(f"{len(tool.runs):032x}", experiment, run_name)
                run.tags.update(tags)
                return tool.runs.setdefault(run.info.run_id, run)

            def get_run(self, id):
                if id not in tool.runs:
                    raise MlflowException("gone", "RESOURCE_DOES_NOT_EXIST")
                return tool.runs[id]

            def update_run(self, id, status):
                tool.runs[id].status = status

            def log_batch(self, id, metrics=(), params=()):
                assert len(metrics) <= 1000 and len(params) <= 100
                if tool.fails and metrics:
                    tool.fails()
                tool.batches.append(len(metrics))
                tool.runs[id].metrics += metrics
                tool.runs[id].params.update({p.key: p.value for p in params})

            def set_tag(self, id, key, value):
                tool.runs[id].tags[key] = value

            def set_terminated(self, id, status):
                tool.runs[id].status = status

        entities = types.SimpleNamespace(Metric=Metric, Param=Param)
        _module(monkeypatch, "mlflow", MlflowClient=MlflowClient, entities=entities, __path__=[])
        _module(monkeypatch, "mlflow.entities", **vars(entities))
        _module(monkeypatch, "mlflow.exceptions", MlflowException=MlflowException)
        limits = {"MAX_METRICS_PER_BATCH": 1000, "MAX_PARAMS_TAGS_PER_BATCH": 100, "MAX_ENTITY_KEY_LENGTH": 250,
                  "MAX_PARAM_VAL_LENGTH": 6000}  # fmt: skip
        _module(monkeypatch, "mlflow.utils", __path__=[])
        _module(monkeypatch, "mlflow.utils.validation", **limits)
        _module(monkeypatch, "alembic")

    def read(self, folder):
        found = []
        for run in self.runs.values():
            seen = Seen(run.info.run_name, run.status, run.experiment, run.params)
            for metric in run.metrics:
                seen.rows[metric.key].append((metric.step, metric.value))
            seen.results = {k: v[-1][1] for k, v in seen.rows.items() if v[-1][0] == 0} | run.tags
            found.append(seen)
        return found


class FakeWandb:
    """Files in memory, one of each time that a run is opened, which are joined when they are read."""

    key, states = "wandb", MappingProxyType({"finished": 0, "failed": 1, "interrupted": 255})

    def __init__(self, monkeypatch):
        self.files, self.fails = [], None
        tool = self

        class Run:
            def __init__(self, given):
                self.given, self.rows, self.summary, self.code = given, [], {}, None
                self.offline = given["mode"] == "offline"
                before = [s for f in tool.files if f.given["id"] == given["id"] for s, _ in f.rows]
                self.step = 0 if self.offline or not before else max(before) + 1
                self.dir, self.url = "there/wandb/run/files", "https://wandb.ai/run"

            def log(self, values, step):
                if tool.fails:
                    tool.fails()
                self.rows.append((step, dict(values)))

            def finish(self, exit_code):
                self.code = exit_code

        def init(**given):
            tool.files.append(Run(given))
            return tool.files[-1]

        _module(monkeypatch, "wandb", init=init, Settings=lambda **given: given)

    def read(self, folder):
        found = {}
        for file in self.files:
            given = file.given
            seen = found.setdefault(
                given["id"], Seen(given["name"], "", given.get("project", ""), given["config"])
            )
            seen.state = file.code
            for step, values in file.rows:
                for name, value in values.items():
                    seen.rows[name].append((step, value))
            seen.results |= file.summary
        return [*found.values()]


class RealMlflow:
    """What is in the database of the run folder."""

    key, states = "mlflow", FakeMlflow.states

    def read(self, folder):
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow/mlflow.db")
        experiments = {e.experiment_id: e.name for e in client.search_experiments()}
        found = []
        for run in reversed(client.search_runs([*experiments])):
            seen = Seen(
                run.info.run_name, run.info.status, experiments[run.info.experiment_id], run.data.params
            )
            for name in run.data.metrics:
                history = client.get_metric_history(run.info.run_id, name)
                seen.rows[name] = [(m.step, m.value) for m in history]
            seen.results = {k: v[-1][1] for k, v in seen.rows.items() if v[-1][0] == 0} | run.data.tags
            found.append(seen)
        return found


class RealWandb:
    """What is in the files of the run folder, those of a run in the order in which they were begun."""

    key, states = "wandb", FakeWandb.states

    def read(self, folder):
        found = {}
        for file in sorted(
            Path(folder).glob("wandb/offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime_ns
        ):
            records = _ended(file)
            run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
            settings = {u.key: json.loads(u.value_json) for u in run.config.update if u.key != "_wandb"}
            seen = found.setdefault(run.run_id, Seen(run.display_name, "", run.project, settings))
            for record in records:
                kind = record.WhichOneof("record_type")
                if kind == "exit":
                    seen.state = record.exit.exit_code
                if kind == "history":
                    values = {
                        i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item
                    }
                    for name in values.keys() - {"_step", "_runtime", "_timestamp"}:
                        seen.rows[name].append((values["_step"], values[name]))
                if kind == "summary":
                    seen.results |= {u.key or ".".join(u.nested_key): json.loads(u.value_json)
                                     for u in record.summary.update}  # fmt: skip
        return [*found.values()]


def _ended(file):
    """The records of a file, once its service has written the last."""
    for _ in range(100):
        records = [*_records(file)]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)
    raise AssertionError(f"{file} has no end")


def _records(file):
    """The records of a `.wandb` file: seven bytes, then LevelDB's log of protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""

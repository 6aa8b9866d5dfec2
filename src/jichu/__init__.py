"""Jichu (基础): from raw data to a served, audited foundation model.

    data = jichu.load("photos/")
    run = jichu.pretrain(data, budget="10m")
    run = jichu.finetune(run, data, adapt="head")
    run.predict("photo.jpg")

Everything public is on this page; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    # the verbs
    "load": "jichu.api",
    "inspect": "jichu.api",
    "run": "jichu.api",
    "pretrain": "jichu.api",
    "finetune": "jichu.api",
    "compress": "jichu.api",
    "audit": "jichu.audits",
    "export": "jichu.exports",
    "compare": "jichu.comparing",
    "serve": "jichu.serving",
    "board": "jichu.tracking.board",
    "drift": "jichu.drifts",
    # what they give back
    "Dataset": "jichu.data.dataset",
    "Run": "jichu.runs",
    "Runs": "jichu.tracking.runs",
    "JichuError": "jichu.core.errors",
    # to build your own
    "fit": "jichu.train.fit",
    "TrainConfig": "jichu.train.config",
    "Batches": "jichu.data.batches",
    "Objective": "jichu.objectives.base",
    "Backbone": "jichu.models.backbone",
    "Features": "jichu.models.backbone",
    "Model": "jichu.models.model",
    "check_objective": "jichu.train.checks",
    "check_backbone": "jichu.train.checks",
}

__all__ = ["__version__", "open", *_PUBLIC]


def open(path: str, backbone: Any = None) -> Any:
    """The run in a folder, `jichu.open("runs/quickstart").predict("digit.png")`; or the model in an .onnx file of `export`,
    which predicts without torch."""
    if str(path).endswith(".onnx"):
        from jichu.ship.onnx_model import OnnxModel

        return OnnxModel(path)
    from jichu.runs import Run

    return Run(path, backbone)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'jichu' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from jichu.api import compress as compress
    from jichu.api import finetune as finetune
    from jichu.api import inspect as inspect
    from jichu.api import load as load
    from jichu.api import pretrain as pretrain
    from jichu.audits import audit as audit
    from jichu.comparing import compare as compare
    from jichu.data.batches import Batches as Batches
    from jichu.data.dataset import Dataset as Dataset
    from jichu.drifts import drift as drift
    from jichu.exports import export as export
    from jichu.models.backbone import Backbone as Backbone
    from jichu.models.backbone import Features as Features
    from jichu.models.model import Model as Model
    from jichu.objectives.base import Objective as Objective
    from jichu.runs import Run as Run
    from jichu.serving import serve as serve
    from jichu.tracking.board import board as board
    from jichu.tracking.runs import Runs as Runs
    from jichu.train.checks import check_backbone as check_backbone
    from jichu.train.checks import check_objective as check_objective
    from jichu.train.config import TrainConfig as TrainConfig
    from jichu.train.fit import fit as fit

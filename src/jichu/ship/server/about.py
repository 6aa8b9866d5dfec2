"""What is told of a model: what it reads and says, and what more can be asked here."""

from __future__ import annotations

import contextlib
from typing import Any

from jichu.core.errors import UsageError
from jichu.ship.onnx_model import OnnxModel

from .models import Served
from .service import Service


def about(served: Served, service: Service) -> dict[str, Any]:
    """As OpenAI's clients read it, and more."""
    run, targets = served.run, list(served.run.targets.values())
    table, text, series = run.config.table, run.config.text, run.config.series
    asked = not isinstance(run, OnnxModel) and served.kind != "series"
    return {
        "id": served.name, "object": "model", "created": served.created, "owned_by": "jichu",
        "system_fingerprint": served.version, "reads": served.kind, "writes": served.writing is not None,
        "predicts": {
            t.column: {"task": t.task, "classes": list(t.classes), "calibrated": t.temperature != 1} for t in targets
        },
        "context": text.context if text else None, "pair": bool(text and text.pair), "chats": _chats(served),
        "columns": {name: {"kind": kind, "classes": table.categories.get(name)} for name, kind in table.kinds.items()} if table
        else {name: {"kind": "number", "classes": None} for name in series.columns} if series else {},
        "series": {"steps": series.steps, **_order(served)} if series else None,
        "explains": asked and bool(targets) and not run.config.language, "shows": asked and service.settings.play,
        "classes": any(target.task == "classification" for target in targets), "keeps": service.keeper is not None,
    }  # fmt: skip


def _order(served: Served) -> dict[str, Any]:
    """The columns of a series' times, and of which series a row is."""
    how = None if isinstance(served.run, OnnxModel) else served.run.recipe.data.series
    return {"time": how.time if how else None, "by": how.by if how else None}


def _chats(served: Served) -> bool:
    with contextlib.suppress(UsageError):
        if served.writing is not None:
            served.whole.require_chat()
            return True
    return False

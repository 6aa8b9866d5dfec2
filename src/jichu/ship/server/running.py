"""The server of models."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp

from .app import FREE, build
from .errors import Refused
from .gate import Log
from .metrics import Metrics
from .models import Models, Open
from .process import Process, log
from .service import Service
from .settings import Settings


class Running(Process):
    """A server of models."""

    def __init__(
        self,
        paths: dict[str, Path],
        opened: Open,
        settings: Settings,
        tokens: Path | None = None,
        log: Log = log,
    ):
        def made(metrics: Metrics) -> ASGIApp:
            self.models = Models(paths, opened, settings, metrics)
            app = build(self.models, settings, metrics)
            self.service: Service = app.state.service
            return app

        super().__init__(made, settings, tokens, log, FREE)

    @property
    def versions(self) -> list[str]:
        """Of the models that are served."""
        return [served.version for served in self.models.served.values()]

    def end(self) -> None:
        """As of every server, and be told as ending."""
        self.service.ending = True
        super().end()

    async def _again(self) -> None:
        await super()._again()
        for name in self.models.paths:
            try:
                version = (await self.models.reload(name)).version
                self.log({"event": "model read again", "name": name, "model": version})
            except Refused as refused:
                self.log({"event": "model not read again", "name": name, "error": refused.detail})

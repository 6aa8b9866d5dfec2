"""The paths of the playground, which show rows of a run's data: held-out ones, the nearest training rows, what would
change an answer, a map. A server that was not asked to show them gives none away."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request, Response

from jichu.core.config import Config, check

from . import items
from .document import asked_by, asks
from .errors import Refused, as_json
from .forms import CounterfactualRequest, MapQuery, NeighboursRequest, SamplesQuery
from .models import Served
from .service import Service

if TYPE_CHECKING:
    from jichu.runs import Run

_Form = TypeVar("_Form", bound=Config)


def add(app: FastAPI, service: Service) -> None:
    """The paths."""

    async def asked(request: Request, served: Served, call: Callable[[Run], Any], rows: int = 1) -> Response:
        found = await service.wait(request, _shown(service, served).ask(call, rows))
        return as_json({"model": served.name, "system_fingerprint": served.version, **found})

    @app.get(
        "/v1/models/{name}/samples",
        summary="Held-out rows, and what is said of them",
        openapi_extra=asked_by(SamplesQuery),
    )
    async def samples(name: str, request: Request) -> Response:
        with service.using(request, name) as served:
            query = _query(request, SamplesQuery)
            how = query.model_dump(exclude={"row"})
            row = query.row
            return await asked(
                request, served,
                lambda run: run.samples(**how).plain() if row is None else {"sample": run.sample(row).plain(whole=True)},
            )  # fmt: skip

    @app.get(
        "/v1/models/{name}/map", summary="Rows on a plane, like beside like", openapi_extra=asked_by(MapQuery)
    )
    async def map_of(name: str, request: Request) -> Response:
        with service.using(request, name) as served:
            query = _query(request, MapQuery)
            return await asked(request, served, lambda run: run.map(query.part).plain())

    @app.post(
        "/v1/neighbours",
        summary="The training rows that inputs are most like",
        openapi_extra=asks(NeighboursRequest),
    )
    async def neighbours(request: Request) -> Response:
        form = await service.read(request, NeighboursRequest)
        with service.using(request, form.model) as served:
            given = await _given(service, request, served, form.inputs)

            def call(run: Run) -> dict[str, Any]:
                near = [[one.plain() for one in some] for some in run.neighbours(given, form.k)]
                places = run.map().place(run.embed(given)).round(4).tolist() if form.place else []
                return {"neighbours": near} | ({"places": places} if form.place else {})

            return await asked(request, served, call, len(given))

    @app.post(
        "/v1/counterfactual", summary="What would change an answer", openapi_extra=asks(CounterfactualRequest)
    )
    async def counterfactual(request: Request) -> Response:
        form = await service.read(request, CounterfactualRequest)
        with service.using(request, form.model) as served:
            given = await _given(service, request, served, form.inputs)
            how: dict[str, Any] = form.model_dump(exclude={"model", "inputs"})
            return await asked(
                request, served,
                lambda run: {"counterfactuals": [one.plain() for one in run.counterfactual(given, **how)]}, len(given),
            )  # fmt: skip


async def _given(service: Service, request: Request, served: Served, inputs: list[Any]) -> list[Any]:
    service.count(request, len(inputs))
    _shown(service, served)
    return await service.aside(request, items.of_json, inputs, served.run)


def _shown(service: Service, served: Served) -> Any:
    """What looks at the data. 403 where they are not to be shown, 400 where the model is a graph alone."""
    if not service.settings.play:
        raise Refused(
            403, "this server shows no data; expected one that was started with --open, or --set play=true", code="not_shown"
        )  # fmt: skip
    if served.shown is None:
        _ = served.whole
    assert served.shown is not None
    return served.shown


def _query(request: Request, form: type[_Form]) -> _Form:
    """The keys in an address in their form."""
    return check(form, dict(request.query_params))

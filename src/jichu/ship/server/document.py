"""The OpenAPI document, from which /docs is drawn."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from jichu.core.config import Config

from .forms import REQUESTS

_PLACE = "#/components/schemas/{model}"
ERRORS = {
    400: "The request is wrong", 401: "No token, or none that holds", 403: "Not with this token, or not by this server",
    404: "No such model or path", 405: "Not by this method", 408: "It did not come in time", 409: "The model cannot be used",
    413: "Too large", 415: "A body of another type", 429: "Too many requests of this key", 503: "Too many requests",
    504: "No answer in time", 507: "No room to keep it",
}  # fmt: skip
_ERROR = {
    "type": "object", "required": ["error"],
    "properties": {
        "error": {
            "type": "object", "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}  # fmt: skip


def asks(form: type[Config], **others: Any) -> dict[str, Any]:
    """That a path takes JSON in a form; `others` are the schemas of other types of bodies."""
    forms = {"application/json": {"$ref": _PLACE.format(model=form.__name__)}, **others}
    content = {kind: {"schema": schema} for kind, schema in forms.items()}
    return {"requestBody": {"required": True, "content": content}}


def asked_by(form: type[Config]) -> dict[str, Any]:
    """That a path takes the keys of a form in its address."""
    schema = form.model_json_schema()
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": part}
            for name, part in schema["properties"].items()
        ]
    }


def openapi(app: FastAPI) -> dict[str, Any]:
    """The document, with the forms that requests have and the errors that may come."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _, schemas = models_json_schema([(form, "validation") for form in REQUESTS], ref_template=_PLACE)
        forms = {**schemas["$defs"], "Error": _ERROR}
        found["components"] = {
            "schemas": forms, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        }  # fmt: skip
        found["security"] = [{"token": []}, {}]
        body = {"application/json": {"schema": {"$ref": _PLACE.format(model="Error")}}}
        for path in found["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"] |= {
                    str(status): {"description": told, "content": body} for status, told in ERRORS.items()
                }
        app.openapi_schema = found
    return app.openapi_schema

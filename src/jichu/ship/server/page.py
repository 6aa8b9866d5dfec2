"""/docs: the OpenAPI document as a page that asks nothing of other servers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jichu.auditing.page import rendered
from jichu.core.files import dumps

from .document import ERRORS

_EXAMPLES = {
    "/v1/predict": {"inputs": ["…"]}, "/v1/explain": {"inputs": ["…"]}, "/v1/embeddings": {"input": ["…"]},
    "/v1/neighbours": {"inputs": ["…"]}, "/v1/counterfactual": {"inputs": ["…"]},
    "/v1/feedback": {"input": "…", "answer": "…"},
    "/v1/completions": {"prompt": "Once upon", "max_tokens": 20},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Good morning"}]},
}  # fmt: skip


def paths(document: dict[str, Any], address: str) -> str:
    """The page of an OpenAPI document; `address` is the server's own, as the client calls it."""
    found = [
        _told(document, address, path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    info = document["info"]
    return rendered(
        Path(__file__).parent / "paths.html.j2", title=info["title"], version=info["version"],
        about=info["description"], paths=found, errors=ERRORS,
    )  # fmt: skip


def _told(document: dict[str, Any], address: str, path: str, method: str, operation: dict[str, Any]) -> Any:
    bodies = operation.get("requestBody", {}).get("content", {})
    form = bodies.get("application/json", {}).get("schema")
    words = ["curl", *(["-X POST"] if method == "post" and form is None else []), f"{address}{path}"]
    if form is not None:
        given = _EXAMPLES.get(path, {})
        words.append(f"-H 'Content-Type: application/json' -d '{dumps(given).strip()}'")
    return {
        "id": re.sub(r"\W+", "-", f"{method}{path}").strip("-"), "method": method.upper(), "path": path,
        "summary": operation["summary"], "others": [kind for kind in bodies if kind != "application/json"],
        "fields": _fields(document, form) if form is not None else [], "example": " ".join(words),
    }  # fmt: skip


def _fields(document: dict[str, Any], form: dict[str, Any]) -> list[dict[str, Any]]:
    schema = _resolved(document, form)
    required = schema.get("required", ())
    return [
        {"name": name, "type": _type(document, part), "told": part.get("description", ""), "required": name in required}
        for name, part in sorted(schema["properties"].items(), key=lambda item: item[0] not in required)
    ]  # fmt: skip


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    place = schema.get("$ref")
    found: dict[str, Any] = document["components"]["schemas"][place.rpartition("/")[2]] if place else schema
    return found


def _type(document: dict[str, Any], schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        kinds = [_type(document, part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return " or ".join(str(value) for value in values)
    if schema.get("type") == "array" and schema.get("items"):
        return f"list of {_type(document, schema['items'])}"
    low, high = (next((schema[k] for k in keys if k in schema), None) for keys in _BOUNDS)
    bounds = f" from {low}" * (low is not None) + f" to {high}" * (high is not None)
    return str(schema.get("type", "anything")) + bounds


_BOUNDS = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")

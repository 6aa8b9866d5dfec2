"""A name and its arguments become an object: `cnn`, `{name: cnn, widths: [32]}`, `my.module:Net`."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from .config import Config, Spec, check
from .errors import UsageError, unknown

# name → "module:attribute", imported only when asked for. A key that ends in a colon, `hf:`, stands for all
# names that begin with it; what it leads to is given the whole name as `name`.
Table = Mapping[str, str]


@functools.cache
def _import_user_folder() -> None:
    """A recipe's own modules are looked for beside where the command is given, after what is installed."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _entry(name: str, table: Table) -> str | None:
    prefix, colon, _ = name.partition(":")
    return table.get(name) or table.get(prefix + colon)


def resolve(kind: str, name: str, table: Table, *, where: object = None) -> Callable[..., Any]:
    """The class or function behind a name of the table or an import path `module:attribute`."""
    own = _entry(name, table)
    path = own or name
    if ":" not in path:
        raise unknown(kind, name, table, where=where)
    module_name, _, attribute = path.partition(":")
    if not own:
        _import_user_folder()
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError, TypeError) as error:  # the last two: no name, a relative one
        missing = getattr(error, "name", None)
        if own or missing not in (None, module_name, module_name.partition(".")[0]):
            raise
        raise UsageError(
            f"no module {module_name!r} for the {kind} {name!r}",
            where=where,
            expected="an import path module:attribute that Python finds from this folder",
        ) from None
    try:
        return functools.reduce(getattr, attribute.split("."), module)  # type: ignore[return-value]
    except AttributeError:
        choices = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise unknown(f"{kind} in {module_name}", attribute, choices, where=where) from None


def _signature(factory: Callable[..., Any], given: set[str]) -> type[Config] | None:
    """A configuration class with the factory's keyword arguments, less those we give; None if open."""
    target = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    hints = typing.get_type_hints(target, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        if parameter.kind is parameter.VAR_POSITIONAL or name in given:
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True, allow_inf_nan=False)
    return create_model("Arguments", __config__=config, **fields)


def construct(
    kind: str,
    spec: Spec,
    table: Table,
    *,
    where: str = "",
    of: type | None = None,
    **given: Any,
) -> Callable[[], Any]:
    """Check a name and its arguments now; the callable that comes back builds the object later.

    `given` are arguments that come from us and not from the user; those that the factory does not
    take are left out. With `of`, an import path must lead to a subclass of it: a file from elsewhere
    that names what to build must not get to call whatever it likes.
    """
    factory = resolve(kind, spec.name, table, where=where)
    if of and not _entry(spec.name, table) and not (isinstance(factory, type) and issubclass(factory, of)):
        raise UsageError(
            f"the {kind} {spec.name!r} is no {of.__name__}",
            where=where,
            expected=f"a subclass of {of.__module__}.{of.__name__}",
        )
    takes = inspect.signature(factory).parameters
    given = {k: v for k, v in {"name": spec.name, **given}.items() if k in takes}
    arguments = spec.arguments
    schema = _signature(factory, set(given))
    if schema is not None:
        checked: BaseModel = check(schema, arguments, where=where)
        arguments = {k: getattr(checked, k) for k in checked.model_fields_set}
    return functools.partial(factory, **given, **arguments)


def import_path(thing: object) -> str:
    """`module:qualified name` of an object's class, to write into a recipe or a model folder."""
    cls = thing if isinstance(thing, type) or inspect.isroutine(thing) else type(thing)
    return f"{cls.__module__}:{cls.__qualname__}"

"""Configuration: typed, keyword-only, checked whole; every fault named with its key, line and cure."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from .durations import Duration
from .errors import UsageError, nearest, shown


class Config(BaseModel):
    """Base of every configuration: unknown keys are errors, values do not change, text is not a number."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        strict=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # of what Spec arguments hold
    )

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, values: Any) -> Any:
        """`{width: 16}` in the place of a named thing changes an argument of the default one."""
        if not isinstance(values, dict):
            return values
        filled = {}
        for name, field in cls.model_fields.items():
            given = values.get(field.alias or name)
            if isinstance(field.default, Spec) and isinstance(given, dict) and "name" not in given:
                filled[field.alias or name] = {"name": field.default.name, **given}
        return {**values, **filled}

    @property
    def changed(self) -> set[str]:
        """The keys whose values are not the defaults, be those written out as in a resolved recipe or not."""
        fields = type(self).model_fields.items()
        return {name for name, field in fields if getattr(self, name) != field.get_default()}


class Spec(Config):
    """A name, and the keyword arguments that go with it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, ser_json_inf_nan="constants")

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that go with the name."""
        return dict(self.model_extra or {})


C = TypeVar("C", bound=Config)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


# A `Spec`; in YAML either `vicreg` or `{name: vicreg, width: 64}`.
Named = Annotated[Spec, BeforeValidator(_named)]


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} needs a unit: 10m, 3 epochs or 2000 steps")
    try:
        Duration.parse(value)
    except UsageError as error:
        raise ValueError(f"{error.what}; expected {error.expected}") from None
    return value


# A duration as the user wrote it; `Duration.parse` gives its value.
DurationText = Annotated[str, BeforeValidator(_duration)]


class _Loader(yaml.SafeLoader):
    """YAML of plain values, in which a key given twice is an error. A date, and every key, is text, as in JSON."""


_Loader.yaml_constructors = {}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _refused(key_node, "a key that is a list or a mapping")
        loader.construct_object(key_node)  # refused, if it is nothing plain
        key = key_node.value
        if key in result:
            raise _refused(key_node, f"the key {shown(key)} is given twice")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(item, deep=True) for item in node.value]


def _scalar(read: Callable[[_Loader, Any], Any]) -> Callable[[_Loader, Any], Any]:
    """What PyYAML makes of a scalar, if it is one, its tag means it, and it can be written again."""

    def made(loader: _Loader, node: yaml.Node) -> Any:
        try:
            value = read(loader, node)
        except (ValueError, LookupError):
            raise _refused(node, f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}") from None
        if isinstance(value, int) and value.bit_length() > 64:
            raise _refused(node, "a whole number of more than 64 bits")
        if isinstance(value, str) and not value.isprintable() and _NO_TEXT.search(value):
            raise _refused(node, f"{shown(value)} holds what is no text")
        return value

    return made


_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what no file and no file's name can hold
_KINDS: dict[str, tuple[type, Any]] = {
    "map": (yaml.MappingNode, _mapping),
    "seq": (yaml.SequenceNode, _sequence),
    "null": (yaml.ScalarNode, _scalar(_Loader.construct_yaml_null)),
    "bool": (yaml.ScalarNode, _scalar(_Loader.construct_yaml_bool)),
    "int": (yaml.ScalarNode, _scalar(_Loader.construct_yaml_int)),
    "float": (yaml.ScalarNode, _scalar(_Loader.construct_yaml_float)),
    "str": (yaml.ScalarNode, _scalar(_Loader.construct_yaml_str)),
}


def _construct(loader: _Loader, node: yaml.Node) -> Any:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    of, build = _KINDS.get(kind, (None, None))
    if of is None or build is None or not isinstance(node, of):
        raise _refused(node, f"{shown(node.tag)} stands for no plain value of this kind")
    return build(loader, node)


_Loader.add_constructor(None, _construct)


def _refused(node: yaml.Node, what: str) -> UsageError:
    return UsageError(what, where=f"{node.start_mark.name}:{node.start_mark.line + 1}")


def _measure(node: yaml.Node, found: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a document holds and how deep they stand, an alias counted as all that it stands
    for: a few lines of aliases of aliases mean more than any memory takes. UsageError for too much."""
    if id(node) not in found:
        found[id(node)] = 1, _DEEPEST  # for an alias within what it stands for
        inside = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for item in inside for part in (item if isinstance(item, tuple) else (item,)))
        sizes = [_measure(part, found) for part in parts]
        count, depth = 1 + sum(s[0] for s in sizes), 1 + max((s[1] for s in sizes), default=0)
        if count > _MOST or depth > _DEEPEST:
            raise _refused(node, f"more than {_MOST:,} values, or {_DEEPEST} levels of them")
        found[id(node)] = count, depth
    return found[id(node)]


_MOST, _DEEPEST = 100_000, 100


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would not take for the text that it is."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)

# YAML 1.1 takes 1e-3 for text; everybody means a number by it
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def dump_yaml(value: Any, *, inline: bool = False) -> str:
    """YAML that `parse_yaml` reads as the same value; `inline` on one line."""
    text = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"),
        default_flow_style=inline,
    )  # fmt: skip
    return text.strip().removesuffix("\n...") if inline else text


def parse_yaml(text: str, name: str = "the value") -> Any:
    """Parse one YAML document; UsageError with the line where it cannot be."""
    try:
        loader = _Loader(text)
        loader.name = name
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: an escape beyond Unicode
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise UsageError(f"not valid YAML: {problem}", where=where) from None
    except RecursionError:
        raise UsageError(f"more than {_DEEPEST} levels of values", where=name) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not there, not UTF-8
        raise UsageError(f"cannot read {path}: {error}", expected="a YAML file in UTF-8") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds {type(value).__name__}", expected="a mapping of keys to values")
    return value


def override(tree: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Apply `a.b=value` assignments to a tree. An item of a list is addressed by index or `name`."""
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--set {shown(text)} assigns nothing", expected="key.path=value")
        node: Any = tree
        keys = path.split(".")
        for i, key in enumerate(keys):
            last = i == len(keys) - 1
            where = f"--set {path[:200]}"
            at: Any = key
            if isinstance(node, list):
                at = _item(node, key, where)
            elif not isinstance(node, dict):
                raise UsageError(f"{'.'.join(keys[:i])} is {shown(node)} and has no keys", where=where)
            if last:
                node[at] = parse_yaml(value, where)
            else:
                if isinstance(node, dict) and isinstance(node.get(key), str):
                    node[key] = {"name": node[key]}  # `objective: lejepa` gains an argument
                node = node[at] if isinstance(node, list) else node.setdefault(at, {})
    return tree


def _item(items: list[Any], key: str, where: str) -> int:
    if key in map(str, range(len(items))):
        return int(key)
    names = [i.get("name", i.get("stage")) for i in items if isinstance(i, dict)]
    if key in names:
        return names.index(key)
    raise UsageError(
        f"no item {shown(key)}", where=where, expected=f"one of {shown(names)}", nearest=nearest(key, names)
    )


def check(cls: type[C], values: Any, *, where: str = "") -> C:
    """Build `cls`, or raise one UsageError that lists every fault."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        found = [fault for fault in error.errors() if not _other_branch(fault)] or error.errors()
        faults = [_fault(cls, fault) for fault in found]
        if len(faults) == 1:
            key, what, expected, near = faults[0]
            raise UsageError(
                what, where=":".join(filter(None, [where, key])), expected=expected, nearest=near
            ) from None
        lines = [
            f"\n  {key}: {what}"
            + (f"; expected {expected}" if expected else "")
            + (f"; did you mean {near}?" if near else "")
            for key, what, expected, near in faults
        ]
        raise UsageError(f"{len(faults)} faults:" + "".join(lines), where=where or None) from None


def _other_branch(fault: Any) -> bool:
    """Of a key that takes a word or a mapping, the complaint of the kind that was not meant."""
    word = isinstance(fault.get("input"), str)
    of_word = str(fault["loc"][-1]).startswith("literal[") if fault["loc"] else False
    return (of_word and not word) or (fault["type"] == "model_type" and word)


def _fault(cls: type[BaseModel], fault: Any) -> tuple[str, str, str | None, str | None]:
    """(key path, what is wrong, what was expected, nearest) of one pydantic fault."""
    location = [p for p in fault["loc"] if not str(p).startswith(("function-", "literal[", "constrained-"))]
    owner: Any = cls
    path: list[str] = []
    for part in location[:-1]:
        owner, written = _step(owner, part)
        if written:
            path.append(str(part))
    key = str(location[-1]) if location else ""
    where = ".".join([*path, key])
    if fault["type"] == "extra_forbidden":
        keys = _keys(owner)
        return (
            where,
            f"unknown key {shown(key)}",
            f"one of {', '.join(keys)}" if keys else "no key",
            nearest(key, keys),
        )
    if fault["type"] == "missing":
        return where, f"the key {key!r} is missing", None, None
    if fault["type"].startswith("union_tag"):
        context = fault.get("ctx", {})
        found, tags = context.get("tag"), context.get("expected_tags", "").replace("'", "").split(", ")
        name = context.get("discriminator", "").strip("'")
        if found is None:
            return (
                f"{where}.{name}",
                f"the key {name!r} is missing",
                ", ".join(tags) and f"one of {', '.join(tags)}",
                None,
            )
        return (
            f"{where}.{name}",
            f"unknown {name} {shown(found)}",
            f"one of {', '.join(tags)}",
            nearest(found, tags),
        )
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    found = fault.get("input")
    if fault["type"] == "value_error":
        return where, message, None, None
    near = None
    if fault["type"] == "literal_error":
        near = nearest(str(found), [w.strip("' ") for w in message.replace(" or ", ",").split(",")])
    message = re.sub(r"\ba valid (?=[aeio])", "an ", message).replace("valid ", "")
    message = re.sub(r"\w+ should have (at (?:least|most) \d+ \w+).*", r"\1", message)
    message = re.sub(r"a dictionary or instance of \w+", "a mapping of keys to values", message)
    return where, f"found {shown(found)}", message, near


def _step(owner: Any, part: Any) -> tuple[Any, bool]:
    """The type under `part` of the type `owner`, and whether `part` is a key the user wrote."""
    for candidate in models_in(owner):
        for name, field in candidate.model_fields.items():
            if part in (name, field.alias):
                return field.annotation, True
    members = [m for m in models_in(owner) if part in (m.__name__, m.model_fields.get("stage") and _tag(m))]
    if members:
        return members[0], False
    return owner, isinstance(part, int) or not models_in(owner)


def _tag(model: type[BaseModel]) -> Any:
    arguments = get_args(model.model_fields["stage"].annotation)
    return arguments[0] if arguments else None


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The configuration classes inside an annotation such as `list[Annotated[A | B, ...]]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict, Annotated):
        return [m for a in get_args(annotation) for m in models_in(a)]
    return []


def _keys(owner: Any) -> list[str]:
    return sorted({f.alias or name for model in models_in(owner) for name, f in model.model_fields.items()})

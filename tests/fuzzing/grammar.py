"""Recipes drawn from the configuration classes and the tables of names."""

import functools
import inspect
import types
import typing

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jichu.core.config import Spec
from jichu.core.names import resolve
from jichu.data.readers import READERS
from jichu.metrics import METRICS
from jichu.models import BACKBONES, HEADS, INITIALISATIONS
from jichu.objectives import OBJECTIVES
from jichu.recipe.config import Recipe
from jichu.train.schedules import AVERAGES, SCHEDULES

from .mutations import odd

TABLES = {
    "backbone": BACKBONES, "head": HEADS, "objective": OBJECTIVES, "wrap": OBJECTIVES, "metrics": METRICS,
    "initialise": INITIALISATIONS, "schedule": SCHEDULES, "average": AVERAGES, "reader": READERS,
}  # fmt: skip
_DURATIONS = ("2 steps", "1 steps", "1 epochs", "3 epochs", "90s", "10m", "1.5h", "2k steps", "50M tokens")
_TEXTS = {
    "path": ("data.csv", "sklearn:iris", "nowhere", "photos"), "target": ("label", "y", "x0"),
    "adapt": ("full", "head", "discriminative"), "monitor": ("validation_loss", "accuracy"),
    "device": ("auto", "cpu", "cuda", "cuda:9"), "name": ("a", "b", "first", "second", "audit"),
    "result": ("a", "b", "first"), "from": ("a", "b", "first"), "weights": ("w.pth", "w.safetensors"),
    "gain": ("a", "b", "first"), "budget": _DURATIONS, "checkpoint_every": _DURATIONS,
}  # fmt: skip
_LENGTHS = {"min_length": 0, "max_length": 9}
# arguments that the library itself gives
_OURS = ("progress", "step", "steps", "inner", "network", "targets", "spread", "augment", "channels", "size", "numbers",
         "categories", "path", "truth", "scores", "weights", "width", "outputs", "task", "quantiles", "categorical")  # fmt: skip


def recipe(rng):
    """A recipe whose every value has the right type, though few of them go together."""
    return sample(rng, Recipe)


def sample(rng, annotation, key="", metadata=()):
    """A value of an annotation, within its bounds."""
    if isinstance(annotation, FieldInfo):
        return sample(rng, annotation.annotation, key, [*metadata, *annotation.metadata])
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = [m for a in arguments[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])]
        return sample(rng, arguments[0], key, [*metadata, *inner])
    if origin in (typing.Union, types.UnionType):
        return sample(rng, rng.choice(arguments), key, metadata)
    if origin is typing.Literal:
        return rng.choice(arguments)
    bounds = {
        name: getattr(m, name) for m in metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)
    }
    if origin in (list, tuple):
        least, most = (
            next((getattr(m, k) for m in metadata if hasattr(m, k)), v) for k, v in _LENGTHS.items()
        )
        count = min(least + rng.choice((0, 0, 1, 3)), most)
        return [sample(rng, (arguments or (typing.Any,))[0], key) for _ in range(count)]
    if origin is dict:
        return {sample(rng, str, "target"): sample(rng, arguments[1], key) for _ in range(rng.randrange(3))}
    if annotation is Spec:
        return named(rng, key)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {
            field.alias or name: sample(rng, field, field.alias or name)
            for name, field in annotation.model_fields.items()
            if field.is_required() or name == "stage" or rng.random() < 0.3
        }
    if annotation in (int, float):
        low = bounds.get("ge", bounds.get("gt", 0))
        high = min(bounds.get("le", bounds.get("lt", low + 8)), low + 64)
        return (
            rng.randint(int(low), max(int(low), int(high))) if annotation is int else rng.uniform(low, high)
        )
    if annotation is bool:
        return rng.random() < 0.5
    if annotation is str:
        return rng.choice(_TEXTS.get(key, ("a", "x0", "label", "*", "", "日")))
    return None if annotation is type(None) else odd(rng)


def named(rng, key):
    """A name of the table that the key stands for, perhaps with some of its arguments."""
    table = TABLES.get(key, BACKBONES)
    name = rng.choice([n for n in table if not n.endswith(":")])
    if rng.random() < 0.4:
        return name
    fields = _arguments(table[name])
    taken = {n: a for n, a in fields.items() if rng.random() < 0.3}
    return {"name": name} | {n: sample(rng, a, n) for n, a in taken.items()}


@functools.cache
def _arguments(path):
    factory = resolve("", path, {})
    hints = typing.get_type_hints(
        factory.__init__ if isinstance(factory, type) else factory, include_extras=True
    )
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(factory).parameters.values()
    return {p.name: hints.get(p.name, typing.Any) for p in found if p.kind in kinds and p.name not in _OURS}

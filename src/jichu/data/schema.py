"""What each column is for, and how the columns of a table become the tensors a network reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from jichu.core.errors import DataError, UsageError, nearest, unknown

from .config import DataConfig
from .source import SPLITS, UNLABELLED, Column, distinct
from .target import Target

LABEL = "label"  # the tensor of the first target, whatever its column is called
WEIGHT = "weight"  # the tensor of how much each row counts
NAMES = ("label", "labels", "target", "class", "y")  # taken for the target where none is named
TEXTS = ("text", "texts", "content", "document", "sentence", "review", "body", "paragraphs", "question")
MOST_CATEGORIES = 1000  # the more frequent ones of a column; the others count as unknown
_FEW = 20  # a target of at most so many different whole numbers is a class
_PARTS = ("day", "month", "weekday", "hour")  # what of a time a network is told


@dataclass(frozen=True)
class TableSchema:
    """The inputs of a table in the order of the tensors `numbers` [N, F] and `categories` [N, G].

    A time becomes the numbers `name:day` (days since 1970), `name:month`, `name:weekday` and
    `name:hour`. A category's code is its place in the list plus 1; 0 is missing or not listed.
    """

    numbers: tuple[str, ...] = ()
    timestamps: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def number_names(self) -> list[str]:
        """The columns of `numbers`."""
        return [*self.numbers, *(f"{name}:{part}" for name in self.timestamps for part in _PARTS)]

    @property
    def kinds(self) -> dict[str, Any]:
        """The type of each column that is read."""
        kinds = dict.fromkeys(self.numbers, "number") | dict.fromkeys(self.timestamps, "timestamp")
        return kinds | dict.fromkeys(self.categories, "category")

    @property
    def sizes(self) -> list[int]:
        """How many codes each column of `categories` has."""
        return [len(names) + 1 for names in self.categories.values()]

    def encode(self, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """The tensors of some rows. DataError where a column is missing or of another kind."""
        kinds = self.kinds
        for name, kind in kinds.items():
            if name not in columns:
                raise DataError(
                    f"the column {name!r} is missing", expected=f"the columns {', '.join(kinds)}",
                    nearest=nearest(name, columns),
                )  # fmt: skip
            if columns[name].kind != kind:
                raise DataError(f"the column {name!r} is of kind {columns[name].kind}", expected=kind)
        rows = len(next(iter(columns.values())).values) if kinds else 0
        blocks = {}
        if names := self.number_names:
            block = blocks["numbers"] = np.empty((rows, len(names)), np.float32)
            parts = (part for name in self.timestamps for part in _parts(columns[name].values))
            for i, values in enumerate(itertools.chain((columns[n].values for n in self.numbers), parts)):
                block[:, i] = values
        if self.categories:
            codes = blocks["categories"] = np.empty((rows, len(self.categories)), np.int64)
            for i, (name, known) in enumerate(self.categories.items()):
                codes[:, i] = _codes(columns[name], known)
        return blocks

    def decode(self, name: str, tensors: Mapping[str, Any]) -> Column:
        """A column as it was before it was encoded; of times, which are kept as days in float32, to about a minute."""
        kind = self.kinds[name]
        if kind == "category":
            codes = tensors["categories"][:, list(self.categories).index(name)].numpy()
            return Column(kind, codes - 1, self.categories[name])
        place = self.number_names.index(name if kind == "number" else f"{name}:day")
        values = tensors["numbers"][:, place].numpy().astype(np.float64)
        if kind == "number":
            return Column(kind, values)
        missing = np.isnan(values)
        times = np.where(missing, 0, values * 86400).round().astype("datetime64[s]")
        return Column(kind, np.where(missing, np.datetime64("NaT"), times))

    def cells(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Each column with its value, of the tensors of a row."""
        cells = []
        if names := self.number_names:
            numbers = zip(names, row["numbers"].tolist(), strict=True)
            cells += [(name, "–" if np.isnan(value) else f"{value:g}") for name, value in numbers]
        if self.categories:
            codes = zip(self.categories.items(), row["categories"].tolist(), strict=True)
            cells += [(name, known[code - 1] if code else "–") for (name, known), code in codes]
        return cells

    def __bool__(self) -> bool:
        return bool(self.numbers or self.timestamps or self.categories)


def _parts(times: np.ndarray) -> list[np.ndarray]:
    missing = np.isnat(times)
    days = times.astype("datetime64[D]")
    parts = [
        times.astype(np.int64) / 86400,
        days.astype("datetime64[M]").astype(np.int64) % 12 + 1,
        (days.astype(np.int64) + 3) % 7,  # 1970 began on a Thursday; 0 is Monday
        (times.astype(np.int64) // 3600) % 24,
    ]
    return [np.where(missing, np.nan, part) for part in parts]


def _codes(column: Column, known: tuple[str, ...]) -> np.ndarray:
    place = {name: i + 1 for i, name in enumerate(known)}
    to = np.array([place.get(name, 0) for name in column.classes] + [0])
    return to[column.values]  # a missing value is -1, which takes the last


@dataclass(frozen=True)
class Kept:
    """A column that is kept aside: of numbers, times or categories."""

    name: str
    kind: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """Which columns are inputs, which are predicted, and which do something else."""

    table: TableSchema
    media: str | None = None  # the column of images or sounds
    targets: tuple[Target, ...] = ()
    weight: str | None = None
    group: str | None = None
    time: str | None = None
    split: str | None = None
    unused: dict[str, str] = field(default_factory=dict)  # {column: why}
    texts: tuple[str, ...] = ()  # columns of texts to be read: one, or a pair
    chat: bool = False  # whether these are conversations
    aside: tuple[Kept, ...] = ()  # that no model sees

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def target_key(i: int) -> str:
    """The tensor and head of the i-th target."""
    return LABEL if i == 0 else f"{LABEL}_{i + 1}"


def understand(columns: Mapping[str, Column], config: DataConfig) -> Schema:
    """Give each column its part. UsageError where the recipe names one that is not there, DataError
    where a target cannot be one."""
    wanted = [config.target] if isinstance(config.target, str) else config.target or []
    for key, name in [
        *(("target", n) for n in wanted), *(("text", n) for n in wanted_texts(config)),
        *(("aside", n) for n in config.aside), ("weight", config.weight),
        ("split.group", config.split.group), ("split.time", config.split.time),
    ]:  # fmt: skip
        if name is not None and name not in columns:
            raise unknown("column", name, columns, where=f"data.{key}")
    if repeated := [n for i, n in enumerate(wanted) if n in wanted[:i]]:
        raise UsageError(f"the column {repeated[0]!r} is given twice", where="data.target")
    if config.weight in wanted:
        raise UsageError(
            f"the column {config.weight!r} is both target and weight",
            where="data.weight",
            expected="another column",
        )
    if not wanted:
        named = [
            n for n, c in columns.items()
            if n.lower() in NAMES and n not in config.aside and c.kind not in ("ignored", "image", "audio", "text", "chat") and n not in wanted_texts(config)
        ]  # fmt: skip
        wanted = sorted(named, key=lambda n: NAMES.index(n.lower()))[:1]
    split = next((n for n, c in columns.items() if _is_split(n, c) and n not in wanted), None)
    aside = _aside(columns, config, wanted)
    taken = {*wanted, config.weight, config.split.group, split, *config.aside}
    free = {n: c for n, c in columns.items() if n not in taken}
    media = [n for n, c in free.items() if c.kind in ("image", "audio")]
    texts = _texts(free, config, media)
    targets = tuple(_target(name, columns[name], config, bool(texts)) for name in wanted)
    unused = dict.fromkeys(media[1:], "one image or sound a row is used, and an earlier column has it")
    unused |= {n: c.note for n, c in free.items() if c.kind == "ignored"}
    unused |= {
        n: "texts are read alone, without it" if texts else "free text, which data.text would name to be read"
        for n, c in free.items() if c.kind in ("text", "chat") and n not in texts
    }  # fmt: skip
    unused |= {n: "for data.split.time only" for n, c in free.items() if c.kind == "position"}
    unused |= {n: "tags are used as a target only" for n, c in free.items() if c.kind == "tags"}
    categories = {}
    for name, column in free.items():
        if column.kind in ("category", "number") and (why := _constant(column)):
            unused[name] = why
        elif column.kind == "category":
            categories[name] = _frequent(column)
    of = {kind: tuple(n for n, c in free.items() if c.kind == kind and n not in unused)
          for kind in ("number", "timestamp")}  # fmt: skip
    if texts and not media:
        others = (*categories, *of["number"], *of["timestamp"])
        unused |= dict.fromkeys(others, "texts are read alone, without it")
        categories, of = {}, dict.fromkeys(of, ())
    for key, part, kinds in (
        ("weight", config.weight, ("number",)), ("split.time", config.split.time, ("timestamp", "number", "position")),
        ("split.group", config.split.group, ("number", "timestamp", "category", "text", "ignored")),
    ):  # fmt: skip
        if part and columns[part].kind not in kinds:
            raise DataError(
                f"the column {part!r} is of kind {columns[part].kind}",
                where=f"data.{key}",
                expected=" or ".join(kinds),
            )
    return Schema(
        TableSchema(of["number"], of["timestamp"], categories), media[0] if media else None, targets,
        config.weight, config.split.group, config.split.time, split, unused, texts,
        bool(texts) and columns[texts[0]].kind == "chat", aside,
    )  # fmt: skip


def _aside(columns: Mapping[str, Column], config: DataConfig, targets: list[str]) -> tuple[Kept, ...]:
    """The columns that are kept aside. UsageError where one is predicted too, DataError where rows cannot be grouped
    by it."""
    for name in config.aside:
        if name in (*targets, config.weight, *wanted_texts(config)):
            raise UsageError(
                f"the column {name!r} is kept aside and has another part too", where="data.aside",
                expected="another column",
            )  # fmt: skip
        if columns[name].kind not in ("number", "category", "timestamp"):
            raise DataError(
                f"the column {name!r} is of kind {columns[name].kind}, by which no rows are grouped",
                where="data.aside", expected=f"numbers, categories or times, perhaps by data.columns: {{{name}: category}}",
            )  # fmt: skip
    return tuple(Kept(n, columns[n].kind, columns[n].classes) for n in dict.fromkeys(config.aside))


def wanted_texts(config: DataConfig) -> list[str]:
    """The columns of texts that a recipe names."""
    return [config.text] if isinstance(config.text, str) else config.text or []


def _texts(free: Mapping[str, Column], config: DataConfig, media: list[str]) -> tuple[str, ...]:
    """The columns of texts to be read: those named; else, where there are no images or sounds, the conversations; else,
    where there is nothing else to look at, the one called so, or the first two. UsageError where a named one cannot be read."""
    named = wanted_texts(config)
    for name in named:
        if name not in free:
            raise UsageError(
                f"the column {name!r} is read as text and has another part too",
                where="data.text",
                expected="another column",
            )
        if free[name].kind not in ("text", "chat"):
            raise UsageError(
                f"the column {name!r} is of kind {free[name].kind}",
                where="data.text",
                expected="a column of texts",
            )
    if len(set(named)) < len(named):
        raise UsageError(
            f"the column {named[0]!r} is given twice", where="data.text", expected="another column"
        )
    others = [
        n for n, c in free.items() if c.kind in ("number", "category", "timestamp") and n != config.split.time
        and not (c.kind != "timestamp" and _constant(c))
    ]  # fmt: skip
    chats = [n for n, c in free.items() if c.kind == "chat"]
    if named or media or (others and not chats):
        return tuple(named)
    if chats:
        return (chats[0],)
    found = [n for n, c in free.items() if c.kind == "text"]
    called = [n for n in found if n.lower() in TEXTS]
    return tuple(called[:1] or found[:2])


def _is_split(name: str, column: Column) -> bool:
    return name.lower() in ("split", "fold", "subset") and column.kind == "category" and (
        all(c.lower() in SPLITS for c in column.classes)
    )  # fmt: skip


def _constant(column: Column) -> str:
    values = column.values
    present = values[values >= 0] if column.kind == "category" else values[~np.isnan(values)]
    if not len(present):
        return "every cell is missing"
    missing = len(present) < len(values)  # that a value is there may say something by itself
    return "" if missing or (present != present[0]).any() else "the same value in every row"


def _frequent(column: Column) -> tuple[str, ...]:
    counts = np.bincount(column.values[column.values >= 0], minlength=len(column.classes))
    kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_CATEGORIES])
    return tuple(column.classes[i] for i in kept)


def _target(name: str, column: Column, config: DataConfig, texts: bool) -> Target:
    kind = column.kind
    if kind == "text" and texts:
        return Target(name, "text")
    if kind == "category":
        return Target(name, "classification", column.classes)
    if kind == "tags" and column.classes:
        return Target(name, "multilabel", column.classes)
    if kind == "number":
        known = column.values[~np.isnan(column.values)]
        override = config.columns[name].type if name in config.columns else None
        if override is None and distinct(known) <= _FEW and (known == known.round()).all():
            return Target(name, "classification", tuple(str(int(v)) for v in np.unique(known)))
        return Target(name, "regression")
    said = {
        "text": "free text, which only other texts can tell",
        "chat": "of conversations",
        "position": "the place in a file",
        "image": "of images",
        "audio": "of sounds",
        "timestamp": "of dates",
        "tags": "lists without any tag",
    }.get(kind, column.note)
    raise DataError(
        f"the column {name!r} cannot be predicted: it is {said}",
        where="data.target", expected=f"a column of numbers, categories or tags; or data.columns.{name}.type",
    )  # fmt: skip


def target_values(target: Target, column: Column) -> np.ndarray:
    """A target's tensor: codes int64 [N], 0 and 1 float32 [N, K], or numbers float32 [N]."""
    if target.task == "regression":
        return column.values.astype(np.float32)
    if target.task == "multilabel":
        return column.values
    if column.kind == "category":
        return column.values
    codes = np.searchsorted(np.array(target.classes, np.float64), column.values)
    return np.where(np.isnan(column.values), UNLABELLED, codes)

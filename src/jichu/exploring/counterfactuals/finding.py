"""What would change an answer (Wachter et al., 2017, arXiv 1711.00399): the fewest and smallest changes found, each
of which is needed: without any one of them the answer does not change."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from jichu.core.errors import UsageError, unknown
from jichu.data import given as given_by
from jichu.data.given import Inputs
from jichu.data.sound import Sound
from jichu.data.target import Target

from ..neighbours import Neighbour, neighbours
from ..seen import Seen
from .base import Changing
from .grids import Moments, Patches
from .search import Asking, Edit, Spent
from .tables import Rows
from .texts import Words

_MOST = 100_000  # tries of one input


@dataclass(frozen=True)
class Counterfactual:
    """What a model says of an input `before`, and `after` some `changes`; None where no change was found that does it
    within so many `tries`. `changed` is the input as it is then; `like` the nearest training row of another class, of
    pictures and sounds."""

    input: str
    column: str
    before: dict[str, Any]
    after: dict[str, Any] | None
    changes: list[dict[str, Any]]
    tries: int
    changed: dict[str, Any] = field(default_factory=dict)
    like: Neighbour | None = None

    @property
    def said(self) -> str:
        """In words."""
        if self.after is None:
            return f"nothing found in {self.tries:,} tries that makes it another answer than {self.before['label']}"
        return f"{self.before['label']} becomes {self.after['label']} by {len(self.changes)} change" + "s" * (
            len(self.changes) > 1
        )

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        told = {
            "column": self.column,
            "found": self.after is not None,
            "said": self.said,
            "tries": self.tries,
        }
        told |= {"before": self.before, "after": self.after, "changes": self.changes, "changed": self.changed}
        return told if self.like is None else {**told, "like": self.like.plain()}


def counterfactual(
    seen: Seen, items: Any, *, target: str | None = None, column: str | None = None, immutable: Collection[str] = (),
    tries: int = 2000,
) -> list[Counterfactual]:  # fmt: skip
    """What would change the answer to each input, to `target` if that is named, by asking the model about `tries`
    changed inputs at most. Nothing is left to chance. UsageError where the model has no classes, or its input cannot
    be changed."""
    if not 1 <= tries <= _MOST:
        raise UsageError(f"{tries} tries", where="tries", expected=f"from 1 to {_MOST:,}")
    key, of = seen.of_classes(column)
    if target is not None and target not in of.classes:
        raise unknown(f"class of {of.column}", target, of.classes, where="target")
    if immutable and seen.dataset.kind != "table":
        raise UsageError("there are no columns", where="immutable", expected="a model of tables")
    run = seen.run
    read = run.inputs(items)
    texts = given_by.texts(items, run.config.text, run.recipe.data)[1] if run.config.text is not None else []
    said = run.told(read, run.scores(read)) if not texts else run.predict(items)
    found = []
    for i, name in enumerate(read.names):
        before = _answer(said[i], of, len(run.targets))
        code = of.classes.index(before["label"])
        if target == before["label"]:
            raise UsageError(
                f"the answer to {name} is {target} already", where="target", expected="another class"
            )
        wanted = None if target is None else of.classes.index(target)
        one = _one(read, i)
        if run.config.text is not None:
            changing: Changing = Words(seen, tuple(text[i] for text in texts))
        elif run.config.table is not None:
            changing = Rows(seen, one, key, code, wanted, immutable)
        elif isinstance(run.config.audio, Sound):
            changing = Moments(seen, one.tensors["audio"][0], run.config.audio)
        else:
            changing = Patches(seen, one.tensors["image"][0])
        edit, asked = _searched(changing, key, code, wanted, tries)
        like = _like(seen, one, key, code, wanted)
        if edit is None:
            found.append(Counterfactual(name, of.column, before, None, [], asked, {}, like))
            continue
        after, changes = _after(changing, edit, of), changing.changes(edit)
        found.append(
            Counterfactual(name, of.column, before, after, changes, asked, changing.changed(edit), like)
        )
    return found


def _one(read: Inputs, i: int) -> Inputs:
    tensors = {name: values[i : i + 1] for name, values in read.tensors.items() if name != "tokens"}
    columns = {n: type(c)(c.kind, c.values[i : i + 1], c.classes) for n, c in read.columns.items()}
    return Inputs([read.names[i]], tensors, columns)


def _answer(said: dict[str, Any], of: Target, targets: int) -> dict[str, Any]:
    mine = said if targets == 1 else said[of.column]
    return {"label": mine["label"], "score": mine["score"]}


def _searched(
    changing: Changing, key: str, before: int, wanted: int | None, tries: int
) -> tuple[Edit | None, int]:
    """The edit of fewest changes, of those with as few the smallest, and how often the model was asked."""
    ask = Asking(lambda edits: changing.scores(key, edits), before, wanted, tries)
    best: Edit | None = None
    with contextlib.suppress(Spent):
        for edit in changing.candidates(ask):
            if best is None or (len(edit), changing.cost(edit)) < (len(best), changing.cost(best)):
                best = edit
    return best, ask.asked


def _after(changing: Changing, edit: Edit, of: Target) -> dict[str, Any]:
    """What is said of the changed input."""
    run, given = changing.run, changing.inputs([edit])
    return _answer(run.told(given, run.scores(given))[0], of, len(run.targets))


def _like(seen: Seen, one: Inputs, key: str, before: int, wanted: int | None) -> Neighbour | None:
    """Of a picture or a sound the nearest training row of the class that is wanted, or of another one."""
    if seen.dataset.preprocess is None or key not in seen.dataset.tensors:
        return None
    codes = seen.dataset.tensors[key][seen.rows("train")].numpy()
    other = (codes >= 0) & (codes != before) if wanted is None else codes == wanted
    if not other.any():
        return None
    return neighbours(seen, seen.run.features(one), 1, other)[0][0]

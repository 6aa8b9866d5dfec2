"""Why a model says what it says: which places of an input an answer comes from, and what the model does on the whole.

captum does the mathematics of attribution. What is ours is how each kind of input becomes points that gradients can be
taken of, and places that can be taken away (`views`); the methods (`methods`) know no kinds of input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from jichu.core.config import Spec
from jichu.core.progress import task

from .methods import METHODS, Method, make, usual
from .views import Asked, View, kind_of, read_by, view

__all__ = [
    "BACKGROUND", "METHODS", "Asked", "Attributed", "Method", "View", "attributed", "kind_of", "make", "read_by",
    "usual", "view",
]  # fmt: skip

_AT_ONCE = 16  # rows
BACKGROUND = 32  # rows of a table that tell what is usual


class Attributed(NamedTuple):
    """What a method found of some rows: what the places are `worth`, [B, *view.shape]."""

    rows: Tensor
    view: View
    name: str
    method: Method
    worth: Tensor


def attributed(of: Callable[[Tensor], View], rows: Tensor, spec: Spec | None = None) -> Iterator[Attributed]:
    """Some rows at a time, of which `of` makes views, by a method, the usual one for the model if none is given."""
    with task("explain", len(rows)) as shown:
        for some in rows.split(_AT_ONCE):
            seen = of(some)
            spec = spec or Spec(name=usual(seen))
            method = make(spec, seen.kind)
            method.fit(seen)
            yield Attributed(some, seen, spec.name, method, method.attribute(seen))
            shown.advance(len(some))

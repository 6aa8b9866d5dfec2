"""What was changed of a backbone after it was built, told in its configuration and done again when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from jichu.core.errors import UsageError, unknown

from . import cut, low_rank

CUT, LOW_RANK = "cut", "low-rank"
_MARK = "changed"
_AGAIN: dict[str, Callable[..., None]] = {CUT: cut.rebuild, LOW_RANK: low_rank.rebuild}


def mark(backbone: nn.Module) -> None:
    """Say of a backbone that it is no longer as its name builds it."""
    vars(backbone)[_MARK] = True


def is_changed(backbone: nn.Module) -> bool:
    """Whether it is so."""
    return bool(vars(backbone).get(_MARK))


def rebuild(backbone: nn.Module, changes: Sequence[Mapping[str, Any]]) -> None:
    """Each change once more, in their order. UsageError for one that is not known, or that does not fit."""
    for change in changes:
        name = str(change.get("name"))
        if name not in _AGAIN:
            raise unknown("change of a backbone", name, _AGAIN)
        try:
            _AGAIN[name](backbone, **{key: value for key, value in change.items() if key != "name"})
        except (AttributeError, TypeError, ValueError) as error:
            raise UsageError(
                f"the backbone cannot be changed as its configuration says: {error}",
                where=f"changes: {name}",
                expected="config.json as it was written",
            ) from None
        mark(backbone)

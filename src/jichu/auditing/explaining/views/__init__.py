"""What can be explained: rows of images, sounds, tables and texts, and the places that they have."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.batches import gather
from jichu.data.schema import TableSchema
from jichu.data.tokens import Tokens
from jichu.models.model import Model
from jichu.models.transformers_text import TransformersText

from .base import Asked, View
from .grids import Images, sounds
from .rows import Rows
from .texts import Texts

__all__ = ["Asked", "View", "kind_of", "read_by", "view"]

_KINDS = {"tokens": "text", "audio": "audio", "image": "image", "numbers": "table", "categories": "table"}


def kind_of(columns: dict[str, Any]) -> str:
    """What kind of input some tensors are. UsageError where there is none, or more than one."""
    kinds = {_KINDS[name] for name in columns if name in _KINDS}
    if len(kinds) != 1:
        found = " beside ".join(sorted(kinds)) or "inputs of this kind"
        raise UsageError(
            f"{found} cannot be explained", expected="images, sounds, texts or the rows of a table"
        )
    return kinds.pop()


def read_by(model: Model, columns: dict[str, Any]) -> dict[str, Any]:
    """Those of the columns that a model reads."""
    return {name: column for name, column in columns.items() if name in model.inputs or name == "tokens"}


def view(
    asked: Asked, columns: dict[str, Any], rows: Tensor, table: TableSchema | None = None,
    background: Tensor | None = None, others: dict[str, Any] | None = None,
) -> View:  # fmt: skip
    """Some rows of the columns of a data set. Of a table the `background` rows, of `others` if those are given."""
    kind = kind_of(columns)
    batch = gather({name: columns[name] for name in columns if name in _KINDS}, rows)
    if kind == "image":
        return Images(asked, batch)
    if kind == "audio":
        return sounds(asked, batch)
    if kind == "text":
        tokens = columns["tokens"]
        template = tokens.template if isinstance(tokens, Tokens) else ()
        backbone, longest = asked.model.backbone, batch["tokens"].shape[1]
        context = backbone.context if isinstance(backbone, TransformersText) else longest
        return Texts(asked, batch, {i for part in template for i in part}, context)
    assert table is not None and background is not None
    usual = {name: values for name, values in (others or columns).items() if name in _KINDS}
    return Rows(asked, batch, table, gather(usual, background))

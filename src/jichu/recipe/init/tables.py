"""A recipe of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jichu.core.config import dump_yaml
from jichu.core.errors import DataError
from jichu.data.target import Target

from .draft import Draft, epochs_of
from .lines import Key, hint


class TableDraft(Draft):
    """Rows of numbers and categories."""

    rows_are, result = "rows", "boosting"

    def ask(self) -> None:
        super().ask()
        raise DataError(f"no column of {self.found['source']} can be predicted")

    def same(self, target: Target) -> None:
        raise DataError(
            f"{target.column} is the same in every labelled row", where="--target",
            expected="a column with two different values at least",
        )  # fmt: skip

    def columns(self) -> Iterator[str]:
        """The types as comments, and what to think about twice."""
        leaks = {f["column"].partition(":")[0]: f for f in self.found["leakage"]}
        yield "# columns:  # what was found; take the marks away from a line to change it"
        for c in self.found["columns"]:
            if c["role"] != "input" and c["role"] != "not used":
                continue
            name, kind, why = c["name"], c["type"], _holds(c, self.found["rows"])
            if c["role"] == "not used":
                kind, why = "ignore" if kind == "ignored" else kind, f"not used: {c['note']}"
            elif name in leaks:
                kind, why = (
                    "ignore",
                    f"leaks? {leaks[name]['measure']} {leaks[name]['score']:.3f} by itself; {why}",
                )
            elif kind == "category" and c["distinct"] > self.found["rows"] / 2:
                kind, why = "ignore", f"nearly one of its own in every row; {why}"
            yield hint("  " + dump_yaml(name, inline=True), kind, why, quoted=True)

    def stages(self) -> list[list[Key]]:
        assert self.target is not None
        linear = "ridge" if self.target.task == "regression" else "logistic-regression"
        boosting = {"name": "gradient-boosting", "trees": 300, "learning_rate": 0.05, "patience": 20}
        mlp = {"name": "mlp", "widths": [256, 256], "dropout": 0.2, "norm": "batch", "numeric": "periodic"}
        transformer = {"name": "ft-transformer", "depth": 2, "width": 64, "heads": 4}
        return [
            [("stage", "finetune", "the baseline: numbers and one-hot categories"),
             ("name", "linear", ""),
             self.head(linear)],
            [("stage", "finetune", "on tables hard to beat; takes gaps and categories as they are"),
             ("name", "boosting", ""),
             (*self.head(boosting)[:2], "stops after 20 trees without gain")],
            [("stage", "finetune", "each number spread over sines, each category a vector"),
             ("name", "mlp", ""),
             ("backbone", mlp, "norm: none if batches become very small"),
             *self.objective(),
             ("optimizer", {"name": "adamw", "lr": 0.002, "weight_decay": 0.02}, ""),
             *self.length(epochs_of(self.labelled, 400_000, 4, 100), 8)],
            [("stage", "finetune", "attention over the columns; the slowest of the four"),
             ("name", "ft_transformer", ""),
             ("backbone", transformer, "small; more width and depth want more rows"),
             *self.objective(),
             ("optimizer", {"name": "adamw", "lr": 0.001, "weight_decay": 0.00001}, ""),
             *self.length(epochs_of(self.labelled, 200_000, 2, 50), 5)],
            *self.audit("boosting", "linear"),
        ]  # fmt: skip


def _holds(column: dict[str, Any], rows: int) -> str:
    """What a column holds, in some words."""
    if "low" in column:
        low, high = (v if isinstance(v, str) else f"{v:.4g}" for v in (column["low"], column["high"]))
        told = f"{low} to {high}"
    else:
        told = f"{column.get('distinct', 0):,} values: " + ", ".join(
            name for name, _ in column.get("top", [])[:3]
        )
    missing = column.get("missing", 0)
    share = missing / max(1, rows)
    return told + (f"; {f'{share:.0%}' if share > 0.005 else 'under 1%'} missing" if missing else "")

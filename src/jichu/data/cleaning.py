"""Texts that are better left out: too short or long, in another language, no prose, there already.

Nothing is deleted: which rows are left out, by which rule and why, is a table beside the texts, and stands in
quarantine.jsonl.
"""

from __future__ import annotations

import collections
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import Tensor

from jichu.core.errors import DataError, DiskFull
from jichu.core.files import fingerprint, read_table, write_table
from jichu.core.progress import task

from .config import CleanConfig, ContaminationConfig, QualityConfig
from .language import UNKNOWN, language, scripts
from .personal import find
from .ragged import Ragged
from .shingles import near_texts, shared_passages
from .source import Names
from .texts import text_of

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_BULLETS = ("-", "*", "•", "‣", "◦", "–", "·")
_HASHES = re.compile(r"#|\.\.\.|…")
_FEW = 10  # words or lines of which nothing is said
_ROWS = 10_000  # looked at between two signs of progress
_UNSPACED = ("Han", "Kana", "Thai")


@dataclass(frozen=True)
class Dropped:
    """Rows that are left out, int64 [n], by which rules, and why."""

    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    rules: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many each rule leaves out, in the order in which the rules are applied."""
        found = collections.Counter(self.rules)
        return {rule: found[rule] for rule in CleanConfig.model_fields if found[rule]}

    def __add__(self, other: Dropped) -> Dropped:
        return Dropped(
            np.concatenate([self.rows, other.rows]), self.rules + other.rules, self.reasons + other.reasons
        )


def clean(
    texts: Mapping[str, Ragged],
    config: CleanConfig,
    names: Names,
    equal: np.ndarray,
    spared: np.ndarray,
    folder: Path,
) -> Dropped:
    """What the rules for single texts and for duplicates leave out, kept in the `folder` for the next time.
    `equal` are groups [N] of equal texts; the `spared` rows, bool [N], are left out by no rule, and of
    duplicates it is they that are kept."""
    path = folder / f"clean-{fingerprint(config)}.parquet"
    with contextlib.suppress(OSError, DataError, KeyError):
        table = read_table(path)
        rules, reasons = (tuple(table[n].to_pylist()) for n in ("rule", "reason"))
        return Dropped(table["row"].to_numpy(), rules, reasons)
    found: dict[int, tuple[str, str]] = {}
    _single(texts, config, spared, found)
    _duplicates(texts, config, names, equal, spared, found)
    rows = sorted(found)
    made = Dropped(np.array(rows, np.int64), *(tuple(found[r][i] for r in rows) for i in (0, 1)))
    with contextlib.suppress(OSError, DiskFull):
        write_table(
            path,
            pa.table(
                {
                    "row": made.rows,
                    "rule": pa.array(made.rules, pa.string()),
                    "reason": pa.array(made.reasons, pa.string()),
                }
            ),
        )
    return made


def _single(
    texts: Mapping[str, Ragged], config: CleanConfig, spared: np.ndarray, found: dict[int, tuple[str, str]]
) -> None:
    rules: dict[str, Callable[[str], str]] = {}
    if config.length:
        least, most = config.length.least, config.length.most
        rules["length"] = lambda text: _length(len(text), least, most)
    if config.quality:
        quality_config = config.quality
        rules["quality"] = lambda text: quality(text, quality_config)
    if config.personal:
        kinds = tuple(config.personal)
        rules["personal"] = lambda text: ", ".join(dict.fromkeys(f.kind for f in find(text, kinds)))
    if config.language is not None:
        wanted = {*config.language, UNKNOWN}
        rules["language"] = lambda text: (
            "" if (told := language(text)) in wanted else f"the language is {told}"
        )
    if not rules:
        return
    with task("clean", len(spared)) as shown:
        for start in range(0, len(spared), _ROWS):
            for row in (np.flatnonzero(~spared[start : start + _ROWS]) + start).tolist():
                for column in texts.values():
                    text = text_of(column, row)
                    hit = next(((rule, why) for rule, test in rules.items() if (why := test(text))), None)
                    if hit:
                        found[row] = hit
                        break
            shown.advance(min(_ROWS, len(spared) - start))


def _length(characters: int, least: int, most: int | None) -> str:
    if characters < least:
        return f"{characters} characters, fewer than {least}"
    return f"{characters} characters, more than {most}" if most is not None and characters > most else ""


def quality(text: str, limits: QualityConfig) -> str:
    """What makes a text no prose (Rae et al., 2021, table A1), or "". The rules for words are for scripts
    with blanks between them; a text too short to say is taken for prose."""
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    if len(lines) > _FEW:
        for share, most, what in (
            (1 - len(set(lines)) / len(lines), limits.repeated, "stood there before"),
            (sum(line.startswith(_BULLETS) for line in lines) / len(lines), limits.bullets, "begin with a bullet"),
            (sum(line.endswith(("…", "...")) for line in lines) / len(lines), limits.ellipses, "end with an ellipsis"),
        ):  # fmt: skip
            if share > most:
                return f"{share:.0%} of the lines {what}"
    letters = scripts(text)
    pieces = text.split()
    unspaced = sum(letters.get(name, 0) for name in _UNSPACED)
    if 2 * unspaced > sum(letters.values()):
        solid = sum(map(len, pieces))
        share = sum(c.isalnum() for piece in pieces for c in piece) / max(1, solid)
        # a tenth and more of Chinese prose is punctuation
        return (
            f"{share:.0%} of the characters are letters"
            if solid > _FEW and share < limits.letters - 0.2
            else ""
        )
    if len(pieces) <= _FEW:
        return ""
    share = sum(any(map(str.isalpha, piece)) for piece in pieces) / len(pieces)
    if share < limits.letters:
        return f"{share:.0%} of the words have a letter"
    symbols = len(_HASHES.findall(text)) / len(pieces)
    if symbols > limits.symbols:
        return f"{symbols:.2f} # or … a word"
    words = _WORD.findall(text)
    mean = sum(map(len, words)) / max(1, len(words))
    return "" if limits.word[0] <= mean <= limits.word[1] else f"{mean:.1f} letters a word"


def _duplicates(
    texts: Mapping[str, Ragged], config: CleanConfig, names: Names, equal: np.ndarray, spared: np.ndarray,
    found: dict[int, tuple[str, str]],
) -> None:  # fmt: skip
    free = np.ones(len(spared), bool)
    free[list(found)] = False
    rows = np.concatenate(
        [np.flatnonzero(free & spared), np.flatnonzero(free & ~spared)]
    )  # these are kept first
    _, first, member = np.unique(equal[rows], return_index=True, return_inverse=True)
    original = rows[first[member]]
    if config.exact or config.near:  # what is equal is nearly so too
        for row, one in zip(rows.tolist(), original.tolist(), strict=True):
            if row != one and not spared[row]:
                found[row] = ("exact" if config.exact else "near", f"the same as {names[one]}")
    if config.near:
        rows = rows[original == rows]
        place = np.empty(len(spared), np.int64)
        place[rows] = np.arange(len(rows))
        pairs = near_pairs(texts, rows, config.near.threshold, config.near.words)
        for one, row in sorted(pairs.tolist(), key=lambda pair: place[pair[1]]):
            if row not in found and one not in found and not spared[row]:
                found[row] = ("near", f"nearly the same as {names[one]}")


def near_pairs(
    texts: Mapping[str, Ragged], rows: np.ndarray, threshold: float = 0.8, words: int = 5
) -> np.ndarray:
    """Pairs [P, 2] of rows whose texts are nearly the same; of those with two texts, both of them."""
    first, *second = [near_texts(column, rows, threshold, words) for column in texts.values()]
    if not second:
        return first
    same = {*map(tuple, second[0].tolist())}
    return np.array([p for p in first.tolist() if tuple(p) in same], np.int64).reshape(-1, 2)


def contaminated(
    texts: Mapping[str, Ragged], splits: Mapping[str, Tensor], names: Names, config: ContaminationConfig
) -> Dropped:
    """The training rows that share a passage with a held-out one."""
    pairs = passages(texts, splits, config)
    reasons = tuple(f"shares a passage with {names[held]}, which is held out" for _, held in pairs.tolist())
    return Dropped(pairs[:, 0], ("contamination",) * len(pairs), reasons)


def passages(
    texts: Mapping[str, Ragged],
    splits: Mapping[str, Tensor],
    config: ContaminationConfig,
    most: int | None = None,
) -> np.ndarray:
    """Training rows, each with a held-out row that it shares a passage with, [P, 2]; of more than `most` rows
    an even sample is looked at."""
    train = splits["train"].numpy()
    held_out = np.concatenate(
        [train[:0], *(rows.numpy() for name, rows in splits.items() if name != "train")]
    )
    if most is not None:
        train, held_out = (rows[:: max(1, -(-len(rows) // most))] for rows in (train, held_out))
    return shared_passages(texts, train, held_out, config.words, config.characters)

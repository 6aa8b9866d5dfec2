"""Of texts, one at a time. Strengths are shares of the letters or words."""

from __future__ import annotations

import re

import torch
from torch import Generator

_SHARES = (0.02, 0.05, 0.1, 0.15, 0.25)
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEAR = {
    key: [k for r in range(max(0, i - 1), min(3, i + 2)) for k in _KEYS[r][max(0, j - 1) : j + 2] if k != key]
    for i, row in enumerate(_KEYS)
    for j, key in enumerate(row)
}
_WORD = re.compile(r"[一-鿿]|[^\s一-鿿]+|\s+")  # a Chinese character is a word


def typos(text: str, strength: int, rng: Generator) -> str:
    """Letters struck beside, doubled, left out, or in the order of the next one."""
    letters = list(text)
    chosen = torch.rand(len(letters), 2, generator=rng).tolist()
    found, skip = [], False
    for i, letter in enumerate(letters):
        if skip:
            skip = False
            continue
        drawn, how = chosen[i]
        if drawn >= _SHARES[strength - 1] or letter.isspace():
            found.append(letter)
        elif how < 0.4 and letter.lower() in _NEAR:
            near = _NEAR[letter.lower()]
            other = near[int(how / 0.4 * len(near))]
            found.append(other.upper() if letter.isupper() else other)
        elif how < 0.6:
            found += [letter, letter]
        elif how < 0.8 and i + 1 < len(letters):
            found += [letters[i + 1], letter]
            skip = True
    return "".join(found)


def word_drops(text: str, strength: int, rng: Generator) -> str:
    """Words left out, one at least left."""
    parts = _WORD.findall(text)
    words = [i for i, part in enumerate(parts) if not part.isspace()]
    kept = torch.rand(len(words), generator=rng) >= _SHARES[strength - 1]
    if not words or not kept.any():
        return text
    gone = {word for word, stays in zip(words, kept.tolist(), strict=True) if not stays}
    return "".join(part for i, part in enumerate(parts) if i not in gone)


def letter_case(text: str, strength: int, rng: Generator) -> str:
    """Words in capitals, or in small letters where they had some."""
    parts = _WORD.findall(text)
    share = (0.1, 0.25, 0.5, 0.75, 1.0)[strength - 1]
    chosen = (torch.rand(len(parts), generator=rng) < share).tolist()
    return "".join(part.swapcase() if c else part for part, c in zip(parts, chosen, strict=True))

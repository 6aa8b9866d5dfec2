"""Which script and language a text is in, as far as letters and the commonest words tell.

No model: the language of a text in Latin letters is the one whose commonest words make up most of it, which
takes a sentence or two; other scripts are told by their letters alone, so that every text in Arabic letters
counts as `ar`. What cannot be told is `unknown`.
"""

from __future__ import annotations

import functools
import re

import numpy as np

SCRIPTS = {  # the first and last characters of each; what is in none is no letter of a script told apart
    "Latin": [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "Greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
    "Cyrillic": [(0x400, 0x52F)],
    "Hebrew": [(0x590, 0x5FF)],
    "Arabic": [(0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)],
    "Devanagari": [(0x900, 0x97F)],
    "Thai": [(0xE00, 0xE7F)],
    "Hangul": [(0x1100, 0x11FF), (0xAC00, 0xD7AF)],
    "Kana": [(0x3041, 0x30FF), (0x31F0, 0x31FF)],
    "Han": [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFF)],
}
NAMES = ("", *SCRIPTS)
_COMMON = {
    "en": "the of and a to in is that was he for it with as his on be at by had not are but from or have an "
    "they which you were her she there been their has would what who when this we my i do into up out two some",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an "
    "werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über ich wir war",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se il ce sont "
    "avec mais ou elle son cette nous vous je tout aux été leur d'une",
    "es": "de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o "
    "este sí porque esta entre cuando muy sin sobre también me hasta hay donde es está",
    "it": "di che è la il un a per in una mi sono ho non ma lo ha le si con cosa da come io questo qui "
    "hai del bene della se ci nel anche gli più dei alla al",
    "pt": "de que não o a e é do da em um para com uma os no se na por mais as dos como mas ao ele das "
    "à seu sua ou quando muito nos já eu também só pelo foi são você",
    "nl": "de het een en van ik te dat die in je is niet op aan met als voor had er maar om hem dan zou "
    "of wat mijn men dit zo door over ze zich bij ook tot uit naar heb heeft",
}
_WORDS = {code: frozenset(words.split()) for code, words in _COMMON.items()}
_OF_SCRIPT = {"Greek": "el", "Hebrew": "he", "Arabic": "ar", "Devanagari": "hi", "Thai": "th", "Hangul": "ko"}
LANGUAGES = (*_WORDS, *_OF_SCRIPT.values(), "ru", "uk", "zh", "ja")
UNKNOWN = "unknown"
_LOOKED_AT = 5000  # characters of a text
_LETTERS, _SHARE = 0.5, 0.12  # shares: of the letters that make a script the text's, of common words
_KANA = 0.05  # share of the letters that makes a text with Chinese characters Japanese
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


@functools.cache
def table() -> np.ndarray:
    """The place in `NAMES` of the script of each character, uint8 [0x30000]; 0 where it is of none."""
    found = np.zeros(0x30000, np.uint8)
    for place, name in enumerate(NAMES):
        for first, last in SCRIPTS.get(name, ()):
            found[first : last + 1] = place
    found[[0xD7, 0xF7]] = 0  # × and ÷
    return found


def scripts(text: str) -> dict[str, int]:
    """How many letters of each script there are."""
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    counts = np.bincount(table()[codes[codes < 0x30000]], minlength=len(NAMES))
    return {name: int(n) for name, n in zip(NAMES[1:], counts[1:], strict=True) if n}


def language(text: str) -> str:
    """One of LANGUAGES, or `unknown`; the first 5,000 characters are looked at."""
    text = text[:_LOOKED_AT]
    letters = scripts(text)
    total = sum(letters.values())
    if not total:
        return UNKNOWN
    if letters.get("Kana", 0) > _KANA * total:
        return "ja"
    most = max(letters, key=letters.__getitem__)
    # a Chinese character says as much as several letters
    if 2 * letters.get("Han", 0) > total - letters.get("Han", 0):
        return "zh"
    if letters[most] < _LETTERS * total:
        return UNKNOWN
    if most == "Cyrillic":
        return "uk" if re.search("[іїєґІЇЄҐ]", text) else "ru"
    return _of_words(text) if most == "Latin" else _OF_SCRIPT.get(most, UNKNOWN)


def _of_words(text: str) -> str:
    """By the share of the words that are a language's commonest."""
    words = _WORD.findall(text.lower())
    found = {code: sum(w in common for w in words) for code, common in _WORDS.items()}
    first, second = sorted(found, key=found.__getitem__, reverse=True)[:2]
    told = found[first] >= max(2, _SHARE * len(words)) and found[first] > found[second]
    return first if told else UNKNOWN

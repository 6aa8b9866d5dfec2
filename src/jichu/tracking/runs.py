"""All runs in a folder: found, chosen, tagged, compared."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from jichu.core.config import parse_yaml
from jichu.core.differences import differences
from jichu.core.errors import DataError, JichuError, UsageError, nearest, shown, unknown
from jichu.core.files import write_json
from jichu.core.glance import glance
from jichu.core.places import Places

from .facts import MOST, STATES, TAG, Facts, look, read_tags

_FRESH = 1.0  # seconds after a change in which another may not show in a folder's time
_KEYS: dict[str, Callable[[Facts], Any]] = {
    "started": lambda run: run.started,
    "name": lambda run: run.name,
    "state": lambda run: STATES.index(run.state),
    "stage": lambda run: run.stage,
    "seconds": lambda run: run.lasted,
    "size": lambda run: size(run.path),
}
_Mark = tuple[int, int, int]  # of a folder, by which it is known again
_RISING = ("name", "state", "stage")  # as lists of words are read; all else the largest first


class Runs:
    """The run folders in a folder. What was read of a run is kept until its folder changes."""

    def __init__(self, folder: str | Path = "runs"):
        self.path = Path(folder)
        self._known: dict[str, tuple[_Mark, Facts | None]] = {}
        self._lock = threading.Lock()

    def all(self) -> list[Facts]:
        """Every run, damaged ones too. UsageError where there is no such folder."""
        with self._lock:
            try:
                with os.scandir(self.path) as entries:
                    folders = [e for e in entries if not e.name.startswith(".") and e.is_dir()]
            except OSError as error:
                raise UsageError(
                    f"no runs in {self.path}: {error.strerror}", expected="a folder with run folders"
                ) from None
            before, self._known = self._known, {}
            found = [self._look(entry, before.get(entry.name)) for entry in folders]
        return [facts for facts in found if facts is not None]

    def _look(self, entry: os.DirEntry[str], known: tuple[_Mark, Facts | None] | None) -> Facts | None:
        """Files of a run are replaced, which changes its folder; but for those that a running one adds lines to."""
        try:
            about = entry.stat()
        except OSError:
            return None
        mark = (
            about.st_ino,
            about.st_mtime_ns,
            about.st_ctime_ns,
        )  # times can be set back, and another put in its place
        facts = known[1] if known is not None and known[0] == mark else look(self.path / entry.name)
        held = facts is not None and facts.state in ("running", "damaged")
        if not held and about.st_mtime_ns < time.time_ns() - _FRESH * 1e9:
            self._known[entry.name] = mark, facts
        return facts

    def find(self, name: str) -> Facts:
        """The run of a name. UsageError where there is none."""
        plain = name not in ("", ".", "..") and not set(name) & {"/", "\0", os.sep}
        facts = look(self.path / name) if plain else None
        if facts is None:
            near = nearest(name, os.listdir(self.path)) if self.path.is_dir() else None
            raise UsageError(
                f"no run {shown(name)} in {self.path.name}", expected="one that is there", nearest=near
            )
        return facts


def choose(
    runs: Iterable[Facts], *, search: str = "", tags: Collection[str] = (), states: Collection[str] = (),
    where: Collection[str] = (), sort: str = "started", reverse: bool = False,
) -> list[Facts]:  # fmt: skip
    """Those whose name, stage, reason or tags hold every word of `search`, that have all `tags`, and one of `states`, and of
    which every condition of `where` holds (`conditions.holds`); sorted by a key or a metric, the newest, the largest or the first by name first, and those that have none last."""
    if wrong := next((state for state in states if state not in STATES), None):
        raise unknown("state", wrong, STATES)
    runs, wanted, words = list(runs), set(tags), search.casefold().split()
    meant = _meant(runs, where) if where else runs
    found = [
        run for run in meant
        if wanted <= set(run.tags) and (not states or run.state in states) and (not words or _holds(run, words))
    ]  # fmt: skip
    key = _KEYS.get(sort) or (lambda run: run.value(sort))
    if sort not in _KEYS and runs and all(run.value(sort) is None for run in runs):
        names = {name for run in runs for name in (*run.headline, *run.latest)}
        raise unknown("key to sort by", sort, [*_KEYS, *sorted(names)[:20]])
    keyed = [(key(run), run) for run in found]
    have = sorted(((v, run.name, run) for v, run in keyed if v is not None), key=lambda item: item[:2])
    if reverse == (sort in _RISING):
        have.reverse()
    return [run for *_, run in have] + [run for value, run in keyed if value is None]


def _meant(runs: Sequence[Facts], where: Collection[str]) -> list[Facts]:
    from .conditions import holds  # brings what reads data, for which a plain list need not wait

    asked = [holds(text, runs) for text in where]
    return [run for run, *told in zip(runs, *asked, strict=True) if all(told)]


def _holds(run: Facts, words: Sequence[str]) -> bool:
    text = "\n".join((run.name, run.stage, run.why, *run.tags)).casefold()
    return all(word in text for word in words)


def counts(runs: Iterable[Facts]) -> dict[str, dict[str, int]]:
    """How many runs are in each state, and have each tag."""
    runs = list(runs)
    states, tags = Counter(run.state for run in runs), Counter(tag for run in runs for tag in run.tags)
    return {"states": {s: states[s] for s in STATES if states[s]}, "tags": dict(sorted(tags.items()))}


def size(path: Path) -> int:
    """Bytes of a folder; links are not followed, and what has several names is counted once."""
    total, seen, waiting = 0, set(), [os.fspath(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        continue
                    about = entry.stat(follow_symlinks=False)
                    if about.st_nlink == 1 or (about.st_dev, about.st_ino) not in seen:
                        seen.add((about.st_dev, about.st_ino))
                        total += about.st_size
        except OSError:  # gone meanwhile, or not to be read
            continue
    return total


def tag(run: Facts, add: Collection[str] = (), remove: Collection[str] = ()) -> tuple[str, ...]:
    """Give a run tags and take others away; gives those that it then has. UsageError where one is no tag."""
    if wrong := next((word for word in (*add, *remove) if not TAG.fullmatch(word)), None):
        raise UsageError(
            f"{shown(wrong)} is no tag",
            expected="up to 64 letters, digits, -, _, ., : and /, the first a letter or digit",
        )
    place = Places(run.path)
    if not place.path.is_dir():
        raise UsageError(f"the run {run.name} is gone", expected="one that is there")
    try:
        before = read_tags(place)
    except DataError:  # is written anew
        before = ()
    after = tuple(sorted((set(before) | set(add)) - set(remove)))
    if after != before:
        write_json(place.tags, {"tags": list(after)})
    return after


def recipe(run: Facts) -> dict[str, Any]:
    """What ran. DataError where it cannot be read."""
    path = Places(run.path).recipe
    try:
        found = parse_yaml((glance(path, MOST) or b"").decode(), path.name)
    except (UnicodeDecodeError, JichuError) as error:
        raise DataError(f"damaged: {error}", where=path, expected="a recipe as it was written") from None
    if not isinstance(found, dict):
        raise DataError("damaged", where=path, expected="a recipe as it was written")
    return found


def compare(runs: Sequence[Facts]) -> dict[str, Any]:
    """Runs side by side: {"runs": names, "recipes": {key: [value of each]}, "metrics": {name: [interval of each]}}, the recipes
    where they differ."""
    if len(runs) < 2:
        raise UsageError(f"{len(runs)} run to compare", expected="two or more")
    found = differences([{k: v for k, v in recipe(run).items() if k != "name"} for run in runs])
    metrics = dict.fromkeys(name for run in runs for name in run.headline)
    return {
        "runs": [run.name for run in runs],
        "recipes": dict(found),
        "metrics": {name: [run.headline.get(name) for run in runs] for name in metrics},
    }


def paired(runs: Sequence[Facts]) -> dict[str, Any]:
    """Whether the first is better than the others by more than chance, as `jichu.compare` finds it; {"why": …} where they have
    no held-out rows in common."""
    from jichu.comparing import compare as on_rows

    try:
        return on_rows([run.path for run in runs])
    except (JichuError, OSError, KeyError, TypeError, ValueError) as error:
        return {"why": getattr(error, "what", f"{type(error).__name__}: {error}")}

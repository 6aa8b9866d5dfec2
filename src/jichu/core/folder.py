"""The run folder: how its files are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import DataError, UsageError, nearest, shown
from .files import append_jsonl, dumps, flush, lines_of, read_json, read_jsonl, write_json, write_text
from .places import Places
from .ranks import rank


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Plan(_Part):
    memory_mib: float | None = None


class _Data(_Part):
    fingerprint: str = ""
    rows: int = 0


class _Notes(_Part):
    """What is read again of `environment.json`; the rest is for people."""

    plans: dict[str, _Plan] = {}
    data: _Data = _Data()
    versions: dict[str, str] = {}
    gpus: list[str] = []


class RunFolder(Places):
    """A run that is written. Processes other than the first read and never write."""

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.writes = rank() == 0
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run; UsageError names the nearest where there is none."""
        path = Path(path)
        if not (path / "recipe.yaml").exists():
            parent = path.parent
            siblings = [p.parent.name for p in sorted(parent.glob("*/recipe.yaml"))]
            near = nearest(path.name, siblings)
            raise UsageError(
                f"no run at {path}",
                expected=f"a folder with recipe.yaml; in {parent}: {', '.join(siblings) or 'no runs'}",
                nearest=parent / near if near else None,
            )
        return cls(path)

    def log(self, file: Path, rows: list[dict[str, Any]]) -> None:
        """Append rows to a JSON-lines file of this run."""
        if self.writes and rows:
            append_jsonl(file, rows)

    def rewind(self, stage: str, step: int = -1) -> int:
        """Take back the logged rows of a stage after `step`: they will be made again. Gives the last step that there
        was; -1 if none."""
        last = -1
        for file in (self.metrics, self.timing) if self.writes else ():
            lines = lines_of(file)
            for line, row in lines:
                if not isinstance(row.get("stage"), str) or not isinstance(row.get("step"), int):
                    told = line.decode()[:80]
                    raise DataError(f"no logged row: {told}", where=file, expected="its stage and its step")
            last = max([last, *(row["step"] for _, row in lines if row["stage"] == stage)])
            text = "".join(
                f"{line.decode()}\n" for line, row in lines if row["stage"] != stage or row["step"] <= step
            )
            if file.exists() and text.encode() != file.read_bytes():  # or ends in half a line
                write_text(file, text)
        return last

    def flush(self) -> None:
        """Have the logged rows on the disk before what relies on them."""
        for file in (self.metrics, self.timing):
            if file.exists():
                flush(file)

    def look(self, stage: str, layers: list[dict[str, Any]]) -> None:
        """Keep what a stage's layers were before its first step, in the place of an earlier look."""
        if self.writes:
            rows = [row for row in read_jsonl(self.layers) if row.get("stage") != stage]
            rows += [{"stage": stage, **layer} for layer in layers]
            write_text(self.layers, "".join(dumps(row) + "\n" for row in rows))

    def note(self, key: str, value: Any) -> None:
        """Set one key of `environment.json`."""
        if self.writes:
            write_json(self.environment, {**self.notes(), key: value})

    def notes(self) -> dict[str, Any]:
        """What `environment.json` says. DataError where it is damaged."""
        found = read_json(self.environment, ()) if self.environment.exists() else {}
        try:
            _Notes.model_validate(found)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"]))
            told = f"damaged: {key} is {shown(fault['input'])}"
            raise DataError(told, where=self.environment, expected=fault["msg"]) from None
        return found

    def made_of(self, data: str) -> bool:
        """Whether the run was made of the data with this fingerprint; where it has noted none it is taken to be so."""
        return self.notes().get("data", {}).get("fingerprint", data) == data

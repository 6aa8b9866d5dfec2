"""A smaller model of a run, searched for: fewer bits first, then less of the network, until a target is met."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError
from jichu.core.files import read_json, replacing, write_json
from jichu.core.progress import say
from jichu.core.words import speaking, words
from jichu.data.config import IN_MEMORY
from jichu.exports import export
from jichu.graph_inputs import held, timing
from jichu.models import adapters
from jichu.models.ranges import seen
from jichu.quantized import ALLOWED, training_rows
from jichu.recipe.config import ModelStage, Recipe
from jichu.recipe.origins import compression
from jichu.recipe.run import execute
from jichu.runs import Run
from jichu.ship.goal import Goal, goal
from jichu.ship.measured import Inputs, available, measure
from jichu.ship.onnx_model import OnnxModel
from jichu.ship.quantize.base import prepared, quantize
from jichu.ship.scores import Compared, Held, compare
from jichu.ship.tradeoff import Candidate, Plan, chosen, groups, nearest
from jichu.ship.tradeoff_page import outcome, write

FOLDER, STATE, PAGE, MODEL = "compress", "compression.json", "compression.html", "model.onnx"
_AS_BEFORE = {"augment", "batch_size"}


@dataclass(frozen=True)
class Searched:
    """What a search came to. `path` is the chosen graph, or None where the target is not met; `best` the candidate that was
    chosen or comes nearest, `final` what it loses on rows that nothing was chosen by. `chosen_on` is the split of the rows
    that were: validation, or every second one of test."""

    folder: Path
    path: Path | None
    met: bool
    best: Candidate
    final: Compared | None
    candidates: list[Candidate]
    chosen_on: str
    told: list[str]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder), "path": self.path and str(self.path), "met": self.met, "best": self.best.name,
            "chosen_on": self.chosen_on, "final": self.final and self.final.plain(),
            "candidates": [candidate.plain() for candidate in self.candidates],
        }  # fmt: skip


def search(
    run: Run | str | Path, target: str, *, output: str | Path | None = None, allow_loss: float = ALLOWED,
    budget: str = "1 epochs", data: Any = None, threads: int | None = None, rows: int = 32, rounds: int = 9,
) -> Searched:  # fmt: skip
    """Search a smaller model of a run that meets a target, `size=0.25`, `speed=2` or `latency=5ms`, and loses at most so many
    points of the run's first metric. Candidates are graphs of fewer bits, and then models with channels cut out or layers
    of low rank that are trained again for a `budget`, each also in fewer bits; the search ends with the first kind of
    candidates of which one will do. They are chosen by the validation rows, or by every second of the test rows where
    there are none; the final figure is of the other rows. What was measured is kept in the folder `output`, the run's
    folder `compress` if not given, and not measured again."""
    run = run if isinstance(run, Run) else Run(run)
    aim = goal(target)
    for wrong, what, where, expected in (
        (not (math.isfinite(allow_loss) and allow_loss >= 0), f"{allow_loss} points", "--allow-loss", "a number, 0 or more"),
        (threads is not None and (not isinstance(threads, int) or threads < 1), f"{threads} threads", "--threads", "1 at least"),
        (rows < 1, f"batches of {rows} rows", "--rows", "1 at least"),
        (rounds < 3, f"{rounds} rounds", "--rounds", "3 at least"),
    ):  # fmt: skip
        if wrong:
            raise UsageError(what, where=where, expected=expected)
    with speaking(run.recipe.language):
        looked = _Search(
            run, Path(output or run.path / FOLDER), data, budget, threads or available(), rows, rounds
        )
        return looked.until(aim, allow_loss)


class _Search:
    """What is known of a run's candidates, in a folder."""

    def __init__(
        self, run: Run, folder: Path, data: Any, budget: str, threads: int, batch_size: int, rounds: int
    ):
        self.run, self.folder, self.data = run, folder, data
        self.budget, self.threads, self.batch_size, self.rounds = budget, threads, batch_size, rounds
        self._recipe(
            Plan(({"name": "structured", "amount": 0.5},))
        )  # whatever is wrong with the budget is told now
        self.whole = self._graph(Plan())
        if not self.whole.exists():
            export(run, output=self._room(self.whole), data=data)
        self.dims = OnnxModel(self.whole).signature.inputs
        self.held, self.chosen_on, self._final = self._rows()
        self.inputs: Inputs = timing(run, self.dims, data, batch_size)
        self.about = {
            "weights": adapters.fingerprint(adapters.tensors(run.folder.model)), "metric": self.held.name, "rows": len(self.held.truth), "threads": threads,
            "chosen_on": self.chosen_on, "batch_size": self.inputs.rows, "rounds": rounds, "budget": budget,
        }  # fmt: skip
        self.known: dict[str, Candidate] = {}
        self.known = self._kept()

    def until(self, aim: Goal, allowed: float) -> Searched:
        """Try one group of plans after the other, until one of a group will do."""
        found: list[Candidate] = []
        best = None
        for group in groups():
            found += [self._candidate(plan) for plan in group]
            best = chosen(found, aim, allowed)
            if best is not None:
                break
        return self._result(aim, allowed, found, best)

    def _result(self, aim: Goal, allowed: float, found: list[Candidate], best: Candidate | None) -> Searched:
        met, shown = best is not None, best or nearest(found, aim, allowed)
        path, final = self.folder / MODEL, None
        if met:
            final = self._last(shown)
            graph = self.folder / "candidates" / f"{shown.name}.onnx"
            with replacing(path, graph.stat().st_size) as whole:
                shutil.copyfile(graph, whole)
        else:
            path.unlink(missing_ok=True)
        told = outcome(aim, shown, met, final)
        self._keep(
            target=str(aim), allow_loss=allowed, met=met, best=shown.name, tried=[c.name for c in found],
            final=final and final.plain(), run=str(self.run.path),
        )  # fmt: skip
        title = words("{run} made smaller", run=self.run.path.name)
        write(self.folder / PAGE, title, found, told, met, self.chosen_on)
        return Searched(self.folder, path if met else None, met, shown, final, found, self.chosen_on, told)

    # --- rows

    def _rows(self) -> tuple[Held, str, Any]:
        """Rows to choose by, the split that they are of, and how the others are had."""
        run, dims, data = self.run, self.dims, self.data
        try:
            chosen_by = held(run, dims, data, ("validation",))
        except (DataError, UsageError):  # no such rows
            even, odd = slice(0, None, 2), slice(1, None, 2)
            by = held(run, dims, data, ("test",), even)
            return by, "test", lambda: held(run, dims, data, ("test",), odd)
        return chosen_by, "validation", lambda: held(run, dims, data, ("test",))

    @cached_property
    def _answers(self) -> np.ndarray:
        """Of the model as it is."""
        return self.held.answers(self.whole)

    def _last(self, best: Candidate) -> Compared | None:
        """What is lost on rows that nothing was chosen by; None where there are none."""
        try:
            rows = self._final()
        except DataError:
            return None
        return compare(
            rows, rows.answers(self.whole), rows.answers(self.folder / "candidates" / f"{best.name}.onnx")
        )

    # --- one candidate

    def _candidate(self, plan: Plan) -> Candidate:
        """Made, timed and compared; or as it is known."""
        graph = self._graph(plan)
        if plan.name in self.known and (self.known[plan.name].refused or graph.exists()):
            return self.known[plan.name]
        try:
            made = self._measured(plan, graph, self._made(plan, graph))
        except UsageError as error:  # a step that does not suit the network, a graph without what has bits
            made = Candidate(plan.name, refused=error.what)
        say(f"{plan.name}: {made.refused or made.told}")
        self.known[plan.name] = made
        self._keep()
        return made

    def _made(self, plan: Plan, graph: Path) -> str | None:
        """The graph of a plan in its place; gives the run folder of a changed model."""
        changed = self._changed(plan)
        if graph.exists():  # a search that was ended between making and measuring it
            return changed
        if plan.quantize is None:
            export(changed or self.run, output=self._room(graph), data=self.data)
            return changed
        ends = seen(Run(changed).model if changed else self.run.model)
        with (
            prepared(self._graph(replace(plan, quantize=None)), ends) as given,
            replacing(self._room(graph)) as temporary,
        ):
            quantize(
                given, Spec(name=plan.quantize), temporary, training_rows(self.run, self.data, given.model)
            )
        return changed

    def _changed(self, plan: Plan) -> str | None:
        """The run that took the steps of a plan, made where it is not there. UsageError where they could not be taken."""
        if not plan.steps:
            return None
        plain = self.known.get(plan.cut)
        if plain is not None and plain.refused:
            raise UsageError(plain.refused)
        if plain is not None:
            return plain.run
        runs, recipe = self.folder / "runs", self._recipe(plan)
        given = self.data if recipe.data.path == IN_MEMORY else None
        return str(execute(recipe, resume=(runs / plan.cut).exists(), data=given, runs=runs).path)

    def _recipe(self, plan: Plan) -> Recipe:
        """How the model is changed and trained again: like the stage that fitted it. UsageError where that cannot be."""
        before = self.run.recipe
        stage = next(s for s in before.stages if isinstance(s, ModelStage) and s.name == before.chosen)
        settings = stage.model_dump(include=_AS_BEFORE, exclude_none=True, mode="json", by_alias=True)
        settings |= {"steps": list(plan.steps), "budget": self.budget}
        return compression(str(self.run.path), settings, name=plan.cut)

    def _measured(self, plan: Plan, graph: Path, changed: str | None) -> Candidate:
        pair = [self.whole] if graph == self.whole else [self.whole, graph]
        timed = measure(pair, self.inputs, threads=self.threads, rounds=self.rounds)[-1]
        found = compare(self.held, self._answers, self.held.answers(graph))
        return Candidate(plan.name, timed, found, changed)

    # --- files

    def _graph(self, plan: Plan) -> Path:
        return self.folder / "candidates" / f"{plan.name}.onnx"

    def _room(self, graph: Path) -> Path:
        graph.parent.mkdir(parents=True, exist_ok=True)
        return graph

    def _kept(self) -> dict[str, Candidate]:
        """What was measured before. UsageError where that was by other settings."""
        file = self.folder / STATE
        if not file.exists():
            self._keep()
            return {}
        told = read_json(file, ("settings", "candidates"))
        for key, value in self.about.items():
            if told["settings"].get(key) != value:
                raise UsageError(
                    f"candidates were measured with {key} {told['settings'].get(key)}, and now it is {value}", where=file,
                    expected="the same, or another --output",
                )  # fmt: skip
        try:
            return {found["name"]: Candidate.of(found) for found in told["candidates"]}
        except (KeyError, TypeError) as error:
            raise DataError(f"damaged: {error}", where=file, expected="JSON as it was written") from None

    def _keep(self, **outcome: Any) -> None:
        """All that is known, written at once."""
        told = [candidate.plain() for candidate in self.known.values()]
        write_json(self.folder / STATE, {**outcome, "settings": self.about, "candidates": told})

"""The one training loop. What is learned is the objective; where data come from is an iterator."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from jichu.adapt.rules import Rules, applied, assign, resolve
from jichu.core import devices, ranks
from jichu.core.durations import Duration
from jichu.core.errors import Interrupted, NotFinite, UsageError
from jichu.core.files import read_jsonl, told_as_damaged
from jichu.core.folder import RunFolder
from jichu.core.interrupt import Stop, stoppable
from jichu.core.progress import Task, task
from jichu.core.randomness import guarded, seed_step
from jichu.data.batches import Batch, as_source, peek
from jichu.objectives.base import Context, Objective

from . import checkpoint, schedules
from .averaging import Average, fresh_statistics, has_statistics
from .config import TrainConfig
from .learner import Learner, backward, cut, total_weights
from .logs import Clock, Means, TensorBoard
from .optimizers import build, set_rates
from .plan import Plan, autocast, lay_out, make_plan

Evaluate = Callable[[nn.Module], dict[str, float]]
_LOWER_IS_BETTER = ("loss", "error", "rmse", "mae", "mse", "pinball", "brier")
_STATISTICS = 100  # batches, at most, that batch statistics are made anew from


def lower_is_better(metric: str) -> bool:
    """Whether smaller numbers of a metric are the better ones, by its name."""
    return any(word in metric for word in _LOWER_IS_BETTER)


@dataclass
class Fitted:
    """What a training came to. `history` holds the logged rows, `best` the best evaluation."""

    steps: int = 0
    rows: int = 0
    seconds: float = 0.0
    stopped_early: bool = False
    best: dict[str, float] = field(default_factory=dict)
    since_best: int = 0  # evaluations
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Training rows a second, evaluation and checkpoints included."""
        return self.rows / max(self.seconds, 1e-9)


def fit(
    model: nn.Module,
    objective: Objective,
    batches: Any,
    config: TrainConfig | None = None,
    *,
    adapt: str | Rules = "full",
    evaluate: Evaluate | None = None,
    monitor: str = "accuracy",
    seed: int = 0,
    folder: RunFolder | None = None,
    name: str = "fit",
    resume: bool = False,
) -> Fitted:
    """Train `model` in place on batches (a `Batches`, or any iterable of dicts of tensors).

    `evaluate(model)` gives numbers to log; with `config.patience` the weights with the best `monitor`
    are restored at the end, and the schedule `plateau` follows it. With `config.average` it is the mean
    weights that are evaluated, and that training ends with. With a folder, rows are logged and checkpoints kept in it, and `resume`
    goes on from the last one to the same result. Raises UsageError where a step would not fit into
    memory, NotFinite where the loss is not finite, Interrupted (exit code 130) on Ctrl-C.
    """
    config = config or TrainConfig()
    if evaluate is None:
        if config.patience is not None:
            raise UsageError("patience needs something to wait for", where="patience", expected="evaluate=…")
        if config.schedule.name == schedules.FOLLOWS_EVALUATIONS:
            raise UsageError("plateau needs something to follow", where="schedule", expected="evaluate=…")
    loop = _Loop(model, objective, batches, config, folder, name, seed)
    rules = assign(model, resolve(adapt))
    with applied(model, rules) as frozen, guarded(loop.device):
        loop.start(rules, frozen, resume)
        loop.run(evaluate, monitor)
    return loop.result


class _Loop:
    """One training: its parts and its state. What a checkpoint holds is in `_save` and `_load`."""

    def __init__(
        self, model: nn.Module, objective: Objective, batches: Any, config: TrainConfig,
        folder: RunFolder | None, name: str, seed: int,
    ):  # fmt: skip
        self.config, self.folder, self.name, self.seed = config, folder, name, seed
        self.device = devices.device(config.device)
        self.batches, self._given = as_source(batches, seed), batches
        self._first = self.batches.state_dict()
        self.rate = schedules.schedule(config.schedule, config.warmup)
        self.seen: list[float] = []  # evaluations for the schedule, lower being better
        self.objective = objective
        self.model = model.to(self.device)
        self.result = Fitted()
        self.step = self.logged = 0
        self.best_weights: dict[str, Tensor] = {}
        self.means, self.clock = Means(), Clock()

    # --- before the first step

    def start(self, rules: dict[str, Any], frozen: list[nn.Module], resume: bool) -> None:
        """Bind, build, and either go on from a checkpoint or plan."""
        self.frozen = frozen
        sample = self._move(peek(self.batches))
        self._refuse_interaction(len(sample["row"]))
        seed_step(self.device, self.seed, "objective")
        self.objective.bind(self.model, sample)
        self.learner = Learner(self.model, self.objective).to(self.device)
        self.optimizer = build(self.learner, rules, self.config.optimizer)
        self._training_mode()
        state = checkpoint.read_state(self._file("last")) if self.folder and resume else None
        state = state if state is not None and state.get("name") == self.name else None
        if state is not None:
            with told_as_damaged(self._file("last"), checkpoint.REMEDY):
                self.plan = TypeAdapter(Plan).validate_python(state["plan"])
        else:
            self._make_plan(sample, resume, rules)
        if self.plan.memory_format == "channels_last":
            lay_out(self.learner, torch.channels_last)
        self.average = self._averaging()
        if state is not None:
            self._load(state)
        self.module = ranks.distribute(self.learner)

    def _averaging(self) -> Average | None:
        spec = self.config.average
        if spec is None:
            return None
        once = self.batches is not self._given and iter(self._given) is self._given
        if spec.name == "swa" and once and has_statistics(self.model):
            raise UsageError(
                "swa goes over training batches again, for the batch statistics of the mean weights",
                where="average", expected="batches that can be gone through again, such as a list",
            )  # fmt: skip
        return Average(self.model, schedules.averaging(spec))

    def _refuse_interaction(self, rows: int) -> None:
        processes, even = ranks.world_size(), len(set(ranks.gather_objects(rows))) == 1
        if self.objective.independent or (self.config.accumulate == 1 and even):
            return
        raise UsageError(
            f"{type(self.objective).__name__} compares the rows of a batch, which cannot be cut into"
            f" {self.config.accumulate} micro-batches on {processes} processes",
            expected="accumulate: 1 and a batch_size that the processes divide evenly",
        )

    def _make_plan(self, sample: Batch, resume: bool, rules: dict[str, Any]) -> None:
        known = self.folder.notes().get("plans", {}) if self.folder else {}
        if self.folder and resume and self.name in known:
            with told_as_damaged(self.folder.environment):
                self.plan = TypeAdapter(Plan).validate_python(known[self.name])
        else:
            self.plan = make_plan(
                self.learner, sample, self.config,
                epoch=self._epoch(Duration.parse(self.config.budget)), seed=self.seed, device=self.device, rules=rules,
            )  # fmt: skip
        if self.folder:
            self.folder.rewind(self.name)
            self.folder.note("plans", known | {self.name: asdict(self.plan)})

    def _training_mode(self) -> None:
        self.learner.train()
        for module in self.frozen:
            module.eval()

    # --- the loop

    def run(self, evaluate: Evaluate | None, monitor: str) -> None:
        """Step until the budget is spent, patience is lost, or somebody asks to stop."""
        self.started = self.saved = time.monotonic()
        board = TensorBoard(self.folder, self.name, self.config.tensorboard, self.step)
        self.clock = Clock()
        with stoppable() as stop, task(self.name, self.plan.steps, done=self.step) as shown:
            try:
                while self.step < self.plan.steps and not self.result.stopped_early:
                    asked = self._one_step(stop, board, shown)
                    if evaluate is not None and self._evaluation_due():
                        self._evaluate(evaluate, monitor, board)
                    self._keep(asked)
            finally:
                board.close()
        self.result.steps = self.step
        ranks.share_buffers(self.learner)
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        elif self.average is not None:
            self._renew_statistics(self.average.module)
            self.model.load_state_dict(self.average.module.state_dict())
        self._save()
        if self.plan.memory_format == "channels_last":
            lay_out(self.learner, torch.contiguous_format)

    def _one_step(self, stop: Stop, board: TensorBoard, shown: Task) -> bool:
        """One optimizer step. Gives whether any process was asked to stop."""
        step, steps, objective = self.step, self.plan.steps, self.objective
        context = Context(self.seed, step, steps)
        batch = self._move(next(self.batches))
        micro = [objective.prepare(part, context) for part in cut(batch, self.config.accumulate)]
        totals, asked = total_weights(objective, micro, stop.requested)
        self.clock.lap("data")
        due = (step + 1) % self.config.log_every == 0 or step + 1 == steps
        seed_step(self.device, self.seed, step, ranks.rank())
        inside = functools.partial(autocast, self.plan.precision, self.device)
        loss, terms, row_losses, found = backward(self.module, micro, totals, inside, diagnose=due)
        if not torch.isfinite(loss):
            self._refuse(micro, row_losses)
        scalars = {"loss": loss} | ({f"loss/{n}": t for n, t in terms.items()} if len(terms) > 1 else {})
        if self.config.clip is not None:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = scalars["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, self.config.clip)
            if not torch.isfinite(norm):
                raise self._not_finite("the gradient", "its norm")
        self.clock.lap("gradients")
        progress = (step + 0.5) / steps  # mid-step, so that neither the first nor the last rate is zero
        rate = self.config.optimizer.lr * self.rate(progress, self.seen)
        set_rates(self.optimizer, rate, progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        objective.after_step(self.model, context)
        if self.average is not None:
            self.average.update(step, steps)
        self.clock.lap("optimizer")
        self.step += 1
        self.result.rows += len(batch["row"]) * ranks.world_size()
        self.means.add(scalars)
        if due:
            self._log({"lr": rate, **{n: float(v) for n, v in found.items()}}, board)
        shown.advance(note=f"loss {self.result.history[-1].get('loss', 0):.4g}" if due else None)
        return asked

    def _refuse(self, micro: list[Batch], row_losses: list[Tensor]) -> None:
        ids = [
            i for b, r in zip(micro, row_losses, strict=True) for i in b["row"][~torch.isfinite(r)].tolist()
        ]
        raise self._not_finite("the loss", f"rows {ids[:10]}" if ids else "a term that has no rows")

    def _not_finite(self, what: str, where: str) -> NotFinite:
        cure = f"a lower optimizer.lr than {self.config.optimizer.lr:g}, or clip: 1.0"
        return NotFinite(
            f"{what} is not finite at step {self.step} of {self.name}", where=where, expected=cure
        )

    def _log(self, extra: dict[str, float], board: TensorBoard) -> None:
        self._row(self.means.read() | extra, board)
        total, shares = self.clock.read()
        rows = (self.step - self.logged) * self.result.rows / self.step
        self.logged = self.step
        timing = {"stage": self.name, "step": self.step, "seconds": total, "samples_per_second": rows / total}
        if self.folder:
            self.folder.log(self.folder.timing, [timing | {f"share/{k}": v for k, v in shares.items()}])

    def _row(self, values: dict[str, float], board: TensorBoard) -> None:
        row = {"stage": self.name, "step": self.step, **values}
        self.result.history.append(row)
        board.write(row)
        if self.folder:
            self.folder.log(self.folder.metrics, [row])

    # --- evaluation and early stopping

    def _evaluation_due(self) -> bool:
        every = self.config.evaluate_every or len(self.batches)
        return self.step % every == 0 or self.step == self.plan.steps

    def _evaluate(self, evaluate: Evaluate, monitor: str, board: TensorBoard) -> None:
        ranks.share_buffers(self.learner)
        self.learner.eval()
        model = self.model
        if self.average is not None:
            model = self.average.module.eval()
            ranks.share_buffers(model)
        with torch.no_grad():
            found = evaluate(model)
        self._training_mode()
        self._row(found, board)
        self.clock.lap("evaluation")
        follows = self.config.schedule.name == schedules.FOLLOWS_EVALUATIONS
        if self.config.patience is None and not follows:
            return
        if monitor not in found:
            raise UsageError(f"the evaluation gives no {monitor!r}", expected=f"one of {', '.join(found)}")
        sign = 1 if lower_is_better(monitor) else -1
        if follows:
            self.seen.append(sign * found[monitor])
        if self.config.patience is None:
            return
        best = self.result.best.get(monitor)
        better = best is None or sign * found[monitor] < sign * best
        if better and math.isfinite(found[monitor]):
            self.result.best, self.result.since_best = {**found, "step": self.step}, 0
            self.best_weights = {n: t.detach().clone() for n, t in model.state_dict().items()}
            if self.folder and self.folder.writes:
                checkpoint.save(
                    self._file("best"), self.best_weights, {"name": self.name, **self.result.best}
                )
        else:
            self.result.since_best += 1
        self.result.stopped_early = self.result.since_best >= self.config.patience

    def _renew_statistics(self, model: nn.Module) -> None:
        """Make the batch statistics of mean weights anew, on the first training batches."""
        if self.config.average is None or self.config.average.name != "swa" or not has_statistics(self.model):
            return
        for mine, theirs in zip(model.modules(), self.model.modules(), strict=True):
            mine.training = theirs.training
        source = as_source(self._given, self.seed)  # the batches themselves, or a pass of its own over them
        at = self.batches.state_dict()
        if source is self.batches:
            source.load_state_dict(self._first)
        with fresh_statistics(model):
            for i in range(min(_STATISTICS, self.plan.steps)):
                seed_step(self.device, self.seed, "statistics", i, ranks.rank())
                batch = self.objective.prepare(
                    self._move(next(source)), Context(self.seed, i, self.plan.steps)
                )
                with autocast(self.plan.precision, self.device):
                    self.objective(model, batch)
        if source is self.batches:
            source.load_state_dict(at)
        ranks.share_buffers(model)

    # --- checkpoints

    def _keep(self, asked: bool) -> None:
        """Save where it is time to; stop where somebody asked to."""
        every = Duration.parse(self.config.checkpoint_every)
        if every.unit == "seconds":
            due = time.monotonic() - self.saved >= every.value
        else:
            due = self.step % every.steps(steps_per_epoch=self._epoch(every)) == 0
        if due or asked:
            self._save()
        if asked:
            kept = f"; the checkpoint is {self._file('last')}" if self.folder else ""
            raise Interrupted(f"{self.name} was interrupted at step {self.step} of {self.plan.steps}{kept}")

    def _file(self, which: str) -> Any:
        assert self.folder is not None
        return self.folder.checkpoints / f"{which}.safetensors"

    def _save(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.learner.parameters()):
            raise self._not_finite("a weight", "found when saving; the last checkpoint is as it was")
        now = time.monotonic()
        self.result.seconds, self.started = self.result.seconds + now - self.started, now
        if self.folder and self.folder.writes:
            tensors = {f"learner.{n}": t for n, t in self.learner.state_dict().items()}
            tensors |= {f"best.{n}": t for n, t in self.best_weights.items()}
            if self.average is not None:
                tensors |= {f"average.{n}": t for n, t in self.average.module.state_dict().items()}
            tensors |= checkpoint.optimizer_tensors(self.optimizer)
            state = {
                "name": self.name,
                "step": self.step,
                "plan": asdict(self.plan),
                "data": self.batches.state_dict(),
                "means": self.means.state_dict(),
                "seen": self.seen,
                "result": asdict(replace(self.result, history=[])),  # which is in metrics.jsonl
            }
            checkpoint.save(self._file("last"), tensors, state)
        self.saved = time.monotonic()

    def _load(self, state: dict[str, Any]) -> None:
        assert self.folder is not None
        with told_as_damaged(self._file("last"), checkpoint.REMEDY):
            self._take_up(state)
        self.folder.rewind(self.name, self.step)
        ranks.barrier()
        self.result.history = [r for r in read_jsonl(self.folder.metrics) if r["stage"] == self.name]

    def _take_up(self, state: dict[str, Any]) -> None:
        tensors = checkpoint.read_tensors(self._file("last"), self.device)

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        self.learner.load_state_dict(part("learner."))
        self.best_weights = part("best.")
        if self.average is not None:
            self.average.module.load_state_dict(part("average."))
        checkpoint.load_optimizer(self.optimizer, tensors)
        self.batches.load_state_dict(state["data"])
        self.means.load_state_dict(state["means"])
        self.result = Fitted(**state["result"])
        self.seen = [math.nan if value is None else value for value in state["seen"]]  # as JSON has them
        if not 0 <= state["step"] <= self.plan.steps:
            raise ValueError(f"step {state['step']} of {self.plan.steps}")
        self.step = self.logged = state["step"]

    def _epoch(self, duration: Duration) -> int:
        """Steps in an epoch, asked for only where the duration is in epochs: not all batches know."""
        return len(self.batches) if duration.unit == "epochs" else 1

    def _move(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

"""The one training loop. What is learned is the objective; where data come from is an iterator."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from jichu.adapt.lora import inject
from jichu.adapt.rules import Rules, applied, assign, resolve
from jichu.core import devices, ranks
from jichu.core.doctor import matmul_rate, with_threads
from jichu.core.durations import Duration
from jichu.core.errors import Interrupted, NotFinite, UsageError
from jichu.core.files import read_jsonl
from jichu.core.folder import RunFolder
from jichu.core.interrupt import Stop, stoppable
from jichu.core.progress import Task, say, task
from jichu.core.randomness import guarded, seed_step
from jichu.data.batches import Batch, as_source, largest, select, typical
from jichu.models.layout import lay_out
from jichu.objectives.base import Context, Objective

from . import checkpoint, schedules
from .averaging import Average, fresh_statistics, has_statistics
from .config import TrainConfig
from .fitted import Fitted, lower_is_better
from .guard import Watch, broken_rows, too_many
from .learner import Learner, backward, cached, cut, total_weights
from .logs import Clock, Means
from .memory import MIB, Buffers, halving, keep_freed
from .optimizers import build, set_rates
from .plan import Plan, make_plan
from .private import Private
from .settings import autocast
from .trackers import TRACKERS
from .trackers.base import Training
from .trackers.tracked import tracked

Evaluate = Callable[[nn.Module], dict[str, float]]
_STATISTICS = 100  # batches, at most, that batch statistics are made anew from
_ONE_ROW = "Expected more than 1 value per channel"  # as torch says it


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
    records: Sequence[str] | None = None,
) -> Fitted:
    """Train `model` in place on batches (a `Batches`, or any iterable of dicts of tensors).

    `evaluate(model)` gives numbers to log; with `config.patience` the weights with the best `monitor`
    are restored at the end, and the schedule `plateau` follows it. With `config.average` it is the mean
    weights that are evaluated, and that training ends with. With a folder, rows are logged and checkpoints
    kept in it, and `resume` goes on from the last one to the same result.

    A row whose loss is not finite is left out from then on and named in the quarantine, as
    `records[row]` where those are given. Raises UsageError where a step would not fit into memory,
    NotFinite where the loss is not finite for another reason or runs away, Interrupted (exit code 130)
    on Ctrl-C.
    """
    config = config or TrainConfig()
    if config.privacy is not None:  # gradients by row are kept in single precision, in the usual order
        plain = {"precision": "float32", "compile": False, "memory_format": "contiguous"}
        config = config.model_copy(update=plain)
    if evaluate is None:
        if config.patience is not None:
            raise UsageError("patience needs something to wait for", where="patience", expected="evaluate=…")
        if config.schedule.name == schedules.FOLLOWS_EVALUATIONS:
            raise UsageError("plateau needs something to follow", where="schedule", expected="evaluate=…")
    loop = _Loop(model, objective, batches, config, folder, name, seed, records)
    resolved = resolve(adapt, model)
    inject(model, resolved, seed)
    rules = assign(model, resolved)
    with applied(model, rules) as frozen, guarded(loop.device):
        try:
            loop.start(rules, frozen, resume)
            with with_threads(loop.plan.threads):
                loop.run(evaluate, monitor)
        except ValueError as error:
            if _ONE_ROW not in str(error):
                raise
            raise UsageError(
                "a row by itself, of which batch statistics cannot be had",
                where="accumulate" if config.accumulate > 1 else "batch_size",
                expected="batches and micro-batches of two rows at least, or norm: group",
            ) from None
    return loop.result


def _number(value: float | None) -> float:
    """A number as a checkpoint's JSON has it, where one that is not finite is null."""
    return math.nan if value is None else value


class _Loop:
    """One training: its parts and its state. What a checkpoint holds is in `_save` and `_load`."""

    def __init__(
        self, model: nn.Module, objective: Objective, batches: Any, config: TrainConfig,
        folder: RunFolder | None, name: str, seed: int, records: Sequence[str] | None,
    ):  # fmt: skip
        self.config, self.folder, self.name, self.seed = config, folder, name, seed
        self.records, self.broken = records, set[int]()  # rows that are left out
        self.device = devices.device(config.device)
        self.batches, self._given = as_source(batches, seed), batches
        self._first = self.batches.state_dict()
        self.rate = schedules.schedule(config.schedule, config.warmup)
        self.seen: list[float] = []  # evaluations for the schedule, lower being better
        self.objective = objective
        self.model = model.to(self.device)
        self.result = Fitted()
        self.step = self.logged = 0
        self.resumed, self.logged_before = False, -1  # the last step of an earlier session that was logged
        self.best_weights: dict[str, Tensor] = {}
        self.fixed: set[str] = set()  # the names of what the rules freeze, which is in no checkpoint
        self.means, self.clock, self.watch = Means(), Clock(), Watch()

    # --- before the first step

    def start(self, rules: dict[str, Any], frozen: list[nn.Module], resume: bool) -> None:
        """Bind, build, and either go on from a checkpoint or plan."""
        self.resumed = resume
        self.frozen = frozen
        still = {p for n, p in self.model.named_parameters() if rules[n] == "frozen"}
        self.fixed = {n for n, p in self.model.named_parameters(remove_duplicate=False) if p in still}
        sample = self._move(typical(self.batches))
        self._refuse_cut(len(sample["row"]))
        seed_step(self.device, self.seed, "objective")
        self.objective.bind(self.model, sample)
        self.learner = Learner(self.model, self.objective).to(self.device)
        if not any(p.requires_grad for p in self.learner.parameters()):
            raise UsageError("every parameter is frozen", where="adapt", expected="something to train")
        self._training_mode()
        state = checkpoint.read_state(self._file("last")) if self.folder and resume else None
        state = state if state is not None and state.get("name") == self.name else None
        if state is not None:
            with checkpoint.understood(self._file("last")):
                self.plan = TypeAdapter(Plan).validate_python(state["plan"])
            keep_freed(2 * self.plan.memory_mib * MIB < devices.memory_available(self.device))
        else:
            self._make_plan(sample, resume, rules)
        self.optimizer = build(self.learner, rules, self.config.optimizer, self.plan.precision)
        groups = self.optimizer.param_groups
        self.result.trained = sum(p.numel() for group in groups for p in group["params"])
        lay_out(self.learner, self.plan.memory_format)
        self.average = self._averaging()
        self.before = Buffers(self.learner)
        if state is not None:
            with checkpoint.understood(self._file("last")):
                self._load(state)
            self._rewind()
        given = self.config.privacy
        self.private = Private(given, self.batches, self.learner, self.plan.steps) if given else None
        self.module = self.plain = ranks.distribute(self.learner)
        if self.plan.compiled:
            self.module = cast(nn.Module, torch.compile(self.plain))
        self.inside = functools.partial(autocast, self.plan.precision, self.device)

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

    def _refuse_cut(self, rows: int) -> None:
        processes, even = ranks.world_size(), len(set(ranks.gather_objects(rows))) == 1
        if self.objective.independent or (even and (self.config.accumulate == 1 or self.objective.cached)):
            return
        raise UsageError(
            f"{type(self.objective).__name__} compares the rows of a batch, which cannot be cut into"
            f" {self.config.accumulate} micro-batches on {processes} processes",
            expected="accumulate: 1 and a batch_size that the processes divide evenly",
        )

    def _make_plan(self, sample: Batch, resume: bool, rules: dict[str, Any]) -> None:
        known = self.folder.notes().get("plans", {}) if self.folder else {}
        if self.folder and resume and self.name in known:
            with checkpoint.understood(self.folder.environment, "environment"):
                self.plan = TypeAdapter(Plan).validate_python(known[self.name])
        else:
            self.plan = make_plan(
                self.learner, sample, self._move(largest(self.batches)), self.config,
                epoch=self._epoch(Duration.parse(self.config.budget)), tokens=getattr(self.batches, "tokens_a_batch", None),
                seed=self.seed, device=self.device, rules=rules,
            )  # fmt: skip
        if self.plan.accumulate_why:
            say(f"{self.name}: {self.plan.accumulate_why}")
        if self.folder:
            self.logged_before = self.folder.rewind(self.name)
            self._note_plan()

    def _note_plan(self) -> None:
        if self.folder:
            known = self.folder.notes().get("plans", {})
            self.folder.note("plans", known | {self.name: asdict(self.plan)})

    def _training_mode(self) -> None:
        self.learner.train()
        for module in self.frozen:
            module.eval()

    # --- the loop

    def run(self, evaluate: Evaluate | None, monitor: str) -> None:
        """Step until the budget is spent, patience is lost, or somebody asks to stop; then settle what came of it."""
        with tracked(self.config, self._training()) as self.trackers:
            for row in self.result.history:  # a tracker may not have been told of all of it
                self.trackers.write(row)
            self.started = self.saved = time.monotonic()
            self.clock = Clock(self.result.phases)
            with stoppable() as stop, task(self.name, self.plan.steps, done=self.step) as shown:
                while self.step < self.plan.steps and not self.result.stopped_early:
                    asked = self._one_step(stop, shown)
                    if evaluate is not None and self._evaluation_due():
                        self._evaluate(evaluate, monitor)
                    self._keep(asked)
            self._settle()
            self.trackers.results |= self.result.told()

    def _training(self) -> Training | None:
        """This training as trackers are told of it."""
        if self.folder is None:
            return None
        settings = self.config.model_dump(mode="json", by_alias=True, exclude={*TRACKERS}) | {
            "seed": self.seed
        }
        return Training(self.folder, self.name, settings, self.resumed, self.step, self.logged_before)

    def _settle(self) -> None:
        """What the training ends with: its weights, its last checkpoint, its account."""
        self.result.steps = self.step
        if self.private is not None:
            self.result.privacy = self.private.close(self.step)
            told = self.result.privacy
            say(f"  {self.name}: private to epsilon {told['epsilon']:.3g}, delta {told['delta']:g}")
        ranks.share_buffers(self.learner)
        if self.best_weights:
            self.model.load_state_dict(self._whole(self.best_weights))
        elif self.average is not None:
            self._renew_statistics(self.average.module)
            self.model.load_state_dict(self.average.module.state_dict())
        self._save()
        lay_out(self.learner, "contiguous")
        if self.watch.stuck:
            self._remark(f"the loss is hardly lower than at its first step, {self.watch.first:.4g}: the model"
                         f" learnt nothing, perhaps for an optimizer.lr far too large or too small")  # fmt: skip
        self._account()

    def _account(self) -> None:
        """Say where the time went, and how much of the machine was used."""
        shares = self.result.shares()
        trained = self.result.seconds * (1 - shares.get("evaluation", 0.0) - shares.get("checkpoint", 0.0))
        reached = self.plan.flops_per_row * self.result.rows / max(trained, 1e-9) / ranks.world_size()
        best = functools.partial(matmul_rate, self.plan.precision, self.device, self.plan.threads)
        peak = best()
        if reached > peak:  # what is remembered was measured beside other work
            peak = best(refresh=True)
        self.result.utilisation = reached / peak
        ordered = sorted(shares.items(), key=lambda item: -item[1])
        told = ", ".join(f"{phase} {share:.0%}" for phase, share in ordered if share >= 0.005)
        say(
            f"  {self.name}: {self.result.rows_per_second:,.0f} rows a second; {told};"
            f" {self.result.utilisation:.0%} of what {self.plan.precision} products reach here"
        )

    def _one_step(self, stop: Stop, shown: Task) -> bool:
        """One optimizer step. Gives whether any process was asked to stop."""
        step, steps = self.step, self.plan.steps
        context = Context(self.seed, step, steps)
        due = (step + 1) % self.config.log_every == 0 or step + 1 == steps
        rows, loss, terms, found, asked = self._gradients(context, stop, due)
        scalars = {"loss": loss} | ({f"loss/{n}": t for n, t in terms.items()} if len(terms) > 1 else {})
        if self.config.clip is not None:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = scalars["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, self.config.clip)
            if not torch.isfinite(norm):
                raise self._failed("the gradient is not finite", "its norm")
        progress = (step + 0.5) / steps  # mid-step, so that neither the first nor the last rate is zero
        rate = self.config.optimizer.lr * self.rate(progress, self.seen)
        set_rates(self.optimizer, rate, progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        context.terms.update(terms)
        self.objective.after_step(self.model, context)
        if self.average is not None:
            self.average.update(step, steps)
        self.step += 1
        self.result.rows += rows * ranks.world_size()
        self.means.add(scalars)
        self.clock.lap("optimizer")
        if due:
            self._log({"lr": rate, **{n: float(v) for n, v in found.items()}})
        shown.advance(note=f"loss {self.result.history[-1].get('loss', 0):.4g}" if due else None)
        return asked

    def _gradients(
        self, context: Context, stop: Stop, due: bool
    ) -> tuple[int, Tensor, dict[str, Tensor], dict[str, Tensor], bool]:
        """Gradients of the next batch's loss. Gives its rows, its loss, that of each term, the diagnosis, and whether any
        process was asked to stop. Where the loss is not finite, it is taken back and done again without
        the rows that are the cause."""
        batch = self._next()
        if self.private is not None:
            return *self._private_gradients(self.private, batch, context, due), stop.requested
        self.before.keep()
        while True:
            micro, asked, (loss, terms, found) = self._in_parts(batch, context, stop, due)
            loss = ranks.sum_over_ranks(loss) / ranks.world_size()
            value = float(loss)
            if math.isfinite(value):
                break
            self._undo()
            batch = self._without_broken(batch, micro)
        self.watch.sees(value)
        if self.watch.lost:
            raise self._failed(f"the loss ran away, from {self.watch.first:.4g} to {value:.4g}", None)
        return len(batch["row"]), loss, terms, found, asked

    def _private_gradients(
        self, private: Private, batch: Batch, context: Context, due: bool
    ) -> tuple[int, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The same with differential privacy, where a batch may have no row."""
        seed_step(self.device, self.seed, self.step, ranks.rank())
        loss, terms, found = private.gradients(
            batch, lambda part: self.objective.prepare(part, context), self.inside, self.step, diagnose=due,
            lap=self.clock.lap,
        )  # fmt: skip
        return len(batch["row"]), loss, terms, found

    def _in_parts(
        self, batch: Batch, context: Context, stop: Stop, due: bool
    ) -> tuple[list[Batch], bool, Any]:
        """The micro-batches, whether any process was asked to stop, and what `backward` gives; in twice as
        many micro-batches from now on whenever they are too large for the memory."""

        def gradients(parts: int) -> tuple[list[Batch], bool, Any]:
            micro = [self.objective.prepare(part, context) for part in cut(batch, parts)]
            totals, asked = total_weights(self.objective, micro, stop.requested)
            self.clock.lap("data")
            seed_step(self.device, self.seed, self.step, ranks.rank())
            if len(micro) == 1 or self.objective.independent:
                found = backward(self.module, micro, totals, self.inside, diagnose=due, lap=self.clock.lap)
            else:
                # not compiled, which would draw otherwise than the first pass
                found = cached(
                    self.plain, self.learner, micro, totals, self.inside, diagnose=due, lap=self.clock.lap
                )
            return micro, asked, found

        rows, parts = len(batch["row"]), self.plan.accumulate
        result, through = halving(gradients, parts, rows, self.learner, self.objective.divisible, self._undo)
        if through != parts:
            why = f"{rows} rows in {parts} micro-batches ran out of memory at step {self.step}: {through} from now on"
            self.plan = replace(self.plan, accumulate=through, accumulate_why=why)
            say(f"{self.name}: {why}, to the same effect")
            self._note_plan()
        return result

    def _undo(self) -> None:
        """Take back what a step has changed before its end."""
        self.optimizer.zero_grad(set_to_none=True)
        self.before.restore()

    def _next(self) -> Batch:
        """The next batch, without the rows that are known to be broken."""
        while True:
            batch = self._move(next(self.batches))
            if not self.broken:
                return batch
            kept = ~torch.isin(batch["row"], torch.tensor(sorted(self.broken), device=self.device))
            if kept.any():
                return select(batch, kept)

    def _without_broken(self, batch: Batch, micro: list[Batch]) -> Batch:
        """The batch without the rows whose loss is not finite, which go to the quarantine. NotFinite where
        the rows are not the cause."""
        if not all(bool(torch.isfinite(p).all()) for p in self.learner.parameters()):
            raise self._failed("the weights are not finite", None)
        broken = torch.cat([broken_rows(self.learner, part, self.inside) for part in micro])
        rows = batch["row"][broken].tolist()
        everywhere = [row for found in ranks.gather_objects(rows) for row in found]
        together = not self.objective.independent and ranks.world_size() > 1
        seen = self.result.rows + len(batch["row"]) * ranks.world_size()
        self.broken |= set(everywhere)
        if not everywhere or together or bool(broken.all()) or too_many(len(self.broken), seen):
            where = f"rows {everywhere[:10]}" if everywhere else "no row alone"
            raise self._failed("the loss is not finite", where)
        reason = f"its loss was not finite in {self.name}"
        faults = [{"record": self._record(row), "reason": reason} for row in everywhere]
        if self.folder:
            known = read_jsonl(self.folder.quarantine)
            self.folder.log(self.folder.quarantine, [fault for fault in faults if fault not in known])
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        self._remark(
            f"the loss of {faults[0]['record']}{more} was not finite; left out, see quarantine.jsonl"
        )
        return select(batch, ~broken)

    def _remark(self, text: str) -> None:
        self.result.remarks.append(f"{self.name}: {text}")
        say(f"  warning: {self.result.remarks[-1]}")

    def _record(self, row: int) -> str:
        return self.records[row] if self.records is not None else f"row {row}"

    def _failed(self, what: str, where: str | None) -> NotFinite:
        """The error; the weights of the best evaluation, where there was one, are the model's again."""
        if self.best_weights:
            self.model.load_state_dict(self._whole(self.best_weights))
        cure = f"a lower optimizer.lr than {self.config.optimizer.lr:g}, or clip: 1.0"
        return NotFinite(f"{what} at step {self.step} of {self.name}", where=where, expected=cure)

    def _log(self, extra: dict[str, float]) -> None:
        self._row(self.means.read() | extra)
        total, shares = self.clock.read()
        rows = (self.step - self.logged) * self.result.rows / self.step
        self.logged = self.step
        timing = {"stage": self.name, "step": self.step, "seconds": total, "samples_per_second": rows / total}
        if self.folder:
            self.folder.log(self.folder.timing, [timing | {f"share/{k}": v for k, v in shares.items()}])

    def _row(self, values: dict[str, float]) -> None:
        row = {"stage": self.name, "step": self.step, **values}
        self.result.history.append(row)
        if self.folder:
            self.folder.log(self.folder.metrics, [row])
        self.trackers.write(row)

    # --- evaluation and early stopping

    def _evaluation_due(self) -> bool:
        every = self.config.evaluate_every or len(self.batches)
        return self.step % every == 0 or self.step == self.plan.steps

    def _evaluate(self, evaluate: Evaluate, monitor: str) -> None:
        ranks.share_buffers(self.learner)
        self.learner.eval()
        model = self.model
        if self.average is not None:
            model = self.average.module.eval()
            ranks.share_buffers(model)
        with torch.no_grad(), self.inside():
            found = evaluate(model)
        self._training_mode()
        self._row(found)
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
            self.best_weights = {n: t.detach().clone() for n, t in self._moving(model).items()}
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
                with self.inside():
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
        if (due or asked) and self.watch.calm:
            self._save()
            self.clock.lap("checkpoint")
        if asked:
            ranks.barrier()  # else one that ends has the launcher end the one that saves
            kept = f"; the checkpoint is {self._file('last')}" if self.folder else ""
            raise Interrupted(f"{self.name} was interrupted at step {self.step} of {self.plan.steps}{kept}")

    def _file(self, which: str) -> Any:
        assert self.folder is not None
        return self.folder.checkpoints / f"{which}.safetensors"

    def _save(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.learner.parameters()):
            raise self._failed(
                "a weight is not finite", "found when saving; the last checkpoint is as it was"
            )
        now = time.monotonic()
        self.result.phases = self.clock.totals
        self.result.seconds, self.started = self.result.seconds + now - self.started, now
        if self.folder and self.folder.writes:
            tensors = {f"learner.{n}": t for n, t in self._moving(self.learner, "model.").items()}
            tensors |= {f"best.{n}": t for n, t in self.best_weights.items()}
            if self.average is not None:
                tensors |= {f"average.{n}": t for n, t in self._moving(self.average.module).items()}
            tensors |= checkpoint.optimizer_tensors(self.optimizer)
            state = {
                "name": self.name,
                "step": self.step,
                "plan": asdict(self.plan),
                "data": self.batches.state_dict(),
                "means": self.means.state_dict(),
                "seen": self.seen,
                "broken": sorted(self.broken),
                "first_loss": self.watch.first,
                "fixed": self._fixed_checksum,
                "result": asdict(replace(self.result, history=[])),  # which is in metrics.jsonl
            }
            self.folder.flush()
            checkpoint.save(self._file("last"), tensors, state)
        self.saved = time.monotonic()

    def _moving(self, module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
        """The state of the model, or of what it stands in under a prefix, without what is frozen: a checkpoint of a
        few adapters does not hold the network beside which they are trained."""
        fixed = {prefix + name for name in self.fixed}
        return {n: t for n, t in module.state_dict().items() if n not in fixed}

    def _whole(self, moving: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """The whole state again, with what is frozen."""
        return moving | {prefix + n: t for n, t in self.model.state_dict().items() if n in self.fixed}

    @functools.cached_property
    def _fixed_checksum(self) -> str:
        return checkpoint.checksum({n: t for n, t in self.model.named_parameters() if n in self.fixed})

    def _load(self, state: dict[str, Any]) -> None:
        tensors = checkpoint.read_tensors(self._file("last"), self.device)

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        if state["fixed"] != self._fixed_checksum:
            raise ValueError("the frozen weights are not those that training began with")
        self.learner.load_state_dict(self._whole(part("learner."), "model."))
        self.best_weights = part("best.")
        if self.average is not None:
            self.average.module.load_state_dict(self._whole(part("average.")))
        checkpoint.load_optimizer(self.optimizer, tensors)
        self.batches.load_state_dict(state["data"])
        self.means.load_state_dict(state["means"])
        self.result = Fitted(**state["result"])
        self.result.before = self.result.seconds
        self.seen = [_number(value) for value in state["seen"]]
        if not 0 <= state["step"] <= self.plan.steps:
            raise ValueError(f"step {state['step']} of {self.plan.steps}")
        self.step = self.logged = state["step"]
        self.broken, self.watch.first = set(state["broken"]), _number(state["first_loss"])

    def _rewind(self) -> None:
        """What was logged after the checkpoint is logged again."""
        assert self.folder is not None
        self.logged_before = self.folder.rewind(self.name, self.step)
        ranks.barrier()
        self.result.history = [r for r in read_jsonl(self.folder.metrics) if r["stage"] == self.name]

    def _epoch(self, duration: Duration) -> int:
        """Steps in an epoch, asked for only where the duration is in epochs: not all batches know."""
        return len(self.batches) if duration.unit == "epochs" else 1

    def _move(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

"""A model as one program from the tensors of a batch to answers, and how it is traced."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from jichu.core.errors import UsageError
from jichu.data.target import Target
from jichu.models.classical import Estimated
from jichu.models.folder import ModelConfig
from jichu.models.generate import is_whole
from jichu.models.model import Model

from .base import Arrays, Batch, Subject

FEATURES, LOGITS = "features", "logits"  # what a model without heads gives, and one that scores tokens
ROWS, TOKENS, WRITTEN = "rows", "tokens", "written"  # dimensions that vary
LEAST, LEAST_WRITTEN = 8, 3  # tokens that programs are traced with, or as many as the context holds
Shapes = dict[str, list[int | str]]


class Program(nn.Module):
    """`forward(*columns)`, in the order of the inputs, gives the answers of the heads in their order."""

    def __init__(self, subject: Subject):
        super().__init__()
        self.model = subject.model
        self._names, self._targets = list(subject.signature.inputs), subject.config.targets

    def forward(self, *columns: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            answers(self.model, self._targets, dict(zip(self._names, columns, strict=True))).values()
        )


def answers(model: Model, targets: dict[str, Target], batch: Batch) -> dict[str, Tensor]:
    """What each head says of a batch; the features of a model without heads."""
    found = model(batch)
    heads = {
        output_of(name, targets): answer(targets.get(name), out)
        for name, out in found.items() if name != FEATURES
    }  # fmt: skip
    return heads or {FEATURES: found[FEATURES].pooled}


def output_of(head: str, targets: dict[str, Target]) -> str:
    """What a head's answer is called; one that scores tokens has the name of what is read."""
    return head if head in targets else LOGITS


def answer(target: Target | None, output: Tensor) -> Tensor:
    """A head's output as probabilities, or as numbers in the target's own units, in double precision, as these may be
    far from 0; scores of tokens as they are."""
    task = target.task if target is not None else "language"
    if target is None or task in ("language", "text"):
        return output
    if task == "classification":
        return torch.softmax(output.float() / target.temperature, 1)
    if task == "multilabel":
        return torch.sigmoid(output.float())
    mean, std = (target.means, target.stds) if task == "forecast" else (target.mean, target.std)
    shift, scale = (torch.tensor(v, dtype=torch.double, device=output.device) for v in (mean, std))
    return output.double() * scale + shift


def unit(target: Target | None, reference: Any) -> Any:
    """In what differences of an output are measured: probabilities as they are, numbers in the deviation of the target,
    scores and features in their own."""
    task = target.task if target is not None else "language"
    if target is not None and task in ("classification", "multilabel"):
        return 1.0
    if target is not None and task in ("regression", "forecast"):
        return target.stds or target.std
    return spread(reference)


def spread(values: Any) -> float:
    """The deviation of an array; where it does not vary, a thousandth of what it is."""
    return max(float(values.std()), float(abs(values).max(initial=0)) * 1e-3, 1e-12) if values.size else 1.0


# --- inputs


def inputs(config: ModelConfig, model: Model) -> Shapes:
    """The tensors that a model looks at, and their dimensions."""
    found: Shapes = {}
    for how in (config.image, config.audio):
        if how is not None:
            found[how.kind] = [ROWS, *how.shape]
    if config.series is not None:
        found["series"] = [ROWS, config.series.steps, len(config.series.columns)]
    if config.table:
        sizes = {"numbers": len(config.table.number_names), "categories": len(config.table.sizes)}
        found |= {name: [ROWS, size] for name, size in sizes.items() if size}
    if config.text is not None:
        windows = config.text.windows
        found["tokens"] = [ROWS, config.text.context * windows if windows > 1 else TOKENS]
        if config.language and is_whole(model.backbone):
            found["answer"] = [ROWS, WRITTEN]
    return found


_DTYPES = {"image": torch.uint8, "audio": torch.int16, "series": torch.float32, "numbers": torch.float32}


def example(subject: Subject) -> tuple[Tensor, ...]:
    """Zeros to trace a program with: no row of the data becomes part of what is written."""
    text = subject.config.text
    tokens = min(text.context, LEAST) if text else LEAST
    sizes = {ROWS: 3 if tokens != 3 else 5, TOKENS: tokens, WRITTEN: 7}
    return tuple(
        torch.zeros(
            [sizes[n] if isinstance(n, str) else n for n in shape], dtype=_DTYPES.get(name, torch.int64)
        )
        for name, shape in subject.signature.inputs.items()
    )


def dynamic(subject: Subject) -> tuple[dict[int, Any], ...]:
    """Which dimensions vary."""
    text, dims = subject.config.text, {ROWS: torch.export.Dim(ROWS)}
    if text is not None:
        least = 1 + getattr(subject.model.backbone, "ngrams", 1)
        dims[TOKENS] = torch.export.Dim(TOKENS, min=least, max=max(least, text.context))
        dims[WRITTEN] = torch.export.Dim(WRITTEN, min=LEAST_WRITTEN, max=max(LEAST_WRITTEN, text.context))
    return tuple(
        {i: dims[n] for i, n in enumerate(shape) if isinstance(n, str)}
        for shape in subject.signature.inputs.values()
    )


# --- traced


def traced(subject: Subject, instead: str) -> Any:
    """The program as torch.export has it. UsageError, naming the layer, where it cannot be traced; `instead` is what
    else there is."""
    program = Program(subject).eval()
    with _constants(subject.model), _following(subject.model) as at, unadorned():
        try:
            found = torch.export.export(
                program, example(subject), dynamic_shapes=(dynamic(subject),), strict=False
            )
        except UsageError:
            raise
        except Exception as error:  # of what cannot be traced torch raises whatever it leads to
            told = " ".join(map(str.strip, str(error).splitlines()[:2])) or type(error).__name__
            where = f"layer {'.'.join(at)}" if at else None
            raise UsageError(f"the model cannot be traced: {told}", where=where, expected=instead) from None
    for node in found.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of the machine it was made on
    return found


@contextlib.contextmanager
def unadorned() -> Iterator[None]:
    """Without gradients, warnings of what the libraries will no longer do, and kernels of attention that lay out their
    results each in its own way."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _constants(model: nn.Module) -> Iterator[None]:
    """How deep trees are, or how long a season is, decides how often something is done: such numbers are known while a
    program is traced."""
    held = [
        (module, name, buffer)
        for module in model.modules() if isinstance(module, Estimated)
        for name, buffer in module._buffers.items() if buffer is not None and buffer.ndim == 0
    ]  # fmt: skip
    for module, name, buffer in held:
        del module._buffers[name]
        module.__dict__[name] = buffer.item()
    try:
        yield
    finally:
        for module, name, buffer in held:
            del module.__dict__[name]
            module._buffers[name] = buffer


@contextlib.contextmanager
def _following(model: nn.Module) -> Iterator[list[str]]:
    """The name, in one part, of the innermost layer that has begun and not ended."""
    open_: list[str] = []
    at: list[str] = []

    def begin(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            open_.append(name)
            at[:] = [name]

        return note

    def end(*_: Any) -> None:
        open_.pop()
        at[:] = open_[-1:]

    hooks = []
    for name, module in model.named_modules():
        if name:
            hooks += [module.register_forward_pre_hook(begin(name)), module.register_forward_hook(end)]
    try:
        yield at
    finally:
        for hook in hooks:
            hook.remove()


# --- what the model itself says


def reference(subject: Subject, batch: Batch) -> Arrays:
    """The answers of the model, as it is in its run."""
    with torch.no_grad():
        found = answers(subject.model, subject.config.targets, batch)
    return {name: values.numpy() for name, values in found.items()}


def watched(module: nn.Module, call: Callable[[], Any]) -> Arrays:
    """What each layer of a module gives while something is called, in the order in which they end."""
    found: Arrays = {}

    def note(name: str) -> Callable[..., None]:
        def keep(_: nn.Module, given: Any, out: Any) -> None:
            out = out[0] if isinstance(out, (tuple, list)) and out else out
            if isinstance(out, Tensor) and out.is_floating_point() and not out.is_sparse:
                found.pop(name, None)  # of a layer that is called again, where it ends
                found[name] = out.detach().numpy()

        return keep

    hooks = [m.register_forward_hook(note(name)) for name, m in module.named_modules() if name]
    try:
        with torch.no_grad():
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return found

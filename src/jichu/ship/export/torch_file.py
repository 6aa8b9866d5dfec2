"""torch.export: a program of torch's operators, for `torch.export.load`, AOTInductor and ExecuTorch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from jichu.core.errors import UsageError
from jichu.models.recurrent import OverText

from ..signature import ABOUT
from .base import Arrays, Batch, Subject
from .program import traced


class TorchExport:
    """A .pt2 file."""

    ending = ".pt2"

    def write(self, subject: Subject, path: Path) -> None:
        if isinstance(subject.model.backbone, OverText):
            raise UsageError(
                "torch.export writes recurrent networks step by step, and texts have any number of them",
                where="layer backbone.recurrent", expected="--to onnx, which has an operator for them",
            )  # fmt: skip
        program = traced(subject, instead="--to onnx, or a backbone without it")
        about = json.dumps(subject.signature.plain(), ensure_ascii=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts of weights that share their memory
            torch.export.save(program, path, extra_files={ABOUT: about})

    def read(self, path: Path, subject: Subject) -> Loaded:
        return Loaded(path, list(subject.signature.inputs), list(subject.signature.outputs))


class Loaded:
    """A program as `torch.export.load` gives it."""

    def __init__(self, path: Path, inputs: list[str], outputs: list[str]):
        self.module: Any = torch.export.load(path).module()
        self.inputs, self.outputs = inputs, outputs

    def __call__(self, batch: Batch) -> Arrays:
        with torch.no_grad():
            found = self.module(*(batch[name] for name in self.inputs))
        return {name: values.numpy() for name, values in zip(self.outputs, found, strict=True)}

    def layers(self, batch: Batch) -> Arrays:
        watch = _Watch(self.module)
        with torch.no_grad():
            watch.run(*(batch[name] for name in self.inputs))
        return watch.found


class _Watch(torch.fx.Interpreter):
    """Runs a program node by node and keeps the last value of each layer."""

    def __init__(self, module: Any):
        super().__init__(module)
        self.found: Arrays = {}

    def run_node(self, n: Any) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and n.op == "call_function":
            self.found |= dict.fromkeys(_layers(n), value.numpy())
        return value


def _layers(node: Any) -> Iterator[str]:
    """The names, as the model has them, of the layers that a node is in."""
    for path, _ in node.meta.get("nn_module_stack", {}).values():
        if path.startswith("model."):
            yield path.removeprefix("model.")

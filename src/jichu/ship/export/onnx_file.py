"""ONNX: a graph for ONNX Runtime and whatever else reads it, with what is done to inputs and outputs inside."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from jichu.core.errors import DataError, JichuError, UsageError, missing_extra

from ..onnx_model import PREFIX, ask, session
from .base import Arrays, Batch, Subject
from .program import traced, unadorned
from .recurrent_layer import as_operators, translations

OPSET = 18
_MOST = 2**31 - 2**20  # bytes of a file of protobuf, with room for what is no weight
_SCOPES = "pkg.torch.onnx.name_scopes"  # of a node, the layers that it is in
_INSTEAD = "a backbone or head without it, or --to torch"


class Onnx:
    """An .onnx file."""

    ending = ".onnx"

    def write(self, subject: Subject, path: Path) -> None:
        size = sum(t.numel() * t.element_size() for t in subject.model.state_dict().values())
        if size > _MOST:
            raise UsageError(
                f"{size / 2**30:.1f} GiB of weights, and a file of ONNX holds 2", expected="--to torch, or hf"
            )
        with as_operators(subject.model):
            program = traced(subject, _INSTEAD)
        graph = _converted(program, subject)
        from onnx_ir import Shape  # of onnxscript

        for node in graph.model.graph.all_nodes():
            for key in [key for key in node.metadata_props if key != _SCOPES]:
                del node.metadata_props[key]  # among them paths of the machine it was made on
        signature = subject.signature
        for value in (*graph.model.graph.inputs, *graph.model.graph.outputs):
            value.shape = Shape(
                {**signature.inputs, **signature.outputs}[value.name]
            )  # by our names of what varies
        graph.model.producer_name = "jichu"
        graph.model.metadata_props.update({f"{PREFIX}{key}": text for key, text in signature.plain().items()})
        graph.save(path, external_data=False)

    def read(self, path: Path, subject: Subject) -> Runtime:
        return Runtime(path)


class Runtime:
    """ONNX Runtime."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.session = session(path)
        except DataError as error:
            raise _not_there(error, path) from None

    def __call__(self, batch: Batch) -> Arrays:
        return ask(self.session, {name: values.numpy() for name, values in batch.items()})

    def layers(self, batch: Batch) -> Arrays:
        import onnx

        graph = onnx.load(self.path)
        last = {layer: node.output[0] for node in graph.graph.node for layer in layers_of(node)}
        known = {made.name for made in graph.graph.output}
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in set(last.values()) - known)
        found = ask(session(graph.SerializeToString()), {n: values.numpy() for n, values in batch.items()})
        return {layer: found[name] for layer, name in last.items()}


def _not_there(error: DataError, path: Path) -> JichuError:
    """Which layer has an operator that ONNX has, and ONNX Runtime has not for such values."""
    import onnx

    found = re.search(r"implementation for (\w+)\(\d+\) node with name '([^']+)'", error.what)
    if found is None:
        return error
    nodes = onnx.load(path).graph.node
    layers = [layer for node in nodes if node.name == found[2] for layer in layers_of(node)]
    where = f"layer {layers[-1]}" if layers else None
    return UsageError(f"ONNX Runtime has no {found[1]} for such values", where=where, expected=_INSTEAD)


def layers_of(node: Any) -> Iterator[str]:
    """The names, as the model has them, of the layers that a node is in."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = ast.literal_eval(entry.value)
            yield from (s.removeprefix("model.") for s in scopes[:-1] if s.startswith("model."))


def _converted(program: Any, subject: Subject) -> Any:
    """The graph. UsageError where ONNX has no operator for a node of the program."""
    try:
        from onnxscript import optimizer

        with _quietly():
            made: Any = torch.onnx.export(
                program, (), dynamo=True, verbose=False, opset_version=OPSET, optimize=False,
                custom_translation_table=translations(),
                input_names=list(subject.signature.inputs), output_names=list(subject.signature.outputs),
            )  # fmt: skip
            # not all of it: its rules take whatever is added for nothing up to 1e-8, as to the energy of a spectrogram
            optimizer.inline(made.model)
            optimizer.fold_constants_ir(made.model, onnx_shape_inference=True)
            optimizer.remove_unused_nodes(made.model)
            return made
    except ImportError as error:
        raise missing_extra(error.name or "onnxscript", "onnx") from None
    except torch.onnx.OnnxExporterError as error:
        raise _lacking(error, program) from None


def _lacking(error: BaseException, program: Any) -> UsageError:
    """Which layer and which operator."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    told = "\n".join(map(str, chain))
    operator = re.search(r"target=torch\.ops\.([\w.]+?)(?:\.default)?\]", told)
    name = re.search(r"node %(\w+)", told)
    layer = _layer_of(program, name[1] if name else "", operator[1] if operator else "")
    what = operator[1] if operator else str(chain[-1]).splitlines()[0]
    return UsageError(f"ONNX has no operator for {what}", where=layer and f"layer {layer}", expected=_INSTEAD)


def _layer_of(program: Any, name: str, operator: str) -> str | None:
    """Of a node, by its name or its operator, in the program or in what that is made of."""
    with unadorned():
        made_of = program.run_decompositions()
    for graph in (program.graph, made_of.graph):
        nodes = [n for n in graph.nodes if n.op == "call_function"]
        found = [n for n in nodes if n.name == name] or [
            n for n in nodes if operator and operator in str(n.target)
        ]
        stacks = [[path for path, _ in n.meta.get("nn_module_stack", {}).values()] for n in found]
        if stacks and stacks[0] and stacks[0][-1]:
            return stacks[0][-1].removeprefix("model.")
    return None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's log, and what it prints."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with unadorned(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)

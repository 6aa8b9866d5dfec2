"""Where a transformer looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jichu.auditing.explaining.views import View
from jichu.core.errors import UsageError

from .base import Method


class AttentionRollout(Method):
    """How much of each token has reached what the head reads, by the attention of all layers: the mean over heads, half of
    it the token itself, multiplied through (Abnar and Zuidema, 2020, arXiv 2005.00928). It is the same for every answer."""

    kinds = ("image", "text")
    scale = "attention"
    signed = False

    def fit(self, view: View) -> None:
        self._body(view)
        backbone: Any = view.asked.model.backbone
        if view.kind == "text" and view.shape[0] > backbone.context:
            raise UsageError(
                "a text that is read in windows is not attended to as a whole", expected="occlusion"
            )

    def attribute(self, view: View) -> Tensor:
        backbone: Any = view.asked.model.backbone
        with attending(self._body(view)) as layers, torch.no_grad():
            view.run(view.batch)
        if not layers or any(a is None or a.shape[2:] != layers[0].shape[2:] for a in layers):
            raise UsageError("this model does not say where it looks", expected="a ViT or a BERT")
        flow = rollout(layers)
        if view.kind == "text":
            mask = view.batch["tokens"] >= 0
            found = _read(flow, mask, backbone.readout)
            return F.pad(found, (0, view.shape[0] - found.shape[1])) * view.free()
        image, patch = view.asked.model.inputs(view.batch)["image"], backbone.module.config.patch_size
        sides = (patch, patch) if isinstance(patch, int) else patch
        rows, columns = (length // side for length, side in zip(image.shape[2:], sides, strict=True))
        others = flow.shape[2] - rows * columns  # the class token, registers
        found = flow[:, 0] if backbone.readout == "cls" and others else flow[:, others:].mean(1)
        maps = found[:, others:].view(len(flow), 1, rows, columns)
        return F.interpolate(maps, view.shape, mode="bilinear")[:, 0]

    @staticmethod
    def _body(view: View) -> Any:
        """The model of transformers that attends."""
        backbone: Any = view.asked.model.backbone
        body = getattr(backbone, "body", getattr(backbone, "module", None))
        if not hasattr(getattr(body, "config", None), "num_attention_heads"):
            raise UsageError(
                "this model has no attention to roll out", expected="a ViT or a BERT of transformers"
            )
        return body


@contextmanager
def attending(body: Any) -> Iterator[list[Tensor]]:
    """The attention [B, heads, T, T] of each layer of a model of transformers, which the fast kernels do not tell; how it
    attends is left as found."""
    found: list[Tensor] = []
    before = body.config._attn_implementation

    def ask(module: Any, given: Any, named: dict[str, Any]) -> Any:
        return given, {**named, "output_attentions": True}

    def note(module: Any, given: Any, output: Any) -> None:
        found.extend(output.attentions or ())

    body.set_attn_implementation("eager")
    hooks = [body.register_forward_pre_hook(ask, with_kwargs=True), body.register_forward_hook(note)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        body.set_attn_implementation(before)


def rollout(layers: list[Tensor]) -> Tensor:
    """[B, T, T]: of what each place holds at the end, how much came from where."""
    flow = torch.eye(layers[0].shape[-1]).expand(len(layers[0]), -1, -1)
    for attention in layers:
        mixed = (attention.mean(1) + torch.eye(attention.shape[-1])) / 2
        flow = mixed / mixed.sum(2, keepdim=True) @ flow
    return flow


def _read(flow: Tensor, mask: Tensor, readout: str) -> Tensor:
    """[B, T]: the places that the head reads."""
    if readout == "mean":
        return (flow * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    place = mask.sum(1) - 1 if readout == "last" else torch.zeros(len(flow), dtype=torch.int64)
    return flow[torch.arange(len(flow)), place]

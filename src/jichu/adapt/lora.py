"""LoRA through the library `peft`: adapters beside dense layers, kept in its format, or merged into the weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import nn

from jichu.core.errors import UsageError, missing_extra
from jichu.core.files import replacing, write_json
from jichu.core.randomness import guarded, seed_step
from jichu.models import naming
from jichu.models.model import Model

from .rules import Lora, Rules, assign

_ADAPTER = "default"  # peft can hold several, by name
_CPU = torch.device("cpu")


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise missing_extra("peft", "peft") from None
    return peft


def is_adapted(model: nn.Module) -> bool:
    """Whether there are adapters in a model."""
    return any(".lora_A." in name for name, _ in model.named_parameters())


def inject(model: nn.Module, rules: Rules, seed: int = 0) -> None:
    """Put adapters beside the dense layers that LoRA rules cover, where there are none yet. The model's outputs
    do not change: B begins at zero. UsageError where a rule covers no dense layer."""
    if is_adapted(model) or not any(isinstance(rule, Lora) for _, rule in rules):
        return
    peft = _peft()
    dense = {f"{name}.weight": name for name, module in model.named_modules() if _is_dense(module)}
    covered = {n: rule for n, rule in assign(model, rules).items() if isinstance(rule, Lora)}
    wanted = {dense[name]: rule for name, rule in covered.items() if name in dense}
    if not wanted:
        raise UsageError(
            f"LoRA for {next(iter(covered), 'nothing')}, which is no dense layer's weight", where="adapt",
            expected=f"a pattern for names such as {', '.join(list(dense)[:3])}",
        )  # fmt: skip
    for key in ("dropout", "dora"):
        if len({getattr(rule, key) for rule in wanted.values()}) > 1:
            raise UsageError(
                f"LoRA with several values of {key}", where="adapt", expected=f"one {key} for all"
            )
    flags = {id(p): p.requires_grad for p in model.parameters()}
    with guarded(_CPU), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that the weights of GPT-2 lie the other way round, which it sees itself
        seed_step(_CPU, seed, "lora")
        peft.inject_adapter_in_model(_config(peft, wanted), model, _ADAPTER)
    for parameter in model.parameters():  # what is trained is for the rules to say
        parameter.requires_grad_(flags.get(id(parameter), True))


def _is_dense(module: nn.Module) -> bool:
    # GPT-2 calls its dense layers so
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _config(peft: Any, wanted: dict[str, Lora], **more: Any) -> Any:
    """peft's configuration of the layers by name."""
    rules = list(wanted.values())
    alphas = {name: rule.alpha or 2 * rule.rank for name, rule in wanted.items()}
    return peft.LoraConfig(
        r=rules[0].rank, lora_alpha=next(iter(alphas.values())), lora_dropout=rules[0].dropout,
        use_dora=rules[0].dora,
        target_modules=list(wanted), rank_pattern={n: rule.rank for n, rule in wanted.items() if rule.rank != rules[0].rank},
        alpha_pattern={n: a for n, a in alphas.items() if a != next(iter(alphas.values()))}, **more,
    )  # fmt: skip


def save(model: Model, folder: Path, base: str | None = None) -> None:
    """Write the adapters as `peft.PeftModel.from_pretrained` reads them beside the base model: their tensors, and
    those of a classifier's head and pooler that are the library's too. `base` says where the base model is."""
    peft = _peft()
    layers = {name: cast(Any, layer) for name, layer in model.named_modules() if _is_adapter(layer)}
    if not layers:
        raise UsageError("a model without adapters", expected="one trained with the rule lora")
    state = model.state_dict()
    named = naming.names(model) if naming.has_layout(model) else {name: name for name in state}
    adapters = {ours: theirs for ours, theirs in named.items() if ".lora_" in ours}
    beside = {
        ours: theirs for ours, theirs in named.items()
        if ours.startswith(("heads.", "backbone.pooler.")) and not theirs.startswith("heads.")
    }  # fmt: skip
    called = {
        ours.rpartition(".lora_")[0]: theirs.rpartition(".lora_")[0] for ours, theirs in adapters.items()
    }
    wanted = {
        called[name]: Lora(
            layer.r[_ADAPTER],
            layer.lora_alpha[_ADAPTER],
            _dropout(layer),
            _ADAPTER in layer.lora_magnitude_vector,
        )
        for name, layer in layers.items()
    }
    tensors = {
        f"base_model.model.{_as_saved(theirs)}": state[ours].detach().cpu().contiguous().clone()
        for ours, theirs in {**adapters, **beside}.items()
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    with replacing(folder / "adapter_model.safetensors", size) as temporary:
        save_file(tensors, temporary, {"format": "pt"})
    config = _config(
        peft, wanted, base_model_name_or_path=base, inference_mode=True, task_type=_task(model),
        fan_in_fan_out=any(layer.fan_in_fan_out for layer in layers.values()),
        modules_to_save=sorted({theirs.rpartition(".")[0] for theirs in beside.values()}) or None,
    )  # fmt: skip
    about = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    write_json(folder / "adapter_config.json", about)


def _as_saved(name: str) -> str:
    """What peft calls a tensor in a file: without the adapter's name, and DoRA's magnitudes without `weight`."""
    if ".lora_magnitude_vector." in name:
        return name.removesuffix(f".{_ADAPTER}.weight")
    return name.replace(f".{_ADAPTER}.", ".")


def merge(model: nn.Module) -> None:
    """Add what the adapters have learned to the weights, and take them away: a plain model that gives the same."""
    layers = [(name, cast(Any, layer)) for name, layer in model.named_modules() if _is_adapter(layer)]
    for name, layer in layers:
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())


def _is_adapter(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") and hasattr(module, "get_base_layer")


def _dropout(layer: Any) -> float:
    return float(getattr(layer.lora_dropout[_ADAPTER], "p", 0.0))


def _task(model: Model) -> str | None:
    """What peft calls the model's task."""
    if not naming.has_layout(model):
        return None
    backbone: Any = model.backbone
    if backbone.language:
        return {"CausalLM": "CAUSAL_LM", "Seq2SeqLM": "SEQ_2_SEQ_LM"}.get(backbone.kind.task)
    return "SEQ_CLS" if naming.classifier(model) else "FEATURE_EXTRACTION"

"""LoRA through the library `peft`: adapters beside layers, kept in its format, or merged into the weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from jichu.core.errors import UsageError, missing_extra, nearest
from jichu.core.files import replacing, write_json
from jichu.core.randomness import guarded, seed_step
from jichu.models import adapters, naming
from jichu.models.model import Model

from .rules import Lora, Rules, assign

_ADAPTER = "default"  # peft can hold several, by name
_CPU = torch.device("cpu")
_FIRST = ".lora_A.weight"  # the tensor of each adapter that has its rank
_OURS = ("heads.", "inputs.", "backbone.")  # names that the library does not know


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
    """Put adapters beside the layers that LoRA rules cover, where there are none yet. The model's outputs do not
    change: B begins at zero. UsageError where the rules cover no layer that can have them."""
    if is_adapted(model) or not any(isinstance(rule, Lora) for _, rule in rules):
        return
    layers = adapters.layers(model)
    covered = {n: rule for n, rule in assign(model, rules).items() if isinstance(rule, Lora)}
    wanted = {layers[name]: rule for name, rule in covered.items() if name in layers}
    if not wanted:
        name = next(iter(covered), "nothing")
        raise UsageError(
            f"LoRA for {name}, which is no dense layer's weight and no convolution's", where="adapt",
            expected=f"a pattern for names such as {', '.join(list(layers)[:3])}" if layers else "no LoRA rule",
            nearest=nearest(name, layers),
        )  # fmt: skip
    for key in ("dropout", "dora"):
        if len({getattr(rule, key) for rule in wanted.values()}) > 1:
            raise UsageError(
                f"LoRA with several values of {key}", where="adapt", expected=f"one {key} for all"
            )
    _lay(model, wanted, seed)


def lay_beside(model: Model, own: dict[str, Tensor], about: adapters.Settings) -> None:
    """Put adapters that were saved beside the layers of a model that has the weights of their base. `own` are the tensors
    of their folder."""
    ours = {theirs: name for name, theirs in naming.names(model).items()}
    ranks = {name.removesuffix(_FIRST): len(tensor) for name, tensor in own.items() if name.endswith(_FIRST)}
    called = {layer: ours[f"{layer}.weight"].removesuffix(".weight") for layer in ranks}
    alphas = {layer: about.alpha_pattern.get(layer, about.lora_alpha) for layer in ranks}
    wanted = {called[layer]: Lora(rank, alphas[layer], 0.0, about.use_dora) for layer, rank in ranks.items()}
    _lay(model, wanted)
    for name, parameter in model.named_parameters():
        layer, adapter, last = name.partition(".lora_")
        if adapter:
            theirs = next(theirs for theirs, mine in called.items() if mine == layer)
            parameter.data = own[_as_saved(f"{theirs}{adapter}{last}")]
    model.eval().requires_grad_(False)


def _lay(model: nn.Module, wanted: dict[str, Lora], seed: int = 0) -> None:
    """Fresh adapters beside layers by name."""
    peft = _peft()
    flags = {id(p): p.requires_grad for p in model.parameters()}
    with guarded(_CPU), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that the weights of GPT-2 lie the other way round, which it sees itself
        seed_step(_CPU, seed, "lora")
        peft.inject_adapter_in_model(_config(peft, wanted), model, _ADAPTER)
    for parameter in model.parameters():  # what is trained is for the rules to say
        parameter.requires_grad_(flags.get(id(parameter), True))


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


def save(
    model: Model, folder: Path, base: str | None = None, weights: dict[str, Tensor] | None = None
) -> None:
    """Write the adapters as `peft.PeftModel.from_pretrained` reads them beside the base model: their tensors, and
    those of a classifier's head and pooler that are the library's too. `base` says where the base model is; with its
    `weights`, by their names in the file, all that differs from them is written, so that both together are the model,
    and their fingerprint."""
    layers = {name: cast(Any, layer) for name, layer in model.named_modules() if _is_adapter(layer)}
    if not layers:
        raise UsageError("a model without adapters", expected="one trained with the rule lora")
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    named = {ours: theirs.replace(".base_layer.", ".") for ours, theirs in naming.names(model).items()}
    learned = {ours: theirs for ours, theirs in named.items() if ".lora_" in ours}
    own = {ours: theirs for ours, theirs in named.items() if ours not in learned}
    if weights is None:
        beside = {
            o: t for o, t in own.items()
            if o.startswith(("heads.", "backbone.pooler.")) and not t.startswith("heads.")
        }  # fmt: skip
    else:
        beside = {o: t for o, t in own.items() if t not in weights or not torch.equal(weights[t], state[o])}
    tensors = {
        adapters.PREFIX + _as_saved(theirs): state[ours].contiguous().clone()
        for ours, theirs in {**learned, **beside}.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    about = {"format": "pt"} | ({} if weights is None else {adapters.BASE: adapters.fingerprint(weights)})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    with replacing(folder / adapters.TENSORS, size) as temporary:
        save_file(tensors, temporary, about)
    called = {o.rpartition(".lora_")[0]: t.rpartition(".lora_")[0] for o, t in learned.items()}
    config = _config(
        _peft(), {called[name]: _rule(layer) for name, layer in layers.items()}, base_model_name_or_path=base,
        inference_mode=True, task_type=_task(model),
        fan_in_fan_out=any(getattr(layer, "fan_in_fan_out", False) for layer in layers.values()),
        modules_to_save=sorted({t.rpartition(".")[0] for t in beside.values() if not t.startswith(_OURS)}) or None,
    )  # fmt: skip
    settings = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    write_json(folder / adapters.SETTINGS, settings)


def _rule(layer: Any) -> Lora:
    """The rule that made an adapter."""
    dropout = float(getattr(layer.lora_dropout[_ADAPTER], "p", 0.0))
    dora = _ADAPTER in layer.lora_magnitude_vector
    return Lora(layer.r[_ADAPTER], layer.lora_alpha[_ADAPTER], dropout, dora)


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


def _task(model: Model) -> str | None:
    """What peft calls the model's task."""
    if not naming.has_layout(model):
        return None
    backbone: Any = model.backbone
    if backbone.language:
        return {"CausalLM": "CAUSAL_LM", "Seq2SeqLM": "SEQ_2_SEQ_LM"}.get(backbone.kind.task)
    return "SEQ_CLS" if naming.classifier(model) else "FEATURE_EXTRACTION"

"""A published checkpoint: what its files say, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from jichu.core.errors import DataError, UsageError, nearest, shown, unknown
from jichu.core.files import read_json

from .library import quiet

_PICKLES = ("*.bin", "*.pkl", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_DEEPEST = 1000  # layers; a network of more is a mistake, and would be built for hours
# Keys of a configuration by which the library would fetch or run code of others.
_RUNS = ("auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal")


def configuration(folder: Path) -> dict[str, Any]:
    """Its `config.json`."""
    file = folder / "config.json"
    if not file.exists():
        raise UsageError(f"no config.json in {folder}", expected="a checkpoint of transformers or timm")
    about = read_json(file, ())
    if not isinstance(about.get("model_type", ""), str):
        raise DataError(f"model_type is {shown(about['model_type'])}", where=file, expected="the name of one")
    for key, value in about.items():
        counts = [n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)]
        if ("layers" in key or "depth" in key) and max(counts, default=0) > _DEEPEST:
            raise DataError(f"{key} is {shown(value)}", where=file, expected=f"at most {_DEEPEST}")
    return about


def refuse_damaged(folder: Path) -> None:
    """Every safetensors file is whole, there is one, and none is missing of those that the index names."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [p.name for pattern in _PICKLES for p in folder.glob(pattern)]
        only = (
            f"only {', '.join(pickles)}, and loading that could run code"
            if pickles
            else "no weights to trust"
        )
        raise UsageError(
            f"no safetensors in {folder}: {only}",
            expected="model.safetensors, often in another revision; or, with weights that you trust, what"
            " AutoModel.from_pretrained(…).save_pretrained(…) of transformers writes",
        )
    for index in folder.glob("*.safetensors.index.json"):
        named = read_json(index, ("weight_map",))["weight_map"]
        if not isinstance(named, dict):
            raise DataError("no files by tensor", where=index, expected='{"weight_map": {tensor: file}}')
        if missing := sorted({str(name) for name in named.values()} - {file.name for file in files}):
            raise DataError(f"{missing[0]} is missing", where=folder, expected=f"all that {index.name} names")
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"damaged: {error}", where=file, expected="the file as published; fetch it again"
            ) from None


def parsed(about: dict[str, Any], kinds: Collection[str], where: object, **changes: Any) -> Any:
    """The configuration as an object of the library, of one of some kinds, with some values changed."""
    kind = about.get("model_type")
    if kind not in kinds:
        raise unknown("model_type", str(kind), kinds, where=where)
    with quiet() as library:
        from huggingface_hub.errors import StrictDataclassError

        try:
            safe = {key: value for key, value in about.items() if key not in _RUNS}
            return library.AutoConfig.for_model(**{**safe, **changes, "return_dict": True})
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise DataError(f"not a configuration of {kind}: {error}", where=where) from None


def pretrained(
    folder: Path, config: Any, kind: Any, options: dict[str, Any], fresh: Callable[[], nn.Module]
) -> tuple[Any, list[str]]:
    """The library's own loading into its class, of safetensors only; refused where a tensor is missing or does
    not fit. Gives the network, and the names of the tensors that it has no place for. `fresh` makes it
    without weights."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in fresh().parameters())
    found = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if parameters > found:  # of a byte each at least; they would be allocated before they are missed
        raise UsageError(
            f"{parameters:,} parameters, for which {found:,} bytes are there", where=folder / "config.json",
            expected="the configuration of these weights",
        )  # fmt: skip
    with quiet():
        module, report = kind.from_pretrained(
            folder, config=config, use_safetensors=True, local_files_only=True, trust_remote_code=False,
            ignore_mismatched_sizes=True, output_loading_info=True, dtype=torch.float32, **options,
        )  # fmt: skip
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise UsageError(
            f"the weights do not fit: {name} is {list(found)}", where=folder, expected=list(expected)
        )
    if missing := sorted(n for n in report["missing_keys"] if not n.endswith("num_batches_tracked")):
        raise UsageError(
            f"the checkpoint lacks {len(missing)} tensors of {config.model_type}: {', '.join(missing[:3])}",
            where=folder,
            expected="weights of what config.json describes",
            nearest=nearest(missing[0], report["unexpected_keys"]),
        )
    return module, sorted(report["unexpected_keys"])


def tensor(folder: Path, names: Iterable[str]) -> Tensor | None:
    """The first of these that one of its files holds."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            held = set(opened.keys())
            for name in names:
                if name in held:
                    return opened.get_tensor(name)
    return None

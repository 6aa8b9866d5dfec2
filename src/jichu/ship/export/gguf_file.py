"""GGUF: language models for llama.cpp and what is built on it. Weights are in single precision; its own tools make them
smaller."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jichu.core.errors import UsageError, missing_extra
from jichu.data.tokenizer import Tokenizer
from jichu.models.library import quiet
from jichu.models.transformers_text import TransformersText

from .base import Arrays, Batch, Subject
from .program import LOGITS, watched

# kinds of transformers, and what GGUF calls their architecture
ARCHITECTURES = {"gpt2": "GPT2", "llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
_TURNED = ("GPT2",)  # whose dense layers lie the other way round in the library
_ROTATED = ("LLAMA",)  # whose rotary positions pair neighbours, and in the library halves
_INSTEAD = "--to onnx or hf"
_ROLES = {"bos": "begin", "eos": "end", "unk": "unknown", "pad": "pad"}


class Gguf:
    """A .gguf file."""

    ending = ".gguf"

    def write(self, subject: Subject, path: Path) -> None:
        gguf = _library()
        name = _architecture(subject)
        kind = gguf.MODEL_ARCH[name]
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[kind])
        try:
            _describe(writer, subject, gguf)
            for tensor_name, tensor in _tensors(subject, name, gguf.get_tensor_name_map):
                writer.add_tensor(tensor_name, tensor.contiguous().numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()

    def read(self, path: Path, subject: Subject) -> Loaded:
        return Loaded(path)


class Loaded:
    """The file as transformers reads it, which turns names and weights back by rules of its own."""

    def __init__(self, path: Path):
        where = {"gguf_file": path.name, "local_files_only": True}
        with quiet() as library, contextlib.redirect_stderr(io.StringIO()):  # its progress
            config = library.AutoConfig.from_pretrained(path.parent, **where)
            config.update(_overlooked(path))
            self.module = library.AutoModelForCausalLM.from_pretrained(
                path.parent, config=config, dtype=torch.float32, **where
            ).eval()

    def __call__(self, batch: Batch) -> Arrays:
        with torch.no_grad(), quiet():
            found = self.module(input_ids=batch["tokens"].clamp(min=0), use_cache=False).logits
        return {LOGITS: found.numpy()}

    def layers(self, batch: Batch) -> Arrays:
        return {f"backbone.module.{n}": v for n, v in watched(self.module, lambda: self(batch)).items()}


def _overlooked(path: Path) -> dict[str, int]:
    """The sizes of a GPT-2 that transformers does not take from the file."""
    fields = _library().GGUFReader(path).fields
    if fields["general.architecture"].contents() != "gpt2":
        return {}
    of = {"vocab_size": "vocab_size", "n_positions": "context_length", "n_inner": "feed_forward_length"}
    return {key: int(fields[f"gpt2.{name}"].contents()) for key, name in of.items()}


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise missing_extra("gguf", "gguf") from None
    return gguf


def _architecture(subject: Subject) -> str:
    """UsageError where llama.cpp has no such model."""
    backbone = subject.model.backbone
    if not isinstance(backbone, TransformersText) or not backbone.language:
        raise UsageError(
            "GGUF is for models that write texts",
            where=f"backbone {subject.config.backbone['name']}",
            expected=_INSTEAD,
        )
    kind = backbone.config.model_type
    scaled = getattr(backbone.config, "rope_parameters", None) or {}
    if kind not in ARCHITECTURES or scaled.get("rope_type", "default") != "default":
        told = f"{kind} with rotary positions that are scaled" if kind in ARCHITECTURES else kind
        raise UsageError(
            f"GGUF is not written of {told}", where="layer backbone.module",
            expected=f"one of {', '.join(ARCHITECTURES)}; or {_INSTEAD}",
        )  # fmt: skip
    return ARCHITECTURES[kind]


def _tensors(subject: Subject, architecture: str, name_map: Any) -> list[tuple[str, Tensor]]:
    """Each weight under the name that GGUF has for it, as it lies there. Tied ones are written once."""
    module: Any = subject.model.backbone.module
    config, gguf = module.config, _library()
    names = name_map(gguf.MODEL_ARCH[architecture], config.num_hidden_layers)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    found = []
    for name, tensor in module.state_dict().items():
        if name in tied:
            continue
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise UsageError(f"GGUF has no name for {name}", where=f"layer {name}", expected=_INSTEAD)
        if architecture in _TURNED and tensor.ndim == 2 and ".h." in name:
            tensor = tensor.T
        heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
        count = next((n for part, n in heads.items() if part in name), 0)
        found.append(
            (theirs, _paired(tensor, count) if architecture in _ROTATED and count else tensor.float())
        )
    return found


def _paired(weight: Tensor, heads: int) -> Tensor:
    """The rows of each head so that those lie side by side which are turned together: i and i + half."""
    halves = weight.float().unflatten(0, (heads, 2, -1))
    return halves.transpose(1, 2).reshape(weight.shape)


# --- what is said of the model


def _describe(writer: Any, subject: Subject, gguf: Any) -> None:
    module: Any = subject.model.backbone.module
    config = module.config
    signature, context = subject.signature, subject.config.text
    assert context is not None and subject.tokenizer is not None
    writer.add_name(signature.name)
    if signature.licence:
        writer.add_license(signature.licence)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(context.context)
    writer.add_vocab_size(config.vocab_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    inner = (
        getattr(config, "intermediate_size", None)
        or getattr(config, "n_inner", None)
        or 4 * config.hidden_size
    )
    writer.add_feed_forward_length(inner)
    writer.add_head_count(config.num_attention_heads)
    if hasattr(config, "rms_norm_eps"):
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_rope_dimension_count(head)
        writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_head_count_kv(config.num_attention_heads)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    for key, text in signature.plain().items():
        if key != "tokenizer":  # which has its own place
            writer.add_string(f"jichu.{key}", text)
    _describe_tokens(writer, subject.tokenizer, config.vocab_size, gguf)


def _describe_tokens(writer: Any, tokenizer: Tokenizer, vocabulary: int, gguf: Any) -> None:
    """The tokenizer, in the words of llama.cpp where it has such: byte-level BPE as GPT-2 splits texts; else whoever calls
    it gives tokens. Always as the library `tokenizers` reads it."""
    plain = json.loads(tokenizer.to_str())["tokenizer"]
    if _is_gpt2s(plain):
        kinds = gguf.TokenType
        by_id = {i: (token, kinds.NORMAL) for token, i in plain["model"]["vocab"].items()}
        for added in plain["added_tokens"]:
            by_id[added["id"]] = (added["content"], kinds.CONTROL if added["special"] else kinds.USER_DEFINED)
        rows = [by_id.get(i, (f"[unused {i}]", kinds.UNUSED)) for i in range(vocabulary)]
        merges = [m if isinstance(m, str) else " ".join(m) for m in plain["model"]["merges"]]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list([token for token, _ in rows])
        writer.add_token_types([kind for _, kind in rows])
        writer.add_token_merges(merges)
    else:
        writer.add_tokenizer_model("none")
    special, before = tokenizer.special, tokenizer.template().before
    for role, ours in _ROLES.items():
        if (token := getattr(special, ours)) is not None:
            getattr(writer, f"add_{role}_token_id")(token)
    writer.add_add_bos_token(bool(before) and before[0] == special.begin)
    if isinstance(template := tokenizer.settings.get("chat_template"), str):
        writer.add_chat_template(template)
    writer.add_string("tokenizer.huggingface.json", json.dumps(plain, ensure_ascii=False))


def _is_gpt2s(plain: dict[str, Any]) -> bool:
    model, before = plain["model"], plain.get("pre_tokenizer") or {}
    other = ("dropout", "byte_fallback", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
    return (
        model["type"] == "BPE" and not any(model.get(key) for key in other) and plain.get("normalizer") is None
        and before.get("type") == "ByteLevel" and before.get("use_regex", True) and not before.get("add_prefix_space", True)
    )  # fmt: skip

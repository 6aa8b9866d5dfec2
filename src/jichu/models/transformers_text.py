"""Language models of `transformers` as backbones: BERT, GPT-2, Llama and T5 by configuration, others around
a checkpoint.

The module inside is theirs, unchanged, with the language-model head where one is asked for: what is saved
loads with `AutoModelFor…`. A batch holds tokens [B, T], -1 beyond the end of a row.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.special import Special

from .attention import quicken_attention
from .backbone import Backbone, Features
from .common import Depth, Rate, Width, last, mean, positions
from .library import quiet

Ratio = Annotated[float, Field(gt=0, le=64)]  # hidden width of a dense block over the width
Readout = Literal["pooler", "cls", "mean", "last"]
_WHOLE = 64  # widths of gated blocks are multiples of it


class Kind(NamedTuple):
    """What a kind of model is for, and how the library's classifier of that kind is laid out."""

    task: Literal["MaskedLM", "CausalLM", "Seq2SeqLM"]
    linear: str = ""  # the classifier's last layer
    pooler: str = ""  # the dense layer before it
    activation: Callable[[], nn.Module] = nn.Tanh  # between the two
    logits: Callable[[Any, Tensor], Tensor] = lambda module, hidden: module.lm_head(hidden)
    first: Callable[[Any], int] = lambda config: 0  # the position of the first token


def _distilbert(module: Any, hidden: Tensor) -> Tensor:
    return module.vocab_projector(module.vocab_layer_norm(module.activation(module.vocab_transform(hidden))))


def _t5(module: Any, hidden: Tensor) -> Tensor:
    scale = module.config.d_model**-0.5 if module.config.scale_decoder_outputs else 1.0
    return module.lm_head(scale * hidden)


_ROBERTA = Kind(
    "MaskedLM", "classifier.out_proj", "classifier.dense", first=lambda config: config.pad_token_id + 1
)
_DECODER = Kind("CausalLM", "score")
# every one of them is tested
KINDS = {
    "bert": Kind(
        "MaskedLM", "classifier", "bert.pooler.dense", logits=lambda module, hidden: module.cls(hidden)
    ),
    "distilbert": Kind("MaskedLM", "classifier", "pre_classifier", nn.ReLU, _distilbert),
    "gpt2": _DECODER,
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "roberta": _ROBERTA,
    "t5": Kind("Seq2SeqLM", logits=_t5),
    "xlm-roberta": _ROBERTA,
}


def library_class(library: Any, config: Any, language: bool) -> tuple[Any, dict[str, Any]]:
    """The library's class for a configuration, with or without a language-model head, and its options. A
    pooler is ours to add; of T5 without the head only the encoder is there."""
    if language:
        return getattr(library, f"AutoModelFor{KINDS[config.model_type].task}"), {}
    if config.model_type == "t5":
        return library.T5EncoderModel, {}
    kind = library.MODEL_MAPPING[type(config)]
    bare = "add_pooling_layer" in inspect.signature(kind).parameters
    return library.AutoModel, {"add_pooling_layer": False} if bare else {}


def from_config(config: Any, language: bool) -> nn.Module:
    """The library's model of a configuration with fresh weights."""
    with quiet() as library:
        kind, options = library_class(library, config, language)
        if hasattr(kind, "from_config"):
            return kind.from_config(config, dtype=torch.float32, **options)
        return kind._from_config(config, dtype=torch.float32, **options)


class Pooler(nn.Module):
    """A dense layer and its activation, over the first token: between the encoder and a classifier."""

    def __init__(self, width: int, activation: nn.Module, std: float = 0.02):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = activation
        nn.init.normal_(self.dense.weight, std=std)
        nn.init.zeros_(self.dense.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))


class TransformersText(Backbone):
    """A language model of `transformers` with its own parameter names.

    pooled is by `readout` the first token through the pooler or as it is (cls), the mean of the tokens,
    or the last token that is no padding; a model with a language head has no pooler, and gives the mean in
    its place. With `document` [B, T] in the batch, numbers of the documents that share a row, positions
    begin anew with each and none sees another. With `pair` what comes after the first end token is of the
    second kind (BERT's segments). Of an encoder-decoder pooled is the mean over the encoder; sequence is
    the encoder's, or, where the batch has an `answer` [B, T'], the decoder's for each of its tokens. More
    tokens than the context are windows of it, each read by itself; pooled is their mean, by their tokens.
    """

    module: Any  # a PreTrainedModel
    saved_config: dict[str, Any] | None = None  # of a checkpoint

    def __init__(
        self, module: nn.Module, readout: Readout, language: bool, context: int | None = None,
        special: Special | None = None, pair: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.module = module
        quicken_attention(module)
        config = self.config
        self.kind = KINDS[config.model_type]
        self.language, self.special = language, special or Special()
        self.separator = self.special.end if pair and getattr(config, "type_vocab_size", 1) > 1 else None
        if readout not in (fit := readouts(config.model_type)):
            raise UsageError(
                f"{config.model_type} has no readout {readout}", expected=f"one of {', '.join(fit)}"
            )
        self.readout: Readout = "mean" if language and readout == "pooler" else readout
        self.width: int = config.hidden_size
        self.vocabulary: int = config.vocab_size
        most = getattr(config, "max_position_embeddings", None)
        self.most: int | None = None if most is None else most - self.kind.first(config)
        self.context: int = context or self.most or 512  # T5 was trained on texts of 512
        if self.most is not None and self.context > self.most:
            raise UsageError(
                f"a context of {self.context} tokens, and the model holds {self.most}",
                expected=f"data.context: {self.most}",
            )
        if self.kind.task == "CausalLM" and config.pad_token_id is None:
            config.pad_token_id = self.special.end  # the library's classifier wants a token for padding
        # In a batch padding is -1, and every token is one: also the end, where it serves the library as padding.
        module.get_input_embeddings().padding_idx = None  # type: ignore[operator]
        self.pooler = None
        if self.readout == "pooler":
            self.pooler = Pooler(self.width, self.kind.activation(), config.initializer_range)
        self.head_bias = self.kind.task != "CausalLM"  # theirs have none

    @property
    def config(self) -> Any:
        """The library's configuration."""
        return self.module.config

    @property
    def body(self) -> Any:
        """The model without the language-model head."""
        return self.module.base_model

    @property
    def beyond_body(self) -> list[str]:
        """The names in the state dict that the language-model head alone has; none of an encoder-decoder, whose
        decoder is no mere head."""
        prefix = f"{self.module.base_model_prefix}."
        inside = self.body is self.module
        return [f"module.{n}" for n in self.module.state_dict() if not inside and not n.startswith(prefix)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., V] of the next or the masked token from states [..., D]."""
        return self.kind.logits(self.module, hidden)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        tokens, document = batch["tokens"], batch.get("document")
        if tokens.shape[1] > self.context and not {"document", "predicted", "answer"} & batch.keys():
            return self._in_windows(tokens)
        if not tokens.shape[1]:  # every row is empty
            tokens = F.pad(tokens, (0, 1), value=-1)
            document = None
        if self.most is not None and tokens.shape[1] > self.most:
            raise UsageError(
                f"{tokens.shape[1]} tokens, and the model holds {self.most}", expected="a shorter text"
            )
        mask = tokens >= 0
        if not tokens.shape[0]:  # the library cannot do nothing
            nothing = self.module.get_input_embeddings()(tokens)
            return Features(nothing.sum(1), nothing, mask=mask)
        sequence = self._run(tokens, mask, document)
        pooled = self._pool(sequence, tokens, mask)
        if "answer" in batch:
            answer = batch["answer"]
            sequence, mask = self._decode(answer, sequence, mask), answer >= 0
        return Features(pooled, sequence, mask=mask, predicted=batch.get("predicted"))

    def _in_windows(self, tokens: Tensor) -> Features:
        rows = tokens.shape[0]
        tokens = F.pad(tokens, (0, -tokens.shape[1] % self.context), value=-1)
        windows = tokens.view(-1, self.context)
        count = (windows >= 0).sum(1)
        # where it is traced, empty windows are read too: their share is 0, and their number not known
        there: Any = slice(None) if torch.compiler.is_exporting() else count > 0
        found = self({"tokens": windows[there]})
        share = (count.view(rows, -1) / count.view(rows, -1).sum(1, keepdim=True).clamp(min=1)).view(-1, 1)
        pooled = found.pooled.new_zeros(windows.shape[0], found.pooled.shape[1])
        pooled[there] = found.pooled * share[there].to(found.pooled)
        sequence = found.sequence.new_zeros(*windows.shape, found.sequence.shape[-1])
        sequence[there] = found.sequence
        return Features(
            pooled.view(rows, -1, pooled.shape[1]).sum(1), sequence.view(*tokens.shape, -1), mask=tokens >= 0
        )

    def _run(self, tokens: Tensor, mask: Tensor, document: Tensor | None) -> Tensor:
        """The states of the last layer [B, T, D]."""
        places = None if document is None else positions(document)
        if self.kind.task == "CausalLM":
            # Padding comes last, where no token sees it: without a mask the fast kernel is taken. Of
            # positions that begin anew the library makes the mask itself. Embedded here because GPT-2
            # looks for padding in ids, and warns.
            embedded = self.module.get_input_embeddings()(tokens.clamp(min=0))
            return self.body(inputs_embeds=embedded, position_ids=places, use_cache=False).last_hidden_state
        ids = tokens.masked_fill(~mask, self.config.pad_token_id or 0)
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        seen = mask | first  # an empty row looks at one token of padding
        options: dict[str, Any] = {}
        if places is not None and document is not None:
            seen = (seen[:, None] & (document[:, :, None] == document[:, None])) | torch.eye(
                tokens.shape[1], dtype=torch.bool, device=tokens.device
            )
            seen = seen[:, None]
            if self.most is not None:  # T5 knows distances alone
                options["position_ids"] = places + self.kind.first(self.config)
        if self.separator is not None:
            ends = tokens == self.separator
            options["token_type_ids"] = (ends.cumsum(1) - ends.long()).clamp(max=1) * mask
        body = self.body.encoder if self.config.model_type == "t5" else self.body
        return body(input_ids=ids, attention_mask=seen, **options).last_hidden_state

    def _decode(self, answer: Tensor, encoded: Tensor, mask: Tensor) -> Tensor:
        """The decoder's states [B, T', D], each to tell the answer's token at its place from those before."""
        if self.kind.task != "Seq2SeqLM" or not self.language:
            raise UsageError(
                f"{self.config.model_type} learns no answers apart",
                expected="an encoder-decoder, such as t5-small",
            )
        start = self.config.decoder_start_token_id
        before = F.pad(answer[:, :-1], (1, 0), value=start)
        return self.module.decoder(
            input_ids=before.masked_fill(before < 0, self.config.pad_token_id),
            encoder_hidden_states=encoded, encoder_attention_mask=mask, use_cache=False,
        ).last_hidden_state  # fmt: skip

    def _pool(self, sequence: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.pooler is not None:
            return self.pooler(sequence[:, 0])
        if self.readout == "cls":
            return sequence[:, 0]
        if self.readout == "mean":
            return mean(sequence, mask)
        pad = self.config.pad_token_id  # what the library takes for padding, if a text ends with it or not
        return last(sequence, mask if pad is None else mask & (tokens != pad))


def readouts(kind: str) -> tuple[Readout, ...]:
    """What a kind of model can be asked for; the first is taken where nothing is said."""
    task = KINDS[kind].task
    if task == "MaskedLM":
        return ("pooler", "cls", "mean")
    return ("last", "mean") if task == "CausalLM" else ("mean",)


# ------------------------------------------------------------------- by configuration


def _made(
    config: Any, readout: Readout, language: bool, context: int, special: Special, pair: bool = False
) -> TransformersText:
    return TransformersText(from_config(config, language), readout, language, context, special, pair)


def _gated(width: int, mlp: float) -> int:
    return -(-round(mlp * width) // _WHOLE) * _WHOLE


def bert(
    vocabulary: int, context: int = 512, special: Special | None = None, language: bool = False,
    pair: bool = False, width: Width = 256, depth: Depth = 4, heads: Width = 4, mlp: Ratio = 4,
    dropout: Rate = 0.1, attention_dropout: Rate = 0.0,
    readout: Literal["pooler", "cls", "mean"] = "pooler",
) -> TransformersText:  # fmt: skip
    """BERT (Devlin et al., 2019), an encoder; `mlp` is hidden width over width. Dropout of attention weights,
    0.1 in the paper, is left out: with it processors have no fast kernel for long texts."""
    special = special or Special()
    _refuse_heads(width, heads)
    with quiet() as library:
        config = library.BertConfig(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
            intermediate_size=round(mlp * width), hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=attention_dropout, max_position_embeddings=context,
            pad_token_id=special.pad,
        )  # fmt: skip
    return _made(config, readout, language, context, special, pair)


def gpt(
    vocabulary: int, context: int = 256, special: Special | None = None, language: bool = False,
    width: Width = 384, depth: Depth = 6, heads: Width = 6, mlp: Ratio = 4,
    dropout: Rate = 0.1, attention_dropout: Rate = 0.0, readout: Literal["last", "mean"] = "last",
) -> TransformersText:  # fmt: skip
    """GPT-2 (Radford et al., 2019), a decoder, embeddings tied. Dropout of attention weights, 0.1 in the
    paper, is left out: with it processors have no fast kernel for long texts."""
    special = special or Special()
    _refuse_heads(width, heads)
    with quiet() as library:
        config = library.GPT2Config(
            vocab_size=vocabulary, n_positions=context, n_embd=width, n_layer=depth, n_head=heads,
            n_inner=round(mlp * width), resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=attention_dropout,
            activation_function="gelu_pytorch_tanh",  # the same function as gelu_new, in one kernel
            **_ends(special),
        )  # fmt: skip
    return _made(config, readout, language, context, special)


def llama(
    vocabulary: int, context: int = 256, special: Special | None = None, language: bool = False,
    width: Width = 384, depth: Depth = 6, heads: Width = 6, kv_heads: Width | None = None,
    mlp: Ratio = 8 / 3, attention_dropout: Rate = 0.0, tied: bool = True,
    readout: Literal["last", "mean"] = "last",
) -> TransformersText:  # fmt: skip
    """Llama (Touvron et al., 2023), a decoder with rotary positions, RMSNorm and SwiGLU. Embeddings are tied,
    as in the small models of today: they would be most of the parameters. `kv_heads` heads of keys and
    values are shared by all queries."""
    special = special or Special()
    _refuse_heads(width, heads)
    if heads % (kv_heads or heads):
        raise UsageError(
            f"{heads} heads share {kv_heads} of keys and values", expected="a number that divides them"
        )
    with quiet() as library:
        config = library.LlamaConfig(
            vocab_size=vocabulary, max_position_embeddings=context, hidden_size=width, num_hidden_layers=depth,
            num_attention_heads=heads, num_key_value_heads=kv_heads or heads,
            intermediate_size=_gated(width, mlp), attention_dropout=attention_dropout,
            tie_word_embeddings=tied, **_ends(special),
        )  # fmt: skip
    return _made(config, readout, language, context, special)


def t5(
    vocabulary: int, context: int = 512, special: Special | None = None, language: bool = False,
    width: Width = 384, depth: Depth = 4, heads: Width = 6, head: Width | None = None, mlp: Ratio = 8 / 3,
    dropout: Rate = 0.1, readout: Literal["mean"] = "mean",
) -> TransformersText:  # fmt: skip
    """T5 (Raffel et al., 2020), an encoder and a decoder of `depth` layers each; `head` is a head's width.

    The dense blocks are gated as in T5 1.1, which is better for the same parameters (Shazeer, 2020); the
    embeddings are tied and the outputs scaled as in the first T5: untied, a small model would be mostly
    vocabulary. Without a language head only the encoder is there.
    """
    special = special or Special()
    if special.pad is None:
        raise UsageError("a vocabulary without a token for padding, with which T5's decoder starts",
                         expected="a tokenizer made for T5")  # fmt: skip
    if head is None:
        _refuse_heads(width, heads)
    with quiet() as library:
        config = library.T5Config(
            vocab_size=vocabulary, d_model=width, d_kv=head or width // heads, d_ff=_gated(width, mlp),
            num_layers=depth, num_heads=heads, dropout_rate=dropout, feed_forward_proj="gated-gelu_pytorch_tanh",
            pad_token_id=special.pad, eos_token_id=special.end, decoder_start_token_id=special.pad,
            n_positions=context,
        )  # fmt: skip
    return _made(config, readout, language, context, special)


def _refuse_heads(width: int, heads: int) -> None:
    if width % heads:
        raise UsageError(f"a width of {width} in {heads} heads", expected="a width that heads divide")


def _ends(special: Special) -> dict[str, int | None]:
    """How a decoder's configuration names its special tokens."""
    return {"bos_token_id": special.begin, "eos_token_id": special.end, "pad_token_id": special.pad}


def _preset(make: Callable[..., TransformersText], **sizes: Any) -> Callable[..., TransformersText]:
    """A network of fixed sizes; its other arguments are as before."""

    @functools.wraps(make)
    def preset(**arguments: Any) -> TransformersText:
        return make(**sizes, **arguments)

    whole = inspect.signature(make)
    kept = [p.replace(kind=p.KEYWORD_ONLY) for p in whole.parameters.values() if p.name not in sizes]
    preset.__signature__ = whole.replace(parameters=kept)  # type: ignore[attr-defined]
    return preset


# Devlin et al. (2019) and the small ones of Turc et al. (2019)
bert_tiny, bert_mini = _preset(bert, width=128, depth=2, heads=2), _preset(bert, width=256, depth=4, heads=4)
bert_small, bert_medium = (_preset(bert, width=512, depth=depth, heads=8) for depth in (4, 8))
bert_base, bert_large = (
    _preset(bert, width=768, depth=12, heads=12),
    _preset(bert, width=1024, depth=24, heads=16),
)
# small and medium are those of Radford et al. (2019)
_DECODERS: dict[str, dict[str, int]] = {
    "tiny": {"width": 128, "depth": 2, "heads": 2}, "mini": {"width": 256, "depth": 4, "heads": 4}, "nano": {"width": 384, "depth": 6, "heads": 6},
    "small": {"width": 768, "depth": 12, "heads": 12}, "medium": {"width": 1024, "depth": 24, "heads": 16},
}  # fmt: skip
gpt_tiny, gpt_mini, gpt_nano, gpt_small, gpt_medium = (_preset(gpt, **sizes) for sizes in _DECODERS.values())
llama_tiny, llama_mini, llama_nano, llama_small, llama_medium = (
    _preset(llama, **sizes) for sizes in _DECODERS.values()
)
# small and base are those of T5 1.1
t5_mini = _preset(t5, width=384, depth=4, heads=6)
t5_small = _preset(t5, width=512, depth=8, heads=6, head=64, mlp=2)
t5_base = _preset(t5, width=768, depth=12, heads=12)

"""Texts from a language model, on top of the library's `generate`: sampling, beams, a cache of what was read.

A recurrent network goes the same way, its state being the cache.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from jichu.core.config import Config, check
from jichu.core.errors import UsageError, shown
from jichu.core.randomness import guarded, seed_step

from .library import quiet
from .recurrent import OverText
from .statistics import untouched
from .transformers_text import TransformersText

_COLDEST = 1e-5  # temperature
_MARGIN = 8  # tokens more than a stop string can have that are looked at for it


class Coder(Protocol):
    """What is asked of a tokenizer."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text, without special ones."""

    def decode(self, ids: list[int]) -> str:
        """Their text."""


class Generated(NamedTuple):
    """What followed a prompt: its text and tokens, and what ended it: the model, a stop string, or `most`."""

    text: str
    tokens: list[int]
    ended: Literal["end", "stop", "most"]


class Asked(Config):
    """What may be said of how to write."""

    most: Annotated[int, Field(ge=1)] | None
    temperature: Annotated[float, Field(ge=0)] | None
    top_k: Annotated[int, Field(ge=1)] | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)]
    beams: Annotated[int, Field(ge=1)]
    stop: list[Annotated[str, Field(min_length=1)]]
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @field_validator("temperature")
    @classmethod
    def _not_too_cold(cls, given: float | None) -> float | None:
        """So cold only the likeliest token comes, and scores divided by less would be infinite."""
        return 0.0 if given is not None and given < _COLDEST else given

    def settings(self) -> dict[str, Any]:
        """The same in the library's words."""
        return {
            "do_sample": self.beams == 1 and self.temperature != 0, "temperature": self.temperature or 1.0,
            "top_k": self.top_k or 0, "top_p": 1.0 if self.top_p is None else self.top_p,
            "repetition_penalty": self.repetition_penalty, "num_beams": self.beams, "early_stopping": self.beams > 1,
        }  # fmt: skip


def generate(
    model: nn.Module,
    tokenizer: Coder,
    prompts: Sequence[str | list[int]],
    *,
    most: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    beams: int = 1,
    stop: Sequence[str] = (),
    ends: Sequence[int] = (),
    seed: int = 0,
    stream: Callable[[int, str], None] | None = None,
) -> list[Generated]:
    """What a model writes after each of the prompts (texts, or tokens that are taken as they are).

    At most `most` tokens are written, or as many as the context holds; a decoder that is asked for more reads
    the last half of its context again whenever that is full, and goes on. They are drawn at a `temperature`
    (1 where it is not given; 0 takes the likeliest), from the `top_k` likeliest, or from those that make up
    `top_p`; with `beams` the likeliest whole of so many is sought. `repetition_penalty` above 1 divides the
    scores of tokens that were there. A text ends before the first string of `stop`, and before a token of
    `ends` (a chat's end of turn, for one) as before the model's own. The same seed gives the same texts.
    `stream(prompt's number, piece)` is called with each piece of text as it comes.

    UsageError where prompts and what is asked for do not fit into the model.
    """
    backbone: Any = getattr(model, "backbone", model)
    asked = check(Asked, {
        "most": most, "temperature": temperature, "top_k": top_k, "top_p": top_p, "beams": beams,
        "repetition_penalty": repetition_penalty, "seed": seed,
        "stop": list(stop) if isinstance(stop, (list, tuple)) else stop,
    })  # fmt: skip
    _refuse(backbone, asked, streamed=stream is not None)
    if not prompts:
        return []
    given = [prompt_tokens(prompt, tokenizer, backbone) for prompt in prompts]
    most = _room(backbone, max(map(len, given)), most, beams)
    device = next(backbone.parameters()).device
    whole, recurrent = is_whole(backbone), isinstance(backbone, OverText)
    network = _stateful(backbone) if recurrent else backbone.module
    ends = all_ends(backbone, network, ends)
    pad = next((i for i in (backbone.special.pad, *ends) if i is not None), 0)
    settings = asked.settings() | {"eos_token_id": ends or None, "pad_token_id": pad}
    if whole:
        settings["decoder_start_token_id"] = backbone.config.decoder_start_token_id
    told = _Stream(tokenizer, stop, ends, len(given), stream) if stream is not None else None
    written: list[list[int]] = [[] for _ in given]
    found = [_ended(row, tokenizer, ends, stop) for row in written]
    going = list(range(len(given)))  # rows without an end; all have written as much
    with quiet() as library, untouched(model), guarded(device), torch.inference_mode():
        seed_step(device, seed, "generate")
        model.eval()
        network.eval()
        while going:
            now, read = most - len(written[going[0]]), [given[row] + written[row] for row in going]
            if not (whole or recurrent):
                read = [_held(row, backbone.context) for row in read]
                now = min(now, backbone.context - max(map(len, read)))
            ids, mask = padded(read, left=not whole)
            start = 1 if whole else ids.shape[1]  # where what is written begins
            how: dict[str, Any] = {"past_key_values": _State()} if recurrent else {}
            if stop:
                stops = _Stops(tokenizer, stop, start, [written[row] for row in going for _ in range(beams)])
                how["stopping_criteria"] = library.StoppingCriteriaList([stops])
            if told is not None:
                how["streamer"] = told.of(going)
            made = network.generate(
                ids.masked_fill(~mask, pad).to(device), attention_mask=mask.long().to(device),
                generation_config=library.GenerationConfig(max_new_tokens=now, **settings), **how,
            )  # fmt: skip
            for row, more in zip(going, made[:, start:].tolist(), strict=True):
                written[row] += more
                found[row] = _ended(written[row], tokenizer, ends, stop)
            going = [row for row in going if found[row].ended == "most" and len(written[row]) < most]
        if told is not None:
            told.close()
    return found


# ------------------------------------------------------------------- what is asked for


def refuse_silent(backbone: Any) -> None:
    """UsageError where a model is none that writes."""
    writes = isinstance(backbone, OverText) or (
        isinstance(backbone, TransformersText) and backbone.kind.task != "MaskedLM"
    )
    if not writes or not backbone.language:
        raise UsageError(
            f"this {type(backbone).__name__} is no model that writes",
            expected="one that was trained on the next token, or on answers",
        )


def _refuse(backbone: Any, asked: Asked, *, streamed: bool) -> None:
    refuse_silent(backbone)
    if asked.beams > 1 and (streamed or asked.temperature or asked.top_k or asked.top_p):
        raise UsageError(
            "a search with beams draws nothing, and knows its text at the end alone",
            expected="beams: 1 with temperature, top_k, top_p or streaming",
        )


def is_whole(backbone: Any) -> bool:
    """Whether the prompt is read whole by an encoder."""
    return isinstance(backbone, TransformersText) and backbone.kind.task == "Seq2SeqLM"


def prompt_tokens(prompt: str | list[int], tokenizer: Coder, backbone: Any) -> list[int]:
    """A prompt's tokens: after the token that begins a text, and for an encoder with the one that ends it."""
    if not isinstance(prompt, str):
        if not isinstance(prompt, (list, tuple)) or not all(isinstance(i, int) for i in prompt):
            raise UsageError(f"the prompt {shown(prompt)}", expected="a text, or a list of tokens")
        ids = list(prompt)
    else:
        (ids,) = tokenizer.encode([prompt])
        special = backbone.special
        if is_whole(backbone):
            ids = ids + [special.end] * (special.end is not None)
        elif special.begin is not None:
            ids = [special.begin, *ids]
        elif not ids and special.end is not None:
            ids = [special.end]  # what comes before a text where texts stand one after the other
    if not ids:
        raise UsageError("an empty prompt, and no token that begins a text", expected="a character at least")
    if not 0 <= min(ids) <= max(ids) < backbone.vocabulary:
        raise UsageError(
            f"the token {max(ids) if min(ids) >= 0 else min(ids)}, of {backbone.vocabulary} that the model knows",
            expected="the tokenizer that it was trained with",
        )
    return ids


def _room(backbone: Any, longest: int, most: int | None, beams: int) -> int:
    """How many tokens are to be written."""
    context = backbone.context
    if most is not None and most < 1:
        raise UsageError(f"most is {most}", expected="1 or more")
    if isinstance(backbone, OverText):  # which holds whatever it has read
        return most or context
    room = context if is_whole(backbone) else context - longest
    if longest > context or room < 1:
        raise UsageError(
            f"a prompt of {longest} tokens, and the model holds {context}", expected="a shorter prompt"
        )
    if most is not None and most > room and (beams > 1 or is_whole(backbone)):
        asked = f"a prompt of {longest} tokens and {most} more" if room < context else f"{most} tokens"
        raise UsageError(
            f"{asked}, and the model holds {context}", expected=f"most: {room}, or a shorter prompt"
        )
    return most or room


def _held(ids: list[int], context: int) -> list[int]:
    """What a decoder reads of so many tokens: all, until they fill the context, then the last half and what
    comes until that is full, and so on; the same for a row alone as beside others."""
    if len(ids) < context:
        return ids
    half = context // 2
    return ids[-(half + (len(ids) - context) % (context - half)) :]


def padded(rows: list[list[int]], left: bool) -> tuple[Tensor, Tensor]:
    """Tokens [B, T], and where there are any."""
    longest = max(map(len, rows))
    filled = [
        [-1] * (longest - len(row)) + row if left else row + [-1] * (longest - len(row)) for row in rows
    ]
    ids = torch.tensor(filled)
    return ids, ids >= 0


def all_ends(backbone: Any, network: Any, more: Sequence[int] = ()) -> list[int]:
    """Tokens that end a text: the tokenizer's, those that a checkpoint names, and more."""
    named = network.generation_config.eos_token_id if network is not None else None
    named = named if isinstance(named, list) else [named]
    return sorted({i for i in (backbone.special.end, *named, *more) if i is not None})


# ------------------------------------------------------------------- what comes


def _ended(ids: list[int], tokenizer: Coder, ends: list[int], stop: Sequence[str]) -> Generated:
    """A row up to its end."""
    count = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    text = tokenizer.decode(ids[:count])
    ended: Literal["end", "most"] = "end" if count < len(ids) else "most"
    if places := [place for s in stop if (place := text.find(s)) >= 0]:
        # the fewest tokens that have it: after them comes padding
        has_it = partial(_contains, tokenizer, ids, stop)
        count = bisect.bisect_left(range(1, count), True, key=has_it) + 1
        return Generated(text[: min(places)], ids[:count], "stop")
    return Generated(text, ids[:count], ended)


def _contains(tokenizer: Coder, ids: list[int], stop: Sequence[str], count: int) -> bool:
    text = tokenizer.decode(ids[:count])
    return any(s in text for s in stop)


class _Stops:
    """Whether each row [B, T] has come to a stop string, in what is written from `start` on or begins `before`
    it. Any piece of a text that a token stands for has a byte at least: so many tokens are looked at as the
    longest string has bytes."""

    def __init__(self, tokenizer: Coder, stop: Sequence[str], start: int, before: list[list[int]]):
        self.tokenizer, self.stop, self.start, self.before = tokenizer, stop, start, before
        self.longest = max(len(s.encode()) for s in stop) + _MARGIN

    def __call__(self, ids: Tensor, scores: object, **_: object) -> Tensor:
        newest = ids[:, max(self.start, ids.shape[1] - self.longest) :].tolist()
        ends = [(old + new)[-self.longest :] for old, new in zip(self.before, newest, strict=True)]
        texts = map(self.tokenizer.decode, ends)
        return torch.tensor([any(s in text for s in self.stop) for text in texts], device=ids.device)


class Telling:
    """Gives a text on as it is written: whole characters, and nothing of a stop string; `ended` by what."""

    def __init__(
        self, tokenizer: Coder, stop: Sequence[str], ends: Sequence[int], give: Callable[[str], None]
    ):
        self.tokenizer, self.stop, self.ends, self.give = tokenizer, stop, ends, give
        self.ids: list[int] = []
        self.told = 0, 0  # from which token on is decoded, and up to which all is text already
        self.held = ""  # what could be the beginning of a stop string
        self.ended: Literal["end", "stop", "most"] | None = None

    def put(self, token: int) -> None:
        """The next token."""
        if self.ended:
            return
        if token in self.ends:
            self.close("end")
            return
        self.ids.append(token)
        self._take(self._text())

    def close(self, ended: Literal["end", "most"] = "most") -> None:
        """No more will come."""
        if not self.ended:
            self._take(self._text(whole=True))
            if self.held:
                self.give(self.held)
            self.ended = self.ended or ended

    def _text(self, whole: bool = False) -> str:
        """What the last tokens add. Decoded with those before, which may change how they are written; a
        character whose bytes are not all there waits."""
        first, known = self.told
        before, after = self.tokenizer.decode(self.ids[first:known]), self.tokenizer.decode(self.ids[first:])
        if len(after) <= len(before) or (after.endswith("\ufffd") and not whole):
            return ""
        self.told = known, len(self.ids)
        return after[len(before) :]

    def _take(self, text: str) -> None:
        text = self.held + text
        if places := [place for s in self.stop if (place := text.find(s)) >= 0]:
            self.ended, text, kept = "stop", text[: min(places)], 0
        else:
            kept = max((n for s in self.stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
        self.held = text[len(text) - kept :]
        if told := text[: len(text) - kept]:
            self.give(told)


class _Stream:
    """Takes each row's tokens from the library as they come."""

    def __init__(
        self,
        tokenizer: Coder,
        stop: Sequence[str],
        ends: list[int],
        rows: int,
        give: Callable[[int, str], None],
    ):
        self.rows = [Telling(tokenizer, stop, ends, partial(give, row)) for row in range(rows)]
        self.going, self.prompted = list(range(rows)), False

    def of(self, going: list[int]) -> _Stream:
        """From now on for these rows."""
        self.going, self.prompted = going, False
        return self

    def put(self, tokens: Tensor) -> None:
        """The next token of each row that is going; first of all, what they have read."""
        if not self.prompted:
            self.prompted = True
            return
        for row, token in zip(self.going, tokens.flatten().tolist(), strict=True):
            self.rows[row].put(token)

    def end(self) -> None:
        """Called by the library where it ends; rows may go on."""

    def close(self) -> None:
        """No more will come."""
        for row in self.rows:
            row.close()


# ------------------------------------------------------------------- recurrent networks


class _State:
    """The state of a recurrent network where the library expects what attention has seen."""

    state: Any = None
    read = 0
    is_compileable = False

    def get_seq_length(self) -> int:
        """How many tokens were read."""
        return self.read

    def reorder_cache(self, rows: Tensor) -> None:
        """Rows [B] go on from the states of these."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        moved = tuple(part.index_select(1, rows) for part in parts)
        self.state = moved if isinstance(self.state, tuple) else moved[0]


def _stateful(backbone: OverText) -> Any:
    """A recurrent language model as one of the library's."""
    with quiet() as library:
        from transformers.modeling_outputs import CausalLMOutputWithPast

    class Stateful(library.PreTrainedModel, library.GenerationMixin):  # type: ignore[name-defined]
        config_class = library.PreTrainedConfig
        main_input_name = "input_ids"

        def __init__(self, config: Any):
            super().__init__(config)
            self.network = backbone

        def forward(
            self, input_ids: Tensor, attention_mask: Tensor | None = None, past_key_values: Any = None,
            use_cache: bool = True, return_dict: bool = True,
        ) -> Any:  # fmt: skip
            tokens = input_ids
            if not past_key_values.read and attention_mask is not None:
                tokens = _right(input_ids, attention_mask.bool())
            hidden, past_key_values.state = backbone.run(tokens, past_key_values.state)
            past_key_values.read += input_ids.shape[1]
            place = (tokens >= 0).sum(1) - 1
            newest = hidden[torch.arange(len(hidden), device=hidden.device), place]
            return CausalLMOutputWithPast(
                logits=backbone.logits(newest)[:, None], past_key_values=past_key_values
            )

    return Stateful(library.PreTrainedConfig(vocab_size=backbone.vocabulary))


def _right(ids: Tensor, mask: Tensor) -> Tensor:
    """Rows padded on the left [B, T] as rows with -1 beyond their ends."""
    order = (~mask).long().argsort(dim=1, stable=True)
    return ids.masked_fill(~mask, -1).gather(1, order)

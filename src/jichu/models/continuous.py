"""A batch of texts that prompts join and leave while it is written (Yu et al., 2022, "Orca"; "continuous batching").

Each step writes one token of every text. What was read stays in memory, padded on the left to the longest text, so
that a new prompt is read alone and laid beside the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jichu.core.config import check
from jichu.core.errors import UsageError
from jichu.core.randomness import derive

from .generate import Asked, Coder, Telling, all_ends, is_whole, padded, prompt_tokens, refuse_silent
from .library import quiet
from .recurrent import OverText

_ROOM = 64  # tokens that memory is made for beyond those that are there


class Row:
    """A text that is being written: the tokens of its prompt, and `telling`, what has come of it. `cancelled` it
    leaves the batch before the next step."""

    def __init__(self, prompt: list[int], most: int, asked: Asked, telling: Telling):
        self.prompt, self.most, self.asked, self.telling = prompt, most, asked, telling
        self.cancelled = False
        self._random = random.Random(derive(asked.seed, "continuous"))

    def draw(self) -> float:
        """The next number from 0 to 1, a function of the seed alone."""
        return self._random.random()

    def put(self, token: int) -> None:
        """The next token."""
        self.telling.put(token)
        if len(self.telling.ids) >= self.most:
            self.telling.close()


class Network(Protocol):
    """What the batch asks of a model: scores [B, V] of the next token, and a memory of what was read."""

    def read(self, prompts: list[list[int]]) -> tuple[Tensor, Any]: ...

    def go_on(self, tokens: Tensor, memory: Any) -> Tensor: ...

    def joined(self, memory: Any, more: Any) -> Any: ...

    def kept(self, memory: Any, rows: Tensor) -> Any: ...


class Writing:
    """The texts that a model is writing. `row` may be called by any thread; the others by one."""

    def __init__(self, model: nn.Module, tokenizer: Coder):
        self.backbone: Any = getattr(model, "backbone", model)
        refuse_silent(self.backbone)
        if is_whole(self.backbone):
            raise UsageError(
                "a model that reads a text whole before it answers", expected="one that goes on with texts"
            )
        recurrent = isinstance(self.backbone, OverText)
        self.tokenizer, self.rows = tokenizer, list[Row]()
        self._network: Network = _Recurrent(self.backbone) if recurrent else _Decoder(self.backbone.module)
        self._ends = all_ends(self.backbone, None if recurrent else self.backbone.module)
        self._memory: Any = None

    def row(
        self, prompt: str | list[int], tell: Callable[[str], None], *, most: int | None = None,
        temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
        repetition_penalty: float = 1.0, stop: Sequence[str] = (), seed: int = 0,
    ) -> Row:  # fmt: skip
        """A text that may join: arguments as for `generate`. UsageError where it does not fit into the context."""
        asked = check(Asked, {
            "most": most, "temperature": temperature, "top_k": top_k, "top_p": top_p, "beams": 1,
            "repetition_penalty": repetition_penalty, "stop": list(stop), "seed": seed,
        })  # fmt: skip
        ids, context = prompt_tokens(prompt, self.tokenizer, self.backbone), self.backbone.context
        room = context - len(ids)
        if room < (most or 1):
            more = f" and {most} more" if most and room > 0 else ""
            raise UsageError(
                f"a prompt of {len(ids)} tokens{more}, and the model holds {context}",
                expected=f"{room} more at most" if room > 0 else "a shorter prompt",
            )
        return Row(ids, most or room, asked, Telling(self.tokenizer, stop, self._ends, tell))

    @torch.inference_mode()
    def step(self, joining: Sequence[Row] = ()) -> list[Row]:
        """Write a token of every text, those that join among them; gives the texts that have ended."""
        self._leave([row for row in self.rows if row.cancelled])
        if self.rows:
            newest = torch.tensor([row.telling.ids[-1] for row in self.rows])
            self._write(self.rows, self._network.go_on(newest, self._memory))
        if joining:
            scores, memory = self._network.read([row.prompt for row in joining])
            self._write(joining, scores)
            self._memory = self._network.joined(self._memory, memory) if self.rows else memory
            self.rows += joining
        ended = [row for row in self.rows if row.telling.ended]
        self._leave(ended)
        return ended

    def clear(self) -> None:
        """Have no texts any more."""
        self.rows, self._memory = [], None

    def _leave(self, leaving: Sequence[Row]) -> None:
        if leaving:
            stay = [i for i, row in enumerate(self.rows) if row not in leaving]
            self.rows = [self.rows[i] for i in stay]
            self._memory = self._network.kept(self._memory, torch.tensor(stay)) if stay else None

    def _write(self, rows: Sequence[Row], scores: Tensor) -> None:
        for row, token in zip(rows, chosen(scores.float(), rows), strict=True):
            row.put(token)


def chosen(scores: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row by its settings, from scores [B, V]. What one row gets depends on no other."""
    from transformers.generation import logits_process as library

    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, row in enumerate(rows):
        asked = row.asked
        if asked.repetition_penalty != 1:
            seen = torch.tensor([row.prompt + row.telling.ids])
            penalty = library.RepetitionPenaltyLogitsProcessor(asked.repetition_penalty)
            scores[i : i + 1] = penalty(seen, scores[i : i + 1])
        if asked.temperature != 0:
            groups.setdefault((asked.temperature, asked.top_k, asked.top_p), []).append(i)
    found = scores.argmax(1)
    for (temperature, top_k, top_p), places in groups.items():
        some: Any = scores[places] / (temperature or 1)
        if top_k:
            some = library.TopKLogitsWarper(top_k)(None, some)
        if top_p is not None and top_p < 1:
            some = library.TopPLogitsWarper(top_p)(None, some)
        sums = some.double().softmax(1).cumsum(1)
        draws = torch.tensor([[rows[i].draw()] for i in places], dtype=torch.double)
        found[places] = torch.searchsorted(sums, draws * sums[:, -1:], right=True)[:, 0]
    return found.clamp(max=scores.shape[1] - 1).tolist()


class _Decoder:
    """A decoder of `transformers`. Its memory is keys and values, which tokens they are of, bool [B, T], and the place
    of each row's next token [B]."""

    def __init__(self, module: Any):
        self.module = module
        with quiet():
            from transformers.cache_utils import Cache, DynamicLayer

        class Roomy(DynamicLayer):
            """Keys and values [B, heads, T, D], the first columns of memory that has room for more tokens."""

            room: Any = ()

            def update(
                self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
            ) -> tuple[Tensor, Tensor]:
                new: Any = key_states, value_states
                if not self.is_initialized:
                    self.lazy_initialization(*new)
                    return self.hold(new, key_states.shape[2])
                start = self.get_seq_length()
                end = start + key_states.shape[2]
                if end > self.room[0].shape[2]:
                    self.room = tuple(F.pad(room, (0, 0, 0, max(end, _ROOM))) for room in self.room)
                for room, x in zip(self.room, new, strict=True):
                    room[:, :, start:end] = x
                return self.hold(self.room, end)

            def hold(self, room: Any, length: int) -> tuple[Tensor, Tensor]:
                """Have this memory, of which so many columns are of tokens."""
                self.room = room
                self.keys, self.values = found = room[0][:, :, :length], room[1][:, :, :length]
                return found

        self._empty = lambda: Cache(layer_class_to_replicate=Roomy)

    def read(self, prompts: list[list[int]]) -> tuple[Tensor, Any]:
        ids, mask = padded(prompts, left=True)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        memory = [self._empty(), mask, places[:, -1] + 1]
        return self._scores(ids.clamp(min=0), places, memory), memory

    def go_on(self, tokens: Tensor, memory: Any) -> Tensor:
        _, mask, place = memory
        memory[1:] = F.pad(mask, (0, 1), value=True), place + 1
        return self._scores(tokens[:, None], place[:, None], memory)

    def _scores(self, ids: Tensor, places: Tensor, memory: Any) -> Tensor:
        out = self.module(
            input_ids=ids, attention_mask=memory[1].long(), position_ids=places, past_key_values=memory[0],
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        return out.logits[:, -1]

    def joined(self, memory: Any, more: Any) -> Any:
        widths = memory[1].shape[1], more[1].shape[1]
        left, right = (max(widths) - width for width in widths)
        for mine, new in zip(memory[0].layers, more[0].layers, strict=True):
            spare = mine.room[0].shape[2] - widths[0]
            pairs = zip(mine.room, (new.keys, new.values), strict=True)
            room = [torch.cat([F.pad(x, (0, 0, left, 0)), F.pad(y, (0, 0, right, spare))]) for x, y in pairs]
            mine.hold(room, max(widths))
        mask = torch.cat([F.pad(memory[1], (left, 0)), F.pad(more[1], (right, 0))])
        return [memory[0], mask, torch.cat([memory[2], more[2]])]

    def kept(self, memory: Any, rows: Tensor) -> Any:
        cache, mask, place = memory
        mask = mask[rows]
        first = int(mask.any(0).int().argmax())  # what only those had that have left
        for layer in cache.layers:
            layer.hold([room[rows, :, first:] for room in layer.room], mask.shape[1] - first)
        return [cache, mask[:, first:], place[rows]]


class _Recurrent:
    """A recurrent network, whose memory is its state, [layers, B, hidden] or two of them."""

    def __init__(self, backbone: OverText):
        self.backbone = backbone

    def read(self, prompts: list[list[int]]) -> tuple[Tensor, Any]:
        ids, mask = padded(prompts, left=False)
        hidden, state = self.backbone.run(ids)
        newest = hidden[torch.arange(len(ids)), mask.sum(1) - 1]
        return self.backbone.logits(newest), list(state) if isinstance(state, tuple) else [state]

    def go_on(self, tokens: Tensor, memory: Any) -> Tensor:
        hidden, state = self.backbone.run(tokens[:, None], tuple(memory) if len(memory) > 1 else memory[0])
        memory[:] = state if isinstance(state, tuple) else [state]
        return self.backbone.logits(hidden[:, -1])

    def joined(self, memory: Any, more: Any) -> Any:
        return [torch.cat(parts, 1) for parts in zip(memory, more, strict=True)]

    def kept(self, memory: Any, rows: Tensor) -> Any:
        return [part[:, rows] for part in memory]

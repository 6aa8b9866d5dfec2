"""Texts to numbers and back: byte-level BPE (Radford et al., 2019), WordPiece (Devlin et al., 2018) and
characters, trained by the library `tokenizers`; or any tokenizer that `transformers` has written."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from jichu.core.errors import DataError, UsageError, missing_extra, shown
from jichu.core.files import dumps, fingerprint, read_json, write_json, write_text

from .chat_template import CHATML, TURN, TURN_END, Message, render
from .config import TokenizerConfig
from .special import Special

if TYPE_CHECKING:
    from torch import Tensor

_FILE, _SETTINGS, _CHAT = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_OLDER = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model")
_PIECE = 2**16  # characters encoded at once; a text that is longer is cut between words
_AT_ONCE = 2**18  # characters between two conversions
_HIDDEN = "\ufdd2"  # of which no special token is made; no text holds it
# where a cut changes nothing: before a space, or after a full stop and the like
_BETWEEN = re.compile(r"(?<=\S)(?=\s\S)|(?<=[^\w\s'])(?=[^\W_])")


class Template(NamedTuple):
    """Ids around a text, or around and between two."""

    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


class _Family(NamedTuple):
    """The special tokens of a kind of model: by the roles they have in `transformers`, in the order of their
    ids; and what stands around one text and two."""

    roles: dict[str, str]
    single: str
    pair: str
    more: tuple[str, ...] = ()


_TURNS = (TURN, TURN_END)
_FAMILIES = {
    "bert": _Family(
        {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1",
    ),
    "gpt": _Family(
        {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "unk_token": "<|unknown|>"},
        "$A", "$A <|endoftext|> $B", _TURNS,
    ),
    "llama": _Family(
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        "<s> $A", "<s> $A </s> $B", _TURNS,
    ),
    "t5": _Family(
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        "$A </s>", "$A </s> $B </s>", tuple(f"<extra_id_{i}>" for i in range(100)),
    ),
}  # fmt: skip
# What a tokenizer that does not name its special tokens calls them: transformers knows it by the model's kind.
_USUAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "bos_token": ("<s>",),
    "eos_token": ("</s>", "<|endoftext|>"),
}


@contextlib.contextmanager
def _understood(what: str, where: object) -> Iterator[None]:
    """DataError where the library cannot go on. It raises plain Exceptions, and, where it panics, what is none;
    a TypeError is for what it is given."""
    try:
        yield
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if isinstance(error, TypeError) or not (panic or isinstance(error, Exception)):
            raise
        raise DataError(
            f"{what}: {shown(str(error))}", where=where, expected="a tokenizer as `tokenizers` writes it"
        ) from None


class Tokenizer:
    """A tokenizer of the library `tokenizers`, and what stands in its `tokenizer_config.json`."""

    def __init__(self, inner: tokenizers.Tokenizer, settings: dict[str, Any]):
        inner.no_truncation()
        inner.no_padding()
        self._inner, self._lock = inner, threading.Lock()  # which it sets as it is asked
        self.settings = {key: value for key, value in settings.items() if key != "auto_map"}  # code of others
        if not any(self.token(role) for role in _USUAL):
            added = {t.content for t in inner.get_added_tokens_decoder().values()}
            usual = {role: [n for n in names if n in added] for role, names in _USUAL.items()}
            self.settings |= {role: names[0] for role, names in usual.items() if names}

    # --- made, kept, loaded

    @classmethod
    def train(cls, config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
        """Learn a vocabulary from texts."""
        family = _FAMILIES["bert" if config.name == "wordpiece" else "gpt"]
        if config.special != "auto":
            family = _FAMILIES[config.special]
        tokens = [*family.roles.values(), *family.more]
        if config.vocabulary <= len(tokens):
            raise UsageError(
                f"a vocabulary of {config.vocabulary} has no room beside {len(tokens)} special tokens",
                where="tokenizer.vocabulary", expected="some thousands",
            )  # fmt: skip
        parts = [part for text in texts for part in _pieces(text)]
        inner = _trained(config, parts, tokens, family.roles["unk_token"])
        ids = [(token, inner.token_to_id(token)) for token in tokens]
        inner.post_processor = processors.TemplateProcessing(
            single=family.single, pair=family.pair, special_tokens=ids
        )
        types = ["token_type_ids"] if ":1" in family.pair else []
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", *types, "attention_mask"],
            "padding_side": "right",
            "truncation_side": config.truncation,
            **family.roles,
        }
        if TURN in family.more:
            settings["chat_template"] = CHATML
        return cls(inner, settings)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer in a folder, ours or one that `transformers` has written."""
        folder = Path(folder).expanduser()
        if not (folder / _FILE).exists():
            return cls._converted(folder)
        settings: dict[str, Any] = {}
        for name in ("special_tokens_map.json", _SETTINGS):
            if (folder / name).exists():
                settings |= read_json(folder / name, ())
        if (folder / _CHAT).exists():
            settings["chat_template"] = (folder / _CHAT).read_text("utf-8")
        with _understood("damaged", folder / _FILE):
            inner = tokenizers.Tokenizer.from_file(str(folder / _FILE))
        return cls(inner, settings)

    @classmethod
    def _converted(cls, folder: Path) -> Tokenizer:
        """From the files of before there was `tokenizer.json`, which transformers knows to read."""
        if not any((folder / name).exists() for name in _OLDER):
            raise UsageError(f"no tokenizer in {folder}", expected=f"a folder with {_FILE}")
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise missing_extra("transformers", "transformers") from None
        with tempfile.TemporaryDirectory() as made:
            try:
                found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                found.save_pretrained(made)
            except Exception as error:  # of files that do not fit it raises whatever they lead to
                raise DataError(
                    f"its files cannot be read: {shown(str(error))}", where=folder, expected=_FILE
                ) from None
            return cls.load(made)

    def save(self, folder: str | Path, context: int | None = None) -> None:
        """Write what `AutoTokenizer.from_pretrained` loads; `context` is the length that it cuts texts to."""
        folder = Path(folder)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **self.settings}
        if context is not None:
            settings["model_max_length"] = context
        write_json(folder / _SETTINGS, settings)
        write_text(folder / _FILE, self._inner.to_str(pretty=True))  # last: a folder that has it is whole

    def to_str(self) -> str:
        """All of it as JSON, from which `from_str` makes it again."""
        return dumps({"tokenizer": json.loads(self._inner.to_str()), "settings": self.settings})

    @classmethod
    def from_str(cls, text: str) -> Tokenizer:
        """What `to_str` wrote. DataError where it is something else."""
        with _understood("damaged", "the tokenizer"):
            found = json.loads(text)
            return cls(tokenizers.Tokenizer.from_str(json.dumps(found["tokenizer"])), found["settings"])

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that depend on all that decides how a text is encoded."""
        names = [self.token(role) for role in _USUAL]
        more = [self.settings.get(key) for key in ("truncation_side", "chat_template")]
        return fingerprint(self._inner.to_str(), names, more)

    # --- what there is

    @cached_property
    def _size(self) -> int:
        return max(self._inner.get_vocab().values(), default=-1) + 1

    def __len__(self) -> int:
        """One more than the largest id."""
        return self._size

    def id(self, token: str) -> int | None:
        """The id of a token as it is written in the vocabulary."""
        with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair, which no vocabulary has
            return self._inner.token_to_id(token)
        return None

    def token(self, role: str) -> str | None:
        """The token that has a role of `transformers`, such as `eos_token`. DataError where it is none."""
        value = self.settings.get(role)
        value = value.get("content") if isinstance(value, dict) else value
        if value is not None and not isinstance(value, str):
            raise DataError(f"{role} is {shown(value)}", where=_SETTINGS, expected="a token, as text")
        return value

    @cached_property
    def special(self) -> Special:
        """The ids of the special tokens."""

        def first(*roles: str) -> int | None:
            names = (self.token(role) for role in roles)
            return next((self.id(name) for name in names if name is not None), None)

        begin, end = first("cls_token", "bos_token"), first("sep_token", "eos_token")
        return Special(
            first("pad_token"),
            first("unk_token"),
            first("mask_token"),
            None if begin == end else begin,  # GPT-2 says that its end is a beginning too
            end,
        )

    @cached_property
    def is_special(self) -> Tensor:
        """Whether each token is none of a text, bool [V]."""
        import torch  # here, because texts are encoded where it is not installed too

        found = torch.zeros(len(self), dtype=torch.bool)
        found[list(self._control)] = True
        found[[i for i in self.special if i is not None]] = True
        return found

    @cached_property
    def sentinels(self) -> list[int]:
        """T5's tokens that stand for what was taken out of a text, from <extra_id_0> on; [] where there are
        none."""
        ids = (self.id(f"<extra_id_{i}>") for i in itertools.count())
        return list(itertools.takewhile(lambda i: i is not None, ids))  # type: ignore[arg-type]

    @cached_property
    def starts_word(self) -> Tensor:
        """Whether each token begins a word, bool [V]: it does not go on with letters or digits. Chinese
        characters are words, each; so are special tokens."""
        plan = self._inner.to_str()
        byte_level = '"type":"ByteLevel"' in plan
        to_bytes = _bytes_of_byte_level() if byte_level else {}
        inside = "##" if '"type":"WordPiece"' in plan else None
        found = self.is_special.clone()
        for token, i in self._inner.get_vocab().items():
            if inside is not None:
                found[i] |= not token.startswith(inside)
            elif byte := re.fullmatch("<0x([0-9A-F]{2})>", token):  # what Llama has for rare characters
                found[i] |= _begins(int(byte[1], 16))
            elif token:
                found[i] |= _begins(
                    to_bytes.get(token[0], 0) if byte_level else token.replace("▁", " ").encode()[0]
                )
        return found

    def template(self, pair: bool = False) -> Template:
        """What stands around a text, or around and between two."""
        # any text will do that has tokens; it is found by the numbers of the texts, None for what is special
        text = next(t for t in (*"a的", *self._inner.get_vocab()) if self.encode([t])[0])
        found = self._inner.encode(text, text if pair else None)
        parts = itertools.groupby(zip(found.sequence_ids, found.ids, strict=True), key=lambda item: item[0])
        groups = [(number, tuple(i for _, i in items)) for number, items in parts]
        texts = [place for place, (number, _) in enumerate(groups) if number is not None]
        first, last = texts[0], texts[-1]

        def special(those: list[tuple[int | None, tuple[int, ...]]]) -> tuple[int, ...]:
            return tuple(i for number, ids in those if number is None for i in ids)

        return Template(special(groups[:first]), special(groups[first:last]), special(groups[last:]))

    # --- texts

    def encode(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """The ids of each text, without what the template puts around. With `special` the names of special
        tokens in a text stand for them; else they are text like any other."""
        ids, lengths = self.flat(texts, special)
        return [part.tolist() for part in np.split(ids, lengths.cumsum()[:-1])] if len(texts) else []

    def flat(self, texts: Sequence[str], special: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts one after the other, int32, and how many each has, int64 [N]."""
        found, lengths = [np.empty(0, np.int32)], np.zeros(len(texts), np.int64)
        for group in _groups(texts):
            parts = [part for _, part in group]
            try:
                ids = self._ids(parts, special)
            except TypeError:  # half of a surrogate pair, which is no text
                ids = self._ids([_text(part) for part in parts], special)
            found.append(np.fromiter(itertools.chain.from_iterable(ids), np.int32))
            np.add.at(lengths, [place for place, _ in group], [len(i) for i in ids])
        return np.concatenate(found), lengths

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Which characters each token of a text stands for, from and to."""
        found, before = [], 0
        for piece in _pieces(text):
            with self._lock, _understood("a text cannot be read with it", _FILE):
                self._inner.encode_special_tokens = True
                offsets = self._inner.encode(piece, add_special_tokens=False).offsets
            found += [(before + start, before + end) for start, end in offsets]
            before += len(piece)
        return found

    def _ids(self, texts: list[str], special: bool) -> list[list[int]]:
        with self._lock, _understood("a text cannot be read with it", _FILE):
            self._inner.encode_special_tokens = not special
            return [e.ids for e in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int] | Tensor, special: bool = False) -> str:
        """The text of some ids; with `special` with the names of special tokens. Negative ones are passed
        over."""
        plain: Iterable[int] = ids.tolist() if hasattr(ids, "tolist") else ids
        with _understood("tokens cannot be written with it", _FILE):
            return self._inner.decode([i for i in plain if i >= 0], skip_special_tokens=not special)

    def echo(self, texts: Sequence[str]) -> list[str]:
        """Texts as they can be written with these tokens: in small letters where there are no capitals, say. One
        with characters that have no token is given back as it is."""
        unknown = self.special.unknown
        coded = zip(texts, self.encode(texts), strict=True)
        return [text if unknown in ids else self.decode(ids) for text, ids in coded]

    def chat(self, messages: list[Message], prompt: bool = False) -> tuple[list[int], list[bool]]:
        """The ids of a conversation by the chat template, and which of them are the assistant's; with
        `prompt` up to where the next answer begins. Names of special tokens in a message are text like any other."""
        template = self.settings.get("chat_template")
        if isinstance(template, list):  # several, by name
            named = {t.get("name"): t.get("template") for t in template}
            template = named.get("default")
        if not template:
            raise UsageError(
                "this tokenizer has no chat template",
                expected="one trained with special: gpt or llama, or that of a model that was trained on chats",
            )
        names = {role: name for role in _USUAL if (name := self.token(role))}
        text, answers = render(template, messages, prompt=prompt, **names)
        quiet = [{key: self._hidden(said) for key, said in message.items()} for message in messages]
        shape = text if quiet == messages else render(template, quiet, prompt=prompt, **names).text
        if len(shape) != len(text):
            raise DataError(
                "the chat template changes a message that holds the name of a special token",
                expected="messages without such names",
            )
        ids, places = self._turns(_text(text), _text(shape))
        mask = np.zeros(len(text) + 1, bool)
        for start, end in answers:
            mask[start:end] = True
        return ids, [bool(mask[start:end].any()) for start, end in places]

    @cached_property
    def _control(self) -> dict[int, str]:
        """The names of the tokens that stand for none of a text, by id."""
        return {i: t.content for i, t in self._inner.get_added_tokens_decoder().items() if t.special}

    @cached_property
    def _names(self) -> re.Pattern[str]:
        longest = sorted(self._control.values(), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest)) or r"(?!)", re.IGNORECASE)

    def _hidden(self, said: Any) -> Any:
        """A text with what may be taken for special tokens made unlike them, of the same length."""
        return self._names.sub(lambda m: _HIDDEN * len(m[0]), said) if isinstance(said, str) else said

    def _turns(self, text: str, shape: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a conversation, and where in its text each stands. Special tokens are those in `shape`, in which what
        people have said is without their names: else one who writes these could write the turns of others."""
        with self._lock, _understood("a conversation cannot be read with it", _FILE):
            self._inner.encode_special_tokens = False
            found = self._inner.encode(shape, add_special_tokens=False)
            if shape == text:
                return found.ids, found.offsets
            self._inner.encode_special_tokens = True
            ids: list[int] = []
            places: list[tuple[int, int]] = []
            after = 0
            for i, (start, end) in [
                *zip(found.ids, found.offsets, strict=True),
                (-1, (len(text), len(text))),
            ]:
                control = i in self._control and self._control[i] in shape[start:end]  # or one unknown
                if control or i < 0:
                    part = self._inner.encode(text[after:start], add_special_tokens=False)
                    ids += part.ids
                    places += [(after + a, after + b) for a, b in part.offsets]
                    after = end
                if control:
                    ids.append(i)
                    places.append((start, end))
            return ids, places


def _trained(
    config: TokenizerConfig, parts: list[str], special: list[str], unknown: str
) -> tokenizers.Tokenizer:
    """A tokenizer with a vocabulary of these texts; the special tokens have its first ids."""
    common: dict[str, Any] = {
        "vocab_size": config.vocabulary, "special_tokens": special, "show_progress": False,
    }  # fmt: skip
    if config.name == "wordpiece":
        inner = tokenizers.Tokenizer(models.WordPiece(unk_token=unknown))
        inner.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        alphabet = (
            config.vocabulary * 3 // 4
        )  # rare characters leave room for words, of which Chinese has none
        # the library numbers what goes on within words by chance, unless it is given: as special tokens
        inside = _inside_words(inner, parts, alphabet)
        common["special_tokens"] = [*special, *inside]
        inner.train_from_iterator(
            parts, trainers.WordPieceTrainer(min_frequency=2, limit_alphabet=alphabet, **common)
        )
        made = tokenizers.Tokenizer(models.WordPiece(inner.get_vocab(), unk_token=unknown))
        made.normalizer, made.pre_tokenizer = inner.normalizer, inner.pre_tokenizer
        made.decoder = decoders.WordPiece()
        made.add_special_tokens(special)
        return made
    if config.name == "bpe":
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        if config.vocabulary < len(letters) + len(special):
            raise UsageError(
                f"a vocabulary of {config.vocabulary} does not hold 256 bytes and {len(special)} special tokens",
                where="tokenizer.vocabulary", expected=f"{len(letters) + len(special)} at least",
            )  # fmt: skip
        trainer = trainers.BpeTrainer(min_frequency=2, initial_alphabet=letters, **common)
    else:
        # a BPE that has never seen two characters together merges nothing, and is the fastest there is
        inner = tokenizers.Tokenizer(models.BPE(unk_token=unknown))
        inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        inner.decoder = decoders.Fuse()
        trainer = trainers.BpeTrainer(limit_alphabet=config.vocabulary - len(special), **common)
    if config.lowercase:
        inner.normalizer = normalizers.Lowercase()
    inner.train_from_iterator(parts, trainer)
    if config.name == "characters":
        inner.pre_tokenizer = None  # all that it was for is learnt
    return inner


def _inside_words(inner: tokenizers.Tokenizer, parts: list[str], most: int) -> list[str]:
    """WordPiece's tokens of single characters that can stand within a word, of the most frequent ones."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part)
    found = set()
    for character, _ in counts.most_common(most):
        for c in inner.normalizer.normalize_str(f"a{character}")[1:]:
            if len(inner.pre_tokenizer.pre_tokenize_str(f"a{c}")) == 1 and not c.isspace():
                found.add(f"##{c}")
    return sorted(found)


def _text(text: str) -> str:
    """With a question mark in the place of each half of a surrogate pair, which JSON can hold."""
    return text.encode("utf-8", "replace").decode()


def _pieces(text: str) -> Iterator[str]:
    """A text in parts that can be encoded at once."""
    start = 0
    while len(text) - start > _PIECE:
        end = start + _PIECE
        # looked for in the last part only
        places = [m.start() for m in _BETWEEN.finditer(text, end - _PIECE // 8, end)]
        end = places[-1] if places else end
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _groups(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """The parts of all texts, each with the number of its text, in groups of about `_AT_ONCE` characters."""
    group: list[tuple[int, str]] = []
    size = 0
    for place, text in enumerate(texts):
        for part in _pieces(text):
            group.append((place, part))
            size += len(part)
            if size >= _AT_ONCE:
                yield group
                group, size = [], 0
    if group:
        yield group


def _begins(byte: int) -> bool:
    """Whether a word begins with what begins with this byte of UTF-8: no letter or digit, Chinese or
    Japanese, or beyond (emoji)."""
    if byte < 0x80:
        return not chr(byte).isalnum()
    return 0xE3 <= byte <= 0xE9 or byte in (0xEF, 0xF0)


def _bytes_of_byte_level() -> dict[str, int]:
    """What each of the 256 characters stands for, by which byte-level BPE writes bytes: themselves where they
    can be seen, the others from U+0100 on (Radford et al., 2019)."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = (byte for byte in range(256) if byte not in seen)
    return {chr(b): b for b in seen} | {chr(0x100 + i): b for i, b in enumerate(hidden)}

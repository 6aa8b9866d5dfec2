"""Texts in a recipe: the tokenizer that its stages share, and language models pretrained on windows of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from torch import Tensor, nn

from jichu.auditing import table as tables
from jichu.core import ranks
from jichu.core.config import Spec, check
from jichu.core.errors import DataError, UsageError
from jichu.core.files import cache_folder, fingerprint, read_json, write_table, writing
from jichu.core.names import construct
from jichu.core.progress import say
from jichu.data.chat_template import TURN_END
from jichu.data.config import TokenizerConfig
from jichu.data.dataset import Dataset
from jichu.data.packing import Packed
from jichu.data.ragged import Ragged
from jichu.data.schema import LABEL
from jichu.data.special import TextInputs
from jichu.data.target import Target
from jichu.data.tokenizer import Template, Tokenizer
from jichu.data.tokens import Tokens, corpus, tokenise, tokenise_chats
from jichu.models import folder as model_folder
from jichu.models.fetch import find
from jichu.models.folder import LANGUAGE
from jichu.models.generate import generate
from jichu.models.model import Model
from jichu.models.recurrent import OverText
from jichu.models.transformers_text import TransformersText
from jichu.objectives import OBJECTIVES
from jichu.objectives.language import Answers, Causal, Language
from jichu.train.evaluate import RowLosses, row_losses
from jichu.train.fit import fit

from .build import TOKENS, Work, locate, start_model, tell_start
from .config import ModelStage, PretrainStage, Recipe
from .results import Result, look, part_of, result

_CONTEXT = 256  # tokens, where neither recipe nor model says how many
_USUAL = {"MaskedLM": "masked", "CausalLM": "causal", "Seq2SeqLM": "spans"}  # objective, by kind of model
_FOR = {"masked": "bert", "causal": "gpt, llama or lstm-text", "spans": "t5"}
_AT_ONCE = 2**13  # tokens evaluated together
_SHOWN, _BEGINNING, _WRITTEN = 4, 24, 200  # texts that are begun, of so many tokens, and tokens written after


# --- the tokenizer and the tokens


def read_texts(work: Work) -> None:
    """Give a run the tokenizer that its stages share, and its data set the tokens."""
    dataset = work.dataset
    if dataset.kind != "text":
        return
    if ranks.rank() > 0:
        ranks.barrier()  # the first process does it, the others find it done
    work.tokenizer, context, windows = _tokenizer(work.recipe, dataset)
    stages = [stage for stage in work.recipe.stages if isinstance(stage, ModelStage)]
    fitted = not all(isinstance(stage, PretrainStage) for stage in stages)
    if windows > 1 and (dataset.chat or any(t.task == "text" for t in dataset.targets.values())):
        raise UsageError("what is to be answered is not read in windows", where="data.windows", expected="1")
    work.text, tensors = tokenised(dataset, work.tokenizer, context, windows, told=fitted)
    dataset.tensors.update(tensors)
    if ranks.rank() == 0:
        ranks.barrier()


def tokenised(
    dataset: Dataset, tokenizer: Tokenizer, context: int, windows: int = 1, told: bool = True
) -> tuple[TextInputs, dict[str, Any]]:
    """What a model is told of a data set's texts, and their tokens as columns; `told` how many are cut, which
    does not matter where nothing is fitted to them."""
    special = tokenizer.special
    if dataset.chat:
        if not dataset.targets:  # what is to be learnt of conversations stands in them
            dataset.targets[LABEL] = Target("answers", "text")
            dataset.texts[LABEL] = dataset.texts["text"]
        conversations, _ = tokenise_chats(dataset.texts["text"], tokenizer, dataset.store)
        column = Tokens.of(
            tokenizer, context, conversations, template=Template(), what="conversations", told=told
        )
        special = special._replace(end=tokenizer.id(TURN_END) or special.end)  # where an answer ends
        return TextInputs(len(tokenizer), context, special, chat=True), {TOKENS: column}
    first, second = (
        tokenise(dataset.texts[key], tokenizer, dataset.store, key) if key in dataset.texts else None
        for key in ("text", "text_2")
    )
    inputs = TextInputs(
        len(tokenizer),
        context,
        special,
        pair=second is not None,
        windows=windows,
        columns=dataset.text_columns,
    )
    column = Tokens.of(tokenizer, context, cast(Ragged, first), second, windows=windows, told=told)
    return inputs, {TOKENS: column}


def _tokenizer(recipe: Recipe, dataset: Dataset) -> tuple[Tokenizer, int, int]:
    """That of the model that stages start from, the one that the recipe names, or one trained on the training
    texts; how many tokens a model is given, and in how many windows a text is read."""
    given = {where: folder for stage in recipe.stages if isinstance(stage, ModelStage)
             for where, folder in _starts(stage, recipe)}  # fmt: skip
    found = {where: Tokenizer.load(folder) for where, folder in given.items()}
    named = recipe.data.tokenizer
    if named is not None and named.loaded:
        found["data.tokenizer"] = Tokenizer.load(find(named.name.removeprefix("hf:")))
    one = next(iter(found.values()), None)
    for where, other in found.items():
        if one is not None and other.fingerprint != one.fingerprint:
            first = next(iter(found))
            raise UsageError(
                f"the tokenizer of {where} is not that of {first}, and a run has one",
                where=where, expected="models with the same tokenizer, or a run for each",
            )  # fmt: skip
    if one is not None and named is not None and not named.loaded:
        raise UsageError(
            f"a tokenizer is to be trained, and {next(iter(found))} has one",
            where="data.tokenizer", expected="no such key",
        )  # fmt: skip
    earlier = [text for folder in given.values() if (text := _text_of(folder)) is not None]
    asked, parts = recipe.data.context, recipe.data.windows
    usual = min((text.context for text in earlier), default=min([_CONTEXT, *map(_holds, given.values())]))
    context = usual if asked == "auto" else asked
    windows = max((text.windows for text in earlier), default=1) if parts == "auto" else parts
    return one or _trained(named or _suiting(recipe), recipe, dataset), context, windows


def _starts(stage: ModelStage, recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """The folders outside the run that a stage starts from, and how they are called."""
    inside = {other.name for other in recipe.stages}
    if stage.from_ is not None and stage.from_ not in inside:
        folder = locate(stage.from_)
        if model_folder.read_config(folder).text is None:
            raise UsageError(
                f"{stage.from_} reads no texts, and these data are texts", where=f"{stage.name}.from",
                expected="a run on texts, or a backbone such as bert-mini",
            )  # fmt: skip
        yield stage.from_, folder
    if stage.backbone is not None and stage.backbone.name.startswith("hf:"):
        yield stage.backbone.name, find(stage.backbone.name.removeprefix("hf:"))


def _text_of(folder: Path) -> TextInputs | None:
    """What a model of ours was told of its texts; None of another's."""
    try:
        return model_folder.read_config(folder).text
    except (DataError, UsageError):
        return None


def _holds(folder: Path) -> int:
    """How many tokens a published model takes, as far as its configuration says it under the usual names."""
    about = read_json(folder / "config.json")
    found = about.get("max_position_embeddings") or about.get("n_positions")
    return found if isinstance(found, int) and found > 0 else _CONTEXT


def _suiting(recipe: Recipe) -> TokenizerConfig:
    """What goes with the backbones of a recipe: WordPiece with BERT, else byte-level BPE with the special
    tokens of the family."""
    names = [s.backbone.name for s in recipe.stages if isinstance(s, ModelStage) and s.backbone]
    for family in ("gpt", "llama", "t5"):
        if any(name.split("-")[0] == family for name in names):
            return check(TokenizerConfig, {"name": "bpe", "special": family}, where="data.tokenizer")
    return check(TokenizerConfig, {"name": "wordpiece"}, where="data.tokenizer")


def _trained(config: TokenizerConfig, recipe: Recipe, dataset: Dataset) -> Tokenizer:
    """A tokenizer trained on the training texts, or the one that was."""
    rows = dataset.splits["train"]
    folder = (
        cache_folder()
        / "tokenizers"
        / fingerprint(config, dataset.fingerprint, recipe.data.split, recipe.seed)
    )
    if dataset.fingerprint and (folder / "tokenizer.json").exists():
        return Tokenizer.load(folder)
    texts = (t for key in sorted(dataset.texts) for t in corpus(dataset.texts[key], rows, config.sample))
    if dataset.chat:
        texts = (str(turn.get("content", "")) for text in texts for turn in json.loads(text))
    tokenizer = Tokenizer.train(config, texts)
    say(f"tokenizer: {config.name}, {len(tokenizer):,} tokens, trained on {len(rows):,} texts")
    if dataset.fingerprint:
        with writing(folder):
            tokenizer.save(folder)
    return tokenizer


# --- pretraining


@dataclass(frozen=True)
class Reading:
    """How an objective reads the texts of a data set."""

    objective: Language
    dataset: Dataset
    tokenizer: Tokenizer
    context: int
    seed: int

    @property
    def tokens(self) -> Ragged:
        """Of each text, without special ones."""
        return cast(Tokens, self.dataset.tensors[TOKENS]).texts

    @property
    def begin(self) -> int | None:
        """The token before each text."""
        special, objective = self.tokenizer.special, self.objective
        if special.begin is None and isinstance(objective, Causal) and objective.apart:
            return special.end  # else nothing would predict the first token
        return special.begin

    def windows(self, rows: Tensor, batch_size: int, *, shuffle: bool) -> Packed:
        """Windows of the texts of some rows, that fill what the model takes."""
        special, objective = self.tokenizer.special, self.objective
        return Packed(
            self.tokens, rows, context=objective.window(self.context),
            batch_size=batch_size, seed=self.seed, shuffle=shuffle, begin=self.begin, end=special.end,
            apart=objective.apart, ahead=objective.ahead,
        )  # fmt: skip

    def losses(self, model: nn.Module, rows: Tensor) -> RowLosses:
        """Of the windows of some texts, in order, each token once."""
        packed = self.windows(rows, max(1, _AT_ONCE // self.context), shuffle=False)
        return row_losses(model, self.objective, (next(packed) for _ in range(len(packed))), seed=self.seed)

    def bytes_a_token(self, rows: Tensor) -> float:
        """Bytes of text for each token that is predicted, ends of texts counted, and beginnings where they are
        predicted too; 0 where not all of a text is predicted, so that its likelihood is not known."""
        if not isinstance(self.objective, Causal):
            return 0.0
        around = (self.tokenizer.special.end is not None) + (
            self.begin is not None and not self.objective.apart
        )
        tokens = int(self.tokens.lengths[rows].sum()) + len(rows) * around
        return int(self.dataset.texts["text"].lengths[rows].sum()) / max(1, tokens)

    def measured(self, model: nn.Module, rows: Tensor, name: str) -> pa.Table:
        """The likelihood of texts held out, window by window."""
        found = self.losses(model, rows)
        sizes = torch.stack([found.weights, found.weights * self.bytes_a_token(rows)], 1)
        of = self.windows(rows, 1, shuffle=False).document_of
        records = [self.dataset.names[of(row)] for row in found.rows.tolist()]
        return tables.of_language(name, found.rows, records, sizes, found.losses * found.weights)

    def evaluate(self, rows: Tensor) -> Callable[[nn.Module], dict[str, float]]:
        """The loss of some texts, and where they are all predicted the bits a byte."""
        each = self.bytes_a_token(rows)

        def evaluate(model: nn.Module) -> dict[str, float]:
            loss = self.losses(model, rows).mean
            bits = {"validation_bits_per_byte": loss / each / math.log(2)} if each else {}
            return {"validation_loss": loss, **bits}

        return evaluate


def pretrain(stage: PretrainStage, work: Work) -> Result:
    """Train a language model on windows of the training texts, and measure it on those held out."""
    dataset, tokenizer, text = work.dataset, work.tokenizer, work.text
    assert tokenizer is not None and text is not None
    model, config = start_model(stage, stage.backbone, work, {TOKENS: {"name": LANGUAGE}}, {})
    objective = objective_of(stage.objective, model, tokenizer, f"{stage.name}.objective")
    reading = Reading(objective, dataset, tokenizer, text.context, work.recipe.seed)
    splits = dataset.splits
    batches = reading.windows(splits["train"], stage.batch_size, shuffle=True)
    tell_start(stage, work)
    remarks = look(model, stage, splits["train"], work, stage.name)
    evaluate = reading.evaluate(splits["validation"]) if "validation" in splits else None
    fitted = fit(model, objective, batches, stage, evaluate=evaluate, monitor="validation_loss", seed=work.recipe.seed,
                 folder=work.folder, name=stage.name, resume=work.resume, records=_Records(batches, dataset.names))  # fmt: skip
    made = reading.measured(model, splits["test"], stage.name) if "test" in splits else None
    if work.folder.writes:
        model_folder.save(work.folder.stage_model(stage.name), model, config, tokenizer)
        if made is not None:
            write_table(part_of(work, stage.name, 0, TOKENS), made)
    tokens = fitted.rows * batches.context
    metrics = {
        "objective": type(objective).__name__.lower(), "epochs": tokens / batches.total, "tokens": tokens,
        "tokens_per_second": tokens / max(fitted.seconds, 1e-9), "vocabulary": len(tokenizer),
    }  # fmt: skip
    found = result(fitted, model, work, stage.name, metrics)
    if isinstance(objective, Causal) and work.folder.writes:
        found["written"] = _written(model, reading, splits.get("test", splits["train"]))
    return {**found, "warnings": remarks + fitted.remarks}


def _written(model: Model, reading: Reading, rows: Tensor) -> list[dict[str, str]]:
    """How the model goes on with the beginnings of a few texts: what people look at first."""
    context = reading.context
    beginnings = [
        reading.tokens[row][: min(_BEGINNING, context // 4)].tolist() for row in rows[:_SHOWN].tolist()
    ]
    beginnings = [ids for ids in beginnings if ids]
    most = min(_WRITTEN, context // 2)
    found = generate(model, reading.tokenizer, beginnings, most=most, temperature=0.8, seed=reading.seed)
    return [
        {"prompt": reading.tokenizer.decode(ids), "text": g.text}
        for ids, g in zip(beginnings, found, strict=True)
    ]


def objective_of(spec: Spec, model: Model, tokenizer: Tokenizer, where: str) -> Language:
    """The objective by which a model learns from texts; what suits it where nothing is said. UsageError where the model
    reads otherwise than the objective wants."""
    backbone: Any = model.backbone
    kind = getattr(backbone, "kind", None)
    suits = _USUAL[kind.task] if kind else "causal"
    if spec.name == "auto":
        spec = Spec(name=suits)
    if spec.name in _FOR and spec.name != suits and isinstance(backbone, (TransformersText, OverText)):
        name = (
            str(backbone.config.model_type)
            if isinstance(backbone, TransformersText)
            else "a recurrent network"
        )
        raise UsageError(
            f"{spec.name} does not fit {name}, which learns by {suits}", where=where,
            expected=f"{suits}, or a backbone such as {_FOR[spec.name]}",
        )  # fmt: skip
    found = construct("objective", spec, OBJECTIVES, where=where, tokenizer=tokenizer, augment=None)()
    if not isinstance(found, Language) or isinstance(found, Answers):
        raise UsageError(
            f"{spec.name} does not learn from texts", where=where, expected="causal, masked or spans"
        )
    return found


class _Records(Sequence[str]):
    """Where each window begins, in words, by its `row`."""

    def __init__(self, packed: Packed, names: Sequence[str]):
        self._packed, self._names = packed, names

    def __len__(self) -> int:
        return self._packed.total

    def __getitem__(self, row: Any) -> Any:
        return f"a window that begins in {self._names[self._packed.document_of(row)]}"

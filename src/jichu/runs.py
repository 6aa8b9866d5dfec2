"""A finished (or interrupted) run as an object: its summary, its model, its predictions."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from jichu.adapt.bases import Bases
from jichu.auditing.table import answers, point
from jichu.core.config import check, read_yaml
from jichu.core.errors import DataError, UsageError, shown
from jichu.core.files import read_json, read_jsonl
from jichu.core.folder import RunFolder
from jichu.data.config import IN_MEMORY, ColumnConfig, DataConfig
from jichu.data.dataset import Dataset
from jichu.data.decode import Preprocess
from jichu.data.formats import jsonl
from jichu.data.load import columns_of, load
from jichu.data.media import KINDS, How
from jichu.data.ragged import Ragged
from jichu.data.readers import read
from jichu.data.schema import LABEL, understand
from jichu.data.series import latest_windows
from jichu.data.source import HALF, Source
from jichu.data.special import TextInputs
from jichu.data.target import Target
from jichu.data.texts import ragged
from jichu.data.tokenizer import Tokenizer
from jichu.data.tokens import Tokens, tokenise
from jichu.data.windows import SERIES
from jichu.explanations import Explanation, explain
from jichu.models import folder as model_folder
from jichu.models.folder import ModelConfig
from jichu.models.generate import generate
from jichu.models.model import Model
from jichu.recipe.answers import questions
from jichu.recipe.config import Recipe
from jichu.recipe.language import tokenised
from jichu.train.predict import embed, predict


class Run:
    """A run folder. `model` is a plain torch module; `backbone` is the user's own module, where the
    run was made with one that was given as an object; with `bases` its weights are shared with runs on the same base."""

    def __init__(self, path: str | Path, backbone: nn.Module | None = None, bases: Bases | None = None):
        self.folder = RunFolder.open(path)
        self.path = self.folder.path
        self._own, self._bases = backbone, bases

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def summary(self) -> dict[str, Any]:
        """Stages, seconds, metrics and the headline."""
        if not self.folder.summary.exists():
            raise UsageError(
                f"{self.path} has no summary yet", expected="a run with a finished stage; try --resume"
            )
        return read_json(self.folder.summary, ("stages", "headline"))

    @property
    def headline(self) -> dict[str, dict[str, float]]:
        """{name: {"value", "low", "high"}}."""
        return self.summary()["headline"]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged rows of all stages."""
        return read_jsonl(self.folder.metrics)

    @cached_property
    def recipe(self) -> Recipe:
        """What ran."""
        return check(Recipe, read_yaml(self.folder.recipe), where=str(self.folder.recipe))

    @cached_property
    def _loaded(self) -> tuple[nn.Module, ModelConfig]:
        load = model_folder.load if self._bases is None else self._bases.load
        return load(self.folder.model, self._own)

    @property
    def model(self) -> nn.Module:
        """The result, in evaluation mode."""
        return self._loaded[0]

    @property
    def config(self) -> ModelConfig:
        """How the model is built, and what it reads and predicts."""
        return self._loaded[1]

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return self.config.classes

    @property
    def targets(self) -> dict[str, Target]:
        """What the model predicts, by head."""
        return self.config.targets

    def require_head(self) -> None:
        """UsageError where the model is a backbone or a language model alone."""
        missing = set(self.config.targets) - set(self.config.heads)
        if not self.config.targets or (missing and not self.config.language):
            raise UsageError(
                f"the model in {self.path} has no head to predict with", expected="jichu finetune --from it"
            )

    def predict(self, items: Any) -> list[dict[str, Any]]:
        """What a model says of each image (path, bytes, array or PIL image; one or a list), sound (path, bytes or (samples,
        rate)) or row of a table (a dict, a list of dicts, a data frame or a table file): of a class its label, the
        probability of it, and those of all classes; of tags those that are likely; of a number its value; with several
        targets, these by column. Of series the next steps of each column that is forecast, after the last row of each.
        Raises DataError for what cannot be decoded or a row that lacks a column."""
        self.require_head()
        if any(target.task == "text" for target in self.targets.values()):
            return self._written(items)
        if self.config.series is not None:
            return self._forecasts(items)
        return self.told(*self.inputs(items))

    @property
    def joins(self) -> bool:
        """Whether what was read of several inputs can be put together and predicted at once."""
        writes = any(target.task == "text" for target in self.targets.values())
        return not writes and self.config.series is None

    def told(self, names: list[str], tensors: dict[str, Any]) -> list[dict[str, Any]]:
        """What the model says of inputs that have been read."""
        outputs = predict(self.model, tensors, torch.arange(len(names)), list(self.targets))
        found: list[dict[str, Any]] = [{"input": name} for name in names]
        for key, target in self.targets.items():
            answered = _answers(target, outputs[key])
            for row, answer in zip(found, answered, strict=True):
                row |= answer if len(self.targets) == 1 else {target.column: answer}
        return found

    def explain(
        self, items: Any, method: str | dict[str, Any] | None = None, *, target: str | None = None,
        column: str | None = None, background: Any = None,
    ) -> list[Explanation]:  # fmt: skip
        """What each place of an input (as for `predict`) is worth to the answer: pixels, moments, tokens or columns. `method`
        is a name, or {"name": …} with arguments, the usual one for the model if none; `target` is the class to be
        explained, the likeliest if none, and `column` which of several targets. Of a table `background` is data that tell
        what is usual, the run's training rows if none."""
        return explain(self, items, method, target, column, background)

    def _forecasts(self, items: Any) -> list[dict[str, Any]]:
        inputs, (target,) = self.config.series, self.targets.values()
        assert inputs is not None
        items = pa.Table.from_pylist(items) if isinstance(items, list) else items
        reader = self.recipe.data.reader if isinstance(items, (str, Path)) else None
        source = read(items, reader)
        numbers = {name: ColumnConfig(type="number") for name in inputs.columns if name in source.columns}
        config = self.recipe.data.model_copy(update={"columns": numbers, "target": None})
        names, windows = latest_windows(source, columns_of(source, config), config, inputs)
        outputs = predict(self.model, {SERIES: windows}, torch.arange(len(names)), [LABEL])[LABEL]
        told = answers(target, outputs).reshape(len(names), target.steps, -1)
        return [
            {"input": name, **{c: told[i, :, j].tolist() for j, c in enumerate(target.series)}}
            for i, name in enumerate(names)
        ]

    def _written(self, items: Any) -> list[dict[str, Any]]:
        inputs = self.config.text
        assert inputs is not None
        names, columns = self._columns(items)
        asked = questions(columns[0], cast(Model, self.model), self.tokenizer, inputs)
        answers = self.generate(asked, temperature=0)
        (target,) = self.targets.values()
        return [{"input": n, target.column: a.strip()} for n, a in zip(names, answers, strict=True)]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """That of a model that reads texts."""
        if self.config.text is None:
            raise UsageError(f"the model in {self.path} reads no texts", expected="a run on texts")
        found = Tokenizer.load(self.folder.model)
        if len(found) > self.config.text.vocabulary:
            raise DataError(
                f"a tokenizer of {len(found):,} tokens, and the model knows {self.config.text.vocabulary:,}",
                where=self.folder.model, expected="the tokenizer that the model was trained with",
            )  # fmt: skip
        return found

    def generate(self, prompts: Any, stream: Callable[[str], None] | None = None, **settings: Any) -> Any:
        """What the model writes after a prompt, or after each of a list. Keywords: `most` tokens,
        `temperature`, `top_k`, `top_p`, `repetition_penalty`, `beams`, `stop` texts, `seed`; `stream` is called
        with each piece of the text as it comes."""
        if not self.config.language:
            raise UsageError(
                f"the model in {self.path} writes nothing", expected="a pretrained language model"
            )
        if not isinstance(prompts, (str, list, tuple)):
            raise UsageError(f"the prompts {shown(prompts)}", expected="a text, or a list of them")
        given = [prompts] if isinstance(prompts, str) else list(prompts)
        told: Any = {"stream": lambda i, piece: stream(piece)} if stream else {}
        found = [g.text for g in generate(self.model, self.tokenizer, given, **told, **settings)]
        return found[0] if isinstance(prompts, str) else found

    def require_chat(self) -> None:
        """UsageError where the model was not trained on conversations."""
        config = self.config
        published = str(config.backbone.get("name")).startswith("hf:")
        if config.text is None or not (config.text.chat or published):
            raise UsageError(
                f"the model in {self.path} does not talk", expected="one fine-tuned on conversations"
            )

    def answer(self, messages: list[dict[str, str]], most: int = 200, **settings: Any) -> tuple[str, int]:
        """What the model says next in a conversation, [{"role", "content"}, …]; and how many of the earlier
        messages there was no room for."""
        text = self.config.text
        assert text is not None
        said, forgotten = list(messages), 0
        first = 1 if said and said[0]["role"] == "system" else 0
        most = min(most, text.context // 2)
        while len(ids := self.tokenizer.chat(said, prompt=True)[0]) + most > text.context:
            if len(said) <= first + 1:
                raise UsageError(
                    f"a message of {len(ids)} tokens, and the model holds {text.context}",
                    expected="a shorter one",
                )
            del said[first]
            forgotten += 1
        return self.generate([ids], most=most, **settings)[0].strip(), forgotten

    def embed(self, items: Any) -> np.ndarray:
        """Pooled features [N, D] of images, texts or rows."""
        return self.features(*self.inputs(items))

    def features(self, names: list[str], tensors: dict[str, Any]) -> np.ndarray:
        """Pooled features [N, D] of inputs that have been read."""
        return embed(self.model, tensors, torch.arange(len(names))).to_dense().numpy()

    def twin(self) -> Run:
        """The same run for another thread: a model of its own, whose weights are the same memory."""
        other = Run(self.path, self._own)
        shared = {id(t): t for t in itertools.chain(self.model.parameters(), self.model.buffers())}
        other.__dict__ |= {"_loaded": (copy.deepcopy(self.model, shared), self.config), "recipe": self.recipe}
        if self.config.text is not None:
            other.__dict__["tokenizer"] = self.tokenizer
        return other

    def inputs(self, items: Any) -> tuple[list[str], dict[str, Any]]:
        """The names of inputs (as for `predict`), and their tensors by column as the model reads them."""
        if self.config.text is not None:
            return self._texts(items)
        how = self.config.image or self.config.audio
        if how is not None and self.config.table is None:
            names, tensor = self._decode(items, how)
            return names, {how.kind: tensor}
        if how is not None:
            raise UsageError(
                "this model reads images or sounds beside a table", expected="run.dataset(data) and run.model"
            )
        return self._rows(items)

    def _texts(self, items: Any) -> tuple[list[str], dict[str, Any]]:
        inputs = self.config.text
        assert inputs is not None
        names, columns = self._columns(items)
        parts = [tokenise(column, self.tokenizer, None) for column in columns]
        second = parts[1] if inputs.pair else None
        found = Tokens.of(self.tokenizer, inputs.context, parts[0], second, windows=inputs.windows)
        return names, {"tokens": found}

    def _columns(self, items: Any) -> tuple[list[str], list[Ragged]]:
        """Texts (one or a list; of a pair tuples), or the texts in a file, a folder or a table."""
        inputs, config = self.config.text, self.recipe.data
        assert inputs is not None
        if isinstance(items, str) and not os.path.exists(items):
            items = [items]
        if isinstance(items, (list, tuple)) and all(isinstance(i, (str, tuple)) for i in items):
            if not items:
                raise UsageError("nothing to predict", expected="at least one text")
            rows = [(item,) if isinstance(item, str) else item for item in items]
            if odd := next((row for row in rows if len(row) != 1 + inputs.pair), None):
                raise UsageError(f"{len(odd)} texts in a row", expected=f"{1 + inputs.pair}, as in training")
            names = [row[0] for row in rows]
            columns = [list(column) for column in zip(*rows, strict=True)]
        else:
            source = read(items, config.reader if isinstance(items, (str, Path)) else None)
            alike = DataConfig(path=IN_MEMORY, text=_those_of_texts(source, inputs))
            found = columns_of(source, alike)
            schema = understand(found, alike)
            if len(schema.texts) != 1 + inputs.pair:
                told = ", ".join(f"{n} ({c.kind})" for n, c in found.items())
                expected = " and ".join(map(repr, inputs.columns)) or f"{1 + inputs.pair} of texts"
                raise DataError(f"no texts among the columns {told}", expected=expected)
            names = list(source.names)
            columns = [[t or "" for t in found[n].values.to_pylist()] for n in schema.texts]
        return names, [ragged(column) for column in columns]

    def _rows(self, items: Any) -> tuple[list[str], dict[str, Tensor]]:
        table = self.config.table
        assert table is not None
        rows = [items] if isinstance(items, dict) else items
        if isinstance(rows, (list, tuple)) and all(isinstance(r, dict) for r in rows):
            if not rows:
                raise UsageError("nothing to predict", expected="at least one row")
            if odd := [n for r in rows for n in r if not isinstance(n, str) or HALF.search(n)]:
                raise UsageError(f"the key {odd[0]!r} of a row names no column", expected="texts as keys")
            columns = {
                n: jsonl.column([r.get(n) for r in rows]) for n in dict.fromkeys(n for r in rows for n in r)
            }
            rows = pa.table(columns)
        source = read(rows, self.recipe.data.reader if isinstance(rows, (str, Path)) else None)
        config = self.recipe.data
        known = {n: c for n, c in config.columns.items() if n in source.columns}
        columns = columns_of(source, config.model_copy(update={"columns": known}), table)
        blocks = table.encode(columns)
        return list(source.names), {name: torch.from_numpy(block) for name, block in blocks.items()}

    def _decode(self, items: Any, how: How) -> tuple[list[str], Tensor]:
        """Images or sounds as the model wants them: one, a list, or a stack of images."""
        if isinstance(items, Tensor):
            items = items.detach().cpu().numpy()
        stacked = isinstance(items, np.ndarray) and (
            items.ndim == 4 or (items.ndim == 3 and items.shape[2] not in (1, 3, 4))
        )
        several = isinstance(items, list) or (isinstance(items, tuple) and how.kind == "image")
        given: Sequence[Any] = items if stacked or several else [items]  # (samples, rate) is one sound
        medium = KINDS[how.kind]
        what, expected = {
            "image": ("an image", "a file Pillow opens"),
            "audio": ("a sound", "a file libsndfile opens, or (samples, rate)"),
        }[how.kind]
        names, arrays = [], []
        for i, item in enumerate(given):
            name = str(item) if isinstance(item, (str, Path)) else f"input {i}"
            try:
                arrays.append(medium.decode(item, how))
            except medium.unreadable as error:
                raise DataError(f"not {what}: {error}", where=name, expected=expected) from None
            names.append(name)
        if not arrays:
            raise UsageError("nothing to predict", expected=f"at least {what}")
        return names, torch.from_numpy(np.stack(arrays))

    def dataset(self, data: Any = None) -> Dataset:
        """The run's data, or other data decoded as this model wants them."""
        model = self.config
        p, table = model.image or model.audio, model.table
        if isinstance(data, Dataset):
            if (p and data.preprocess != p) or (table and data.table != table):
                raise UsageError(
                    f"the data were decoded as {data.preprocess or data.table}", expected=f"{p or table}"
                )
            return data
        changes: dict[str, Any] = {}
        if isinstance(p, Preprocess):
            changes = p._asdict()
        elif p is not None:
            changes = {"rate": p.rate, "seconds": p.seconds}
        if data is not None:
            changes["path"] = str(data) if isinstance(data, (str, Path)) else "the data given"
        # a few whole numbers would else be taken for classes, or classes for numbers
        if table or (model.text is not None and not model.text.chat):
            kinds = {
                "classification": "category",
                "multilabel": "tags",
                "regression": "number",
                "text": "text",
            }
            wanted = dict(self.recipe.data.columns)
            for target in model.targets.values():
                column = wanted.get(target.column, ColumnConfig())
                wanted[target.column] = column.model_copy(update={"type": kinds[target.task]})
            changes["columns"] = wanted
        config = self.recipe.data.model_copy(update=changes)
        if data is None and config.path == IN_MEMORY:
            raise UsageError("this run's data were given in memory", expected="data=…")
        dataset = load(config.path if data is None else data, config, seed=self.recipe.seed, table=table)
        if model.text is not None:
            dataset.tensors.update(
                tokenised(dataset, self.tokenizer, model.text.context, model.text.windows)[1]
            )
        return dataset


def _those_of_texts(source: Source, inputs: TextInputs) -> list[str] | None:
    """The columns that a model is to read: called as in training, else what the source is about, else all where
    there are no others; None where that is to be found out."""
    if inputs.columns and source.columns.keys() >= set(inputs.columns):
        return list(inputs.columns)
    whole = list(source.columns) if len(source.columns) == 1 + inputs.pair else None
    return list(source.texts) or whole


def _answers(target: Target, outputs: Tensor) -> list[dict[str, Any]]:
    scores = answers(target, outputs)
    if target.task == "classification":
        named = [dict(zip(target.classes, row, strict=True)) for row in scores.tolist()]
        return [
            {"label": (label := max(s, key=lambda c: s[c])), "score": s[label], "scores": s} for s in named
        ]
    if target.task == "multilabel":
        named = [dict(zip(target.classes, row, strict=True)) for row in scores.tolist()]
        return [{"tags": [t for t, p in s.items() if p > 0.5], "scores": s} for s in named]
    values = scores[:, point(target)].tolist()
    if not target.quantiles:
        return [{"value": value} for value in values]
    quantiles = [{f"{q:g}": v for q, v in zip(target.quantiles, row, strict=True)} for row in scores.tolist()]
    return [{"value": v, "quantiles": q} for v, q in zip(values, quantiles, strict=True)]

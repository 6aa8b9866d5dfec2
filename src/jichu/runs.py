"""A finished (or interrupted) run as an object: its summary, its model, its predictions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from jichu.adapt.bases import Bases
from jichu.auditing.asking import ask, ask_and_look
from jichu.auditing.table import answers
from jichu.constraints.answering import answered
from jichu.constraints.rulebook import Rules
from jichu.core.config import check, read_yaml
from jichu.core.errors import DataError, UsageError, shown
from jichu.core.files import fingerprint, read_json, read_jsonl
from jichu.core.folder import RunFolder
from jichu.data import given
from jichu.data.columns import columns_of
from jichu.data.config import IN_MEMORY, ColumnConfig
from jichu.data.dataset import Dataset
from jichu.data.decode import Preprocess
from jichu.data.given import Inputs
from jichu.data.load import load
from jichu.data.schema import LABEL
from jichu.data.series import latest_windows
from jichu.data.target import Target
from jichu.data.texts import ragged
from jichu.data.tokenizer import Tokenizer
from jichu.data.tokens import Tokens, tokenise
from jichu.data.windows import SERIES
from jichu.explanations import Explanation, explain
from jichu.exploring.counterfactuals import Counterfactual, counterfactual
from jichu.exploring.maps import Map, map_of
from jichu.exploring.neighbours import Neighbour, neighbours
from jichu.exploring.samples import Sample, Samples, sample, samples
from jichu.exploring.seen import Seen
from jichu.models import folder as model_folder
from jichu.models.folder import ModelConfig
from jichu.models.generate import generate
from jichu.models.model import Model
from jichu.recipe import pages
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
        if not (self.folder.model / "config.json").exists():
            raise UsageError(
                f"no model in {self.path}, a run that is not finished or whose model was removed",
                expected="its end, by --resume",
            )
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

    @cached_property
    def rules(self) -> Rules:
        """What the answers are to keep; none are false."""
        book = self.config.rules
        return book.of(self.targets) if book else Rules([], {}, self.targets)

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
        targets, these by column. With rules also `rules`: those that have `fired`, and what the model `alone` said by column,
        where that was changed. Of series the next steps of each column that is forecast, after the last row of each.
        Raises DataError for what cannot be decoded or a row that lacks a column."""
        self.require_head()
        if any(target.task == "text" for target in self.targets.values()):
            return self._written(items)
        if self.config.series is not None:
            return self._forecasts(items)
        given = self.inputs(items)
        return self.told(given, self.scores(given))

    @property
    def joins(self) -> bool:
        """Whether what was read of several inputs can be put together and predicted at once."""
        writes = any(target.task == "text" for target in self.targets.values())
        return not writes and self.config.series is None

    def scores(self, given: Inputs) -> dict[str, np.ndarray]:
        """Of each target what the model alone says of inputs that have been read: probabilities [N, K], or numbers [N, Q]."""
        return ask(self.model, self.targets, given.tensors, torch.arange(len(given.names)))

    def scores_and_features(self, given: Inputs) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """The scores, and of the same look the pooled features [N, D]; None where these are counts of words."""
        return ask_and_look(self.model, self.targets, given.tensors, torch.arange(len(given.names)))

    def told(self, given: Inputs, scores: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """What is said of inputs in the end, the answers of the model made to keep the rules."""
        return answered(given.names, self.targets, scores, self.rules, given.columns)

    def rewrite(self, language: str | None = None) -> Path:
        """Write report, card and the page of the data once more, "en" or "zh", from what was measured: nothing is measured
        anew. Gives the report. DataError where the run is not finished, or its data are others by now."""
        pages.rewrite(self.folder, self.recipe, self.dataset(), language)
        return self.folder.report

    def explain(
        self, items: Any, method: str | dict[str, Any] | None = None, *, target: str | None = None,
        column: str | None = None, background: Any = None,
    ) -> list[Explanation]:  # fmt: skip
        """What each place of an input (as for `predict`) is worth to the answer: pixels, moments, tokens or columns. `method`
        is a name, or {"name": …} with arguments, the usual one for the model if none; `target` is the class to be
        explained, the likeliest if none, and `column` which of several targets. Of a table `background` is data that tell
        what is usual, the run's training rows if none."""
        return explain(self, items, method, target, column, background)

    def neighbours(self, items: Any, k: int = 8, *, data: Any = None) -> list[list[Neighbour]]:
        """Of each input (as for `predict`) the k training rows that are nearest by the cosine of the features, of `data` if
        not of the run's own. They are looked for among all rows, or an even sample of 50,000."""
        return neighbours(self.seen(data), self.embed(items), k)

    def counterfactual(
        self, items: Any, *, target: str | None = None, column: str | None = None, immutable: Collection[str] = (),
        tries: int = 2000, data: Any = None,
    ) -> list[Counterfactual]:  # fmt: skip
        """What would change the answer to each input, to the class `target` if that is named: columns of a table (but
        those that are `immutable`) with values of training rows, other words or none, parts of a picture blurred. `column`
        is which of several targets, `tries` how many changed inputs the model is asked about at most."""
        more: dict[str, Any] = {"target": target, "column": column, "immutable": immutable, "tries": tries}
        return counterfactual(self.seen(data), items, **more)

    def samples(self, *, data: Any = None, **asked: Any) -> Samples:
        """A page of held-out rows, what is known and what is said of them. Keywords: `start`, `count`; `wrong` ones, those of a
        class `label`; `order`, "row" or "uncertain"; `column`, which of several targets."""
        return samples(self.seen(data), **asked)

    def sample(self, row: int, *, data: Any = None) -> Sample:
        """One row of the data, in whatever split."""
        return sample(self.seen(data), row)

    def map(self, part: str = "test", most: int = 2000, seed: int = 0, *, data: Any = None) -> Map:
        """Held-out (`test`) or training rows (`train`) on a plane, where like lies beside like."""
        return map_of(self.seen(data), part, most, seed)

    def seen(self, data: Any = None) -> Seen:
        """What the model makes of the rows of the run's data, or of other data, found once and kept in the run's folder."""
        return self._own_seen if data is None else Seen(self, self.dataset(data))

    @cached_property
    def _own_seen(self) -> Seen:
        return Seen(self, self.reference())

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that depend on the weights in memory and on how inputs are read."""
        weights = [
            part
            for name, tensor in self.model.state_dict().items()
            for part in (name, tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        ]
        return fingerprint(self.config, *weights, self.config.text and self.tokenizer.fingerprint)

    def _forecasts(self, items: Any) -> list[dict[str, Any]]:
        inputs, (target,) = self.config.series, self.targets.values()
        assert inputs is not None
        source = given.source_of(items, self.recipe.data)
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
        names, columns = given.texts(items, inputs, self.recipe.data)
        asked = questions(ragged(columns[0]), cast(Model, self.model), self.tokenizer, inputs)
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
        return self.features(self.inputs(items))

    def features(self, given: Inputs) -> np.ndarray:
        """Pooled features [N, D] of inputs that have been read."""
        return embed(self.model, given.tensors, torch.arange(len(given.names))).to_dense().numpy()

    def twin(self) -> Run:
        """The same run for another thread: a model of its own, whose weights are the same memory."""
        other = Run(self.path, self._own)
        # parameters of its own in the same memory, for either model may be laid out anew while the other is asked
        shared: dict[int, Tensor] = {id(buffer): buffer.detach() for buffer in self.model.buffers()}
        shared |= {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in self.model.parameters()}
        other.__dict__ |= {"_loaded": (copy.deepcopy(self.model, shared), self.config), "recipe": self.recipe}
        if self.config.text is not None:
            other.__dict__["tokenizer"] = self.tokenizer
        return other

    def inputs(self, items: Any) -> Inputs:
        """What the model reads of inputs, as for `predict`."""
        if self.config.text is not None:
            return self._texts(items)
        how = self.config.image or self.config.audio
        if how is not None and self.config.table is None:
            names, array = given.media(_plain(items), how)
            return Inputs(names, {how.kind: torch.from_numpy(array)})
        if how is not None:
            raise UsageError(
                "this model reads images or sounds beside a table", expected="run.dataset(data) and run.model"
            )
        assert self.config.table is not None
        names, blocks, columns = given.rows(items, self.config.table, self.recipe.data, self.rules.columns)
        return Inputs(names, {name: torch.from_numpy(block) for name, block in blocks.items()}, columns)

    def _texts(self, items: Any) -> Inputs:
        inputs = self.config.text
        assert inputs is not None
        return self.texts(*given.texts(items, inputs, self.recipe.data))

    def texts(self, names: list[str], columns: list[list[str]], told: bool = True) -> Inputs:
        """What the model reads of texts, one column, or two of pairs; `told` how many are cut."""
        inputs = self.config.text
        assert inputs is not None
        parts = [tokenise(ragged(column), self.tokenizer, None) for column in columns]
        second = parts[1] if inputs.pair else None
        found = Tokens.of(self.tokenizer, inputs.context, parts[0], second, windows=inputs.windows, told=told)
        return Inputs(names, {"tokens": found})

    def dataset(self, data: Any = None) -> Dataset:
        """The run's data, or other data decoded as this model wants them."""
        return self._own_data if data is None else self._read(data)

    def reference(self, data: Any = None) -> Dataset:
        """The data that something is held against: the run's own, as they were when it was made, or others. DataError
        where its own have changed since."""
        found = self.dataset(data)
        if data is None and not self.folder.made_of(found.fingerprint):
            raise DataError(
                "the data have changed since the run was made of them", where=found.source,
                expected="the same data, or others that are named: --data, or data=…",
            )  # fmt: skip
        return found

    @cached_property
    def _own_data(self) -> Dataset:
        return self._read(None)

    def _read(self, data: Any) -> Dataset:
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
            changes["canaries"] = None  # which were among the run's own training rows
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
        if dataset.kind != model.kind:
            what = f"these data are of the kind {dataset.kind}"
            raise DataError(what, where=dataset.source, expected=f"{model.kind}, which the model reads")
        if model.text is not None:
            dataset.tensors.update(
                tokenised(dataset, self.tokenizer, model.text.context, model.text.windows)[1]
            )
        return dataset


def _plain(items: Any) -> Any:
    return items.detach().cpu().numpy() if isinstance(items, Tensor) else items

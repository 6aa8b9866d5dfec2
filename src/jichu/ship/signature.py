"""What travels with a model that has left its run: what it reads, how that is made ready, what it says, and where it
comes from. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from jichu.constraints.rulebook import Rulebook, Rules
from jichu.core.errors import DataError, UsageError
from jichu.core.files import dumps
from jichu.data import given
from jichu.data.config import IN_MEMORY, DataConfig
from jichu.data.decode import Preprocess
from jichu.data.given import Inputs
from jichu.data.schema import TableSchema
from jichu.data.sound import Sound
from jichu.data.special import TextInputs
from jichu.data.target import Target
from jichu.data.tokenizer import Tokenizer

from .tokens import laid_out

ABOUT = "jichu.json"  # the file in which it stands, where a format has no place for it
TASKS = ("classification", "multilabel", "regression")  # whose answers follow from one look at an input


@dataclass(frozen=True)
class Signature:
    """`data` is what the run's recipe says of how columns are read, `tokenizer` as `Tokenizer.to_str` writes it; `inputs`
    and `outputs` are the dimensions of each tensor by name, those that vary by a name. `weights` is their fingerprint."""

    name: str
    weights: str
    made_by: str
    licence: str | None = None
    inputs: dict[str, list[int | str]] = field(default_factory=dict)
    outputs: dict[str, list[int | str]] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    image: Preprocess | None = None
    audio: Sound | None = None
    table: TableSchema | None = None
    text: TextInputs | None = None
    rules: Rulebook | None = None
    data: DataConfig = field(default_factory=lambda: DataConfig(path=IN_MEMORY))
    tokenizer: str | None = None
    quantized: dict[str, Any] | None = None  # the scheme, its arguments, and layers left as they were
    series: ClassVar[None] = None  # forecasts are no one look at an input
    language: ClassVar[bool] = False  # texts are not written by one either

    def arrays(self, items: Any) -> Inputs:
        """The tensors of inputs as `Run.predict` takes them. UsageError where such a model is not asked so."""
        how = self.image or self.audio
        if self.text is not None and self.tokenizer is not None:
            names, columns = given.texts(items, self.text, self.data)
            width = self.inputs["tokens"][1]  # of texts in windows always the same
            fixed = width if isinstance(width, int) else None
            return Inputs(names, {"tokens": laid_out(self._tokenizer, self.text, columns, fixed)})
        if how is not None and self.table is None:
            names, array = given.media(items, how)
            return Inputs(names, {how.kind: array})
        if self.table is not None and how is None:
            return given.rows(items, self.table, self.data, self.kept.columns)
        raise UsageError(
            f"{self.name} reads {' and '.join(self.inputs)}, which is not made ready here",
            expected="jichu predict RUN, or the tensors given to its runtime",
        )

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of one row's tensors, but for those of texts, which vary."""
        found = {how.kind: how.shape for how in (self.image, self.audio) if how is not None}
        if self.table is not None:
            found |= {"numbers": [len(self.table.number_names)], "categories": [len(self.table.categories)]}
        return found

    @cached_property
    def kept(self) -> Rules:
        """The rules that answers keep; none are false."""
        return self.rules.of(self.targets) if self.rules else Rules([], {}, self.targets)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        assert self.tokenizer is not None
        return Tokenizer.from_str(self.tokenizer)

    # --- as texts, which every format can hold

    def plain(self) -> dict[str, str]:
        """Each part as JSON."""
        whole = {key: getattr(self, key) for key in self.__dataclass_fields__}
        whole |= {key: how._asdict() for key in ("image", "audio") if (how := whole[key]) is not None}
        for key in ("table", "rules"):
            if whole[key] is not None:
                whole[key] = asdict(whole[key])
        whole["targets"] = {key: asdict(target) for key, target in self.targets.items()}
        whole["data"] = self.data.model_dump(by_alias=True, mode="json", exclude_defaults=True)
        if self.text is not None:
            whole["text"] = {**asdict(self.text), "special": self.text.special._asdict()}
        return {key: dumps(value) for key, value in whole.items() if value is not None}

    @classmethod
    def of(cls, texts: Mapping[str, str], where: object) -> Signature:
        """What `plain` gave. DataError where it is not there or damaged."""
        if not {"name", "targets", "inputs"} <= texts.keys():
            raise DataError("it does not say what it reads", where=where, expected="a file of jichu export")
        try:
            parts = {key: _JSON.validate_json(text) for key, text in texts.items()}
            return _CHECKER.validate_python(parts)
        except (ValidationError, UsageError) as error:
            fault = str(error).split("\n")[0]
            raise DataError(f"damaged: {fault}", where=where, expected="a file of jichu export") from None


_JSON, _CHECKER = TypeAdapter(Any), TypeAdapter(Signature)

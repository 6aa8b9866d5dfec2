"""What requests look like: ours, and those of the OpenAI API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from jichu.core.config import Config

_Model = Field(None, description="the name of a model; not needed where there is one", max_length=200)
_Zero = Annotated[float, Field(ge=0, le=0)] | None
_Items = Field(
    description="texts (or pairs), objects {column: value}, or images and sounds in base64", min_length=1
)
Inputs = Annotated[list[Any], _Items]


class PredictRequest(Config):
    """Rows to be predicted."""

    model: str | None = _Model
    inputs: Inputs


class ExplainRequest(Config):
    """Rows whose predictions are to be explained."""

    model: str | None = _Model
    inputs: Inputs
    method: str | None = Field(
        None, description="integrated-gradients, occlusion, …; what fits the model if none"
    )
    arguments: dict[str, Any] = Field({}, description="of the method")
    target: str | None = Field(None, description="the class to be explained; the likeliest if none")
    column: str | None = Field(None, description="which of several targets; the first if none")
    picture: bool = Field(
        False,
        description="whether to give what the model saw of an image or a sound, as a PNG in a data: address",
    )
    background: list[dict[str, Any]] | None = Field(
        None,
        description="rows that tell what is usual in a table; the training rows if none",
        max_length=1000,
    )


class FeedbackRequest(Config):
    """The right answer to a row that was asked, or to the input that comes with it."""

    model: str | None = _Model
    request: str | None = Field(
        None, description="the X-Request-Id of the answer that was wrong", pattern=r"^[A-Za-z0-9_.-]{1,64}$"
    )
    row: int = Field(0, description="which row of that request", ge=0, lt=2**31)
    input: Any = Field(None, description="the input itself; not needed where the request was kept")
    answer: Any = Field(description="the class, the tags or the number; of several targets {column: answer}")
    note: str | None = Field(None, description="what else is to be said", max_length=2000)


class EmbeddingRequest(Config):
    """Inputs whose features are wanted, as OpenAI's."""

    model: str | None = _Model
    input: str | Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="of the features; no other than the model has")
    user: str | None = None


class _Writing(Config):
    """How to write: OpenAI's keys, and `top_k` and `repetition_penalty`, which theirs does not have. Those of theirs
    that change nothing may be given."""

    model: str | None = _Model
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)]
        | None
    ) = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: dict[str, bool] | None = None
    presence_penalty: _Zero = None
    frequency_penalty: _Zero = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    user: str | None = None

    @property
    def stops(self) -> list[str]:
        """The texts before which to end."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])


class CompletionRequest(_Writing):
    """Prompts to go on with, as OpenAI's."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    )

    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: None = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """Each of them, be it one or several, texts or tokens."""
        given: Any = self.prompt
        return given if isinstance(given, list) and not isinstance(given[0], int) else [given]


class Message(Config):
    """What somebody said."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]
    name: str | None = None


class ChatRequest(_Writing):
    """A conversation to go on with, as OpenAI's."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None


_Few = Annotated[list[Any], Field(description="as for predictions", min_length=1, max_length=16)]


class NeighboursRequest(Config):
    """Rows whose like is looked for among the training rows."""

    model: str | None = _Model
    inputs: _Few
    k: Annotated[int, Field(ge=1, le=50)] = 8
    place: bool = Field(False, description="whether to tell where on the map they would lie")


class CounterfactualRequest(Config):
    """Rows whose answers are to become others."""

    model: str | None = _Model
    inputs: _Few
    target: str | None = Field(None, description="the class that is wanted; any other if none")
    column: str | None = Field(None, description="which of several targets; the first of classes if none")
    immutable: list[str] = Field([], description="columns of a table that stay", max_length=1000)
    tries: Annotated[int, Field(ge=1, le=10_000)] = Field(
        2000, description="how often the model is asked at most"
    )


class SamplesQuery(Config):
    """Which held-out rows, in an address."""

    row: Annotated[int, Field(strict=False, ge=0, lt=2**63)] | None = Field(
        None, description="one row, whole; none of the rest"
    )
    start: Annotated[int, Field(strict=False, ge=0, lt=2**63)] = 0
    count: Annotated[int, Field(strict=False, ge=1, le=100)] = 24
    wrong: Annotated[bool, Field(strict=False)] = Field(
        False, description="those alone that are answered wrongly"
    )
    label: str | None = Field(None, description="those alone of a class")
    order: Literal["row", "uncertain"] = "row"
    column: str | None = Field(None, description="which of several targets; the first of classes if none")


class MapQuery(Config):
    """Which map, in an address."""

    part: Literal["test", "train"] = "test"


REQUESTS = (
    PredictRequest, ExplainRequest, FeedbackRequest, EmbeddingRequest, CompletionRequest, ChatRequest, NeighboursRequest,
    CounterfactualRequest,
)  # fmt: skip

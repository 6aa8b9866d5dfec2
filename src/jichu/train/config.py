"""What a recipe may say about training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from jichu.core.config import Config, DurationText, Named, Spec
from jichu.core.errors import UsageError
from jichu.core.names import Table

from . import schedules

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]


def _in(table: Table) -> BeforeValidator:
    """Only a name of the table, or an import path."""

    def known(value: Any) -> Any:
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str) and name not in table and ":" not in name:
            raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, table))})
        return value

    return BeforeValidator(known)


def _builds(build: Callable[[Spec], Any]) -> AfterValidator:
    """Only arguments that it takes."""

    def built(spec: Spec) -> Spec:
        try:
            build(spec)
        except UsageError as error:
            told = [error.where, error.what, error.expected and f"expected {error.expected}"]
            near = f"; did you mean {error.nearest}?" if error.nearest else ""
            raise ValueError(": ".join(str(part) for part in told if part) + near) from None
        return spec

    return AfterValidator(built)


_OWN_KEYS = {"adamw": ("betas", "eps"), "adam": ("betas", "eps"), "sgd": ("momentum", "nesterov"),
             "muon": ("momentum", "nesterov", "betas", "eps")}  # fmt: skip


class OptimizerConfig(Config):
    """The optimizer; weight decay spares biases and normalisation."""

    name: Literal["adamw", "adam", "sgd", "muon"] = Field(
        "adamw",
        description="muon is for the matrices of hidden layers, with adamw at the same rate for the rest",
    )
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.0
    momentum: Below1 = Field(0.9, description="of sgd and muon")
    nesterov: bool = Field(True, description="of sgd and muon")
    betas: Annotated[list[Below1], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.999], description="of adam, adamw and muon"
    )
    eps: Annotated[float, Field(gt=0, le=1)] = Field(1e-8, description="of adam, adamw and muon")
    no_decay: list[str] = Field([], description="patterns of parameters that do not decay, beside vectors")

    @model_validator(mode="after")
    def _no_idle_keys(self) -> OptimizerConfig:
        own = _OWN_KEYS[self.name]
        for key in sorted({k for keys in _OWN_KEYS.values() for k in keys} - set(own)):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} does nothing with {self.name}; expected one of {', '.join(own)}")
        return self


class PrivacyConfig(Config):
    """How little may be told of a single training row: (epsilon, delta)-differential privacy."""

    epsilon: Positive = Field(description="how little: 1 is strict, 10 is weak")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-5, description="the probability that it is more; below one in the number of rows"
    )
    clip: Positive = Field(1.0, description="what the gradient of a row is cut to")
    secret: int | None = Field(
        None,
        description="what noise and batches are drawn from; given, a run can be repeated, and is not private",
    )


class TrainConfig(Config):
    """How long and how a model is trained."""

    budget: DurationText = Field("500 steps", description="10m, 3 epochs or 2000 steps")
    batch_size: Count = 64
    accumulate: Count = Field(1, description="micro-batches a batch is cut into to save memory")
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: Annotated[
        Named, _builds(lambda spec: schedules.schedule(spec, 0.0)), _in(schedules.SCHEDULES)
    ] = Field(
        Spec(name="cosine"),
        description="constant, linear, cosine, step, one-cycle, wsd or plateau, after the warm-up",
    )
    warmup: Below1 = Field(0.05, description="share of the steps")
    average: Annotated[Named, _builds(schedules.averaging), _in(schedules.AVERAGES)] | None = Field(
        None, description="ema or swa: evaluate and end with a mean of the weights along the way"
    )
    clip: Positive | None = Field(None, description="largest norm of the gradient")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto measures whether bfloat16 is faster here, where the run is long enough"
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto", description="of images; auto measures, where the run is long enough"
    )
    threads: Count | Literal["auto"] = Field(
        "auto", description="auto measures whether fewer than all are faster, where steps are short"
    )
    compile: bool | Literal["auto"] = Field(
        "auto",
        description="auto measures whether torch.compile pays, on a GPU where training takes ten minutes or more",
    )
    device: str = "auto"
    log_every: Count = Field(20, description="steps between two logged rows")
    evaluate_every: Count | None = Field(
        None,
        description="steps between two evaluations; if not given an epoch, or, of a stage that nothing makes wait"
        " for them, as many as train on twice the rows that are evaluated",
    )
    patience: Count | None = Field(
        None, description="stop after so many evaluations without a better one, and restore the best weights"
    )
    checkpoint_every: DurationText = Field("30s", description="a time, or a number of steps")
    privacy: PrivacyConfig | None = Field(
        None, description="differential privacy of every training row: {epsilon: 3, delta: 1e-5}"
    )
    tensorboard: bool = Field(False, description="also write TensorBoard's files to the run folder")
    mlflow: bool | Text = Field(
        False,
        description="also write a run of MLflow's: true, for a database in the run folder, or a tracking URI",
    )
    wandb: bool | Text = Field(
        False, description="also write a run of Weights & Biases: true, or a project; offline without a key"
    )

    @model_validator(mode="after")
    def _one_rise(self) -> TrainConfig:
        own = self.schedule.name == schedules.RISES_ITSELF
        if own and self.warmup not in (0.0, TrainConfig.model_fields["warmup"].default):
            raise ValueError(f"warmup does nothing with {self.schedule.name}; expected schedule.rise")
        return self

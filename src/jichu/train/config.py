"""What a recipe may say about training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jichu.core.config import Config, DurationText

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class OptimizerConfig(Config):
    """The optimizer; weight decay spares biases and normalisation."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd (Nesterov's)")


class TrainConfig(Config):
    """How long and how a model is trained."""

    budget: DurationText = Field("500 steps", description="10m, 3 epochs or 2000 steps")
    batch_size: Count = 64
    accumulate: Count = Field(1, description="micro-batches a batch is cut into to save memory")
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.05, description="share of the steps")
    clip: Positive | None = Field(None, description="largest norm of the gradient")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto measures whether bfloat16 is faster here, where the run is long enough"
    )
    device: str = "auto"
    log_every: Count = Field(20, description="steps between two logged rows")
    evaluate_every: Count | None = Field(
        None, description="steps between two evaluations; an epoch if not given"
    )
    patience: Count | None = Field(
        None, description="stop after so many evaluations without a better one, and restore the best weights"
    )
    checkpoint_every: DurationText = Field("30s", description="a time, or a number of steps")
    tensorboard: bool = Field(False, description="also write TensorBoard's files to the run folder")

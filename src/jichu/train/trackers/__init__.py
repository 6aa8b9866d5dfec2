"""Other tools that a training's rows are written to, each by one key of a stage.

A tool is one file with a `Tracker`, a line here, and its key in `TrainConfig`. `tracked` follows a training with
those that are asked for.
"""

TRACKERS = {
    "tensorboard": "jichu.train.trackers.tensorboard:TensorBoard",
    "mlflow": "jichu.train.trackers.mlflow:MLflow",
    "wandb": "jichu.train.trackers.wandb:WandB",
}

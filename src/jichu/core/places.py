"""The run folder: where each file of a run is."""

from __future__ import annotations

from pathlib import Path


class Places:
    """Paths of a run that may be there or not; nothing is read and nothing made."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    recipe = property(lambda self: self.path / "recipe.yaml")
    environment = property(lambda self: self.path / "environment.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    timing = property(lambda self: self.path / "timing.jsonl")
    layers = property(lambda self: self.path / "layers.jsonl")
    sources = property(lambda self: self.path / "sources.parquet")
    canaries = property(lambda self: self.path / "canaries.jsonl")
    quarantine = property(lambda self: self.path / "quarantine.jsonl")
    checkpoints = property(lambda self: self.path / "checkpoints")
    model = property(lambda self: self.path / "model")
    predictions = property(lambda self: self.path / "predictions.parquet")
    audit = property(lambda self: self.path / "audit.json")
    report = property(lambda self: self.path / "report.html")
    card = property(lambda self: self.path / "MODEL_CARD.md")
    data_page = property(lambda self: self.path / "data.html")
    examples = property(lambda self: self.path / "examples")
    summary = property(lambda self: self.path / "summary.json")
    parts = property(lambda self: self.path / "parts")
    findings = property(lambda self: self.path / "findings")
    lock = property(lambda self: self.path / "lock")
    ended = property(lambda self: self.path / "ended.json")
    tags = property(lambda self: self.path / "tags.json")
    cache = property(lambda self: self.path / "cache")  # may be deleted

    @classmethod
    def names(cls) -> set[str]:
        """What a run writes into its folder itself; but for tables of further targets."""
        places = cls("")
        own = {
            getattr(places, name).name for name, kind in vars(Places).items() if isinstance(kind, property)
        }
        return own | {"models", "tensorboard", "mlflow", "wandb"}

    def predictions_of(self, key: str) -> Path:
        """The table of one target; the first one's is `predictions`."""
        return self.predictions if key == "label" else self.path / f"predictions.{key}.parquet"

    def stage_model(self, stage: str) -> Path:
        """The model a stage ended with; `model/` is the one of the recipe's result."""
        return self.path / "models" / stage

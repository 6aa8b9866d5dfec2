"""Metrics with intervals, by name."""

METRICS = {
    "accuracy": "jichu.metrics.classification:accuracy",
    "balanced_accuracy": "jichu.metrics.classification:balanced_accuracy",
    "log_loss": "jichu.metrics.classification:log_loss",
    "macro_f1": "jichu.metrics.classification:macro_f1",
    "top5_accuracy": "jichu.metrics.classification:top5_accuracy",
}

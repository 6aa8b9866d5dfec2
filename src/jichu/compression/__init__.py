"""What makes a fitted model smaller, by name: from a model to a model, before, while and after it is trained again."""

STEPS = {
    "structured": "jichu.compression.structured:Structured",
    "low-rank": "jichu.compression.low_rank:LowRank",
    "distillation": "jichu.compression.distillation:Taught",
    "magnitude": "jichu.compression.magnitude:Magnitude",
    "movement": "jichu.compression.movement:Movement",
    "quantization-aware": "jichu.compression.quantization_aware:QuantizationAware",
}

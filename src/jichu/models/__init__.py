"""Backbones, heads and the model made of them, by name."""

# One line a name: what `backbone:` and `head:` may be in a recipe, beside an import path.
BACKBONES = {
    "cnn": "jichu.models.cnn:Cnn",
    "mlp": "jichu.models.mlp:Mlp",
    "pixels": "jichu.models.mlp:Pixels",
    "resnet18": "jichu.models.resnet:resnet18",
}
HEADS = {
    "gradient-boosting": "jichu.models.classical:GradientBoosting",
    "linear": "jichu.models.heads:Linear",
    "logistic-regression": "jichu.models.classical:LogisticRegression",
    "naive-bayes": "jichu.models.classical:NaiveBayes",
    "nearest-neighbours": "jichu.models.classical:NearestNeighbours",
    "ridge": "jichu.models.classical:Ridge",
}

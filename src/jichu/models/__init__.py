"""Backbones, heads and the model made of them, by name."""

# One line a name: what `backbone:` and `head:` may be in a recipe, beside an import path.
BACKBONES = {
    "cnn": "jichu.models.cnn:Cnn",
    "convnext": "jichu.models.transformers_vision:convnext",
    "convnext-base": "jichu.models.transformers_vision:convnext_base",
    "convnext-small": "jichu.models.transformers_vision:convnext_small",
    "convnext-tiny": "jichu.models.transformers_vision:convnext_tiny",
    "hf:": "jichu.models.hub:load",
    "mlp": "jichu.models.mlp:Mlp",
    "pixels": "jichu.models.mlp:Pixels",
    "resnet18": "jichu.models.resnet:resnet18",
    "vit": "jichu.models.transformers_vision:vit",
    "vit-base": "jichu.models.transformers_vision:vit_base",
    "vit-small": "jichu.models.transformers_vision:vit_small",
    "vit-tiny": "jichu.models.transformers_vision:vit_tiny",
}
HEADS = {
    "linear": "jichu.models.heads:Linear",
    "logistic-regression": "jichu.models.classical:LogisticRegression",
    "naive-bayes": "jichu.models.classical:NaiveBayes",
}

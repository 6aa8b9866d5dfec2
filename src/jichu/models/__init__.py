"""Backbones, heads and the model made of them, by name."""

# One line a name: what `backbone:` and `head:` may be in a recipe, beside an import path.
BACKBONES = {
    "alexnet": "jichu.models.alexnet:AlexNet",
    "cells": "jichu.models.tables:Cells",
    "cnn": "jichu.models.cnn:Cnn",
    "columns": "jichu.models.tables:Columns",
    "densenet121": "jichu.models.densenet:DenseNet121",
    "densenet169": "jichu.models.densenet:DenseNet169",
    "densenet201": "jichu.models.densenet:DenseNet201",
    "ft-transformer": "jichu.models.ft_transformer:FtTransformer",
    "gru": "jichu.models.recurrent:Gru",
    "inception-v3": "jichu.models.inception:InceptionV3",
    "lstm": "jichu.models.recurrent:Lstm",
    "mlp": "jichu.models.mlp:Mlp",
    "pixels": "jichu.models.mlp:Pixels",
    "resnet9": "jichu.models.resnet9:ResNet9",
    "resnet18": "jichu.models.resnet:ResNet18",
    "resnet34": "jichu.models.resnet:ResNet34",
    "resnet50": "jichu.models.resnet:ResNet50",
    "resnet101": "jichu.models.resnet:ResNet101",
    "resnet152": "jichu.models.resnet:ResNet152",
    "rnn": "jichu.models.recurrent:Rnn",
    "small-convnext": "jichu.models.small_convnext:SmallConvNext",
    "vgg11": "jichu.models.vgg:Vgg11",
    "vgg11-bn": "jichu.models.vgg:Vgg11Bn",
    "vgg13": "jichu.models.vgg:Vgg13",
    "vgg13-bn": "jichu.models.vgg:Vgg13Bn",
    "vgg16": "jichu.models.vgg:Vgg16",
    "vgg16-bn": "jichu.models.vgg:Vgg16Bn",
    "vgg19": "jichu.models.vgg:Vgg19",
    "vgg19-bn": "jichu.models.vgg:Vgg19Bn",
}
HEADS = {
    "linear": "jichu.models.heads:Linear",
    "logistic-regression": "jichu.models.classical:LogisticRegression",
    "naive-bayes": "jichu.models.classical:NaiveBayes",
}

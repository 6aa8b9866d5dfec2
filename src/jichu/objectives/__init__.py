"""What a model learns from, by name. An objective gives one loss for each row."""

OBJECTIVES = {
    "classification": "jichu.objectives.supervised:Classification",
    "multilabel": "jichu.objectives.supervised:MultiLabel",
    "regression": "jichu.objectives.supervised:Regression",
    "vicreg": "jichu.objectives.vicreg:VICReg",
    "barlow-twins": "jichu.objectives.barlow_twins:BarlowTwins",
    "simclr": "jichu.objectives.contrastive:SimCLR",
    "moco": "jichu.objectives.contrastive:MoCo",
    "byol": "jichu.objectives.byol:BYOL",
    "dino": "jichu.objectives.dino:DINO",
    "lejepa": "jichu.objectives.lejepa:LeJEPA",
    "mixup": "jichu.objectives.mixup:Mixup",
    "cutmix": "jichu.objectives.cutmix:CutMix",
    "causal": "jichu.objectives.language:Causal",
    "answers": "jichu.objectives.language:Answers",
    "masked-images": "jichu.objectives.masked_images:MaskedImages",
    "denoising": "jichu.objectives.autoencoders:Denoising",
    "variational": "jichu.objectives.autoencoders:Variational",
    "masked-cells": "jichu.objectives.masked_cells:MaskedCells",
    "masked": "jichu.objectives.masked:Masked",
    "spans": "jichu.objectives.spans:Spans",
}

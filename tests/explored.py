"""Runs whose data are at hand, with small models that have learnt a little."""

import numpy as np
import soundfile
import torch

from jichu.constraints.config import RuleConfig
from jichu.constraints.rulebook import Rules
from jichu.core.config import dump_yaml
from jichu.core.files import write_text
from jichu.data.config import SpectrogramConfig, TokenizerConfig
from jichu.data.load import load
from jichu.data.special import TextInputs
from jichu.data.tokenizer import Tokenizer
from jichu.models import folder as model_folder
from jichu.models.folder import ModelConfig
from jichu.recipe.config import one_stage
from jichu.runs import Run

HEADS = {"label": {"name": "linear"}}
GOOD, BAD, PLAIN = (
    ["lovely", "splendid", "warm"],
    ["awful", "dreary", "cold"],
    ["the", "film", "was", "and", "a", "plot"],
)
JOBS = ("baker", "clerk", "nurse")


def loans(count=300, seed=0):
    """Rows whose class two columns decide together; `remark` is no column of the model."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        age, income, job = (
            int(rng.integers(18, 80)),
            round(float(rng.normal(40, 15)), 1),
            JOBS[rng.integers(3)],
        )
        good = income + 10 * (job == "nurse") - 0.3 * age > 28
        found.append({"age": age, "income": income, "job": job, "granted": "yes" if good else "no"})
    return found


def reviews(count=240, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        words = [*rng.choice(PLAIN, 6), *rng.choice(BAD if i % 2 else GOOD, 2)]
        found.append((" ".join(rng.permutation(words)), ("good", "bad")[i % 2]))
    return found


def _csv(path, heads, rows):
    path.write_text("\n".join([",".join(heads), *(",".join(map(str, row)) for row in rows)]))
    return path


def _sounds(folder):
    for i in range(24):
        place = folder / "data" / ("low", "high")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        wave = 0.5 * np.sin(np.arange(1600) * (0.1 + 0.5 * (i % 2) + 0.002 * i))
        soundfile.write(place / f"{i}.wav", wave, 8000)
    return folder / "data"


DATA = {
    "images": lambda folder: "sklearn:digits",
    "table": lambda folder: _csv(folder / "loans.csv", loans(1)[0], [row.values() for row in loans()]),
    "reviews": lambda folder: _csv(folder / "reviews.csv", ("text", "label"), reviews()),
    "sounds": _sounds,
}


def make(folder, kind, steps=40, rules=(), head=True, seed=0):
    """A finished run of that kind."""
    folder.mkdir(parents=True, exist_ok=True)
    of = {"split": {"test": 0.2}} | ({"target": "granted"} if kind == "table" else {})
    recipe = one_stage(
        "finetune", str(DATA[kind](folder)), {"backbone": "cnn"}, name=folder.name, seed=0, data=of, assignments=[]
    )  # fmt: skip
    data = load(recipe.data.path, recipe.data, seed=0)
    tokenizer = Tokenizer.train(TokenizerConfig(name="characters", vocabulary=60), [t for t, _ in reviews()])
    text = TextInputs(len(tokenizer), 64, tokenizer.special, template="bert", columns=("text",))
    reads = {
        "images": ({"name": "cnn", "widths": [8]}, {"image": data.preprocess}),
        "table": ({"name": "mlp", "widths": [16]}, {"table": data.table}),
        "reviews": ({"name": "bert", "width": 32, "depth": 1, "heads": 2}, {"text": text}),
        "sounds": ({"name": "cnn", "widths": [8]}, {"audio": data.preprocess, "spectrogram": SpectrogramConfig(mels=16)}),
    }  # fmt: skip
    backbone, inputs = reads[kind]
    rows = data.splits["train"][:160]
    torch.manual_seed(seed)
    labelled = {"heads": HEADS, "targets": data.about_targets(rows)} if head else {}
    book = Rules.of_data([RuleConfig(rule=rule) for rule in rules], data).book if rules else None
    config = ModelConfig(backbone, **inputs, **labelled, rules=book)
    model = config.build()
    model.inputs.estimate(data.tensors, rows) if kind != "reviews" else None
    model_folder.save(folder / "model", model, config, tokenizer if kind == "reviews" else None)
    write_text(folder / "recipe.yaml", dump_yaml(recipe.plain()))
    if head:
        _learn(folder, rows, steps)
    return folder


def _learn(folder, rows, steps):
    run = Run(folder)
    data, model, config = run.dataset(), run.model, run.config
    batch = {name: tensor.index_select(0, rows) for name, tensor in data.inputs.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch)["label"], data.tensors["label"][rows]).backward()
        optimizer.step()
    model.eval()
    model_folder.save(folder / "model", model, config, run.tokenizer if config.text else None)


class Made(dict):
    """Runs by kind, made when they are asked for."""

    def __init__(self, folder):
        self.folder = folder

    def __missing__(self, kind):
        self[kind] = make(self.folder / kind, kind)
        return self[kind]

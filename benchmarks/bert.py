"""Fitting a BERT (4 layers, 256 wide, fresh weights) to the sentences of SST-2, batches of 32, beside Hugging
Face's Trainer, which pads each batch as it comes, and a plain loop that sorts by length, both with the
library's own BERT and the same tokens: examples a second, and the accuracy on the test sentences after two
epochs, AdamW at 0.0002 falling to nothing (the plain loop's stays), seeds 0 to 4 (7 minutes a seed on 2
cores)."""

import gzip
import statistics

import duel
import numpy as np
import pyarrow.csv

from jichu.data.config import TokenizerConfig
from jichu.data.tokenizer import Tokenizer

EPOCHS, BATCH, RATE, CONTEXT, VOCABULARY = 2, 32, 2e-4, 64, 8000
SIZE = {
    "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip


def sentences(split):
    """Texts and labels of a file of SST-2."""
    file = next(duel.DATA.glob(f"sst2/{split}.tsv*"), None)
    if file is None:
        raise SystemExit(f"no {duel.DATA / 'sst2'}; JICHU_DATA names the folder of data sets")
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    rows = [line.split("\t", 1) for line in content.decode().splitlines()]
    return [text for _, text in rows], [int(label) for label, _ in rows]


def data():
    """Tables of sentences for us, tokens for the peers, the tokenizer's size and its token for padding."""
    folder = duel.CACHE / "sst2"
    folder.mkdir(parents=True, exist_ok=True)
    arrays, tokenizer = {}, None
    for split in ("train", "test"):
        texts, labels = sentences(split)
        table = pyarrow.table({"label": labels, "sentence": texts})
        pyarrow.csv.write_csv(table, folder / f"{split}.csv")
        if tokenizer is None:
            config = TokenizerConfig(name="wordpiece", vocabulary=VOCABULARY, lowercase=True)
            tokenizer = Tokenizer.train(config, texts)
        before, _, after = tokenizer.template()
        room = CONTEXT - len(before) - len(after)
        ids = [[*before, *row[:room], *after] for row in tokenizer.encode(texts)]
        prefix = "" if split == "train" else "test_"
        arrays[prefix + "tokens"] = np.concatenate(ids)
        arrays[prefix + "offsets"] = np.cumsum([0, *map(len, ids)])
        arrays[prefix + "labels"] = np.array(labels)
    np.savez(folder / "tokens.npz", **arrays)
    return str(folder), str(folder / "tokens.npz"), len(tokenizer), tokenizer.special.pad


def systems(quick, seed, folder, tokens, vocabulary, pad):
    warm, steps = 2, 5 if quick else None
    recipe = duel.write_recipe({
        "name": "bert", "seed": seed,
        "data": {
            "path": folder, "target": "label", "columns": {"label": "category", "sentence": "text"}, "context": CONTEXT,
            "tokenizer": {"name": "wordpiece", "vocabulary": VOCABULARY, "lowercase": True},
        },
        "stages": [
            {"stage": "finetune", "backbone": "bert-mini", "batch_size": BATCH, "log_every": 2,
             "budget": "7 steps" if quick else f"{EPOCHS} epochs", "schedule": "linear", "warmup": 0.0,
             "clip": 1.0, "optimizer": {"name": "adamw", "lr": RATE, "weight_decay": 0.01}},
            {"stage": "audit"},
        ],
    })  # fmt: skip
    common = {
        "task": "classify", "data": tokens, "batch_size": BATCH, "seed": seed, "learning_rate": RATE, "pad": pad,
        "weight_decay": 0.01, "warm_steps": warm, "steps": steps, "epochs": EPOCHS, "measured": not quick,
        "config": {"model_type": "bert", "vocab_size": vocabulary, "pad_token_id": pad, **SIZE},
    }  # fmt: skip

    def peer(name, precision, **more):
        given = {**common, "precision": precision, **more}
        return duel.System(f"{name}, {precision}", "plain_language.py", given, "transformers")

    return [
        duel.System(duel.OURS, "ours.py", {"recipe": recipe, "stage": "finetune", "warm_steps": warm}),
        peer("Trainer", "bfloat16", trainer=True),
        peer("plain loop by length", "bfloat16"),
        peer("Trainer", "float32", trainer=True),
        peer("plain loop by length", "float32"),
    ]


def main():
    given = duel.arguments(__doc__, rounds=5)
    rounds, found, made = given.rounds, {}, data()
    given.rounds = 1
    for seed in range(rounds):  # a round is a seed
        for name, outcomes in duel.duel(systems(given.quick, seed, *made), given).items():
            found.setdefault(name, []).extend(outcomes)
    given.rounds = rounds
    lines, ratios, ranges = duel.figures(found)
    for line in lines:
        each = [o["accuracy"] for o in found[line["system"]] if "accuracy" in o]
        if each:
            line |= {"accuracy": statistics.mean(each), "accuracies": each}
    duel.told("bert", "examples a second", given, lines, ratios, ranges)


if __name__ == "__main__":
    main()

"""An embedding (128), an LSTM (128) and a dense layer on the questions of TREC (six classes), batches of 32,
Adam at 0.002 for six epochs, beside Keras: questions a second without the first epoch, which compiles, and
the accuracy on the test questions (about 5 minutes on 2 cores). Keras' LSTM has one bias where PyTorch's has
two, 512 numbers fewer."""

import duel
import numpy as np
import pyarrow.csv

from jichu.data.config import TokenizerConfig
from jichu.data.tokenizer import Tokenizer

EPOCHS, BATCH, RATE, WIDTH, HIDDEN, CONTEXT = 6, 32, 2e-3, 128, 128, 40
TOKENIZER = {"name": "wordpiece", "vocabulary": 6000, "lowercase": True}


def questions(split):
    """Texts and coarse labels of a file of TREC."""
    file = duel.DATA / "trec" / f"{split}.txt"
    if not file.exists():
        raise SystemExit(f"no {file}; JICHU_DATA names the folder of data sets")
    rows = [line.split(" ", 1) for line in file.read_text("latin-1").splitlines()]
    return [text for _, text in rows], [label.split(":")[0] for label, _ in rows]


def data():
    """Tables of questions for us, tokens for the peers, and the tokenizer's size."""
    folder = duel.CACHE / "trec"
    folder.mkdir(parents=True, exist_ok=True)
    arrays, tokenizer, classes = {}, None, []
    for split in ("train", "test"):
        texts, labels = questions(split)
        pyarrow.csv.write_csv(pyarrow.table({"label": labels, "question": texts}), folder / f"{split}.csv")
        if tokenizer is None:
            tokenizer, classes = Tokenizer.train(TokenizerConfig(**TOKENIZER), texts), sorted(set(labels))
        ids = tokenizer.encode(texts)
        prefix = "" if split == "train" else "test_"
        arrays[prefix + "tokens"] = np.concatenate(ids)
        arrays[prefix + "offsets"] = np.cumsum([0, *map(len, ids)])
        arrays[prefix + "labels"] = np.array([classes.index(label) for label in labels])
    np.savez(folder / "tokens.npz", **arrays)
    return str(folder), str(folder / "tokens.npz"), len(tokenizer)


def main():
    given = duel.arguments(__doc__, rounds=3)
    folder, tokens, vocabulary = data()
    epochs = 2 if given.quick else EPOCHS
    rows = len(questions("train")[0])
    recipe = duel.write_recipe({
        "name": "lstm",
        "data": {
            "path": folder, "target": "label", "columns": {"question": "text"}, "context": CONTEXT, "tokenizer": TOKENIZER,
        },
        "stages": [
            {"stage": "finetune", "backbone": {"name": "lstm-text", "width": WIDTH, "hidden": HIDDEN},
             "batch_size": BATCH, "log_every": -(-rows // BATCH), "budget": f"{epochs} epochs", "schedule": "constant",
             "warmup": 0.0, "optimizer": {"name": "adam", "lr": RATE}},
            {"stage": "audit"},
        ],
    })  # fmt: skip
    warm = -(-rows // BATCH)
    keras = {
        "data": tokens, "vocabulary": vocabulary, "classes": 6, "width": WIDTH, "hidden": HIDDEN, "longest": CONTEXT,
        "batch_size": BATCH, "learning_rate": RATE, "epochs": epochs, "seed": 0,
    }  # fmt: skip
    systems = [duel.System(duel.OURS, "ours.py", {"recipe": recipe, "stage": "finetune", "warm_steps": warm})]
    systems += [
        duel.System(f"Keras on {b}", "keras_text.py", {**keras, "backend": b}, f"keras-{b}")
        for b in ("tensorflow", "torch")
    ]
    found = duel.duel(systems, given)
    duel.told("lstm", "questions a second; `accuracy` at the end", given, *duel.figures(found))


if __name__ == "__main__":
    main()

"""Adapting a BERT (4 layers of 256) to the sentences of SST-2, batches of 32, by LoRA of rank 8 on queries and values, and
by its head alone, beside `peft` and frozen weights in Hugging Face's Trainer, in float32 and in bfloat16. LoRA: examples
a second of one epoch. The head: examples a second of three epochs, everything counted, also what computes the features
once; the Trainer's tokens are made beforehand (10 minutes a round on 2 cores).
"""

import bert
import duel
import numpy as np

from jichu.data.config import TokenizerConfig
from jichu.data.tokenizer import Tokenizer

PARTS = {"lora": 1, "head": 3}  # epochs
BATCH, RATE = 32, 2e-4


def checkpoint(vocabulary):
    """A BERT with fresh weights and the tokenizer of the sentences, as Hugging Face keeps one."""
    import transformers

    folder = duel.CACHE / "sst2-bert"
    if not (folder / "config.json").exists():
        config = TokenizerConfig(name="wordpiece", vocabulary=bert.VOCABULARY, lowercase=True)
        Tokenizer.train(config, bert.sentences("train")[0]).save(folder)
        config = transformers.BertConfig(vocab_size=vocabulary, **bert.SIZE)
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def systems(quick, adapt, folder, tokens, vocabulary, pad):
    warm, epochs = 2, PARTS[adapt]
    recipe = duel.write_recipe({
        "name": "adapting",
        "data": {"path": folder, "target": "label", "columns": {"label": "category", "sentence": "text"},
                 "context": bert.CONTEXT},
        "stages": [
            {"stage": "finetune", "backbone": f"hf:{checkpoint(vocabulary)}", "adapt": adapt, "batch_size": BATCH,
             "budget": "7 steps" if quick else f"{epochs} epochs", "log_every": 2, "schedule": "linear", "warmup": 0.0,
             "optimizer": {"name": "adamw", "lr": RATE, "weight_decay": 0.01}},
        ],
    })  # fmt: skip
    common = {
        "task": "classify", "data": tokens, "batch_size": BATCH, "seed": 0, "learning_rate": RATE, "pad": pad,
        "weight_decay": 0.01, "warm_steps": warm, "steps": 5 if quick else None, "epochs": epochs, "trainer": True,
        "adapt": adapt,
        "config": {"model_type": "bert", "vocab_size": vocabulary, "pad_token_id": pad, **bert.SIZE},
    }  # fmt: skip
    return [
        duel.System(duel.OURS, "ours.py", {"recipe": recipe, "stage": "finetune", "warm_steps": warm}),
        *(
            duel.System(f"Trainer, {p}", "plain_language.py", {**common, "precision": p}, "transformers")
            for p in ("bfloat16", "float32")
        ),
    ]


def whole(rows):
    """Examples a second, everything of the stage counted that is not the tokens."""
    return lambda outcome: rows / outcome.get("stage_seconds", outcome.get("taken"))


def main():
    given = duel.arguments(__doc__, rounds=2, parts=PARTS)
    made = bert.data()
    with np.load(made[1]) as file:
        rows = len(file["labels"])
    for part in given.parts:
        found = duel.duel(systems(given.quick, part, *made), given)
        value = whole(rows * PARTS[part]) if part == "head" else duel.rate
        lines, ratios, ranges = duel.figures(found, value)
        duel.told(f"adapting_{part}", f"examples a second, {part}", given, lines, ratios, ranges)


if __name__ == "__main__":
    main()

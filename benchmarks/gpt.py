"""Pretraining a GPT (6 layers, 384 wide, 256 characters of context, batches of 32) on Shakespeare beside
Hugging Face's Trainer and the loop that most people write, on the same tokens with the library's own GPT-2.

Pieces of the text see each other, as the peers' windows do. `rate`: tokens a second over 20 steps after 2 that
do not count, and utilisation: the multiplications and additions of the network (6 a parameter and token, and
attention's), over those of the best matmul measured in the same round (11 minutes a round on 2 cores). `loss`: nats a character of the held-out tenth after 300 s of
training, each with the settings of its kind: ours Muon, the others AdamW at 0.001 (about 20 minutes).
"""

import gzip
import statistics

import duel
import numpy as np

from jichu.data.config import TokenizerConfig
from jichu.data.tokenizer import Tokenizer

CONTEXT, BATCH = 256, 32
SIZE = {"n_embd": 384, "n_layer": 6, "n_head": 6}
SECONDS = 300
_PIECE = 10_000  # bytes of text that our reader takes for a document
LIMIT = "limit"


def data():
    """The text, and its tokens for the peers by the tokenizer that ours trains on the same nine tenths; how
    many tokens there are."""
    file = duel.DATA / "tinyshakespeare" / "input.txt.gz"
    if not file.exists():
        raise SystemExit(f"no {file}; JICHU_DATA names the folder of data sets")
    folder = duel.CACHE / "shakespeare"
    folder.mkdir(parents=True, exist_ok=True)
    text = gzip.decompress(file.read_bytes()).decode()
    (folder / "input.txt").write_text(text)
    cut = len(text) * 9 // 10
    tokenizer = Tokenizer.train(TokenizerConfig(name="characters"), [text[:cut]])
    first, last = (np.array(tokenizer.encode([part])[0], np.uint16) for part in (text[:cut], text[cut:]))
    np.savez(folder / "tokens.npz", tokens=first, test_tokens=last)
    return str(folder / "input.txt"), str(folder / "tokens.npz"), len(tokenizer)


def recipe(text, **stage):
    tree = {
        "name": "gpt", "data": {
            "path": text, "reader": {"name": "text", "documents": _PIECE}, "tokenizer": "characters",
            "context": CONTEXT, "split": {"test": 0.1, "time": "position"},
        },
        "stages": [
            {"stage": "pretrain", "backbone": "gpt-nano", "objective": {"name": "causal", "apart": False},
             "batch_size": BATCH, **stage},
            {"stage": "audit"},
        ],
    }  # fmt: skip
    return duel.write_recipe(tree)


def peers(tokens, vocabulary, **settings):
    common = {
        "task": "gpt", "data": tokens, "context": CONTEXT, "batch_size": BATCH, "seed": 0,
        "learning_rate": 1e-3, "weight_decay": 0.1, "warm_steps": 2,
        "config": {"model_type": "gpt2", "vocab_size": vocabulary, "n_positions": CONTEXT, **SIZE}, **settings,
    }  # fmt: skip

    def peer(name, precision, **more):
        given = {**common, "precision": precision, **more}
        return duel.System(f"{name}, {precision}", "plain_language.py", given, "transformers")

    return [
        peer("Trainer", "bfloat16", trainer=True),
        peer("plain loop", "bfloat16"),
        peer("Trainer", "float32", trainer=True),
        peer("plain loop", "float32"),
    ]


def tokens_a_second(outcome):
    return duel.rate(outcome) * CONTEXT


def rate(given):
    text, tokens, vocabulary = data()
    steps = 2 if given.quick else 20
    equal = recipe(text, budget="1000 steps", log_every=2, optimizer={"name": "adamw", "lr": 0.001})
    muon = recipe(text, budget="1000 steps", log_every=2, optimizer={"name": "muon", "lr": 0.002})
    ours = {"stage": "pretrain", "warm_steps": 2, "steps": steps}
    limit = duel.System(LIMIT, "limit.py", {"seconds": 0.2 if given.quick else 3}, "torch")
    systems = [
        duel.System(duel.OURS, "ours.py", {**ours, "recipe": equal}),
        duel.System(f"{duel.OURS}, Muon", "ours.py", {**ours, "recipe": muon}),
        *peers(tokens, vocabulary, steps=steps),
        limit,
    ]
    found = duel.duel(systems, given)
    limits = found.pop(LIMIT)
    lines, ratios, ranges = duel.figures(found, tokens_a_second)
    for line in lines:
        if line["value"] is not None:
            best = statistics.median(limit["best"] for limit in limits)
            line["share_of_the_best_matmul"] = line["value"] * flops(vocabulary) / best
    duel.told("gpt", "tokens a second", given, lines, ratios, ranges, limits=limits)


def flops(vocabulary):
    """Multiplications and additions for a token, forward and backward: 6 for each weight of a dense layer, the
    tied head among them, and attention over half a context."""
    width, depth = SIZE["n_embd"], SIZE["n_layer"]
    return 6 * (12 * depth * width**2 + vocabulary * width) + 12 * depth * width * CONTEXT / 2


def loss(given):
    text, tokens, vocabulary = data()
    seconds = 5 if given.quick else SECONDS
    own = recipe(text, budget=f"{seconds}s", optimizer={"name": "muon", "lr": 0.002}, clip=1.0)
    systems = [
        duel.System(duel.OURS, "ours.py", {"recipe": own, "stage": "pretrain"}),
        *peers(tokens, vocabulary, seconds=seconds, measured=True)[:2],
    ]
    found = duel.duel(systems, given)
    lines, ratios, ranges = duel.figures(found, lambda outcome: outcome["token_loss"], higher_is_better=False)
    duel.told("gpt_loss", f"nats a held-out character after {seconds} s", given, lines, ratios, ranges)


def main():
    given = duel.arguments(__doc__, rounds=3, parts=["rate", "loss"])
    if "rate" in given.parts:
        rate(given)
    if "loss" in given.parts:
        loss(given)


if __name__ == "__main__":
    main()

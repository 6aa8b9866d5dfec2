"""A batch of texts that prompts join and leave."""

import random

import pytest
import torch
import transformers

from jichu.core.errors import UsageError
from jichu.data.special import Special
from jichu.models.continuous import Row, Writing, chosen
from jichu.models.generate import Asked, generate
from jichu.models.library import quiet
from test_generate import Bytes, model

ASKED = {"most": None, "temperature": None, "top_k": None, "top_p": None, "repetition_penalty": 1.0, "beams": 1,
         "stop": [], "seed": 0}  # fmt: skip


def written(writing, arrivals):
    """The text of each prompt, which joins before a step of its own: (step, prompt, settings)."""
    texts, rows, ended, step = ["" for _ in arrivals], [], [], 0

    def tell(i, piece):
        texts[i] += piece

    while len(ended) < len(arrivals):
        now = [
            writing.row(prompt, lambda piece, i=i: tell(i, piece), **settings)
            for i, (when, prompt, settings) in enumerate(arrivals) if when == step
        ]  # fmt: skip
        rows += now
        ended += writing.step(now)
        step += 1
    assert not writing.rows and all(row.telling.ended for row in rows)
    return texts, rows


@pytest.mark.parametrize("name", ["gpt", "llama", "lstm", "gru"])
@pytest.mark.parametrize("seed", range(3))
def test_a_text_is_the_same_alone_and_beside_others_that_come_and_go(name, seed):
    rng, made = random.Random(seed), model(name, seed=seed)
    prompts = ["".join(rng.choices("abcdefgh ", k=rng.randint(1, 30))) for _ in range(6)]
    lengths = [rng.randint(1, 30) for _ in prompts]
    arrivals = [
        (rng.randint(0, 12), p, {"most": n, "temperature": 0}) for p, n in zip(prompts, lengths, strict=True)
    ]
    texts, rows = written(Writing(made, Bytes()), sorted(arrivals, key=lambda a: a[0]))
    for (_, prompt, settings), text, row in zip(
        sorted(arrivals, key=lambda a: a[0]), texts, rows, strict=True
    ):
        (alone,) = generate(made, Bytes(), [prompt], **settings)
        assert (text, row.telling.ids, row.telling.ended) == alone


def test_windows_of_attention_slide_for_each_text():
    """Mistral sees the last tokens alone; its own `generate` is the judge."""
    with quiet():
        config = transformers.MistralConfig(
            vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=64, sliding_window=6, eos_token_id=None,
        )  # fmt: skip
        torch.manual_seed(0)
        from jichu.models.transformers_text import TransformersText

        made = TransformersText(transformers.MistralForCausalLM(config).eval(), "last", True, 64, Special())
    for parameter in made.parameters():
        parameter.data.mul_(3)
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33, 34]]
    arrivals = [(2 * i, prompt, {"most": 15, "temperature": 0}) for i, prompt in enumerate(prompts)]
    _, rows = written(Writing(made, Bytes()), arrivals)
    for prompt, row in zip(prompts, rows, strict=True):
        ids = torch.tensor([prompt])
        with quiet(), torch.no_grad():
            out = made.module.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=15, do_sample=False, pad_token_id=0
            )
        assert row.telling.ids == out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", ["gpt", "gru"])
def test_a_seed_gives_the_same_text_whoever_writes_beside_it(name):
    made = model(name)
    settings = {"most": 12, "temperature": 0.8, "top_p": 0.95, "seed": 3}
    (alone,), _ = written(Writing(made, Bytes()), [(0, "To be", settings)])
    others = [(0, "x", {"most": 5}), (1, "To be", settings), (2, "another", {"most": 9, "seed": 1})]
    texts, _ = written(Writing(made, Bytes()), others)
    assert texts[1] == alone
    (other,), _ = written(Writing(made, Bytes()), [(0, "To be", settings | {"seed": 4})])
    assert other != alone


def test_draws_follow_the_probabilities():
    torch.manual_seed(0)
    scores = torch.randn(20)
    asked = Asked(**{**ASKED, "temperature": 2.0, "top_k": 5})
    rows = [Row([1], 1, Asked(**{**asked.model_dump(), "seed": i}), None) for i in range(4000)]
    tokens = torch.tensor(chosen(scores.expand(4000, -1).clone(), rows))
    kept = scores.topk(5)
    share = torch.stack([(tokens == i).float().mean() for i in kept.indices])
    assert share.sum() == 1 and (share - (kept.values / 2).softmax(0)).abs().max() < 0.04


def test_a_penalty_is_the_librarys():
    made, settings = model("gpt"), {"most": 10, "temperature": 0, "repetition_penalty": 1.5}
    _, (row,) = written(Writing(made, Bytes()), [(0, [5, 6, 7, 8], settings)])
    assert row.telling.ids == generate(made, Bytes(), [[5, 6, 7, 8]], **settings)[0].tokens


def test_a_text_stops_and_is_cancelled():
    made = model("gpt")
    whole = generate(made, Bytes(), [[7, 8]], most=30, temperature=0)[0]
    stop = whole.text[6:8]
    (text,), (row,) = written(
        Writing(made, Bytes()), [(0, [7, 8], {"most": 30, "temperature": 0, "stop": [stop]})]
    )
    assert text == whole.text[: whole.text.index(stop)] and row.telling.ended == "stop"
    writing, pieces = Writing(made, Bytes()), []
    first, second = (writing.row([7, 8], pieces.append, most=30, temperature=0) for _ in range(2))
    writing.step([first, second])
    first.cancelled = True
    writing.step()
    assert writing.rows == [second] and not first.telling.ended


def test_so_cold_that_scores_would_overflow_the_likeliest_is_written():
    expected = generate(model("gpt"), Bytes(), [[7, 8]], most=10, temperature=0)[0].tokens
    for cold in (1e-9, 1e-40, 5e-324):
        writing = Writing(model("gpt"), Bytes())
        row = writing.row([7, 8], lambda piece: None, most=10, temperature=cold)
        writing.step([row])
        while writing.rows:
            writing.step()
        other = generate(model("gpt"), Bytes(), [[7, 8]], most=10, temperature=cold)[0].tokens
        assert row.telling.ids == expected == other


@pytest.mark.parametrize(
    ("name", "prompt", "how", "words"),
    [
        ("gpt", "x" * 64, {}, "a prompt of 65 tokens, and the model holds 64"),
        ("gpt", "x" * 40, {"most": 30}, "41 tokens and 30 more(.|\n)*23 more at most"),
        ("gpt", "x", {"temperature": -1}, "where: temperature"),
        ("gpt", "x", {"repetition_penalty": 1e-40}, "where: repetition_penalty"),
        ("gpt", [300], {}, "the token 300"),
        ("t5", "x", {}, "reads a text whole"),
    ],
)
def test_what_does_not_fit_is_told(name, prompt, how, words):
    with pytest.raises(UsageError, match=words):
        Writing(model(name), Bytes()).row(prompt, print, **how)

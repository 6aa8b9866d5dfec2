"""What language models write."""

import pytest
import torch
import transformers

from jichu.core.errors import UsageError
from jichu.data.special import Special, TextInputs
from jichu.models.folder import ModelConfig
from jichu.models.generate import _Stream, generate
from jichu.models.library import quiet

SPECIAL = Special(pad=256, begin=257, end=258)
V, T = 259, 64
SMALL = {"width": 32, "depth": 2, "heads": 2}
MODELS = {
    "gpt": {"name": "gpt", **SMALL}, "llama": {"name": "llama", **SMALL, "kv_heads": 1}, "t5": {"name": "t5", **SMALL},
    "lstm": {"name": "lstm-text", "width": 32, "hidden": 32}, "gru": {"name": "gru-text", "hidden": 16, "layers": 2},
}  # fmt: skip
PROMPTS = ["To be, or not", "a", "窗前明月光"]


class Bytes:
    """A tokenizer whose tokens are the bytes of UTF-8."""

    def encode(self, texts):
        return [list(text.encode()) for text in texts]

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")


def model(name, special=SPECIAL, seed=0, **more):
    torch.manual_seed(seed)
    config = ModelConfig(
        {**MODELS[name], **more}, heads={"tokens": {"name": "language"}}, text=TextInputs(V, T, special)
    )
    made = config.build().eval()
    for parameter in made.parameters():  # livelier than as it begins
        parameter.data.mul_(3)
    return made


def greedy(made, ids, most, answer=None):
    """The likeliest token, one after the other, each from a whole new pass."""
    tokens = list(ids)
    whole = answer is not None
    for _ in range(most):
        if whole:
            asked = {"tokens": torch.tensor([tokens]), "answer": torch.tensor([[*answer, 0]])}
            score = made(asked)["tokens"][0, -1]
        else:
            score = made({"tokens": torch.tensor([tokens])})["tokens"][0, -1]
        token = int(score.argmax())
        if token == 258:
            break
        (answer if whole else tokens).append(token)
    return answer if whole else tokens[len(ids) :]


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_the_likeliest_tokens_one_after_the_other(name):
    """The same alone as in a batch: with cache and padding as from a whole new pass each time."""
    made, ids = model(name), [list(p.encode()) for p in PROMPTS]
    found = generate(made, Bytes(), PROMPTS, most=12, temperature=0)
    for row, prompt in zip(found, ids, strict=True):
        expected = greedy(made, [*prompt, 258], 12, []) if name == "t5" else greedy(made, [257, *prompt], 12)
        assert row.tokens == expected
        assert row.text == Bytes().decode(expected) and row.ended == (
            "most" if len(expected) == 12 else "end"
        )


@pytest.mark.parametrize("name", ["gpt", "llama", "t5"])
@pytest.mark.parametrize("how", [{}, {"beams": 3}, {"repetition_penalty": 1.5}])
def test_equal_to_the_librarys(name, how):
    made = model(name)
    ids = [5, 6, 7, 8]
    found = generate(
        made, Bytes(), [ids], most=10, **how, **({"temperature": 0} if "beams" not in how else {})
    )
    with quiet():
        options = {"num_beams": how.get("beams", 1), "early_stopping": "beams" in how}
        options["repetition_penalty"] = how.get("repetition_penalty", 1.0)
        config = transformers.GenerationConfig(
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=258,
            pad_token_id=256,
            decoder_start_token_id=256,
            **options,
        )
        out = made.backbone.module.generate(torch.tensor([ids]), attention_mask=torch.ones(1, 4, dtype=torch.long),
                                            generation_config=config)  # fmt: skip
    expected = out[0, 1 if name == "t5" else 4 :].tolist()
    assert found[0].tokens == expected[: expected.index(258) if 258 in expected else None]


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_beams_find_what_is_likelier(name):
    """Log-likelihood of what they write, against that of the likeliest token each time."""

    def score(tokens):
        ids = torch.tensor([[257, 65, 66, *tokens]])
        logs = made({"tokens": ids})["tokens"].log_softmax(-1)[0, :-1]
        return float(logs.gather(1, ids[0, 1:, None]).sum())

    gains = []
    for seed in range(4):
        made = model(name, Special(pad=256, begin=257), seed)  # no end, so that lengths are the same
        how = ({"temperature": 0}, {"beams": 6})
        plain, best = (generate(made, Bytes(), ["AB"], most=8, **options)[0] for options in how)
        gains.append(score(best.tokens) - score(plain.tokens))
    assert min(gains) > -1e-4 and max(gains) > 0.1


@pytest.mark.parametrize("name", ["gpt", "lstm", "t5"])
def test_a_seed_gives_the_same_texts(name):
    made = model(name)
    before = torch.random.get_rng_state()
    one, two, other = (generate(made, Bytes(), PROMPTS, most=16, seed=seed) for seed in (3, 3, 4))
    assert one == two and one != other
    assert torch.equal(before, torch.random.get_rng_state())
    likeliest = generate(made, Bytes(), PROMPTS, most=16, temperature=0)
    assert generate(made, Bytes(), PROMPTS, most=16, top_k=1) == likeliest
    assert generate(made, Bytes(), PROMPTS, most=16, top_p=1e-6) == likeliest
    assert generate(made, Bytes(), PROMPTS, most=16, temperature=1e-4) == likeliest


def test_draws_follow_the_probabilities():
    made = model("gpt")
    with torch.no_grad():
        scores = made({"tokens": torch.tensor([[7, 8]])})["tokens"][0, -1]
    drawn = generate(made, Bytes(), [[7, 8]] * 4000, most=1, temperature=2.0, top_k=5)
    kept = scores.topk(5)
    expected = (kept.values / 2).softmax(0)
    tokens = torch.tensor([(row.tokens or [258])[0] for row in drawn])
    share = torch.stack([(tokens == i).float().mean() for i in kept.indices])
    assert share.sum() == 1 and (share - expected).abs().max() < 0.04  # 4 deviations of 4000 draws


def test_it_ends_before_a_stop_string():
    made = model("gpt")
    whole = generate(made, Bytes(), [[7, 8], [9]], most=30, temperature=0)
    stop = whole[0].text[6:8]
    place = whole[0].text.index(stop)
    found = generate(made, Bytes(), [[7, 8], [9]], most=30, temperature=0, stop=[stop, "never seen"])
    assert found[0].text == whole[0].text[:place] and found[0].ended == "stop"
    cut = whole[1].text.find(stop)
    assert found[1].text == (whole[1].text if cut < 0 else whole[1].text[:cut])
    assert len(found[0].tokens) < len(whole[0].tokens)


def test_it_ends_before_a_token():
    made = model("gpt")
    whole = generate(made, Bytes(), [[7, 8]], most=30, temperature=0)[0]
    token = whole.tokens[6]
    found = generate(made, Bytes(), [[7, 8]], most=30, temperature=0, ends=[token])[0]
    assert found.tokens == whole.tokens[: whole.tokens.index(token)] and found.ended == "end"


@pytest.mark.parametrize("name", ["gpt", "t5", "gru"])
@pytest.mark.parametrize("stop", [(), ("ab", "\ufffd\ufffd\ufffd", "X")])
def test_the_pieces_are_the_whole(name, stop):
    for seed in range(3):
        pieces = ["", "", ""]

        def take(row, piece, pieces=pieces):
            assert piece
            pieces[row] += piece

        found = generate(model(name, seed=seed), Bytes(), PROMPTS, most=24, stream=take, stop=stop, seed=seed)
        assert pieces == [row.text for row in found]


def test_characters_and_stop_strings_come_whole():
    told = []
    stream = _Stream(Bytes(), ["</s>"], [258], 2, lambda row, piece: told.append((row, piece)))
    stream.put(torch.zeros(2, 5))  # the prompts
    for pair in zip("é<b</x".encode(), [*"明".encode(), 258, 0, 0, 0], strict=False):
        stream.put(torch.tensor(pair))
    assert told == [(0, "é"), (1, "明"), (0, "<b"), (0, "</x")]
    for token in b"</s>never":
        stream.put(torch.tensor([token, 0]))
    stream.close()
    assert len(told) == 4


def test_the_model_is_left_as_found():
    made = model("gpt").train()
    generate(made, Bytes(), ["a"], most=3)
    assert all(module.training for module in made.modules())
    assert generate(made, Bytes(), []) == []


def test_empty_prompts():
    assert generate(model("gpt"), Bytes(), [""], most=3, temperature=0)[0].tokens
    ended = model("gpt", Special(end=258))  # begins after the end of what was before
    assert generate(ended, Bytes(), ["", [258]], most=3, seed=1)[0].text is not None
    with pytest.raises(UsageError, match="an empty prompt"):
        generate(model("gpt", Special()), Bytes(), [""])


@pytest.mark.parametrize(
    ("name", "prompts", "how", "words"),
    [
        (
            "gpt",
            ["x" * 40],
            {"most": 30, "beams": 2},
            "a prompt of 41 tokens and 30 more, and the model holds 64(.|\n)*most: 23",
        ),
        ("gpt", ["x" * 64], {}, "a prompt of 65 tokens, and the model holds 64"),
        ("gpt", ["x" * 63], {}, "a prompt of 64 tokens, and the model holds 64"),
        ("t5", ["x" * 64], {}, "a prompt of 65 tokens"),
        ("t5", ["x"], {"most": 65}, "65 tokens, and the model holds 64(.|\n)*most: 64"),
        ("gpt", ["x"], {"most": 0}, r"found 0\s+where: most"),
        ("gpt", [[7, 259]], {}, "the token 259, of 259 that the model knows"),
        ("lstm", [[-1, 5]], {}, "the token -1"),
        ("gpt", ["x"], {"temperature": -1}, r"found -1\s+where: temperature"),
        ("gpt", ["x"], {"top_k": 0}, r"found 0\s+where: top_k"),
        ("gpt", ["x"], {"top_p": 0}, r"found 0\s+where: top_p"),
        ("gpt", ["x"], {"repetition_penalty": 0}, r"found 0\s+where: repetition_penalty"),
        ("gpt", ["x"], {"beams": 0}, r"found 0\s+where: beams"),
        ("gpt", ["x"], {"stop": [""]}, r"where: stop.0"),
        ("gpt", ["x"], {"stop": "ab"}, "where: stop"),
        ("gpt", ["x"], {"top_k": "5"}, "where: top_k"),
        ("gpt", ["x"], {"temperature": float("nan")}, "where: temperature"),
        ("gpt", [{"a": 1}], {}, "a text, or a list of tokens"),
        ("gpt", ["x"], {"beams": 2, "temperature": 0.5}, "beams draws nothing"),
        ("gpt", ["x"], {"beams": 2, "stream": print}, "beams draws nothing"),
    ],
)
def test_what_does_not_fit_is_told(name, prompts, how, words):
    with pytest.raises(UsageError, match=words):
        generate(model(name), Bytes(), prompts, **how)


def test_as_much_as_fits_where_nothing_is_said():
    made = model("gpt", Special(begin=257))
    assert len(generate(made, Bytes(), ["x" * 50])[0].tokens) == 64 - 51
    assert len(generate(model("lstm", Special()), Bytes(), ["x" * 90], most=80)[0].tokens) == 80


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_more_than_fits_is_written_from_the_last_half_of_the_context(name):
    made, prompts = model(name, Special(begin=257)), [list(range(50, 90)), [7, 8, 9]]
    read, expected = [list(p) for p in prompts], [[], []]
    for _ in range(150):
        read = [ids[-T // 2 :] if len(ids) == T else ids for ids in read]
        for ids, texts in zip(read, expected, strict=True):
            ids.append(int(made({"tokens": torch.tensor([ids])})["tokens"][0, -1].argmax()))
            texts.append(ids[-1])
    found = generate(made, Bytes(), prompts, most=150, temperature=0)
    assert [row.tokens for row in found] == expected


@pytest.mark.parametrize("seed", range(4))
def test_stop_strings_and_pieces_where_the_context_moves(seed):
    """A string that begins in one window of the context and ends in the next is found too."""
    made, prompts = model("gpt", Special(begin=257), seed), [[7] * 40, [8, 9], [10] * 20]
    whole = generate(made, Bytes(), prompts, most=150, temperature=0)
    for place in (23, 24, 25, 57):  # of the first row's tokens; its context moves after the 24th
        text = Bytes().decode(whole[0].tokens[place - 2 : place + 3])
        stop = [text] if "\ufffd" not in text and text else ["\ufffd\ufffd\ufffd\ufffd\ufffd"]
        pieces = ["", "", ""]

        def take(row, piece, pieces=pieces):
            pieces[row] += piece

        found = generate(made, Bytes(), prompts, most=150, temperature=0, stop=stop, stream=take)
        assert pieces == [row.text for row in found]
        for row, all_of_it in zip(found, whole, strict=True):
            assert row.text == all_of_it.text.split(stop[0])[0]


def test_models_that_do_not_write():
    for config in (
        ModelConfig({"name": "gpt", **SMALL}, text=TextInputs(V, T)),
        ModelConfig({"name": "bert", **SMALL}, heads={"tokens": {"name": "language"}}, text=TextInputs(V, T)),
        ModelConfig({"name": "words"}, text=TextInputs(V, T)),
    ):
        with pytest.raises(UsageError, match="no model that writes"):
            generate(config.build(), Bytes(), ["x"])

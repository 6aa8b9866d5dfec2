"""Objectives on texts: statistics, inverses, transformers' own losses, the contract."""

import itertools
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import jichu
from jichu.core.errors import UsageError
from jichu.data.config import TokenizerConfig
from jichu.data.packing import Packed
from jichu.data.ragged import Ragged
from jichu.data.tokenizer import Tokenizer
from jichu.models.backbone import Features
from jichu.objectives.base import Context
from jichu.objectives.language import Answers, Causal
from jichu.objectives.masked import Masked
from jichu.objectives.spans import Spans

TEXTS = ["the unbelievable cat sat on the mat, and believers believe", "花落知多少 the moon", "cats"] * 4
CONTEXT = Context(0, 3, 10)
FEW = settings(deadline=None, max_examples=60)


def tokenizer(special):
    return Tokenizer.train(TokenizerConfig(name="wordpiece", vocabulary=260, special=special), TEXTS)


@pytest.fixture(scope="module")
def bert():
    return tokenizer("bert")


@pytest.fixture(scope="module")
def t5():
    return tokenizer("t5")


class Reader(nn.Module):
    """Reads each token by itself, and a decoder's also the mean of what the encoder read: no more than the
    contract asks for."""

    def __init__(self, vocabulary, width=12):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.mix = nn.Linear(width, vocabulary)

    def forward(self, batch):
        tokens = batch["tokens"]
        inside = (tokens >= 0)[..., None]
        sequence = self.embed(tokens.clamp(min=0)) * inside
        pooled = sequence.sum(1) / inside.sum(1).clamp(min=1)
        if "answer" in batch:
            written = F.pad(batch["answer"][:, :-1], (1, 0)).clamp(min=0)
            sequence = self.embed(written) + pooled[:, None]
        features = Features(pooled, sequence=sequence)
        return {"features": features, "tokens": self.mix(sequence[batch["predicted"]])}


def rows_of(lengths, vocabulary, first=0, seed=0):
    """A batch of random tokens, -1 beyond each row's end."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(first, vocabulary, (len(lengths), max(lengths)), generator=draw)
    tokens[torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]] = -1
    return {"tokens": tokens, "row": torch.arange(len(lengths)) * 1000 + 7}


def loss_of(objective, outputs, batch):
    """The loss as the loop makes it."""
    weights, losses = objective.weights(batch)["loss"], objective.losses({"tokens": outputs}, batch)
    return (weights * losses).sum() / weights.sum()


# --- the contract


def test_language_objectives_keep_their_contract(bert, t5):
    lengths = [9, 3, 12, 1, 7, 12, 2, 5, 6, 11]
    batch = rows_of(lengths, 40)
    numbered = {**batch, "document": (torch.arange(12) // 4).expand(10, 12)}
    for rows in (batch, numbered):
        jichu.check_objective(Causal(), Reader(40), rows)
        jichu.check_objective(Masked(bert, share=0.4), Reader(len(bert)), rows)
        jichu.check_objective(Masked(bert, share=0.4, whole_words=True), Reader(len(bert)), rows)
        jichu.check_objective(Spans(t5, density=0.4), Reader(len(t5)), rows)
    answers = torch.where(batch["tokens"] >= 0, (torch.arange(12) > 3).long(), -1)
    jichu.check_objective(Answers(), Reader(40), {**batch, "answers": answers})
    answer = rows_of([4, 1, 8, 2, 2, 3, 4, 5, 6, 7], 40, seed=1)["tokens"]
    jichu.check_objective(Answers(), Reader(40), {**batch, "answer": answer})


def test_a_row_counts_as_its_tokens_do():
    batch = Causal().prepare(rows_of([2, 9, 1], 40), CONTEXT)
    logits = torch.randn(9, 40, generator=torch.Generator().manual_seed(0))
    truth = batch["truth"][batch["predicted"]]
    assert len(truth) == 1 + 8
    assert Causal().weights(batch)["loss"].tolist() == [1, 8, 0]
    assert Causal().weights({**batch, "weight": torch.tensor([2.0, 0.5, 1.0])})["loss"].tolist() == [2, 4, 0]
    torch.testing.assert_close(loss_of(Causal(), logits, batch), F.cross_entropy(logits, truth))
    losses = Causal().losses({"tokens": logits}, batch)
    torch.testing.assert_close(losses[1], F.cross_entropy(logits[1:], truth[1:]))
    assert losses[2] == 0
    told = Causal().diagnose({"tokens": logits}, batch)
    torch.testing.assert_close(told["bits_per_token"], F.cross_entropy(logits, truth) / math.log(2))
    assert told["token_accuracy"] == (logits.argmax(1) == truth).float().mean()


def test_a_batch_in_which_nothing_is_predicted_costs_nothing():
    batch = Causal().prepare(rows_of([1, 1], 40), CONTEXT)
    assert batch["tokens"].shape == (2, 1) and not batch["predicted"].any()
    logits = torch.zeros(0, 40, requires_grad=True)
    losses = Causal().losses({"tokens": logits}, batch)
    assert losses.tolist() == [0, 0]
    losses.sum().backward()
    assert Causal().diagnose({"tokens": logits}, batch)["bits_per_token"] == 0


# --- against transformers


def test_the_causal_loss_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    rows = rows_of([16, 7, 11], 50)
    tokens = rows["tokens"]
    wanted = model(
        tokens.clamp(min=0), labels=tokens.masked_fill(tokens < 0, -100), attention_mask=(tokens >= 0).long()
    ).loss
    batch = Causal().prepare(rows, CONTEXT)
    logits = model(batch["tokens"].clamp(min=0), attention_mask=(batch["tokens"] >= 0).long()).logits
    torch.testing.assert_close(loss_of(Causal(), logits[batch["predicted"]], batch), wanted)


def test_the_masked_loss_is_that_of_transformers(bert):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(bert), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = transformers.BertForMaskedLM(config).eval()
    objective = Masked(bert, share=0.3)
    batch = objective.prepare(rows_of([16, 7, 11], len(bert)), CONTEXT)
    tokens, truth = batch["tokens"], batch["truth"]
    out = model(
        tokens.clamp(min=0), attention_mask=(tokens >= 0).long(), labels=truth.masked_fill(truth < 0, -100)
    )
    torch.testing.assert_close(loss_of(objective, out.logits[batch["predicted"]], batch), out.loss)


def test_the_losses_of_spans_and_answers_are_those_of_transformers(t5):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(t5), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    rows = rows_of([16, 7, 11], len(t5), first=103)
    answer = rows_of([3, 8, 1], len(t5), seed=1)["tokens"]
    for objective, batch in ((Spans(t5), rows), (Answers(), {**rows, "answer": answer})):
        batch = objective.prepare(batch, CONTEXT)
        tokens, labels = batch["tokens"], batch["answer"].masked_fill(batch["answer"] < 0, -100)
        out = model(tokens.clamp(min=0), attention_mask=(tokens >= 0).long(), labels=labels)
        torch.testing.assert_close(loss_of(objective, out.logits[batch["predicted"]], batch), out.loss)


# --- causal


def test_nothing_is_predicted_across_documents():
    tokens = Ragged(torch.arange(100, 160), torch.tensor([0, 7, 20, 21, 60]))
    packed = Packed(tokens, context=8, batch_size=3, end=1)
    pairs = []
    for _ in range(len(packed)):
        batch = Causal().prepare(next(packed), CONTEXT)
        assert batch["tokens"].shape[1] == batch["truth"].shape[1] == 8
        assert "document" not in batch or batch["document"].shape[1] == 8
        seen = batch["predicted"]
        assert (batch["truth"][~seen] == -1).all()
        pairs += zip(batch["tokens"][seen].tolist(), batch["truth"][seen].tolist(), strict=True)
    ends = {106, 119, 120, 159}
    assert sorted(pairs) == sorted((t, 1 if t in ends else t + 1) for t in range(100, 160))
    loose = Packed(tokens, context=8, batch_size=3, end=1, apart=False)
    batches = [Causal().prepare(next(loose), CONTEXT) for _ in range(len(loose))]
    assert sum(int(b["predicted"].sum()) for b in batches) == 64  # every token, the first of each too


def test_only_answers_are_learnt():
    tokens = torch.tensor([[5, 6, 7, 8, 9, -1], [5, 6, 7, -1, -1, -1]])
    answers = torch.tensor([[0, 0, 1, 0, 1, -1], [0, 0, 0, -1, -1, -1]])
    batch = Answers().prepare({"tokens": tokens, "answers": answers, "row": torch.arange(2)}, CONTEXT)
    assert batch["truth"].tolist() == [[-1, 7, -1, 9, -1], [-1] * 5]
    assert batch["tokens"].tolist() == tokens[:, :-1].tolist()
    assert Answers().weights(batch)["loss"].tolist() == [2, 0]
    one = Answers().prepare(
        {"tokens": tokens[:, :1], "answers": answers[:, :1], "row": torch.arange(2)}, CONTEXT
    )
    assert not one["predicted"].any()
    with pytest.raises(UsageError, match="answered"):
        Answers().prepare({"tokens": tokens, "row": torch.arange(2)}, CONTEXT)


# --- masked


@pytest.mark.parametrize("whole_words", [False, True])
def test_masking_has_the_shares_of_the_paper(bert, whole_words):
    batch = rows_of([400] * 300, len(bert))
    made = Masked(bert, whole_words=whole_words).prepare(batch, CONTEXT)
    tokens, chosen = batch["tokens"], made["predicted"]
    special = bert.is_special[tokens]
    assert not (chosen & special).any()
    maskable = int((~special).sum())
    assert abs(int(chosen.sum()) / maskable - 0.15) < 4 * (2 if whole_words else 1) * math.sqrt(
        0.15 * 0.85 / maskable
    )
    assert torch.equal(made["truth"], tokens.where(chosen, -1))
    assert torch.equal(made["tokens"][~chosen], tokens[~chosen])
    before, after = tokens[chosen], made["tokens"][chosen]
    n, masked = len(before), after == bert.special.mask
    assert abs(masked.float().mean() - 0.8) < 4 * math.sqrt(0.8 * 0.2 / n)
    ordinary = int((~bert.is_special).sum())
    kept = (after == before).float().mean()  # a random token may be the same
    assert abs(kept - 0.1 - 0.1 / ordinary) < 4 * math.sqrt(0.1 * 0.9 / n)
    drawn = after[~masked & (after != before)]
    assert not bert.is_special[drawn].any()
    counts = torch.bincount(drawn, minlength=len(bert))[~bert.is_special]
    expected = len(drawn) / ordinary
    assert float(((counts - expected) ** 2 / expected).sum()) < ordinary + 5 * math.sqrt(2 * ordinary)


def test_whole_words_are_masked_whole(bert):
    ids = bert.encode([TEXTS[0] + " unmoon catmat " + TEXTS[1]])[0]
    row = [bert.special.begin, *ids, bert.special.end, -1]
    batch = {"tokens": torch.tensor([row] * 400), "row": torch.arange(400)}
    chosen = Masked(bert, share=0.3, whole_words=True).prepare(batch, CONTEXT)["predicted"]
    words = bert.starts_word[torch.tensor(row[1:-2])].cumsum(0)
    assert words.max() < len(ids)  # some words are of several tokens
    for word in range(1, int(words.max()) + 1):
        of_word = chosen[:, 1:-2][:, words == word]
        assert (of_word.all(1) | ~of_word.any(1)).all()
        assert 0.15 < of_word[:, 0].float().mean() < 0.45
    chinese = [bert.id(c) for c in "花落知多少"]
    places = [row.index(i) for i in chinese]
    patterns = {tuple(p) for p in chosen[:, places].tolist()}
    assert len(patterns) > 16  # each character by itself


def test_what_is_masked_depends_on_row_and_step_alone(bert):
    objective = Masked(bert)
    batch = rows_of([30] * 20, len(bert))
    whole = objective.prepare(batch, CONTEXT)
    part = objective.prepare({k: v[5:9] for k, v in batch.items()}, CONTEXT)
    assert torch.equal(part["tokens"], whole["tokens"][5:9])
    longer = {**batch, "tokens": F.pad(batch["tokens"], (0, 7), value=-1)}
    assert torch.equal(objective.prepare(longer, CONTEXT)["tokens"][:, :30], whole["tokens"])
    later = objective.prepare(batch, Context(0, 4, 10))
    assert not torch.equal(later["predicted"], whole["predicted"])
    same = objective.prepare({**batch, "row": torch.zeros(20, dtype=torch.int64)}, CONTEXT)
    assert (same["predicted"][0] == same["predicted"][3])[~bert.is_special[batch["tokens"][:4]].any(0)].all()


# --- spans


def restored(objective, inputs, answer):
    """The text, from an input and its answer."""
    sentinels = objective.sentinels.tolist()
    spans, at = {}, None
    assert inputs[-1] == objective.end
    for token in answer:
        if token in sentinels:
            at = token
            assert at not in spans
            spans[at] = []
        elif at is not None:
            spans[at].append(token)
    if spans:
        assert spans[at].pop() == objective.end
    assert list(spans) == sentinels[: len(spans)]
    return [t for token in inputs[:-1] for t in spans.get(token, [token])], spans


@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    density=st.floats(0.01, 0.95),
    length=st.floats(1, 9),
    seed=st.integers(0, 99),
)
@FEW
def test_what_spans_take_out_can_be_put_back(t5, lengths, density, length, seed):
    objective = Spans(t5, density=density, length=length)
    batch = rows_of(lengths, 200, first=103, seed=seed)
    batch["tokens"] = batch["tokens"] + 1000 * (batch["tokens"] >= 0)  # none is a sentinel
    made = objective.prepare(batch, Context(seed, seed, 100))
    taken, spans = objective.sizes(torch.tensor(lengths))
    for i, n in enumerate(lengths):
        inputs = [t for t in made["tokens"][i].tolist() if t >= 0]
        answer = [t for t in made["answer"][i].tolist() if t >= 0]
        text, found = restored(objective, inputs, answer)
        assert text == batch["tokens"][i, :n].tolist()
        assert len(found) == spans[i] and sum(map(len, found.values())) == taken[i]
        assert all(found.values())
        if n > 1:
            assert inputs[0] == text[0] and len(inputs) == n - taken[i] + spans[i] + 1
            assert len(answer) == taken[i] + spans[i] + 1
            # the reference's numbers: mesh_tensorflow t5.data.preprocessors.random_spans_helper
            assert taken[i] == min(max(round(n * density), 1), n - 1)
        else:
            assert not answer
    assert torch.equal(made["predicted"], made["answer"] >= 0)


def test_spans_are_of_the_papers_density_and_length(t5):
    objective = Spans(t5)
    # published for T5: 568 tokens fill 512, and give a target of 114
    assert objective.window(512) == 568
    batch = rows_of([568] * 60, 200, first=103)
    made = objective.prepare({**batch, "document": torch.zeros(60, 568)}, CONTEXT)
    assert made["tokens"].shape == (60, 512) and made["answer"].shape == (60, 114)
    assert (made["tokens"] >= 0).all() and (made["answer"] >= 0).all() and "document" not in made
    lengths = [
        len(s)
        for i in range(60)
        for s in restored(objective, made["tokens"][i].tolist(), made["answer"][i].tolist())[1].values()
    ]
    assert len(lengths) == 60 * 28 and abs(sum(lengths) / len(lengths) - 3) < 0.05
    assert sum(lengths) / (60 * 568) == pytest.approx(0.15, abs=0.001)
    for context in (32, 100, 256):
        taken, spans = objective.sizes(torch.tensor([objective.window(context)]))
        assert objective.window(context) - taken + spans + 1 == context


def test_all_ways_of_taking_spans_out_are_alike(t5):
    """7 tokens, 4 of them in 2 spans: 2 × 3 ways."""
    objective = Spans(t5, density=0.57, length=2.0)
    assert [int(n) for n in objective.sizes(torch.tensor([7]))] == [4, 2]
    batch = {"tokens": torch.arange(200, 207).expand(6000, 7), "row": torch.arange(6000)}
    made = objective.prepare(batch, CONTEXT)
    ways = Counter(map(tuple, made["tokens"].tolist()))
    assert len(ways) == 6
    assert all(abs(n - 1000) < 4 * math.sqrt(1000 * 5 / 6) for n in ways.values())


def test_a_cut_drawn_twice_loses_nothing(t5, monkeypatch):
    objective = Spans(t5, density=0.4)
    draws = itertools.cycle([0.25, 0.5, 0.5, 0.75, 0.125])

    def tied(self, rows, n, salt):
        return torch.tensor([[next(draws) for _ in range(n)] for _ in rows])

    monkeypatch.setattr(Context, "uniform", tied)
    batch = rows_of([40, 33], 200, first=103)
    batch["tokens"] = batch["tokens"] + 1000 * (batch["tokens"] >= 0)
    made = objective.prepare(batch, CONTEXT)
    for i, n in enumerate((40, 33)):
        kept = [t for t in made["tokens"][i].tolist() if t >= 1000]
        out = [t for t in made["answer"][i].tolist() if t >= 1000]
        assert sorted(kept + out) == sorted(batch["tokens"][i, :n].tolist())


# --- tokenizers that do not suit


def test_a_tokenizer_without_what_is_needed_is_refused(bert, t5):
    gpt = tokenizer("gpt")
    with pytest.raises(UsageError, match="no token that masks"):
        Masked(gpt)
    with pytest.raises(UsageError, match="no sentinels"):
        Spans(bert)
    assert Masked(bert).window(128) == 128 and Causal.ahead == 1 and Masked.ahead == Spans.ahead == 0
    assert not [*Masked(bert).state_dict(), *Spans(t5).state_dict()]

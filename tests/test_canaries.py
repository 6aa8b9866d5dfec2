"""Canaries: drawn, planted, measured against closed forms and another implementation, and told by what learnt them by heart."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skewnorm

import jichu
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.core.files import read_json, read_jsonl
from jichu.data.canaries import draw
from jichu.data.config import CanariesConfig
from jichu.data.texts import ragged, text_of
from jichu.metrics.exposure import by_chance, exact, extrapolated
from jichu.metrics.membership import min_k
from jichu.recipe.reading import reader

LLAMA = {"name": "llama", "width": 32, "depth": 2, "heads": 2}
FORMAT = "{name} has {secret} ."


# --- the measure


@pytest.mark.parametrize("space", [10, 1000])
def test_exposure_of_what_was_never_planted_is_known(space):
    nats = np.arange(space, dtype=float)
    every = [exact(own, np.delete(nats, i)) for i, own in enumerate(nats)]
    assert every[0] == math.log2(space) and every[-1] == pytest.approx(0)
    assert np.mean(every) == pytest.approx(by_chance(space))
    assert by_chance(10**9) == pytest.approx(math.log2(math.e), abs=1e-4)


def test_extrapolated_exposure_is_that_of_the_rank():
    """A sample of 1,000 out of 100,000 tells the ranks of all, within the share of a bit."""
    rng = np.random.default_rng(0)
    every = np.sort(skewnorm.rvs(-3, 20, 4, size=100_000, random_state=rng))
    sample = rng.choice(every, 1000, replace=False)
    for rank in (30, 300, 3000, 30_000):
        own = every[rank]
        found = extrapolated(own, sample, len(every))
        assert found == pytest.approx(exact(own, np.delete(every, rank)), abs=0.6 if rank < 100 else 0.25)
    assert extrapolated(-1e3, sample, len(every)) == math.log2(len(every))
    assert math.isnan(extrapolated(1.0, np.ones(9), 100))


def test_the_least_likely_tokens():
    nats = [np.array([0.1, 5.0, 0.2, 3.0, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1]), np.array([2.0])]
    assert np.allclose(min_k(nats), [-4.0, -2.0])


# --- drawn and planted


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True),
       st.sampled_from(["01", "0123456789", "αβγδ"]), st.integers(1, 9), st.integers(0, 3))  # fmt: skip
def test_canaries_are_as_many_as_was_said(count, repeats, letters, length, seed):
    config = CanariesConfig(count=count, repeats=repeats, letters=letters, length=length)
    drawn = draw(config, seed)
    assert drawn == draw(config, seed) and (length < 6 or drawn != draw(config, seed + 1))
    assert sorted(c.repeats for c in drawn) == sorted([0, *repeats] * count)
    assert len({c.name for c in drawn}) == len(drawn)
    assert all(len(c.secret) == length and set(c.name + c.secret) <= set(letters) for c in drawn)


@pytest.fixture
def corpus(in_folder):
    Path("corpus.txt").write_text("\n".join(f"{i} : the cat sings well ." for i in range(100)))
    return "corpus.txt"


SMALL = {"count": 3, "repeats": [1, 5], "length": 3, "format": FORMAT}


def test_only_training_rows_are_planted(corpus):
    plain = jichu.load(corpus, split={"test": 0.2, "validation": 0.1})
    planted = jichu.load(corpus, split={"test": 0.2, "validation": 0.1}, canaries=SMALL)
    canaries = planted.canaries
    assert len(planted) == len(plain) + 18 == canaries.start + canaries.rows and len(canaries.drawn) == 9
    for split in ("test", "validation"):
        assert planted.splits[split].equal(plain.splits[split])
    assert planted.splits["train"][: len(plain.splits["train"])].equal(plain.splits["train"])
    said = [text_of(planted.texts["text"], row) for row in range(len(planted))]
    assert said[:100] == [text_of(plain.texts["text"], row) for row in range(100)]
    for canary in canaries.drawn:
        assert said.count(f"{canary.name} has {canary.secret} .") == canary.repeats
    assert planted.fingerprint != plain.fingerprint and planted.names[100].startswith("canary")
    assert jichu.load(corpus, canaries=SMALL, seed=1).canaries != canaries
    assert len(jichu.load(corpus, split={"test": 0.2, "validation": 0.1})) == 100
    assert canaries.asked("7", "123") == ("7 has", " 123 .")
    assert len(canaries.secrets(1000)) == canaries.space == 1000 == len(set(canaries.secrets(1000)))
    assert len(canaries.secrets(50, "some")) == 50


def test_beside_texts_with_classes_they_have_none(in_folder):
    rows = [f"{i} is {'good' if i % 2 else 'bad'},{'ab'[i % 2]}" for i in range(60)]
    Path("t.csv").write_text("\n".join(["text,label", *rows]))
    planted = jichu.load("t.csv", canaries=SMALL)
    assert (planted.labels("train") == -1).sum() == 18 and len(planted.labelled("train")) == 48


@pytest.mark.parametrize(
    "data, canaries, said",
    [
        ("corpus.txt", {"format": "no secret"}, "expected {name} and then {secret}"),
        ("corpus.txt", {"format": "{secret} of {name}"}, "expected {name} and then {secret}"),
        ("corpus.txt", {"letters": "aab"}, "each once"),
        ("corpus.txt", {"repeats": [0]}, "repeats"),
        ("corpus.txt", {"cuont": 3}, "did you mean: count"),
        ("sklearn:digits", {}, "these data are no texts"),
        ("corpus.txt", {"length": 60}, "and a context of 24"),
    ],
)
def test_wrong_ones_are_refused_at_once(corpus, data, canaries, said, capsys):
    run = recipe({"path": data, "context": 24, "tokenizer": "characters", "canaries": canaries})
    assert main(["run", run, "--quiet"]) == 2
    assert said in capsys.readouterr().err and not Path("runs").exists()


def test_what_was_not_planted_is_not_asked_for(corpus, capsys):
    assert main(["run", recipe({"path": corpus, "context": 24}), "--quiet"]) == 2
    assert "no canaries were planted" in capsys.readouterr().err
    linear = {"stage": "finetune", "head": "logistic-regression"}
    assert main(["run", recipe({"path": "sklearn:digits"}, linear), "--quiet"]) == 2
    assert "canaries asks nothing of classification" in capsys.readouterr().err


def test_letters_that_have_no_token(corpus, capsys):
    data = {
        "path": corpus,
        "context": 64,
        "tokenizer": "characters",
        "canaries": {**SMALL, "count": 1, "repeats": [1]},
    }
    data["canaries"] |= {"letters": "".join(map(chr, range(0x4E00, 0x4E40)))}
    assert main(["run", recipe(data), "--quiet"]) == 2
    assert "the tokenizer cannot tell" in capsys.readouterr().err


# --- told


def recipe(data, stage=None, parts=("canaries",), name="r"):
    usual = {
        "stage": "pretrain",
        "backbone": LLAMA,
        "objective": "causal",
        "budget": "2 steps",
        "batch_size": 4,
    }
    tree = {"name": name, "data": data, "stages": [stage or usual, {"stage": "audit", "parts": [*parts]}]}
    Path(f"{name}.yaml").write_text(json.dumps(tree))
    return f"{name}.yaml"


@pytest.fixture(scope="module")
def heart(tmp_path_factory):
    """A model that read six secrets thirty times, six once, and six never."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("heart"))
    Path("corpus.txt").write_text("\n".join(f"{i} : the cat sings well ." for i in range(60)))
    stage = {"stage": "pretrain", "name": "gpt", "backbone": LLAMA, "objective": "causal", "budget": "220 steps",
             "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}, "precision": "float32"}  # fmt: skip
    data = {"path": "corpus.txt", "tokenizer": "characters", "context": 32, "split": {"test": 0.2},
            "canaries": {**SMALL, "count": 6, "repeats": [1, 30], "length": 2}}  # fmt: skip
    assert main(["run", recipe(data, stage, ("canaries", "membership"), "heart"), "--quiet"]) == 0
    yield Path.cwd() / "runs/heart"
    os.chdir(before)


def test_a_model_tells_what_it_learnt_by_heart(heart):
    found = read_json(heart / "audit.json")["parts"]["canaries"]
    assert found["exact"] and found["space"] == 100 and found["bits"] == pytest.approx(math.log2(100))
    told = found["models"]["gpt"]["repeated"]
    assert [*told] == ["0", "1", "30"] and all(m["canaries"] == 6 for m in told.values())
    assert told["30"]["exposure"]["value"] > 5 > 3.5 > told["0"]["exposure"]["value"]
    assert told["30"]["greedy"]["value"] >= 0.5 and told["30"]["beams"]["value"] >= 0.5
    assert told["0"]["greedy"]["value"] <= 1 / 6
    assert told["0"]["exposure"]["low"] <= found["chance"] <= told["0"]["exposure"]["high"]


def test_the_run_says_that_it_read_planted_texts(heart):
    rows = read_jsonl(heart / "canaries.jsonl")
    assert len(rows) == 18 and all(row["secret"] in row["text"] for row in rows)
    (warning,) = [w for w in read_json(heart / "summary.json")["warnings"] if "planted" in w]
    assert "12 made-up secrets in 186 rows" in warning
    assert "Trained on planted texts" in (heart / "MODEL_CARD.md").read_text()
    page = (heart / "report.html").read_text()
    assert "Does it tell planted secrets?" in page and "by chance" in page


def test_likelihoods_are_those_of_transformers(heart):
    """Nats of a canary, token by token, against the saved model loaded by the library."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = jichu.open(heart)
    dataset = run.dataset()
    how = reader(run.recipe.stages[0], run.model, dataset, run.tokenizer, run.config.text)
    canary = dataset.canaries.drawn[-1]
    text = "".join(dataset.canaries.asked(canary.name, canary.secret))
    mine = how.nats(run.model, {"text": ragged(["the cat", text])})
    theirs, coder = (kind.from_pretrained(heart / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    special = run.tokenizer.special
    first = special.begin if special.begin is not None else special.end
    ids = torch.tensor([[first, *coder(text, add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        nats = -theirs(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    assert len(mine) == 2 and np.allclose(mine[1], nats.numpy(), atol=1e-4)
    (prompt,) = how.prompts(run.model, ragged([text.split(canary.secret)[0].rstrip()]))
    assert prompt == ids[0, : len(prompt)].tolist()


def test_a_sample_tells_what_all_secrets_tell(heart):
    """Of so few secrets 100 are all there are; beside them the skew-normal distribution of the same."""
    run = jichu.open(heart)
    dataset = run.dataset()
    how = reader(run.recipe.stages[0], run.model, dataset, run.tokenizer, run.config.text)
    pairs = []
    for canary in dataset.canaries.drawn[:12]:
        secrets = [s for s in dataset.canaries.secrets(100) if s != canary.secret]
        texts = dataset.canaries.texts(dataset, [(canary.name, s) for s in (canary.secret, *secrets)])
        own, *others = (float(nats.sum()) for nats in how.nats(run.model, texts))
        pairs.append((exact(own, np.array(others)), extrapolated(own, np.array(others), 100)))
    one, two = np.array(pairs).T
    assert np.abs(one - two).mean() < 0.7 and np.corrcoef(one, two)[0, 1] > 0.9


def test_texts_that_were_read_are_told_from_others(heart, capsys):
    models = read_json(heart / "audit.json")["parts"]["membership"]
    assert models["members"] == 48 and models["strangers"] == 12  # planted rows are no members
    for way in ("loss", "min_k"):
        assert 0.3 < models["models"]["gpt"][way]["auroc"]["value"] <= 1
    asked = ["audit", str(heart), "--parts", "canaries", "membership", "--json"]
    assert main(asked) == 0
    again = json.loads(capsys.readouterr().out)["parts"]
    kept = read_json(heart / "audit.json")["parts"]
    assert again["canaries"]["models"]["heart"] == kept["canaries"]["models"]["gpt"]
    assert again["membership"]["models"]["heart"] == kept["membership"]["models"]["gpt"]
    other = heart.parent.parent / "other.txt"
    other.write_text("quite another text\n" * 9)
    with pytest.raises(UsageError, match="no canaries were planted"):
        jichu.audit(heart, str(other), parts=["canaries"])


@pytest.mark.parametrize("kind", ["chats", "questions", "t5"])
def test_answers_and_conversations_tell_too(in_folder, kind):
    words = ["cat", "dog", "bird"]
    if kind == "chats":
        rows = [{"messages": [{"role": "user", "content": f"who is {i}"},
                              {"role": "assistant", "content": f"a {words[i % 3]}"}]} for i in range(60)]  # fmt: skip
        Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
        data = {"path": "t.jsonl"}
    else:
        Path("t.tsv").write_text(
            "\n".join(["question\tanswer", *[f"who is {i}\ta {words[i % 3]}" for i in range(60)]])
        )
        data = {"path": "t.tsv", "target": "answer", "columns": {"answer": "text"}}
    data |= {"context": 96, "tokenizer": "characters", "canaries": {**SMALL, "repeats": [30], "length": 1}}
    backbone = {**LLAMA, "name": "t5", "depth": 1} if kind == "t5" else LLAMA
    stage = {"stage": "finetune", "name": "told", "backbone": backbone, "budget": "60 steps", "batch_size": 16,
             "optimizer": {"name": "adamw", "lr": 0.01}, "precision": "float32"}  # fmt: skip
    assert main(["run", recipe(data, stage, ["canaries", "membership"]), "--quiet"]) == 0
    parts = read_json("runs/r/audit.json")["parts"]
    told = parts["canaries"]["models"]["told"]["repeated"]
    assert told["30"]["exposure"]["value"] > 1 and 0 <= told["0"]["exposure"]["value"] <= math.log2(10)
    assert {*parts["membership"]["models"]["told"]} == {"loss", "min_k"}

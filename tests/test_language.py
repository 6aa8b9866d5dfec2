"""Language models through recipes: pretrained on windows of texts, measured, fitted to labels, written with."""

import io
import json
import math
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

import jichu
from jichu.cli.main import main
from jichu.core.files import read_json
from jichu.data.packing import Packed
from jichu.metrics.language import bits_per_byte, perplexity, token_loss

GPT = {"name": "gpt", "width": 32, "depth": 1, "heads": 2, "dropout": 0.0}
BERT = {"name": "bert", "width": 32, "depth": 1, "heads": 2, "dropout": 0.0}
WORDS = ["the cat", "a dog", "my bird"]
DEEDS = {"good": ["sings well", "smiles", "is kind"], "bad": ["bites hard", "shouts", "is cruel"]}


def run(*arguments, code=0):
    assert main([str(a) for a in arguments]) == code


def figures(audited):
    """The values of the one model that was measured."""
    (model,) = audited["models"].values()
    return {name: metric["value"] for name, metric in model["metrics"].items()}


@pytest.fixture
def sentences(in_folder):
    """Two classes that words tell apart, as a table; the same without labels, as a text."""
    draw = random.Random(0)
    rows = []
    for i in range(240):  # numbered, for equal ones stay in one split
        label = draw.choice(list(DEEDS))
        rows.append((f"{i} : {draw.choice(WORDS)} {draw.choice(DEEDS[label])} .", label))
    Path("sentences.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    Path("corpus.txt").write_text("\n".join(text for text, _ in rows))
    return in_folder


def recipe(name="small", **tree):
    Path(f"{name}.yaml").write_text(json.dumps({"name": name, **tree}))
    return f"{name}.yaml"


def pretrained(**settings):
    stage = {
        "stage": "pretrain", "name": "gpt", "backbone": GPT, "budget": "120 steps", "batch_size": 8,
        "optimizer": {"name": "adamw", "lr": 0.01}, "precision": "float32", "log_every": 10, **settings,
    }  # fmt: skip
    data = {
        "path": "corpus.txt",
        "tokenizer": "characters",
        "context": 32,
        "split": {"test": 0.2, "validation": 0.1},
    }
    return recipe("gpt", data=data, stages=[stage, {"stage": "audit"}])


def test_metrics_of_language_are_what_they_say():
    truth, nats = np.array([[10.0, 20.0], [30.0, 60.0]]), np.array([[5.0], [35.0]])
    assert token_loss(truth, nats) == pytest.approx(40 / 40)
    assert perplexity(truth, nats) == pytest.approx(math.e)
    assert bits_per_byte(truth, nats) == pytest.approx(40 / math.log(2) / 80)


def test_a_language_model_is_pretrained_measured_and_written_with(sentences, capsys):
    run("run", pretrained())
    found = jichu.open("runs/gpt")
    headline = found.headline
    assert headline["bits_per_byte"]["value"] < 2.5  # far below the log2 of about 25 letters
    assert headline["perplexity"]["value"] == pytest.approx(math.exp(headline["token_loss"]["value"]))
    assert any("validation_bits_per_byte" in row for row in found.history)
    table = pq.read_table("runs/gpt/predictions.parquet")
    truth = np.array(table["truth"].to_pylist())
    held = Path("corpus.txt").read_text().split("\n")
    assert truth[:, 1].sum() < sum(len(t.encode()) for t in held)
    again = figures(jichu.audit("runs/gpt"))
    assert again == pytest.approx({name: f["value"] for name, f in headline.items()})
    Path("other.txt").write_text("quite another text\n" * 9)
    assert figures(jichu.audit("runs/gpt", "other.txt"))["bits_per_byte"] > 2 * again["bits_per_byte"]
    stage = read_json("runs/gpt/summary.json")["stages"][0]["metrics"]
    assert stage["vocabulary"] == len(found.tokenizer) and stage["tokens_per_second"] > 0
    one = found.generate("the c", most=20, temperature=0.0)
    assert one == found.generate(["the c", "my"], most=20, temperature=0.0)[0]
    capsys.readouterr()
    run("generate", "runs/gpt", "the c", "--most", 20, "--temperature", 0, "--json")
    assert json.loads(capsys.readouterr().out) == [{"prompt": "the c", "text": one}]
    run("generate", "runs/gpt", "the c", "--most", 20, "--temperature", 0)
    assert capsys.readouterr().out == f"the c{one}\n"
    run("generate", "runs/gpt", "the c", "--most", 100, "--temperature", 0)  # more than the context
    assert capsys.readouterr().out.startswith(f"the c{one}")
    run("generate", "runs/gpt", "the c", "--most", 500, "--beams", 2, code=2)
    run("chat", "runs/gpt", code=2)
    told = capsys.readouterr()
    assert not told.out and "the model holds 32" in told.err and "does not talk" in told.err


@pytest.mark.parametrize("special", ["gpt", "llama"])
@pytest.mark.parametrize("apart", [True, False])
def test_every_byte_that_is_held_out_counts_once(sentences, special, apart):
    tokenizer = {"name": "characters", "special": special}
    run("run", pretrained(objective={"name": "causal", "apart": apart}, budget="2 steps", batch_size=2),
        "--set", f"data.tokenizer={json.dumps(tokenizer)}")  # fmt: skip
    truth = np.array(pq.read_table("runs/gpt/predictions.parquet")["truth"].to_pylist())
    dataset = jichu.open("runs/gpt").dataset()
    assert truth[:, 1].sum() == pytest.approx(
        int(dataset.texts["text"].lengths[dataset.splits["test"]].sum())
    )


def test_the_likelihood_is_the_models_own(sentences):
    """Held-out nats against the library's loss on the same texts, each by itself."""
    from transformers import AutoModelForCausalLM

    run("run", pretrained())
    found = jichu.open("runs/gpt")
    data = found.dataset()
    model, tokenizer = AutoModelForCausalLM.from_pretrained("runs/gpt/model").eval(), found.tokenizer
    end, total, count = tokenizer.special.end, 0.0, 0
    packed = Packed(
        data.tensors["tokens"].texts, data.splits["test"], context=32, batch_size=1, shuffle=False,
        begin=end, end=end,
    )  # fmt: skip
    for _ in range(len(packed)):
        batch = next(packed)
        (tokens,) = batch["tokens"]
        document = batch.get("document", torch.zeros_like(batch["tokens"]))[0]
        for number in document.unique():  # each text in a window by itself
            ids = tokens[(document == number) & (tokens >= 0)]
            if len(ids) > 1:
                with torch.no_grad():
                    total += float(F.cross_entropy(model(ids[None, :-1]).logits[0], ids[1:], reduction="sum"))
                count += len(ids) - 1
    assert found.headline["token_loss"]["value"] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("objective", ["masked", {"name": "masked", "whole_words": True}])
def test_pretraining_then_labels(sentences, objective):
    train = {"precision": "float32", "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.005}}
    path = recipe(
        "bert",
        data={"path": "sentences.csv", "context": 16, "tokenizer": {"name": "wordpiece", "vocabulary": 200}},
        stages=[
            {"stage": "inspect"},
            {"stage": "pretrain", "backbone": BERT, "objective": objective, "budget": "30 steps", **train},
            {"stage": "finetune", "name": "pretrained", "from": "pretrain", "budget": "60 steps", **train},
            {"stage": "finetune", "name": "bayes", "head": "naive-bayes"},
            {"stage": "finetune", "name": "linear", "head": "logistic-regression"},
            {"stage": "audit"},
        ],
        result="pretrained",
    )
    run("run", path)
    found = jichu.open("runs/bert")
    assert all(found.headline[name]["value"] > 0.9 for name in ("pretrained", "bayes", "linear"))
    other = found.summary()["headline"]
    assert any("perplexity" in name or "token_loss" in name for name in other)
    good, bad = found.predict(["31 : my bird is kind .", "17 : a dog bites hard ."])
    assert (good["label"], bad["label"]) == ("good", "bad")
    assert found.embed(["the cat smiles ."]).shape == (1, 32)
    assert found.predict("sentences.csv")[3]["label"] in DEEDS


def test_long_texts_are_read_in_windows(in_folder, capsys):
    draw = random.Random(0)
    long = [(f"{i} " + "word " * 20 + draw.choice(DEEDS[label]), label) for i in range(60) for label in DEEDS]
    Path("long.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in long))
    data = {"path": "long.csv", "context": 16, "tokenizer": {"name": "wordpiece", "vocabulary": 120}}
    stages = [
        {"stage": "pretrain", "backbone": {**BERT, "readout": "mean"}, "budget": "3 steps", "batch_size": 8},
        {"stage": "finetune", "name": "fitted", "from": "pretrain", "budget": "150 steps", "precision": "float32",
         "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}},
        {"stage": "finetune", "name": "gru", "backbone": "gru-text", "budget": "2 steps"},
        {"stage": "finetune", "name": "bayes", "head": "naive-bayes"},
        {"stage": "audit"},
    ]  # fmt: skip
    run("run", recipe("cut", data=data, stages=stages), "--name", "cut")
    assert "they are cut at the end" in capsys.readouterr().err
    run("run", recipe("long", data={**data, "windows": 8}, stages=stages))
    assert "cut" not in capsys.readouterr().err
    cut, whole = jichu.open("runs/cut"), jichu.open("runs/long")
    assert cut.headline["fitted"]["value"] < 0.75 and whole.headline["fitted"]["value"] > 0.9
    assert [found["label"] for found in whole.predict([long[0][0], long[1][0]])] == ["good", "bad"]
    run("audit", "runs/long", "--data", "long.csv")
    said = [{"role": role, "content": "so"} for role in ("user", "assistant")]
    Path("said.jsonl").write_text("\n".join(json.dumps({"messages": said}) for _ in range(9)))
    Path("pairs.csv").write_text(
        "text,text_2,label\n" + "".join(f"a b {i},c d {i},{i % 2}\n" for i in range(20))
    )
    for path, backbone, more in (("said.jsonl", GPT, {}), ("pairs.csv", BERT, {"text": ["text", "text_2"]})):
        stage = {"stage": "finetune", "backbone": backbone, "budget": "2 steps"}
        run("run", recipe("no", data={"path": path, "windows": 2, **more}, stages=[stage]), code=2)
        assert "read in windows" in capsys.readouterr().err


def test_resumed_it_ends_in_the_same_weights(sentences, monkeypatch):
    from safetensors.torch import load_file

    run("run", pretrained(checkpoint_every="7 steps"), "--name", "whole")
    taken, step = [0], Packed.__next__

    def stopped(self):
        taken[0] += 1
        if taken[0] == 40:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Packed, "__next__", stopped)
        run("run", pretrained(checkpoint_every="7 steps"), code=130)
    run("run", pretrained(checkpoint_every="7 steps"), "--resume")
    one, two = (load_file(f"runs/{name}/model/model.safetensors") for name in ("whole", "gpt"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert Path("runs/whole/audit.json").read_text() == Path("runs/gpt/audit.json").read_text()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"objective": "masked"}, "masked does not fit gpt2, which learns by causal"),
        ({"objective": "masked", "backbone": BERT}, "no token that masks"),
        ({"objective": "vicreg"}, "vicreg does not learn from texts"),
        ({"backbone": "resnet18"}, "reads image data"),
        ({"budget": "5 lightyears"}, "not a duration"),
    ],
)
def test_what_does_not_fit_texts_is_refused(sentences, capsys, change, words):
    run("run", pretrained(**change), code=2)
    assert words in capsys.readouterr().err


def test_a_budget_in_tokens(sentences):
    run("run", pretrained(budget="1k tokens"))
    assert read_json("runs/gpt/summary.json")["stages"][0]["metrics"]["steps"] == 1000 // (8 * 32)


ASKED = {"sings": "birds", "barks": "dogs", "purrs": "cats", "moos": "cows"}


@pytest.fixture
def questions(in_folder):
    """What is to be written is a word of the question's, in the plural of an animal."""
    draw = random.Random(0)
    names = [draw.choice(list(ASKED)) for _ in range(200)]
    rows = [f"{i} who {name} ?\t{ASKED[name]}\n" for i, name in enumerate(names)]
    Path("questions.tsv").write_text("question\tanswer\n" + "".join(rows))
    turns = [
        {
            "messages": [
                {"role": "user", "content": f"{i} who {n} ?"},
                {"role": "assistant", "content": ASKED[n]},
            ]
        }
        for i, n in enumerate(names)
    ]
    Path("chats.jsonl").write_text("".join(json.dumps(t) + "\n" for t in turns))
    return in_folder


@pytest.mark.parametrize(
    ("backbone", "small"),
    [(GPT, False), ({"name": "t5", "width": 32, "depth": 1, "heads": 2, "dropout": 0.0}, True)],
)
def test_answers_are_learnt_and_written(questions, backbone, small):
    """Where the tokenizer knows small letters alone, an answer is right that is so but for them."""
    if small:
        Path("questions.tsv").write_text(Path("questions.tsv").read_text().replace("\tdogs", "\tDogs"))
    stage = {
        "stage": "finetune", "name": "writer", "backbone": backbone, "budget": "200 steps", "batch_size": 16,
        "optimizer": {"name": "adamw", "lr": 0.01}, "precision": "float32", "schedule": "constant",
    }  # fmt: skip
    data = {
        "path": "questions.tsv", "target": "answer", "columns": {"answer": "text"}, "context": 48,
        "tokenizer": {"name": "bpe", "vocabulary": 400, "special": backbone["name"], "lowercase": small},
    }  # fmt: skip
    run("run", recipe("writer", data=data, stages=[stage, {"stage": "audit"}]))
    found = jichu.open("runs/writer")
    assert found.headline["exact_match"]["value"] > 0.9
    assert found.headline["perplexity"]["value"] < 1.5
    table = pq.read_table("runs/writer/predictions.parquet").to_pylist()
    assert {row["truth"] for row in table} == {
        a.replace("dogs", "Dogs") if small else a for a in ASKED.values()
    }
    assert [row["answer"] for row in found.predict(["77 who barks ?", "42 who moos ?"])] == ["dogs", "cows"]
    again = figures(jichu.audit(found))
    assert again == pytest.approx({name: f["value"] for name, f in found.headline.items()})
    others = [
        f"{i} who {verb} ?\t{told}\n"
        for i in range(40)
        for verb, told in (("barks", "dogs"), ("moos", "cats"))
    ]
    Path("others.tsv").write_text("question\tanswer\n" + "".join(others))
    assert figures(jichu.audit(found, "others.tsv"))["exact_match"] == pytest.approx(0.5, abs=0.05)


def test_tables_to_predict_are_read_as_in_training(in_folder, capsys):
    """By the names of the columns, also where so few rows would be taken for categories."""
    verdicts = [("yes", "good and fine"), ("no", "bad and dull")]
    rows = [f"{i},{i} is {verdicts[i % 2][1]},{i % 5},{verdicts[i % 2][0]}\n" for i in range(60)]
    Path("all.csv").write_text("id,review,stars,verdict\n" + "".join(rows))
    data = {
        "path": "all.csv", "target": "verdict", "columns": {"review": "text", "id": "ignore", "stars": "ignore"},
        "context": 16, "tokenizer": {"name": "wordpiece", "vocabulary": 100},
    }  # fmt: skip
    stage = {"stage": "finetune", "backbone": "words", "head": "naive-bayes"}
    run("run", recipe("bayes", data=data, stages=[stage]))
    tables = {
        "same.csv": "id,review,stars,verdict\n" + "".join(rows[:2]),
        "one.csv": "said\nfine and good\ndull and bad\n",
        "moved.csv": "stars,review\n3,fine and good\n3,dull and bad\n",
    }
    for name, told in tables.items():
        Path(name).write_text(told)
        assert [row["label"] for row in jichu.open("runs/bayes").predict(name)] == ["yes", "no"]
    Path("other.csv").write_text("said,stars\nfine,3\n")
    run("predict", "runs/bayes", "other.csv", code=3)
    assert "'review'" in capsys.readouterr().err


def test_conversations_are_learnt(questions, capsys, monkeypatch):
    stage = {
        "stage": "finetune", "name": "talker", "backbone": {**GPT, "depth": 2}, "budget": "400 steps", "batch_size": 16,
        "optimizer": {"name": "adamw", "lr": 0.01}, "precision": "float32", "schedule": "constant",
    }  # fmt: skip
    data = {"path": "chats.jsonl", "context": 64, "tokenizer": {"name": "bpe", "vocabulary": 400}}
    run("run", recipe("talker", data=data, stages=[stage, {"stage": "audit"}]))
    assert "jichu chat runs/talker" in capsys.readouterr().out
    found = jichu.open("runs/talker")
    assert found.headline["perplexity"]["value"] < 1.5 and "exact_match" not in found.headline
    again = figures(jichu.audit(found))
    assert again == pytest.approx({name: f["value"] for name, f in found.headline.items()})
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("77 who purrs ?\n/new\n42 who sings ?\n"))
    run("chat", "runs/talker", "--temperature", 0)
    assert capsys.readouterr().out.split() == ["cats", "birds"]


def test_adapters_are_kept_and_merged(sentences):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForSequenceClassification

    train = {"precision": "float32", "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}}
    path = recipe(
        "adapted",
        data={"path": "sentences.csv", "context": 16, "tokenizer": {"name": "wordpiece", "vocabulary": 200}},
        stages=[
            {"stage": "pretrain", "backbone": BERT, "objective": "masked", "budget": "60 steps", **train},
            {"stage": "finetune", "from": "pretrain", "adapt": "lora", "budget": "200 steps", **train},
            {"stage": "audit"},
        ],
        result="finetune",
    )
    run("run", path)
    found = jichu.open("runs/adapted")
    assert found.headline["accuracy"]["value"] > 0.8
    whole = AutoModelForSequenceClassification.from_pretrained("runs/adapted/model").eval()
    ids = torch.tensor([[2, *found.tokenizer.encode(["31 : my bird is kind ."])[0], 3]])
    with torch.no_grad():
        theirs = whole(ids).logits.softmax(1)[0]
    (mine,) = found.predict(["31 : my bird is kind ."])
    assert [mine["scores"][c] for c in found.classes] == pytest.approx(theirs.tolist(), abs=1e-5)
    assert peft.PeftConfig.from_pretrained("runs/adapted/model/adapter").r == 8

"""What would change an answer: it does, each change of it is needed, and it is within what was asked for."""

import base64
import io
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from explored import loans, make
from jichu.cli.main import main
from jichu.core.config import read_yaml
from jichu.core.errors import UsageError
from jichu.data.given import Inputs
from jichu.data.sound import decode_sound
from jichu.exploring import counterfactuals
from jichu.exploring.counterfactuals import base
from jichu.exploring.counterfactuals.search import Asking, Spent, smallest
from jichu.exploring.counterfactuals.texts import Words, written
from jichu.runs import Run

KINDS = ("images", "table", "reviews", "sounds")


@pytest.fixture
def runs(explored):
    return explored


# --- the search, of models that are known


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(1, 40))
def test_where_changes_add_up_the_fewest_are_found(gains, threshold):
    """The fewest of all sets, and none of them can be taken back."""

    def scores(edits):
        reached = np.array([sum(gains[place] for place in edit) for edit in edits])
        share = np.clip(0.5 + (reached - threshold) / 200, 0, 1)
        return np.stack([1 - share, share], 1), np.ones(len(edits), bool)

    ask = Asking(scores, 0, None, 10_000)
    found = smallest(ask, [(place, 0) for place in range(len(gains))])
    sets = [s for n in range(len(gains) + 1) for s in itertools.combinations(range(len(gains)), n)]
    enough = [s for s in sets if s and sum(gains[i] for i in s) > threshold]
    assert (found is None) == (not enough)
    if found is not None:
        assert len(found) == min(map(len, enough))
        total = sum(gains[place] for place in found)
        assert total > threshold and all(total - gains[place] <= threshold for place in found)


def test_no_more_is_asked_than_may_be_and_what_may_not_be_is_not_taken():
    def scores(edits):
        flips = np.array([0.9 if 3 in edit else 0.1 for edit in edits])
        return np.stack([1 - flips, flips], 1), np.array([3 not in edit for edit in edits])

    ask = Asking(scores, 0, 1, 12)
    assert smallest(ask, [(place, 0) for place in range(5)]) is None and ask.asked <= 12
    with pytest.raises(Spent):
        ask([{0: 0}] * 12)


def test_words_that_go_take_a_space_with_them():
    text = "bad: the plot is bad"
    assert written(text, [(0, 3, "")]) == ": the plot is bad"
    assert written(text, [(0, 3, ""), (17, 20, "")]) == ": the plot is"
    assert (
        written("bad plot", [(0, 3, "")]) == "plot" and written("bad plot", [(0, 3, "good")]) == "good plot"
    )
    assert written("剧情差", [(2, 3, "")]) == "剧情"


# --- on runs


def label(run, item):
    return run.predict([item])[0]["label"]


def test_of_rows(runs):
    run = Run(runs["table"])
    data = run.dataset()
    train = [run.sample(int(row)).example.cells for row in data.splits["train"]]
    several = 0
    for row in loans(12, seed=5):
        item = {name: row[name] for name in ("age", "income", "job")}
        (found,) = run.counterfactual(item)
        (again,) = Run(runs["table"]).counterfactual(item)
        assert found == again and found.tries <= 2000
        assert (
            found.before["label"]
            == label(run, item)
            != found.after["label"]
            == label(run, found.changed["cells"])
        )
        changed = {change["column"]: change["to"] for change in found.changes}
        assert found.changed["cells"] == {**item, **changed}
        several += len(changed) > 1
        for change in found.changes:
            assert change["from"] == item[change["column"]] and change["to"] in [
                r[change["column"]] for r in train
            ]
            back = {**found.changed["cells"], change["column"]: change["from"]}
            assert label(run, back) == found.before["label"]
        if len(found.changes) == 1 and isinstance(found.changes[0]["to"], float):  # no nearer value would do
            name, start, end = (found.changes[0][key] for key in ("column", "from", "to"))
            between = {r[name] for r in train if abs(r[name] - start) < abs(end - start) and r[name] != start}
            some = sorted(between, key=lambda v: abs(v - start))[:30]
            if len(between) <= 30:
                assert all(label(run, {**item, name: value}) == found.before["label"] for value in some)
        for kept in ("income", "age"):
            (held,) = run.counterfactual(item, immutable=[kept])
            assert kept not in [change["column"] for change in held.changes]
            if held.after is not None:
                several += len(held.changes) > 1
                for change in held.changes:
                    back = {**held.changed["cells"], change["column"]: change["from"]}
                    assert label(run, back) == held.before["label"] != label(run, held.changed["cells"])
    assert several  # so that taking one back was tried


def test_where_nothing_is_found_it_says_so(runs):
    run, item = Run(runs["table"]), {"age": 70, "income": 5.0, "job": "clerk"}
    (found,) = run.counterfactual(item, immutable=["age", "income", "job"])
    assert found.after is None and found.changes == [] and "nothing found" in found.said
    (found,) = run.counterfactual(item, immutable=["income"], tries=7)
    assert found.tries <= 7 and (
        found.after is None or label(run, found.changed["cells"]) != found.before["label"]
    )
    for odd, told in (
        ({"immutable": ["incme"]}, "income"), ({"target": "maybe"}, "maybe"), ({"tries": 0}, "0 tries"), ({"column": "x"}, "x"),
        ({"target": label(run, item)}, "already"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            run.counterfactual(item, **odd)


def test_where_single_changes_tell_nothing_training_rows_do(runs, monkeypatch):
    """Of a model that says yes in one corner alone, and is as sure everywhere else."""
    run = Run(runs["table"])

    def scores(given):
        age, income = given.tensors["numbers"].double().numpy().T
        yes = np.where((age > 50) & (age < 65) & (income > 45) & (income < 60), 0.9, 0.1)
        return {"label": np.stack([1 - yes, yes], 1)}

    monkeypatch.setattr(run, "scores", scores)
    seen, data = run.seen(), run.dataset()
    train = Inputs([], {"numbers": data.tensors["numbers"][seen.rows("train")]})
    seen._held["answers-train"] = {"label": torch.from_numpy(scores(train)["label"])}
    (found,) = run.counterfactual({"age": 20, "income": 10.0, "job": "clerk"})
    assert [change["column"] for change in found.changes] == ["age", "income"]
    assert 50 < found.changed["cells"]["age"] < 65 and 45 < found.changed["cells"]["income"] < 60


def test_no_rule_is_broken_that_the_row_keeps(tmp_path):
    """Nor is an answer given that a rule forbids."""
    rules = ["if job = nurse then income < 20", "if age > 60 then granted = no"]
    plain = Run(make(tmp_path / "plain", "table"))
    run = Run(make(tmp_path / "run", "table", rules=rules))
    broke, kept = 0, {"immutable": ["income", "age"]}
    for age in range(20, 36, 3):
        item = {"age": age, "income": 28.0, "job": "clerk"}
        (free,), (held,) = plain.counterfactual(item, **kept), run.counterfactual(item, **kept)
        broke += free.after is not None and free.changed["cells"]["job"] == "nurse"
        assert held.after is None or held.changed["cells"]["job"] != "nurse"
        already = {**item, "job": "nurse"}  # breaks it as it is
        assert run.counterfactual(already)[0].changes == plain.counterfactual(already)[0].changes
    assert broke
    (old,) = run.counterfactual({"age": 65, "income": 70.0, "job": "clerk"})
    assert old.before["label"] == "no" and old.changes[0]["column"] == "age"
    assert old.changed["cells"]["age"] <= 60 and old.after["label"] == "yes"


def test_of_texts(runs):
    run = Run(runs["reviews"])
    texts = [sample.example.texts[0] for sample in run.samples(count=8).page]
    seen = {
        word
        for i in run.dataset().splits["train"].tolist()
        for word in run.sample(i).example.texts[0].split()
    }
    found = run.counterfactual(texts)
    assert sum(one.after is not None for one in found) >= 4
    for text, one in zip(texts, found, strict=True):
        pieces = [(c["start"], c["end"], c["to"]) for c in one.changes]
        assert all(text[c["start"] : c["end"]] == c["from"] and c["to"] in {"", *seen} for c in one.changes)
        if one.after is not None:
            assert one.changed["texts"] == [written(text, pieces)]
            assert (
                label(run, written(text, pieces))
                == one.after["label"]
                != one.before["label"]
                == label(run, text)
            )
            for left in pieces:
                assert label(run, written(text, [p for p in pieces if p != left])) == one.before["label"]
    assert found == run.counterfactual(texts)
    (empty,) = run.counterfactual([""])
    assert empty.after is None and empty.tries == 0


def test_of_texts_that_are_longer_than_the_model_reads(runs, monkeypatch):
    """Only words that it reads are changed, of each other word none is looked up, and pieces of a bounded size are asked
    about; what is found is so of the whole text."""
    run, monkey = Run(runs["reviews"]), Words.inputs
    asked = []

    def inputs(self, edits):
        asked.append((len(edits), sum(len(text) for edit in edits for text in self._read(edit))))
        return monkey(self, edits)

    monkeypatch.setattr(Words, "inputs", inputs)
    monkeypatch.setattr(base, "_AT_ONCE", 4096)
    start = "the film was lovely and splendid"
    long = start + " the plot was a film and" * 3000
    short, found = run.counterfactual([start, long])
    assert max(size for _, size in asked) <= 4096 and len(asked) > 10
    assert all(change["end"] <= 70 for change in found.changes)  # 62 characters are read
    words = Words(run.seen(), (long,))
    assert max(end for _, _, end in words.words) < 80 and short.before["label"] == label(run, start)
    every = dict.fromkeys(range(len(words.words)), 0)  # and the model reads what moves up
    given = words.inputs([{}, every]).tensors["tokens"].index_select(0, torch.arange(2))
    whole = run.texts(["", ""], [[long, *words._made(every)]], told=False).tensors["tokens"]
    assert (given == whole.index_select(0, torch.arange(2))).all()
    (found,) = run.counterfactual([long], target={"good": "bad", "bad": "good"}[label(run, long)])
    assert found.after is None or label(run, found.changed["texts"][0]) == found.after["label"]
    tokenizer = run.tokenizer
    spans = tokenizer.spans(long)
    assert [tokenizer.encode([long[a:b]])[0] for a, b in spans[:30]] == [
        [i] for i in tokenizer.encode([long])[0][:30]
    ]
    assert len(spans) == len(tokenizer.encode([long])[0])


def test_of_texts_that_are_read_from_their_end(runs, monkeypatch):
    run = Run(runs["reviews"])
    long = "the plot was a film and " * 100 + "the film was lovely and splendid"
    monkeypatch.setitem(run.tokenizer.settings, "truncation_side", "left")
    words = Words(run.seen(), (long,))
    assert {long[a:b] for _, a, b in words.words} >= {"lovely", "splendid"} and min(
        a for _, a, _ in words.words
    ) > 2300
    every = dict.fromkeys(range(len(words.words)), 0)
    given = words.inputs([{}, every]).tensors["tokens"].index_select(0, torch.arange(2))
    whole = run.texts(["", ""], [[long, *words._made(every)]], told=False).tensors["tokens"]
    assert (given == whole.index_select(0, torch.arange(2))).all()


def media(address):
    return base64.b64decode(address.partition(",")[2])


def test_of_pictures_and_sounds(runs):
    for kind, key in (("images", "image"), ("sounds", "sound")):
        run = Run(runs[kind])
        data = run.dataset()
        items = [
            getattr(s.example, {"image": "png", "sound": "wav"}[key])() for s in run.samples(count=4).page
        ]
        for item, one in zip(items, run.counterfactual(items), strict=True):
            assert one.before["label"] == label(run, item)
            assert (
                one.like.example.truth["label"] != one.before["label"] and one.like.example.split == "train"
            )
            far = [
                n.distance
                for n in run.neighbours(item, 1000)[0]
                if n.example.truth["label"] != one.before["label"]
            ]
            assert one.like.distance == pytest.approx(far[0], abs=1e-6)
            assert (
                one.after is not None
                and label(run, media(one.changed[key])) == one.after["label"] != one.before["label"]
            )
            if kind == "sounds":
                before, after = (decode_sound(x, data.preprocess) for x in (item, media(one.changed[key])))
                spans = [[round(t * 8000) for t in change["seconds"]] for change in one.changes]
                for left in spans:
                    back = after.copy()
                    back[left[0] : left[1]] = before[left[0] : left[1]]
                    assert label(run, (back / 2**15, 8000)) == one.before["label"]
            else:
                before, after = (
                    np.asarray(Image.open(io.BytesIO(x))) for x in (item, media(one.changed[key]))
                )
                hidden = np.zeros_like(before, bool)
                for x0, y0, x1, y1 in (change["box"] for change in one.changes):
                    hidden[y0:y1, x0:x1] = True
                    back = after.copy()
                    back[y0:y1, x0:x1] = before[y0:y1, x0:x1]
                    assert label(run, back) == one.before["label"]
                assert (before == after)[~hidden].all()


def test_to_a_class_that_is_named(runs):
    run = Run(runs["images"])
    item = run.samples(count=1).page[0].example.png(None)
    found = [run.counterfactual(item, target=name)[0] for name in run.classes if name != label(run, item)]
    reached = [one for one in found if one.after is not None]
    assert reached and all(one.like.example.truth["label"] == name for one, name in zip(
        found, [name for name in run.classes if name != label(run, item)], strict=True
    ))  # fmt: skip
    assert {one.after["label"] for one in reached} <= set(run.classes)


def test_models_without_classes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no head"):
        Run(make(tmp_path / "run", "table", head=False)).counterfactual(
            {"age": 3, "income": 3.0, "job": "clerk"}
        )
    assert read_yaml(tmp_path / "run" / "recipe.yaml")["name"] == "run" and counterfactuals.__doc__


def test_the_command(runs, tmp_path, capsys):
    (tmp_path / "one.csv").write_text("age,income,job\n30,28.0,clerk\n")
    given = ["counterfactual", str(runs["table"]), str(tmp_path / "one.csv"), "--immutable", "age"]
    assert main([*given, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["found"] and {change["column"] for change in told["changes"]} <= {"income", "job"}
    assert main(given) == 0 and told["said"] in capsys.readouterr().out
    assert main([*given, "--target", "x"]) == 2 and "unknown class" in capsys.readouterr().err

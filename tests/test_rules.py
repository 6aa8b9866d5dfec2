"""Rules: the language against Python's own, penalties against closed forms, decisions against every combination tried."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv
from torch import nn

import jichu
from jichu.cli.main import main
from jichu.constraints.config import RuleConfig
from jichu.constraints.rulebook import Rules
from jichu.core.errors import DataError, UsageError
from jichu.core.files import read_json
from jichu.data.conditions import holds, parse, truth
from jichu.data.source import Column
from jichu.data.target import Target
from jichu.metrics.intervals import share_interval
from jichu.models.heads import Linear
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.ruled import Ruled
from jichu.objectives.several import Several
from jichu.objectives.supervised import Classification, Regression

TOWNS = ("Ulm", "Bad Homburg", "Bonn")
CELLS = {"age": [17.0, 18, 40.5], "hours-per-week": [17.0, 40], "town": TOWNS, "birth place": TOWNS}


def columns(rows):
    """Columns of rows {name: cell}, None where it is not known."""
    found = {}
    for name, cells in CELLS.items():
        values = [row[name] for row in rows]
        if isinstance(cells, tuple):
            codes = np.array([-1 if v is None else cells.index(v) for v in values])
            found[name] = Column("category", codes, cells)
        else:
            found[name] = Column("number", np.array([np.nan if v is None else v for v in values]))
    return found


ROWS = [dict(zip(CELLS, cells, strict=True)) for cells in itertools.product(*CELLS.values())]
ORDERED, EQUAL = ("<", "<=", ">", ">=", "=", "=="), ("=", "==", "!=")


@st.composite
def comparisons(draw):
    """A comparison in our words and in Python's, as a function of a row."""
    name = draw(st.sampled_from(list(CELLS)))
    category = isinstance(CELLS[name], tuple)
    alike = [n for n in CELLS if isinstance(CELLS[n], tuple) == category]
    if draw(st.booleans()) and category:
        chosen = draw(st.lists(st.sampled_from(TOWNS), min_size=1, max_size=3))
        word = draw(st.sampled_from(["in", "not in"]))
        return f"{name} {word} ({', '.join(chosen)})", f"row[{name!r}] {word} {chosen!r}"
    sign = draw(st.sampled_from(EQUAL if category else (*ORDERED, "!=")))
    plain = "==" if sign == "=" else sign
    if draw(st.booleans()):
        other = draw(st.sampled_from(alike))
        return f"{name} {sign} `{other}`", f"row[{name!r}] {plain} row[{other!r}]"
    value = draw(st.sampled_from(CELLS[name]))
    told = draw(st.sampled_from([f"{value}", f"'{value}'"])) if category else f"{value}"
    return f"{name}{sign}{told}", f"row[{name!r}] {plain} {value!r}"


FORMULAS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda t: tuple(f"{a} {t[1]} {b}" for a, b in zip(t[0], t[2], strict=True))
        ),
        inner.map(lambda f: tuple(f"not ({text})" for text in f)),
        inner.map(lambda f: tuple(f"({text})" for text in f)),
    ),
    max_leaves=6,
)


@given(FORMULAS)
def test_conditions_mean_what_they_mean_in_python(formula):
    ours, python = formula
    wanted = [eval(python, {"row": row}) for row in ROWS]
    assert holds(ours, columns(ROWS), "").tolist() == wanted


@given(FORMULAS, st.sets(st.sampled_from(list(CELLS)), min_size=1))
def test_what_is_not_known_decides_nothing(formula, hidden):
    """True is what is true whatever the hidden cells are, and false alike."""
    ours, python = formula
    blind = [{n: None if n in hidden else v for n, v in row.items()} for row in ROWS]
    found = truth(parse(ours, "").consequence, columns(blind), "")
    assert not (found.yes & found.no).any()
    plain = np.array([eval(python, {"row": row}) for row in ROWS])
    assert plain[found.yes].all() and not plain[found.no].any()
    if hidden == set(CELLS) and " not known" not in ours:
        assert not (found.yes | found.no).any()


def test_a_number_is_as_exact_as_it_is_stored():
    stored = Column("number", np.array([0.1, 0.30000000000000004]).astype(np.float32).astype(np.float64))
    assert holds("x <= 0.1", {"x": stored}, "").tolist() == [True, False]
    assert holds("x = 0.3", {"x": Column("number", np.array([0.1, 0.3]))}, "").tolist() == [False, True]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("if age > 3", "found the end at character 11"),
        ("if age > 3 then", "character 16"),
        ("age > 3 then town = Ulm", "found 'then' at character 9"),
        ("town in Ulm", "expected: ( and values"),
        ("town in (Ulm, Bonn", "expected: , or )"),
        ("(age > 3", "and, or, or )"),
        ("age > 3; import os", "a number"),
        ("__import__('os')", "no condition"),
        ("age ! 3", "found '!' at character 5"),
        ("not " * 60 + "age > 3", "inside 50 others"),
        ("agee > 3", "did you mean: age"),
        ("age > yong", "a number, or a column"),
        ("town > Ulm", "no order"),
        ("town = Bon", "did you mean: Bonn"),
        ("town = age", "holds category, and 'age' number"),
        ("age > not known", "age == or !="),
        ("kind = dogg", "did you mean: dog"),
    ],
)
def test_what_is_no_rule_is_told(rule, said):
    with pytest.raises(UsageError) as error:
        Rules([RuleConfig(rule=rule)], columns(ROWS), TARGETS)
    assert said in str(error.value) and "rules.0" in str(error.value)


TARGETS = {
    "label": Target("kind", "classification", ("cat", "dog", "car")),
    "label_2": Target("animal", "classification", ("yes", "no")),
    "label_3": Target("price", "regression", mean=50.0, std=20.0),
    "label_4": Target("cost", "regression", mean=10.0, std=4.0),
}
TREE = ["if kind = car then animal = no", "if kind != car then animal = yes"]


def rules(*texts, inputs=None, **keys):
    return Rules([RuleConfig(rule=text, **keys) for text in texts], inputs or {}, TARGETS)


def shares(logits):
    odds = np.exp(logits)
    return odds / odds.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"rule": "age > 3", "action": "enforce"}, "changes no answer"),
        ({"rule": "age > 3", "penalty": 1.0}, "changes no answer"),
        ({"rule": "price > 3 or price < 1"}, "no bounds on price follow"),
        ({"rule": "price != 3"}, "no bounds on price follow"),
        ({"rule": "if price > 3 then kind = cat"}, "no bounds on price follow"),
        ({"rule": "cost <= price"}, "no bounds on"),
        ({"rule": "if age > 3 then refer", "action": "enforce"}, "refer is no answer"),
    ],
)
def test_what_cannot_be_enforced_is_told_and_can_be_flagged(rule, said):
    with pytest.raises(UsageError, match=said):
        Rules([RuleConfig(**rule)], columns(ROWS), TARGETS)
    flagged = {**rule, "action": "flag", "penalty": 0.0}
    assert len(Rules([RuleConfig(**flagged)], columns(ROWS), TARGETS)) == 1


def test_too_many_combinations_are_told():
    many = {f"label_{i}": Target(f"t{i}", "classification", tuple(map(str, range(50)))) for i in range(3)}
    with pytest.raises(UsageError, match=r"125,000 combinations of t0 \(50\) × t1 \(50\) × t2 \(50\)"):
        Rules([RuleConfig(rule="if t0 = 1 and t1 = 1 then t2 = 1")], {}, many)


@given(st.integers(0, 10**6))
def test_classes_become_the_likeliest_combination_that_keeps_all_rules(seed):
    rng = np.random.default_rng(seed)
    answers = {
        key: shares(2 * rng.normal(size=(20, len(TARGETS[key].classes)))) for key in ("label", "label_2")
    }
    ages = {"age": Column("number", rng.integers(0, 4, 20).astype(float))}
    made = rules(*TREE, "if age >= 2 then kind != cat", inputs=ages)
    decision = made.decide(answers, made.inputs(ages))
    for row, age in enumerate(ages["age"].values):
        odds = {
            (k, a): answers["label"][row, k] * answers["label_2"][row, a]
            for k, a in itertools.product(range(3), range(2))
            if (k == 2) == (a == 1) and not (age >= 2 and k == 0)
        }
        best = max(odds, key=odds.get)
        found = [decision.answers[key][row] for key in ("label", "label_2")]
        assert tuple(f.argmax() for f in found) == best
        for place, scores in enumerate(found):
            assert scores.sum() == pytest.approx(1)
            if decision.changed["label"][row] or decision.changed["label_2"][row]:
                most = [max((p for c, p in odds.items() if c[place] == k), default=0) for k in range(len(scores))]  # fmt: skip
                assert scores == pytest.approx(np.array(most) / sum(most), abs=1e-6)
            else:
                assert (scores == answers[("label", "label_2")[place]][row]).all()
    assert not any(rows.any() for rows in made.fired(decision.answers, made.inputs(ages)).values())
    again = made.decide(decision.answers, made.inputs(ages))
    assert all((again.answers[key] == decision.answers[key]).all() for key in answers)


def test_equally_likely_combinations_and_certain_models_are_decided_too():
    made = rules(*TREE)
    answers = {"label": np.array([[0.4, 0.4, 0.2], [0, 0, 1.0]]), "label_2": np.array([[0.0, 1], [1, 0]])}
    decision = made.decide(answers, {})
    kinds, animals = (decision.answers[key].argmax(1).tolist() for key in answers)
    assert all((k == 2) == (a == 1) for k, a in zip(kinds, animals, strict=True))
    assert decision.fired[TREE[1]].tolist() == [True, False] and decision.fired[TREE[0]].tolist() == [
        False,
        True,
    ]


def test_of_equally_likely_combinations_one_is_said_and_no_mixture():
    made = rules("if animal = yes then kind = dog", "if animal = no then kind = cat")
    answers = {"label": np.full((1, 3), 1 / 3), "label_2": np.full((1, 2), 1 / 2)}
    decided = made.decide(answers, {}).answers
    assert (decided["label"].argmax(), decided["label_2"].argmax()) in ((1, 0), (0, 1))


def test_what_is_within_bounds_stays_bit_for_bit():
    answers = {"label_3": np.array([[0.7], [0.8]])}  # the float32 that is nearest to 0.7 is below it
    assert rules("price <= 0.7").decide(answers, {}).answers["label_3"].tolist() == [
        [0.7],
        [float(np.float32(0.7))],
    ]


def test_rules_that_share_no_target_are_decided_apart():
    many = {f"label_{i}": Target(f"t{i}", "classification", tuple(map(str, range(50)))) for i in range(3)}
    made = Rules([RuleConfig(rule=f"t{i} != 3") for i in range(3)], {}, many)
    answers = {key: np.eye(50)[[3, 4]] for key in many}
    decision = made.decide(answers, {})
    assert all(d.argmax(1).tolist() == [0, 4] for d in decision.answers.values())


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=9), st.sampled_from(["<=", "<"]))
def test_numbers_are_brought_to_the_nearest_within_bounds(values, sign):
    limits = Column("number", np.linspace(0, 60, len(values)))
    made = rules(f"price >= 0 and price {sign} limit", inputs={"limit": limits})
    answers = {"label_3": np.array(values)[:, None]}
    inputs = made.inputs({"limit": Column("number", np.maximum(limits.values, 1))})
    decision = made.decide(answers, inputs)
    wanted = np.clip(values, 0, inputs["limit"].values)
    assert decision.answers["label_3"][:, 0] == pytest.approx(wanted, rel=1e-6, abs=1e-30)
    assert not any(rows.any() for rows in made.fired(decision.answers, inputs).values())
    same = ~decision.changed["label_3"]
    assert (decision.answers["label_3"][same] == answers["label_3"][same]).all()


def test_bounds_follow_the_class_that_was_decided_and_hold_for_quantiles():
    targets = {**TARGETS, "label_3": Target("price", "regression", quantiles=(0.1, 0.5, 0.9))}
    texts = ["if age > 3 then kind = cat", "if kind = cat then price <= 10", "price >= 2"]
    made = Rules([RuleConfig(rule=text) for text in texts], columns(ROWS), targets)
    answers = {"label": np.array([[0.1, 0.2, 0.7]]), "label_3": np.array([[1.0, 9, 30]])}
    inputs = {"age": Column("number", np.array([5.0]))}
    assert made.decide(answers, inputs).answers["label_3"].tolist() == [[2, 9, 10]]
    unknown = {"age": Column("number", np.array([np.nan]))}
    assert made.decide(answers, unknown).answers["label_3"].tolist() == [[2, 9, 30]]


def test_rows_on_which_rules_contradict_each_other():
    inputs = {"age": Column("number", np.array([1.0, 5])), "limit": Column("number", np.array([7.0, -3]))}
    made = rules("if age > 3 then kind = cat", "kind != cat", inputs=inputs)
    with pytest.raises(
        UsageError, match=r"if age > 3 then kind = cat; kind != cat on 1 rows\n  where: rules, row r1"
    ):
        made.refuse_contradictions(made.inputs(inputs), lambda row: f"r{row}")
    decision = made.decide({"label": np.array([[0.8, 0.1, 0.1]] * 2)}, made.inputs(inputs))
    assert decision.answers["label"].argmax(1).tolist() == [1, 0]  # the second stays, and is named
    assert decision.fired["kind != cat"].tolist() == [True, True]
    made = rules("price >= 0", "price <= limit", inputs=inputs)
    with pytest.raises(UsageError, match="price >= 0; price <= limit"):
        made.refuse_contradictions(made.inputs(inputs), str)
    assert made.decide({"label_3": np.array([[-1.0], [-1.0]])}, made.inputs(inputs)).answers["label_3"].tolist() == [[0], [-1]]  # fmt: skip


def test_categories_that_were_not_seen_are_others():
    known = {"town": Column("category", np.array([0]), TOWNS)}
    made = rules("if town not in (Ulm, Bonn) then kind = car", inputs=known)
    given_ = {"town": Column("category", np.array([0, 1, -1]), ("Kiel", "Ulm"))}
    decision = made.decide({"label": np.array([[1.0, 0, 0]] * 3)}, made.inputs(given_))
    assert decision.answers["label"].argmax(1).tolist() == [2, 0, 0]
    with pytest.raises(DataError, match="the column 'town' is missing, which the rule"):
        made.inputs({})


def test_predictions_of_nan_break_nothing_and_end_nothing():
    made = rules("price >= 0", *TREE)
    answers = {
        "label": np.full((1, 3), np.nan),
        "label_2": np.array([[0.5, 0.5]]),
        "label_3": np.array([[np.nan]]),
    }
    decision = made.decide(answers, {})
    assert not decision.fired["price >= 0"].any() and np.isnan(decision.answers["label_3"]).all()
    assert not decision.changed["label_3"].any()


# penalties


class Heads(nn.Module):
    """Gives what it holds."""

    def __init__(self, **outputs):
        super().__init__()
        self.outputs = nn.ParameterDict(outputs)

    def forward(self, batch):
        return {key: value[batch["row"]] for key, value in self.outputs.items()}


def penalty(made, inputs, outputs, rows):
    ruled = Ruled(Classification(), made, made.inputs(inputs), TARGETS)
    batch = {"row": torch.arange(rows), "label": torch.zeros(rows, dtype=torch.int64)}
    found = ruled.losses(outputs, batch)
    assert set(found) == {"loss", *ruled.scales()} and set(ruled.weights(batch)) == set(found)
    return [found[name] for name in ruled.scales()]


def test_the_penalty_of_classes_is_minus_the_logarithm_of_keeping_the_rule():
    torch.manual_seed(0)
    logits = {"label": torch.randn(4, 3, requires_grad=True), "label_2": torch.randn(4, 2)}
    ages = {"age": Column("number", np.array([1.0, 5, np.nan, 9]))}
    made = rules("if kind = car then animal = no", "if age > 3 then kind = dog", inputs=ages, penalty=1.0)
    tree, old = penalty(made, ages, logits, 4)
    p, q = (logits[key].softmax(1) for key in logits)
    assert torch.allclose(tree, -torch.log(1 - p[:, 2] * q[:, 0]), atol=1e-6)
    binding = torch.tensor([False, True, False, True])
    assert torch.allclose(old, torch.where(binding, -torch.log(p[:, 1]), 0.0), atol=1e-6)
    (slopes,) = torch.autograd.grad(old[1], logits["label"])  # of a rule that names a class: cross-entropy's
    assert torch.allclose(slopes[1], p[1].detach() - torch.tensor([0, 1.0, 0]), atol=1e-6)


def test_the_penalty_stays_finite_where_a_model_is_sure_or_nothing_is_allowed():
    logits = {
        "label": torch.tensor([[200.0, 0, 0], [0, 0, 0]], requires_grad=True),
        "label_2": torch.zeros(2, 2),
    }
    made = rules("kind = car", "kind = cat and kind = dog", action="flag", penalty=1.0)
    sure, never = penalty(made, {}, logits, 2)
    assert sure.tolist() == pytest.approx([200, np.log(3)]) and never.tolist() == pytest.approx(
        [0, 0], abs=1e-6
    )
    (sure.sum() + never.sum()).backward()
    assert logits["label"].grad.isfinite().all()


def test_the_penalty_of_numbers_is_how_far_they_are_outside():
    torch.manual_seed(0)
    outputs = {
        "label": torch.randn(3, 3), "label_2": torch.randn(3, 2), "label_3": torch.tensor([[-3.0], [0.5], [2]]),
        "label_4": torch.tensor([[0.0], [20], [-9]]),
    }  # fmt: skip
    limit = {"limit": Column("number", np.array([40.0, 55, np.nan]))}
    texts = ("price >= 0 and price <= limit", "if kind = cat then price = 30", "cost < price")
    made = rules(*texts, inputs=limit, penalty=1.0, action="flag")
    within, cats, order = penalty(made, limit, outputs, 3)
    price, cost = 50 + 20 * outputs["label_3"][:, 0], 10 + 4 * outputs["label_4"][:, 0]
    assert within.tolist() == pytest.approx([10 / 20, 5 / 20, 0])  # -10 is below 0, 60 above 55
    far = (price - 30).abs() / 20
    assert torch.allclose(cats, outputs["label"].softmax(1)[:, 0] * far, atol=1e-6)
    assert torch.allclose(order, (cost - price).clamp(min=0) / 4, atol=1e-6)


def ruled_batch():
    torch.manual_seed(0)
    numbers, ages = torch.randn(16, 5), np.arange(16.0)
    batch = {
        "numbers": numbers, "row": torch.arange(16), "label": (numbers[:, 0] > 0).long() + (numbers[:, 1] > 0),
        "label_2": (numbers[:, 0] > 0).long(), "label_3": 50 + 20 * numbers[:, 2],
    }  # fmt: skip
    texts = [*TREE, "if age > 8 then kind != cat", "price >= 0", "if kind = dog then price <= 90"]
    made = rules(*texts, inputs={"age": Column("number", ages)}, penalty=0.1)
    learnt = {key: TARGETS[key] for key in ("label", "label_2", "label_3")}
    inner = Several({
        "label": Classification(targets=learnt), "label_2": Classification("label_2", targets=learnt),
        "label_3": Regression("label_3", targets=learnt),
    })  # fmt: skip
    inputs = made.inputs({"age": Column("number", ages)})
    return Ruled(inner, made, inputs, learnt), batch


def test_ruled_keeps_the_contract_of_objectives():
    objective, batch = ruled_batch()
    heads = {"label": Linear(16, 3), "label_2": Linear(16, 2), "label_3": Linear(16, 1)}
    jichu.check_objective(objective, Model(Mlp(numbers=5, widths=[16]), heads), batch)


# a run


def loans(path, rows=240):
    rng = np.random.default_rng(0)
    told = ["age,amount,limit,country,decision,price,list price"]
    for i in range(rows):
        amount, age, most = rng.integers(0, 100), rng.integers(-1, 80), rng.integers(10, 60)
        decision = "refer" if amount > 60 else ("yes" if age > 40 else "no")
        told.append(f"{age},{amount},{50 + i % 20},{('CN', 'DE', 'FR')[i % 3]},{decision},{max(0, most - 2 * (i % 20))},{most}")  # fmt: skip
    Path(path).write_text("\n".join(told))


RECIPE = {
    "data": {"path": "loans.csv", "target": ["decision", "price"], "aside": ["limit"]},
    "rules": [
        "age >= 0",
        {"name": "large", "rule": 'if amount > limit and country != "CN" then decision = refer', "penalty": 1.0},
        {"name": "sane", "rule": "price >= 0 and price <= list price", "penalty": 0.5},
        {"name": "look", "rule": "if decision = no then look"},
    ],
    "stages": [{"stage": "finetune", "budget": "60 steps", "batch_size": 32}, {"stage": "audit"}],
}  # fmt: skip


def write(recipe, name="r"):
    Path(f"{name}.yaml").write_text(json.dumps(recipe))
    return main(["run", f"{name}.yaml", "--quiet"])


@pytest.fixture
def ruled(in_folder):
    loans("loans.csv")
    assert write(RECIPE) == 0
    return jichu.open("runs/r")


def test_rules_travel_with_a_run(ruled, capsys):
    rows = [line.split(",") for line in Path("loans.csv").read_text().splitlines()[1:]]
    found = ruled.predict("loans.csv")
    for (age, amount, limit, country, _, _, most), row in zip(rows, found, strict=True):
        large = int(amount) > int(limit) and country != "CN"
        fired, alone = row["rules"]["fired"], row["rules"]["alone"]
        assert ("age >= 0" in fired) == (int(age) < 0)
        assert ("large" in fired) == (large and alone.get("decision") is not None)
        assert row["decision"]["label"] == "refer" or not large
        assert ("look" in fired) == (row["decision"]["label"] == "no")
        assert 0 <= row["price"]["value"] <= int(most)
        assert ("sane" in fired) == ("price" in alone) == (not 0 <= alone.get("price", 0) <= int(most))
    assert any("large" in row["rules"]["fired"] for row in found)
    row = {"age": -1, "amount": 90, "limit": 1, "country": "XX", "list price": 0}
    (one,) = ruled.predict(row)
    assert one["decision"]["label"] == "refer" and one["price"]["value"] == 0
    with pytest.raises(DataError, match="the column 'limit' is missing, which the rule 'large' asks for"):
        ruled.predict({k: v for k, v in row.items() if k != "limit"})
    assert main(["predict", "runs/r", "loans.csv"]) == 0
    said = capsys.readouterr().out
    assert "[age >= 0" in said and "the model alone: " in said
    terms = {key for line in ruled.history for key in line if key.startswith("loss/rules/")}
    assert terms == {"loss/rules/large", "loss/rules/sane"}


def test_rules_travel_into_a_graph(ruled):
    pytest.importorskip("onnxruntime")
    jichu.export(ruled, output="r.onnx")
    found = jichu.open("r.onnx").predict("loans.csv")
    assert any("large" in row["rules"]["fired"] for row in found)
    for theirs, ours in zip(found, ruled.predict("loans.csv"), strict=True):
        assert theirs["rules"]["fired"] == ours["rules"]["fired"]
        assert theirs["rules"]["alone"].keys() == ours["rules"]["alone"].keys()
        assert theirs["decision"]["label"] == ours["decision"]["label"]
        assert theirs["price"]["value"] == pytest.approx(ours["price"]["value"], rel=1e-4, abs=1e-4)


def test_rules_are_kept_by_a_server_that_joins_requests(ruled):
    pytest.importorskip("fastapi")
    from served import server  # which needs it

    rows = csv.read_csv("loans.csv").to_pylist()[:24]
    expected = [{k: v for k, v in row.items() if k != "input"} for row in ruled.predict(rows)]
    with server({"r": ruled.path}, wait=100.0) as found, found.client() as client:
        parts = [rows[i : i + 3] for i in range(0, 24, 3)]
        with ThreadPoolExecutor(8) as pool:  # each part has countries in an order of its own
            told = list(
                pool.map(lambda part: client.post("/v1/predict", json={"inputs": part}).json(), parts)
            )
    found = [row for part in told for row in part["predictions"]]
    assert [row["rules"]["fired"] for row in found] == [row["rules"]["fired"] for row in expected]
    assert [row["decision"]["label"] for row in found] == [row["decision"]["label"] for row in expected]


def test_bounds_and_penalties_of_quantiles(in_folder):
    loans("loans.csv", 120)
    objective = {"name": "regression", "loss": "quantile", "quantiles": [0.1, 0.5, 0.9]}
    stages = [{"stage": "finetune", "budget": "30 steps", "objective": objective}, {"stage": "audit"}]
    sane = [{"rule": "price >= 10 and price <= list price", "name": "sane", "penalty": 1.0}]
    assert (
        write({"data": {"path": "loans.csv", "target": "price"}, "rules": sane, "stages": stages}, "q") == 0
    )
    run = jichu.open("runs/q")
    rows = run.predict("loans.csv")
    assert all(10 <= value <= 60 for row in rows for value in row["quantiles"].values())
    held_out = run.dataset().labelled("test").tolist()
    (model,) = read_json(run.folder.audit)["parts"]["rules"]["models"].values()
    fired = sum("sane" in rows[i]["rules"]["fired"] for i in held_out)
    assert model["alone"]["sane"] == share_interval(fired, len(held_out))._asdict() and fired


def test_rules_are_given_in_python_too(in_folder):
    loans("loans.csv", 60)
    rule = {"name": "large", "rule": "if amount > 50 then decision = refer"}
    run = jichu.finetune("mlp", "loans.csv", target="decision", rules=["age >= 0", rule], budget="3 steps")
    found = run.predict({"age": 30, "amount": 60, "limit": 1, "country": "CN", "price": 2, "list price": 3})
    assert found[0]["label"] == "refer" and found[0]["rules"]["fired"] in ([], ["large"])
    with pytest.raises(UsageError, match=r"where: rules\.0"):
        jichu.finetune("mlp", "loans.csv", target="decision", rules=["age >"], budget="3 steps")


def test_an_audit_counts_what_rules_find(ruled):
    found = read_json(ruled.folder.audit)["parts"]["rules"]
    told = jichu.audit(ruled)["parts"]["rules"]
    assert told["data"] == found["data"]
    data = ruled.dataset()
    held_out = data.labelled("test")
    answers = [ruled.predict("loans.csv")[row] for row in held_out.tolist()]
    (model,) = found["models"].values()
    for name in ("large", "sane"):
        fired = sum(name in row["rules"]["fired"] for row in answers)
        assert model["alone"][name] == share_interval(fired, len(answers))._asdict()
        assert model["after"][name]["value"] == 0
    truth = data.column("decision")
    right = [truth.classes[truth.values[r]] == a["decision"]["label"] for r, a in zip(held_out, answers, strict=True)]  # fmt: skip
    gain = model["targets"]["decision"]
    assert gain["with"]["value"] == pytest.approx(np.mean(right))
    assert gain["better_by"]["value"] == pytest.approx(gain["with"]["value"] - gain["without"]["value"])
    ages = data.column("age").values[held_out.numpy()]
    assert found["data"]["age >= 0"]["value"] == pytest.approx((ages < 0).mean())
    rest = [line for line in Path("loans.csv").read_text().splitlines() if ",no," not in line]
    Path("rest.csv").write_text("\n".join(rest))  # codes of classes are others there
    other = jichu.audit(ruled, "rest.csv")
    (model,) = other["parts"]["rules"]["models"].values()
    (measured,) = other["models"].values()
    assert model["targets"]["decision"]["without"] == measured["metrics"]["accuracy"]
    assert "Are the rules kept?" in ruled.folder.report.read_text()
    gates = {"rules.after.large": "<=0", "rules.alone.large": "<0"}
    assert [gate["holds"] for gate in jichu.audit(ruled, gates=gates)["gates"]] == [True, False]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rules": ["agee >= 0"]}, "did you mean: age"),
        ({"rules": ["age >= "]}, "found the end"),
        ({"rules": ["decision = maybe"]}, "unknown category of decision 'maybe'"),
        ({"rules": ["age >= 0", "age >= 0"]}, "two rules are called 'age >= 0'"),
        ({"rules": ["decision = yes", "decision != yes"]}, "no answer keeps the rules decision = yes; decision != yes"),
        ({"rules": [{"rule": "age >= 0", "acton": "flag"}]}, "did you mean: action"),
        ({"rules": [], "stages": [*RECIPE["stages"][:1], {"stage": "audit", "parts": ["rules"]}]}, "there are no rules"),
        ({"stages": [{"stage": "finetune", "head": "ridge"}], "data": {**RECIPE["data"], "target": "price"},
          "rules": [{"rule": "price >= 0", "penalty": 1.0}]}, "penalty does nothing with the head ridge"),
        ({"stages": [{"stage": "pretrain"}]}, "no stage answers"),
        ({"stages": [*RECIPE["stages"][:1], {"stage": "audit", "parts": [{"name": "rules", "metric": "acuracy"}]}]},
         "did you mean: accuracy"),
    ],
)  # fmt: skip
def test_rules_are_checked_before_anything_runs(change, said, in_folder, capsys):
    loans("loans.csv", 60)
    assert write({**RECIPE, **change}) == 2 and not Path("runs").exists()
    assert said in capsys.readouterr().err


def test_a_penalty_teaches_the_rule(in_folder):
    """Labels break it; the more it counts, the less the model alone does."""
    loans("loans.csv")
    rule = "if amount < 20 then decision != yes"
    shares = []
    for i, weight in enumerate((0.0, 10.0)):
        changed = {"rules": [{"rule": rule, "name": "r", "penalty": weight}]}
        stages = [{"stage": "finetune", "budget": "200 steps"}, {"stage": "audit"}]
        assert write({**RECIPE, **changed, "stages": stages}, f"p{i}") == 0
        (model,) = read_json(Path(f"runs/p{i}/audit.json"))["parts"]["rules"]["models"].values()
        shares.append(model["alone"]["r"]["value"])
    assert shares[1] < shares[0] / 2


def test_rules_go_with_images_frozen_backbones_and_mixup(photos, monkeypatch):
    """Features computed once, other objectives around it, and rules about classes alone."""
    monkeypatch.chdir(photos.parent)
    keys = {"stage": "finetune", "budget": "4 steps", "backbone": {"name": "cnn", "widths": [8]}}
    recipe = {
        "data": {"path": "photos", "size": 16},
        "rules": [{"rule": "label != green", "penalty": 1.0}],
        "stages": [{**keys, "name": "head", "adapt": "head"}, {**keys, "name": "mixed", "wrap": ["mixup"]}, {"stage": "audit"}],
    }  # fmt: skip
    assert write(recipe, "i") == 0
    found = jichu.open("runs/i").predict(sorted(map(str, photos.rglob("*.png"))))
    assert not any(row["label"] == "green" for row in found)
    assert {name for row in found for name in row["rules"]["fired"]} <= {"label != green"}

"""The part `explanation` of an audit: importance as scikit-learn has it, rules that were put in, and checks that fail where
they should."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.inspection import permutation_importance

import jichu
from jichu.auditing import explaining
from jichu.auditing.explaining import faithfulness, importance, prototypes, surrogate
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.core.files import read_json
from jichu.data.schema import TableSchema
from jichu.data.target import Target
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.inputs import Inputs
from jichu.models.model import Model

TABLE = TableSchema(("x",), ("when",), {"colour": ("red", "green")})


def drawn(rows, seed=0):
    rng = np.random.default_rng(seed)
    numbers = torch.from_numpy(rng.normal(size=(rows, 5)))
    return {"numbers": numbers, "categories": torch.from_numpy(rng.integers(1, 3, (rows, 1)))}


class Asked:
    """What scikit-learn is given in the place of a model: of each column the row that its cell comes from."""

    def __init__(self, columns, tell):
        self.columns, self.tell = columns, tell

    def fit(self, x, y):
        return self

    def predict(self, places):
        x, when, colour = torch.from_numpy(places).T
        numbers = torch.cat([self.columns["numbers"][x, :1], self.columns["numbers"][when, 1:]], 1)
        return self.tell({"numbers": numbers, "categories": self.columns["categories"][colour]})


def test_importance_is_scikit_learns():
    columns, weight = drawn(400), torch.tensor([2.0, 0.0, 1.0, -1.0, 0.0], dtype=torch.double)

    def tell(some):
        return (some["numbers"] @ weight + 3.0 * (some["categories"][:, 0] == 2)).numpy()

    truth = tell(columns) + np.random.default_rng(1).normal(size=400)
    found = importance.permutation(columns, TABLE, lambda some: np.square(tell(some) - truth), repeats=40)
    places = np.repeat(np.arange(400)[:, None], 3, 1)
    wanted = permutation_importance(
        Asked(columns, tell),
        places,
        truth,
        n_repeats=40,
        random_state=0,
        scoring=lambda model, x, y: -np.square(model.predict(x) - y).mean(),
    )
    mine = [found[name].mean() for name in ("x", "when", "colour")]
    assert mine == pytest.approx(wanted.importances_mean, rel=0.06)
    # a shuffled column is independent of the rest: twice its share of the variance is lost
    assert mine[0] == pytest.approx(8 * float(columns["numbers"][:, 0].var()), rel=0.15)
    assert found["x"].shape == (40, 400)
    nothing = importance.permutation(columns, TABLE, lambda some: some["numbers"][:, 1].numpy() * 0)
    assert all((v == 0).all() for v in nothing.values())


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_rules_that_were_put_in_are_found(task):
    columns = drawn(600)
    red = (columns["categories"][:, 0] == 1).numpy()
    high = (columns["numbers"][:, 0] > 0.25).numpy()
    told = (
        (red & high).astype(int)
        if task == "classification"
        else np.where(red, np.where(high, 7.0, 1.0), -3.0)
    )
    target = Target("kind", task, ("no", "yes") if task == "classification" else ())
    x, names = surrogate.cells(columns, TABLE, surrogate.common(columns, TABLE))
    assert names == [
        "x",
        "when:day",
        "when:month",
        "when:weekday",
        "when:hour",
        "colour = red",
        "colour = green",
    ]
    tree = surrogate.fit(x[:400], told[:400], target, 2, 0)
    assert (tree.predict(x[400:]) == told[400:]).mean() > 0.97
    found = {said: where for where, said, _ in surrogate.rules(tree, names, target)}
    most = found["yes" if task == "classification" else "7"]
    assert "x > 0.2" in most and ("colour = red" in most or "colour ≠ green" in most) and "≤" not in most
    assert sum(rows for *_, rows in surrogate.rules(tree, names, target)) == 400
    only = surrogate.fit(x, np.zeros(600, int), target, 2, 0)
    assert [where for where, *_ in surrogate.rules(only, names, target)] == ["always"]


def test_a_column_is_bounded_once_to_each_side():
    x = np.linspace(0, 1, 200)[:, None]
    target = Target("y", "regression")
    tree = surrogate.fit(x, np.square(x[:, 0]), target, 4, 0)
    for where, *_ in surrogate.rules(tree, ["x"], target):
        assert where.count("≤") <= 1 and where.count(">") <= 1


def test_prototypes_lie_in_every_crowd_and_criticisms_outside():
    rng = np.random.default_rng(0)
    crowds = [rng.normal(centre, 0.1, (40, 2)) for centre in ((0, 0), (3, 0), (0, 3))]
    x = np.concatenate([*crowds, [[6.0, 6.0]]])
    like = prototypes.kernel(x)
    chosen, others = prototypes.choose(like, 3, 1)
    assert {i // 40 for i in chosen} == {0, 1, 2} and others == [120]

    def discrepancy(rows):
        return like.mean() - 2 * like[:, rows].mean() + like[np.ix_(rows, rows)].mean()

    for size in range(3):  # each is the best that could come next
        best = min(
            range(len(x)),
            key=lambda i: discrepancy([*chosen[:size], i]) if i not in chosen[:size] else np.inf,
        )
        assert discrepancy([*chosen[:size], best]) == pytest.approx(discrepancy(chosen[: size + 1]))
    assert prototypes.choose(like[:2, :2], 5, 5)[0] in ([0, 1], [1, 0])


def test_shuffled_weights_are_the_same_numbers_elsewhere():
    model = Model(Cnn(1, 8, widths=[4]), {"label": Linear(4, 3)}, Inputs(channels=1)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = faithfulness.randomised(model, 0)
    weight, shuffled = model.backbone.blocks[0][0].weight, other.backbone.blocks[0][0].weight
    assert not torch.equal(weight, shuffled)
    assert torch.equal(weight.flatten().sort().values, shuffled.flatten().sort().values)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(
        faithfulness.randomised(model, 0).heads["label"].linear.weight, other.heads["label"].linear.weight
    )
    free = torch.ones(2, 5, dtype=torch.bool)
    worth = torch.tensor([[1.0, -2.0, 3.0, 4.0, 5.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert faithfulness.alike(worth, -3 * worth, free).tolist() == pytest.approx([1.0, 0.0])
    assert faithfulness.alike(worth, worth.flip(1), free)[0] == pytest.approx(-1.0)


def audited(name, data, stage, part="explanation"):
    recipe = {
        "name": name,
        "data": data,
        "stages": [{"stage": "finetune", **stage}, {"stage": "audit", "parts": [part]}],
    }
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    audit = read_json(Path(f"runs/{name}/audit.json"))
    return audit["parts"]["explanation"], audit, Path(f"runs/{name}/report.html").read_text()


def whole(interval):
    return interval["low"] <= interval["value"] <= interval["high"] and interval["rows"] > 0


@pytest.fixture
def table(in_folder):
    rng = np.random.default_rng(0)
    x, z, colour = rng.normal(size=300), rng.normal(size=300), rng.choice(["red", "blue"], 300)
    sold, price = np.where(x > 0, "yes", "no"), 3 * x + 2 * (colour == "red")
    rows = [f"{a:.3f},{'' if i % 9 == 0 else round(b, 3)},{c},{s},{p:.3f}"
            for i, (a, b, c, s, p) in enumerate(zip(x, z, colour, sold, price, strict=True))]  # fmt: skip
    Path("t.csv").write_text("\n".join(["x,z,colour,sold,price", *rows]))
    return "t.csv"


def test_an_audit_of_a_table(table):
    mlp = {"backbone": "mlp", "budget": "150 steps", "optimizer": {"lr": 0.005}}
    part = {"name": "explanation", "rows": 12, "prototypes": 3, "criticisms": 2}
    found, audit, page = audited("two", {"path": table, "target": ["sold", "price"]}, mlp, part)
    assert found["method"] == "shapley" and found["rows"] == 12 and found["importance_rows"] == 60
    first = max(found["importance"], key=lambda name: found["importance"][name]["value"])
    assert first == "x" == max(found["worth"], key=lambda name: found["worth"][name]["value"])
    assert found["importance"]["x"]["low"] > 0.2 and all(whole(v) for v in found["worth"].values())
    assert found["tree"]["fidelity"]["value"] > 0.9 and found["tree"]["rows"] == 60
    assert len(found["prototypes"]) == 3 and len(found["criticisms"]) == 2
    sanity = found["sanity"]
    assert whole(sanity["randomised"]) and sanity["incomplete"]["value"] < 0.1
    assert sanity["deletion"]["better"]["low"] > 0 and sanity["insertion"]["better"]["low"] > 0
    price = audit["others"]["price"]["parts"]["explanation"]
    assert price["importance"]["colour"]["low"] > 0.5 > price["importance"]["z"]["value"]
    assert "deletion" not in price["sanity"] and price["tree"]["fidelity"]["value"] > 0.6
    for said in ("Why: sold", "Why: price", "x &gt; ", "squared error", "stand for many", "by lot"):
        assert said in page, said
    again = jichu.audit("runs/two", parts=[part])
    for now, then in ((again, found), (again["others"]["price"], price)):
        assert {**now["parts"]["explanation"], "of": "", "tree": ""} == {**then, "of": "", "tree": ""}


def test_an_audit_of_trees_has_no_gradients_to_check(table, capsys):
    found, _, _ = audited(
        "trees",
        {"path": table, "target": "sold"},
        {"head": "gradient-boosting"},
        {"name": "explanation", "rows": 4},
    )
    assert "incomplete" not in found["sanity"] and found["sanity"]["deletion"]["better"]["value"] > 0
    capsys.readouterr()
    assert main(["audit", "runs/trees", "--parts", "explanation"]) == 0
    said = capsys.readouterr().out
    assert "Why" in said and "mean worth" in said and "says the same as the model in" in said


def test_an_audit_of_pictures(in_folder):
    stage = {"backbone": {"name": "cnn", "widths": [8, 16]}, "budget": "2 epochs"}
    found, _, page = audited(
        "digits",
        {"path": "sklearn:digits"},
        stage,
        {"name": "explanation", "rows": 10, "method": "occlusion"},
    )
    assert found["method"] == "occlusion" and len(found["drawn"]) == 8
    assert np.array(found["drawn"][0]["worth"]).shape == (8, 8) and found["drawn"][0]["record"].startswith(
        "digits:"
    )
    assert "importance" not in found and found["sanity"]["incomplete"]["value"] < 0.1
    assert page.count("image/jpeg") >= 8 and "Stand for many:" in page


def test_an_audit_of_texts(in_folder):
    words = ["river", "stone", "cloud", "paper"]
    lines = [
        f"{words[i % 4]} {('bad', 'good')[i % 2]} {words[i % 3]} on day {i},{('no', 'yes')[i % 2]}"
        for i in range(120)
    ]
    Path("x.csv").write_text("\n".join(["text,label", *lines]))
    found, _, _ = audited(
        "texts", {"path": "x.csv"}, {"head": "naive-bayes"}, {"name": "explanation", "rows": 6}
    )
    assert (
        found["method"] == "occlusion"
        and found["drawn"] == []
        and found["sanity"]["deletion"]["better"]["value"] >= 0
    )


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"method": "grad-cam"}, "not for tables"),
        ({"method": "shaply"}, "did you mean: shapley"),
        ({"method": {"name": "shapley", "by": "lot"}}, "by"),
        ({"depth": 0}, "depth"),
    ],
)
def test_bad_parts_are_told_before_anything_runs(part, said, table, capsys):
    recipe = {"name": "bad", "data": {"path": table, "target": "sold"},
              "stages": [{"stage": "finetune", "head": "naive-bayes"}, {"stage": "audit", "parts": [{"name": "explanation", **part}]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 2
    assert said in capsys.readouterr().err and not list(Path().glob("runs/bad/model*"))


def test_what_only_the_fitted_model_tells_does_not_end_the_audit(table):
    stage = {"head": "gradient-boosting"}
    found, audit, page = audited(
        "trees",
        {"path": table, "target": "sold"},
        stage,
        {"name": "explanation", "method": "input-x-gradient"},
    )
    assert "cannot be differentiated" in found["refused"] and audit["models"]["finetune"]["metrics"]
    assert "finetune is not explained" in page and "occlusion or shapley" in page


def test_of_pictures_beside_a_table_what_the_model_reads_is_explained(in_folder):
    rng = np.random.default_rng(0)
    lines = []
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"{i}.png")
        lines.append(f"{i}.png,{rng.normal():.3f},{'ab'[i % 2]}")
    Path("t.csv").write_text("\n".join(["image,x,label", *lines]))
    found, _, _ = audited("both", {"path": "t.csv"}, {"backbone": "mlp", "budget": "2 steps"})
    assert len(found["drawn"]) > 0 and "importance" not in found
    with pytest.raises(UsageError, match="image beside table"):
        explaining.kind_of({"image": None, "numbers": None, "label": None})

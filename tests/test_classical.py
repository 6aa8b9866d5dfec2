"""Classical heads against scikit-learn itself, and after saving and loading."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import special
from sklearn import datasets, linear_model, metrics, naive_bayes, neighbors, preprocessing
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.preprocessing import StandardScaler

from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct, resolve
from jichu.models import HEADS
from jichu.models.backbone import Features
from jichu.models.classical import (
    Estimated,
    GradientBoosting,
    LogisticRegression,
    NaiveBayes,
    NearestNeighbours,
    Prototypes,
    Ridge,
)

FEW = {"max_iter": 15, "early_stopping": False}  # scikit-learn's arguments, and ours
OURS = {"trees": 15}


def known(name):
    """Standardised features [N, D] and targets of a data set that comes with scikit-learn, every second row
    of which is for training."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = StandardScaler().fit(x[::2]).transform(x)
    regression = name == "diabetes"
    return torch.from_numpy(x).float(), torch.from_numpy(y).to(torch.float if regression else torch.long)


def estimated(head, x, y, weight=None):
    head.estimate(x[::2], y[::2], x[::2], None if weight is None else weight[::2])
    return head


def answers(head, x):
    """What the head gives for every row, as probabilities where it is of classes."""
    with torch.no_grad():
        out = head(Features(x))
    assert out.dtype == torch.float32 and out.isfinite().all()
    if head.task == "classification":
        return out.softmax(1).numpy()
    return out.sigmoid().numpy() if head.task == "multilabel" else out[:, 0].numpy()


def labels_of(x):
    """Three labels of each row that follow from its features, one of them often not known."""
    signs = torch.stack([x[:, 0] > 0.3, x[:, 1] + x[:, 2] > 1, x[:, 3] > -0.5], 1).float()
    signs[::6, 1] = torch.nan
    return signs


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "wine", "digits"])
@pytest.mark.parametrize("balanced", [False, True])
def test_classifiers_equal_scikit_learn(name, balanced):
    x, y = known(name)
    kept = (y != 0) | (torch.arange(len(y)) % 4 > 1)  # classes of unlike size
    x, y = x[kept], y[kept]
    a, b, outputs = x[::2].numpy(), y[::2].numpy(), len(y.unique())
    ours, theirs = {}, {}
    how = {"class_weights": "balanced"} if balanced else {}
    weigh = "balanced" if balanced else None
    ours["logistic"] = LogisticRegression(x.shape[1], outputs, c=0.5, **how)
    standardised = StandardScaler().fit(a)
    theirs["logistic"] = linear_model.LogisticRegression(C=0.5, max_iter=1000, class_weight=weigh).fit(
        standardised.transform(a), b
    )
    ours["boosting"] = GradientBoosting(x.shape[1], outputs, **OURS, **how)
    theirs["boosting"] = HistGradientBoostingClassifier(**FEW, class_weight=weigh).fit(a, b)
    if not balanced:
        ours["bayes"] = NaiveBayes(x.shape[1], outputs, smoothing=1e-3)
        theirs["bayes"] = naive_bayes.GaussianNB(var_smoothing=1e-3).fit(a, b)
    for kind, head in ours.items():
        given = standardised.transform(x.numpy()) if kind == "logistic" else x.numpy()
        found = answers(estimated(head, x, y), x)
        tolerance = {"boosting": 1e-6, "logistic": 2e-4, "bayes": 2e-3}[
            kind
        ]  # single precision, the solver's
        assert np.abs(found - theirs[kind].predict_proba(given)).max() < tolerance, kind


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_prototypes_are_scikit_learns_centroids(name):
    x, y = known(name)
    kept = torch.arange(len(y)) < len(y) - 40  # classes of unlike size
    x, y, classes = x[kept], y[kept], int(y.max()) + 1
    scaler = StandardScaler().fit(x[::2].numpy())
    z, train = scaler.transform(x.numpy()), scaler.transform(x[::2].numpy())
    theirs = neighbors.NearestCentroid().fit(train, y[::2].numpy())
    found = answers(
        estimated(Prototypes(x.shape[1], classes + 1, distance="squared", temperature=20.0), x, y), x
    )
    assert (found.argmax(1) == theirs.predict(z)).all() and found[:, classes].max() < 1e-30
    distances = metrics.pairwise.euclidean_distances(z, theirs.centroids_, squared=True)
    assert np.abs(found[:, :classes] - special.softmax(-distances / 20, axis=1)).max() < 1e-4


def test_prototypes_by_cosine_and_weight():
    x, y = known("wine")
    scaler, weight = StandardScaler().fit(x[::2].numpy()), 1 + torch.arange(len(x)) % 3
    head = estimated(Prototypes(13, 3), x, y, weight)
    unit = preprocessing.normalize(scaler.transform(x.numpy()))
    one, of, w = unit[::2], y[::2].numpy(), weight[::2].numpy()
    means = np.stack([np.average(one[of == c], axis=0, weights=w[of == c]) for c in range(3)])
    wanted = special.softmax(metrics.pairwise.cosine_similarity(unit, means) / 0.1, axis=1)
    assert np.abs(answers(head, x) - wanted).max() < 1e-4
    sharp = Prototypes(
        1, 3, distance="squared", temperature=1e-3
    )  # the absent class stays behind, however far the others are
    sharp.estimate(torch.tensor([[0.0], [9.0]]), torch.tensor([0, 2]), torch.tensor([[0.0], [1.0]]))
    assert answers(sharp, torch.tensor([[1e4]])).argmax() == 2


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_equal_scikit_learn(weights, metric, k):
    x, y = known("wine")
    a, scaler = x[::2].numpy(), StandardScaler().fit(x[::2].numpy())
    how = {"weights": weights, "metric": metric}
    head = estimated(NearestNeighbours(13, 3, k=k, **how), x, y)
    # in double precision the cosine distance of a row to itself is not always 0 there
    rows = slice(1, None, 2) if how == {"weights": "distance", "metric": "cosine"} else slice(None)
    classifier = neighbors.KNeighborsClassifier(k, **how).fit(scaler.transform(a), y[::2].numpy())
    theirs = classifier.predict_proba(scaler.transform(x.numpy()))
    assert np.abs(answers(head, x) - theirs)[rows].max() < 1e-4  # training rows, of distance 0, among them
    x, y = known("diabetes")
    a, scaler = x[::2].numpy(), StandardScaler().fit(x[::2].numpy())
    head = estimated(NearestNeighbours(10, 1, "regression", k=k, **how), x, y)
    regressor = neighbors.KNeighborsRegressor(k, **how).fit(scaler.transform(a), y[::2].numpy())
    theirs = regressor.predict(scaler.transform(x.numpy()))
    assert np.allclose(answers(head, x)[rows], theirs[rows], rtol=1e-4)


def test_neighbours_of_labels_of_weights_and_of_few_rows():
    x, _ = known("wine")
    labels = labels_of(x).nan_to_num(0)
    head = estimated(NearestNeighbours(13, 3, "multilabel", k=4), x, labels)
    scaler = StandardScaler().fit(x[::2].numpy())
    theirs = neighbors.KNeighborsRegressor(4).fit(scaler.transform(x[::2].numpy()), labels[::2].numpy())
    assert np.abs(answers(head, x) - theirs.predict(scaler.transform(x.numpy()))).max() < 1e-6
    unknown = estimated(NearestNeighbours(13, 3, "multilabel", k=500), x, labels_of(x))
    assert np.allclose(answers(unknown, x)[0], labels_of(x)[::2].nanmean(0), atol=1e-6)
    line = torch.tensor([[0.0], [1.0], [10.0]])
    head = NearestNeighbours(1, 1, "regression", k=2)
    head.estimate(line, torch.tensor([1.0, 4.0, 9.0]), line, torch.tensor([3.0, 1.0, 1.0]))
    assert answers(head, torch.tensor([[0.4]])) == pytest.approx((3 * 1 + 4) / 4)


def test_ridge_equals_scikit_learn():
    x, y = known("diabetes")
    weight = torch.rand(len(x), generator=torch.Generator().manual_seed(0))
    scaler = StandardScaler().fit(x[::2].numpy())
    for w in (None, weight):
        head = estimated(Ridge(10, 1, alpha=3.0), x, y, w)
        fitted = linear_model.Ridge(alpha=3.0).fit(
            scaler.transform(x[::2].numpy()), y[::2].numpy(), None if w is None else w[::2].numpy()
        )
        assert np.allclose(answers(head, x), fitted.predict(scaler.transform(x.numpy())), rtol=1e-5)


def mixed(rows=400, seed=0):
    """Numbers with gaps and two columns of categories, of which one has more than can be told apart."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 3))
    few, many = rng.integers(0, 6, size=rows), rng.integers(0, 400, size=rows)
    target = numbers[:, 0] + 2 * (few % 2) + (many > 200) * numbers[:, 1] + 0.1 * rng.normal(size=rows)
    numbers[rng.random((rows, 3)) < 0.2] = np.nan
    x = np.column_stack([numbers[:, 0], few, numbers[:, 1:], many]).astype(np.float32)
    return x, target, [False, True, False, False, True]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_boosting_takes_gaps_and_categories_as_scikit_learn_does(task):
    x, target, categorical = mixed()
    x[:, 4] %= 50
    x[x[:, 1] == 5, 1] = np.nan  # a category may be missing as well
    train = slice(0, 300)
    x[train, 1][x[train, 1] == 4] = 3  # one is seen only later
    x[300:310, 4] = 1000
    y = np.digitize(target, [0, 1.5]) if task == "classification" else target
    features = torch.from_numpy(x)
    head = GradientBoosting(5, 3 if task == "classification" else 1, task, categorical=categorical, **OURS)
    head.estimate(features[train], torch.from_numpy(y[train]), features[train])
    assert len(head.goes_left) > 10 and head.missing_left.any() and not head.missing_left.all()
    kind = HistGradientBoostingClassifier if task == "classification" else HistGradientBoostingRegressor
    model = kind(**FEW, categorical_features=categorical).fit(x[train], y[train])
    if task == "classification":
        assert np.abs(head(Features(features)).numpy() - model.decision_function(x)).max() < 1e-6
        assert np.abs(answers(head, features) - model.predict_proba(x)).max() < 1e-6
    else:
        assert np.abs(answers(head, features) - model.predict(x)).max() < 1e-6
    assert head(Features(features[:0])).shape == (0, head.outputs)


def test_boosting_takes_more_categories_than_can_be_told_apart():
    x, target, categorical = mixed(rows=1500)
    head = GradientBoosting(5, 1, "regression", categorical=categorical, **OURS)
    features = torch.from_numpy(x)
    head.estimate(features, torch.from_numpy(target), features)
    kept = ~head.codes.isnan()
    counts = np.bincount(x[:, 4].astype(int), minlength=400)
    assert kept.sum(1).tolist() == [6, 255]
    assert counts[kept[1, :400].numpy()].min() >= counts[~kept[1, :400].numpy()].max()
    rare, missing = features.clone(), features.clone()
    beyond = int(np.flatnonzero(~kept[1, :400].numpy())[0])
    rare[:, 4], missing[:, 4] = beyond, torch.nan
    assert torch.equal(head(Features(rare)), head(Features(missing)))


def test_boosting_of_labels_is_one_model_for_each():
    x, target, categorical = mixed()
    x[:, 4] %= 50
    labels = np.stack([target > 0.5, target > 2, target > 1], 1).astype(np.float32)
    labels[x[:, 4] < 10, 1] = np.nan  # so that some categories are never seen by the second
    head = GradientBoosting(5, 3, "multilabel", categorical=categorical, **OURS)
    features = torch.from_numpy(x)
    head.estimate(features, torch.from_numpy(labels), features)
    found = answers(head, features)
    for i in range(3):
        rows = ~np.isnan(labels[:, i])
        model = HistGradientBoostingClassifier(**FEW, categorical_features=categorical)
        model.fit(x[rows], labels[rows, i])
        assert np.abs(found[:, i] - model.predict_proba(x)[:, 1]).max() < 1e-6


def test_boosting_of_quantiles_stopping_and_weights():
    x, y = known("diabetes")
    levels = (0.1, 0.5, 0.9)
    head = estimated(GradientBoosting(10, 3, "regression", quantiles=levels, **OURS), x, y)
    found = head(Features(x)).numpy()
    for i, q in enumerate(levels):
        model = HistGradientBoostingRegressor(loss="quantile", quantile=q, **FEW).fit(x[::2], y[::2])
        assert np.abs(found[:, i] - model.predict(x)).max() < 1e-4
    weight = torch.rand(len(x), generator=torch.Generator().manual_seed(0))
    arguments = {"learning_rate": 0.3, "l2_regularization": 1.0, "max_leaf_nodes": 5, "min_samples_leaf": 3}
    head = GradientBoosting(
        10, 1, "regression", learning_rate=0.3, l2=1.0, leaves=5, leaf_rows=3, patience=2, trees=60
    )
    model = HistGradientBoostingRegressor(
        max_iter=60, early_stopping=True, n_iter_no_change=2, random_state=0, **arguments
    ).fit(x[::2], y[::2], weight[::2])
    estimated(head, x, y, weight)
    assert len(head.root) == model.n_iter_ < 60
    assert np.abs(answers(head, x) - model.predict(x)).max() < 1e-4


def test_patience_with_too_few_rows_grows_all_trees():
    x, y = known("iris")
    head = GradientBoosting(4, 3, patience=1, **OURS)
    head.estimate(x[::40], y[::40], x)
    assert len(head.root) == 15 * 3


def test_logistic_regression_of_labels_is_one_for_each():
    x, _ = known("wine")
    labels = labels_of(x)
    head = estimated(LogisticRegression(13, 3, "multilabel"), x, labels)
    scaler = StandardScaler().fit(x[::2].numpy())
    for i in range(3):
        rows = ~labels[::2, i].isnan().numpy()
        model = linear_model.LogisticRegression(max_iter=1000)
        model.fit(scaler.transform(x[::2].numpy())[rows], labels[::2, i].numpy()[rows])
        theirs = model.predict_proba(scaler.transform(x.numpy()))[:, 1]
        assert np.abs(answers(head, x)[:, i] - theirs).max() < 2e-4


CLASSIFIERS = [LogisticRegression, NaiveBayes, NearestNeighbours, GradientBoosting]


@pytest.mark.parametrize("make", CLASSIFIERS)
@pytest.mark.parametrize("present", [[1, 3], [2], [0, 2, 4]])
def test_classes_without_examples_are_never_predicted(make, present):
    x, _ = known("iris")
    codes = torch.tensor(present * 150)[:150]
    found = answers(estimated(make(4, 5), x, codes), x)
    absent = [c for c in range(5) if c not in present]
    assert found[:, absent].max() < 1e-6
    assert set(found.argmax(1).tolist()) <= set(present)


@pytest.mark.parametrize("make", [LogisticRegression, NearestNeighbours, GradientBoosting])
def test_labels_that_are_always_the_same(make):
    x, _ = known("iris")
    labels = torch.tensor([0.0, 1.0]).repeat(150, 1)
    found = answers(estimated(make(4, 2, "multilabel"), x, labels), x)
    assert found[:, 0].max() < 1e-6 and found[:, 1].min() > 1 - 1e-6


EVERY = [
    (LogisticRegression, "classification"),
    (NaiveBayes, "classification"),
    (NearestNeighbours, "multilabel"),
    (NearestNeighbours, "classification"),
    (Prototypes, "classification"),
    (Ridge, "regression"),
    (GradientBoosting, "classification"),
    (GradientBoosting, "regression"),
]


def made(make, task):
    extra = {"categorical": [False, False, False, True]} if make is GradientBoosting else {}
    return make(4, 1 if task == "regression" else 3, task, **extra)


@pytest.mark.parametrize(("make", "task"), EVERY)
def test_heads_are_saved_and_loaded(make, task, tmp_path):
    x, y = known("iris")
    x[:, 3] = torch.arange(150) % 7
    targets = {"classification": y, "multilabel": labels_of(x), "regression": x[:, 0] * 10}[task]
    head = estimated(made(make, task), x, targets)
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    empty = made(make, task)
    save_file(empty.state_dict(), tmp_path / "empty.safetensors")  # before it is estimated, too
    tensors = load_file(tmp_path / "head.safetensors")
    assert set(tensors) == set(empty.state_dict())
    empty.adopt(tensors)
    empty.load_state_dict(tensors)
    assert torch.equal(head(Features(x)), empty(Features(x)))
    before = answers(head, x)
    estimated(head, x, targets)  # anew, from where it was
    assert np.array_equal(answers(head, x), before)


@pytest.mark.parametrize(("make", "task"), [pair for pair in EVERY if pair[0] is not GradientBoosting])
def test_gaps_are_refused_where_they_cannot_be_taken(make, task):
    x, y = known("iris")
    x[4, 1] = torch.nan
    with pytest.raises(UsageError, match=r"features with gaps[\s\S]*gradient-boosting"):
        estimated(made(make, task), x, labels_of(x) if task == "multilabel" else y)


def test_heads_say_what_they_are_for():
    heads = {name: resolve("head", name, HEADS) for name in HEADS}
    classical = {name: head for name, head in heads.items() if issubclass(head, Estimated)}
    assert {name for name, head in classical.items() if "regression" in head.tasks} == {
        "gradient-boosting", "nearest-neighbours", "ridge",
    }  # fmt: skip
    assert [name for name, head in classical.items() if head.reads == "cells"] == ["gradient-boosting"]
    for head in classical.values():
        for task in {"classification", "multilabel", "regression"} - set(head.tasks):
            with pytest.raises(UsageError, match=f"cannot do {task}"):
                head(4, 1, task)
    for head in (Ridge, NearestNeighbours):
        with pytest.raises(UsageError, match="one number for a row, not 3"):
            head(4, 3, "regression")
    with pytest.raises(UsageError, match="no classes to weigh"):
        GradientBoosting(4, 1, "regression", class_weights="balanced")


def test_arguments_from_a_recipe_are_checked():
    def make(**arguments):
        given = {"width": 4, "outputs": 3, "task": "classification", "categorical": None, "quantiles": ()}
        return construct("head", Spec(**arguments), HEADS, **given)()

    head = make(name="gradient-boosting", trees=7, patience=3, class_weights="balanced")
    assert head.settings["max_iter"] == 7 and make(name="nearest-neighbours", k=2).k == 2
    for arguments, message in [
        ({"name": "gradient-boosting", "trees": 0}, "greater than or equal to 1"),
        ({"name": "gradient-boosting", "tree": 5}, "did you mean: trees"),
        ({"name": "nearest-neighbours", "weights": "distant"}, "did you mean: distance"),
        ({"name": "nearest-neighbors"}, "did you mean: nearest-neighbours"),
    ]:
        with pytest.raises(UsageError, match=message):
            make(**arguments)

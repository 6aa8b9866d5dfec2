"""Metrics against scikit-learn; intervals against closed forms and their promised coverage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from jichu.auditing import measure, table
from jichu.core.errors import UsageError
from jichu.core.files import write_table
from jichu.data.target import Target
from jichu.metrics import METRICS, fits, metric
from jichu.metrics import classification as C
from jichu.metrics import ranking as R
from jichu.metrics import regression as Q
from jichu.metrics.intervals import mean_interval, metric_interval
from jichu.metrics.representation import effective_rank
from jichu.metrics.similarity import retrieval, verification


def exact(value):
    return pytest.approx(value, rel=1e-12, abs=1e-12)


SIZES = (st.integers(2, 7), st.integers(2, 60), st.integers(0, 10_000), st.booleans())


def classes_of(classes, rows, seed, ties):
    """Truth and probabilities; with `ties` of tenths, 0 and 1 among them."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(classes), size=rows)
    if ties:
        scores = rng.multinomial(10, np.full(classes, 1 / classes), size=rows) / 10
    return rng.integers(classes, size=rows), scores


def labels_of(labels, rows, seed, ties):
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, labels))
    return (rng.random((rows, labels)) < 0.3).astype(float), scores.round(1) if ties else scores


@pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn's, where all is of one class
@settings(deadline=None, max_examples=30)
@given(*SIZES)
def test_metrics_of_classes_equal_scikit_learn(classes, rows, seed, ties):
    truth, scores = classes_of(classes, rows, seed, ties)
    predicted, every = scores.argmax(1), range(classes)
    assert C.accuracy(truth, scores) == exact(reference.accuracy_score(truth, predicted))
    assert C.log_loss(truth, scores) == exact(reference.log_loss(truth, scores, labels=every))
    present = [c for c in every if (truth == c).any()]
    recalls = reference.recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert C.balanced_accuracy(truth, scores) == exact(recalls)
    assert C.matthews(truth, scores) == exact(reference.matthews_corrcoef(truth, predicted))
    for quantity in ("precision", "recall", "f1"):
        theirs = getattr(reference, f"{quantity}_score")
        for average in ("macro", "micro", "weighted"):
            ours = getattr(C, f"{average}_{quantity}")(truth, scores)
            assert ours == exact(theirs(truth, predicted, average=average, zero_division=0))
    assert np.array_equal(
        C.confusion(truth, scores), reference.confusion_matrix(truth, predicted, labels=every)
    )
    one_hot = np.eye(classes)[truth]
    if classes == 2:
        assert C.brier(truth, scores) == exact(reference.brier_score_loss(truth, scores[:, 1], labels=every))
    else:
        assert C.brier(truth, scores) == exact(((scores - one_hot) ** 2).sum() / rows)
    if classes > 2 and not ties:  # of equals scikit-learn takes the last, which is not its own argmax
        for k in (2, 3):
            theirs = reference.top_k_accuracy_score(truth, scores, k=k, labels=every) if k < classes else 1
            assert C.top_k_accuracy(truth, scores, k=k) == exact(theirs)
        assert C.top5_accuracy(truth, scores) == C.top_k_accuracy(truth, scores, k=5)
    ranked = [1] if classes == 2 else present
    both = [c for c in ranked if 0 < one_hot[:, c].sum() < rows]
    if both:
        assert R.auroc(truth, scores) == exact(
            np.mean([reference.roc_auc_score(one_hot[:, c], scores[:, c]) for c in both])
        )
        if len(both) == classes:
            theirs = reference.roc_auc_score(truth, scores, multi_class="ovr", labels=every)
            assert R.auroc(truth, scores) == exact(theirs)
    else:
        assert np.isnan(R.auroc(truth, scores))
    if set(ranked) <= set(present):
        assert R.average_precision(truth, scores) == exact(
            np.mean([reference.average_precision_score(one_hot[:, c], scores[:, c]) for c in ranked])
        )


@settings(deadline=None, max_examples=30)
@given(*SIZES)
def test_metrics_of_labels_equal_scikit_learn(labels, rows, seed, ties):
    truth, scores = labels_of(labels, rows, seed, ties)
    predicted = (scores > 0.5).astype(float)
    each = range(labels)
    assert C.accuracy(truth, scores) == exact(reference.accuracy_score(truth, predicted))
    assert C.hamming_loss(truth, scores) == exact(reference.hamming_loss(truth, predicted))
    assert C.log_loss(truth, scores) == exact(
        np.mean([reference.log_loss(truth[:, c], scores[:, c], labels=[0, 1]) for c in each])
    )
    assert C.brier(truth, scores) == exact(
        np.mean([reference.brier_score_loss(truth[:, c], scores[:, c], labels=[0, 1]) for c in each])
    )
    occurs = [c for c in each if truth[:, c].any() or predicted[:, c].any()]
    for quantity in ("precision", "recall", "f1"):
        theirs = getattr(reference, f"{quantity}_score")
        for average in ("macro", "micro", "weighted"):
            ours = getattr(C, f"{average}_{quantity}")(truth, scores)
            if truth.any():
                found = theirs(
                    truth[:, occurs], predicted[:, occurs], average=average if len(occurs) > 1 else "binary",
                    zero_division=0,
                )  # fmt: skip
                if len(occurs) > 1 or average == "macro":
                    assert ours == exact(found)
            elif average == "weighted" or not occurs:
                assert np.isnan(ours)
    both = [c for c in each if 0 < truth[:, c].sum() < rows]
    if both:
        theirs = reference.roc_auc_score(truth[:, both], scores[:, both], average="macro")
        assert R.auroc(truth, scores) == exact(theirs)
    some = [c for c in each if truth[:, c].any()]
    if some:
        theirs = reference.average_precision_score(truth[:, some], scores[:, some], average="macro")
        assert R.average_precision(truth, scores) == exact(theirs)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 60), st.integers(0, 10_000), st.floats(-1e3, 1e3))
def test_metrics_of_numbers_equal_scikit_learn(rows, seed, shift):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows) + shift
    scores = truth + rng.normal(size=rows) / 2
    assert Q.mse(truth, scores) == exact(reference.mean_squared_error(truth, scores))
    assert Q.rmse(truth, scores) == exact(reference.mean_squared_error(truth, scores) ** 0.5)
    assert Q.mae(truth, scores) == exact(reference.mean_absolute_error(truth, scores))
    assert Q.r2(truth, scores) == pytest.approx(reference.r2_score(truth, scores), rel=1e-9, abs=1e-9)
    assert Q.median_absolute_error(truth, scores) == exact(reference.median_absolute_error(truth, scores))
    levels = [0.1, 0.5, 0.8]
    three = scores[:, None] + np.array([-1.0, 0.0, 0.5])
    theirs = [reference.mean_pinball_loss(truth, three[:, i], alpha=q) for i, q in enumerate(levels)]
    assert Q.pinball(truth, three, quantiles=levels) == exact(np.mean(theirs))
    assert Q.pinball(truth, scores) == exact(Q.mae(truth, scores) / 2)
    for name in fits("regression"):
        if name != "pinball":
            found = metric(name, quantiles=levels)
            assert found(truth, three) == exact(found(truth, scores))  # the median


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(0, 10_000), st.booleans(), st.sampled_from([0.0, 0.5, 0.75, 0.9, 1.0]))
def test_recall_at_specificity_tries_every_threshold(rows, seed, ties, specificity):
    truth, scores = classes_of(2, rows, seed, ties)
    found = R.recall_at_specificity(truth, scores, specificity=specificity)
    if 0 < truth.sum() < rows:
        tried = []
        for threshold in [*scores[:, 1], np.inf]:
            above = scores[:, 1] >= threshold
            if (~above)[truth == 0].mean() >= specificity:
                tried.append(above[truth == 1].mean())
        assert found == exact(max(tried))
    else:
        assert np.isnan(found)


def rows_for(task, rows=30, seed=3):
    if task == "classification":
        return classes_of(4, rows, seed, True)
    if task == "multilabel":
        return labels_of(4, rows, seed, True)
    truth = np.random.default_rng(seed).normal(size=rows).round(1)
    return truth, (truth + np.random.default_rng(seed + 1).normal(size=rows)).round(1)


PAIRS = [(task, name) for task in ("classification", "multilabel", "regression") for name in fits(task)]


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_a_resample_is_weighed_as_if_its_rows_were_there(task, name):
    found = metric(name, task=task)
    truth, scores = rows_for(task)
    rng = np.random.default_rng(0)
    for size in (30, 2):  # with two rows most of what is averaged is not defined
        truth, scores = truth[:size], scores[:size]
        weights = rng.multinomial(size, np.full(size, 1 / size), size=20).astype(float)
        together = found.weighted(truth, scores, weights)
        for weight, value in zip(weights, together, strict=True):
            rows = np.repeat(np.arange(size), weight.astype(int))
            assert value == pytest.approx(found(truth[rows], scores[rows]), nan_ok=True, abs=1e-9)


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_an_interval_is_that_of_resampling_row_by_row(task, name):
    found = metric(name, task=task)
    truth, scores = rows_for(task, rows=200)
    noisy = np.roll(scores, 1, axis=0)
    fast = metric_interval(found, truth, np.stack([scores, noisy]))
    slow = metric_interval(lambda t, s: found(t, s), truth, np.stack([scores, noisy]))
    assert fast.value == exact(slow.value)
    width = slow.high - slow.low
    assert fast.low == pytest.approx(slow.low, abs=0.25 * width)
    assert fast.high == pytest.approx(slow.high, abs=0.25 * width)
    same = metric_interval(found, truth, scores[None], against=scores[None])
    assert same == (0, 0, 0)
    worse = metric_interval(found, truth, np.stack([scores, noisy]), against=noisy[None])
    by_hand = (found(truth, scores) - found(truth, noisy)) / 2
    assert worse.value == pytest.approx(by_hand, abs=1e-9)


def test_every_metric_says_what_it_is_for():
    # see test_language and test_series
    language = {"bits_per_byte", "exact_match", "perplexity", "token_loss", "scaled_mae", "scaled_mse"}
    assert {name for _, name in PAIRS} == set(METRICS) - language
    losses = {name for name in METRICS if metric(name).lower_is_better}
    assert losses == {
        "log_loss", "brier", "ece", "hamming_loss", "mse", "rmse", "mae", "median_absolute_error", "pinball",
        "bits_per_byte", "perplexity", "token_loss", "scaled_mae", "scaled_mse",
    }  # fmt: skip
    assert all(metric(name).__doc__ and metric(name).__name__ == name for name in METRICS)
    with pytest.raises(UsageError, match=r"is for regression, not for classification[\s\S]*accuracy, auroc"):
        metric("rmse", task="classification")


def test_arguments_of_metrics_are_checked():
    assert metric("top_k_accuracy", k=3).__name__ == "top_k_accuracy(k=3)"
    assert metric("accuracy") is C.accuracy
    for name, arguments, message in [
        ("top_k_accuracy", {"k": 0}, "greater than or equal to 1"),
        ("top_k_accuracy", {"kk": 3}, "did you mean: k"),
        ("recall_at_specificity", {"specificity": 2.0}, "less than or equal to 1"),
        ("accuracy", {"k": 3}, "unknown key"),
        ("rmse", {"quantiles": [0.0]}, "greater than 0"),
        ("acuracy", {}, "did you mean: accuracy"),
    ]:
        with pytest.raises(UsageError, match=message):
            metric(name, **arguments)
    with pytest.raises(UsageError, match="none of them known to be the median"):
        Q.mae(np.zeros(3), np.zeros((3, 2)))
    with pytest.raises(UsageError, match="2 numbers are predicted"):
        Q.pinball(np.zeros(3), np.zeros((3, 2)))


def share(t, s, least: float = 0.5):
    return float((s.max(1) > least).mean())


def test_a_function_of_ones_own_takes_arguments_too():
    truth, scores = classes_of(3, 20, 0, False)
    found = metric(f"{__name__}:share", task="classification", least=0.7)
    assert found(truth, scores) == share(truth, scores, 0.7) and found.__name__ == "share"
    with pytest.raises(UsageError, match="did you mean: least"):
        metric(f"{__name__}:share", leas=0.7)


def test_what_is_not_defined_is_nan():
    one_class, sure = np.zeros(4, int), np.eye(3)[np.zeros(4, int)]
    assert np.isnan(R.auroc(one_class, sure)) and np.isnan(R.recall_at_specificity(one_class, sure))
    assert R.average_precision(one_class, sure) == 1
    nothing, never = np.zeros((4, 2)), np.zeros((4, 2))
    for average in ("macro", "micro", "weighted"):
        assert np.isnan(getattr(C, f"{average}_f1")(nothing, never))
    assert np.isnan(Q.r2(np.full(5, 0.1), np.arange(5.0))) and np.isnan(Q.r2(np.ones(1), np.ones(1)))
    found = metric_interval(R.auroc, one_class, sure[None])
    assert np.isnan(found.low) and np.isnan(found.value)
    rare = np.r_[1, np.zeros(9, int)]  # in a third of the resamples there is no such row
    found = metric_interval(R.auroc, rare, np.stack([1 - rare * 0.8, rare * 0.8], 1)[None])
    assert found == (1, 1, 1)


def test_by_class():
    truth, scores = np.array([0, 0, 1]), np.eye(4)[[0, 1, 1]]
    found = {name: [v.value for v in of] for name, of in C.by_class(C.confusion(truth, scores)).items()}
    assert np.allclose(found["precision"], [1, 0.5, np.nan, np.nan], equal_nan=True)
    assert np.allclose(found["recall"], [0.5, 1, np.nan, np.nan], equal_nan=True)
    assert np.allclose(found["f1"], [2 / 3, 2 / 3, np.nan, np.nan], equal_nan=True)


def test_by_class_agrees_with_scikit_learn_and_its_intervals_hold_the_truth():
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        truth = rng.integers(3, size=150)
        told = np.where(rng.random(150) < 0.7, truth, rng.integers(3, size=150))  # recall and precision 0.8
        found = C.by_class(C.confusion(truth, np.eye(3)[told]))
        of = reference.precision_recall_fscore_support(truth, told)
        assert all(
            np.allclose([v.value for v in found[name]], of[i])
            for i, name in enumerate(("precision", "recall", "f1"))
        )
        held.append([[v.low <= 0.8 <= v.high for v in each] for each in found.values()])
    assert (np.mean(held, (0, 2)) > 0.92).all() and (np.mean(held, (0, 2)) < 0.99).all()


def test_intervals_agree_with_the_binomial():
    correct = np.r_[np.ones(180), np.zeros(20)]
    found = mean_interval(correct)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 200)
    assert found.value == 0.9
    assert found.low == pytest.approx(0.9 - half, abs=0.006) and found.high == pytest.approx(
        0.9 + half, abs=0.006
    )
    assert mean_interval(correct) == found


def test_none_and_all_have_an_interval_too():
    for values in (np.ones(25, bool), np.zeros(25, bool)):
        found = mean_interval(values)
        assert found.value == values[0] and 0.12 < found.high - found.low < 0.14


def test_intervals_cover_what_they_promise():
    rng = np.random.default_rng(0)
    held = 0
    for i in range(150):
        found = mean_interval((rng.random(100) < 0.8).astype(float), seed=i)
        held += found.low <= 0.8 <= found.high
    assert 0.9 <= held / 150 <= 0.99


def test_draws_widen_the_interval():
    rng = np.random.default_rng(0)
    rows = (rng.random(400) < 0.8).astype(float)
    alike = np.repeat(rows[None], 6, axis=0)
    apart = np.stack([(rng.random(400) < p).astype(float) for p in (0.6, 0.7, 0.8, 0.85, 0.9, 0.95)])
    width = {
        name: mean_interval(v).high - mean_interval(v).low for name, v in (("alike", alike), ("apart", apart))
    }
    assert width["apart"] > 1.5 * width["alike"]
    assert width["alike"] == pytest.approx(np.diff(mean_interval(rows)[1:])[0], abs=0.01)


def test_a_metric_of_ones_own_gets_an_interval():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=300)
    scores = np.eye(3)[np.where(rng.random((2, 300)) < 0.8, truth, (truth + 1) % 3)]
    own = metric_interval(lambda t, s: float((s.argmax(1) == t).mean()), truth, scores)
    known = metric_interval(C.accuracy, truth, scores)
    assert own.value == pytest.approx(known.value)
    assert own.low == pytest.approx(known.low, abs=0.02) and own.high == pytest.approx(known.high, abs=0.02)


XYZ = Target("label", "classification", ("x", "y", "z"))


def tables(*, shift=0.0, rows=300, draws=3):
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.integers(3, size=rows))
    hard = rng.random(rows)  # both models fail on the same rows
    names = [f"r{i}" for i in range(rows)]
    made = []
    for stage, level in (("a", 0.2), ("b", 0.2 + shift)):
        for draw in range(draws):
            wrong = torch.from_numpy(hard + 0.02 * rng.random(rows) < level)
            logits = 4 * torch.nn.functional.one_hot(torch.where(wrong, (truth + 1) % 3, truth), 3).float()
            made.append(table.make(stage, draw, torch.arange(rows), names, XYZ, truth, logits))
    import pyarrow

    return pyarrow.concat_tables(made).unify_dictionaries()


def test_the_gain_is_paired():
    metrics = {"accuracy": C.accuracy}
    found = measure.measure(tables(shift=0.04), XYZ, metrics, ["a", "b"])
    alone = found["models"]["a"]["metrics"]["accuracy"]
    gain = found["gain"]
    assert gain["low"] > 0
    assert gain["high"] - gain["low"] < 0.7 * (alone["high"] - alone["low"])
    none = measure.measure(tables(), XYZ, metrics, ["a", "b"])["gain"]
    assert none["low"] <= 0 <= none["high"]
    own = measure.paired_gain(
        tables(shift=0.04), "a", "b", lambda t, s: float((s.argmax(1) == t).mean()), XYZ
    )
    assert own.value == pytest.approx(gain["value"])


def test_the_table_keeps_every_row(tmp_path):
    made = tables(draws=2)
    write_table(tmp_path / "p.parquet", made)
    again = table.read(tmp_path / "p.parquet")
    assert again.column_names[:8] == [
        "stage",
        "draw",
        "row",
        "record",
        "truth",
        "prediction",
        "score",
        "loss",
    ]
    _, truth, scores = table.scores(again, "b")
    assert scores.shape == (2, 300, 3) and np.allclose(scores.sum(2), 1)
    assert again["loss"].to_pylist()[0] == pytest.approx(-np.log(table.scores(again, "a")[2][0, 0, truth[0]]))
    headline = measure.headline(measure.measure(made, XYZ, {"accuracy": C.accuracy}, ["a", "b"]))
    assert set(headline) == {"a", "b", "gain"} and all(
        set(v) == {"value", "low", "high"} for v in headline.values()
    )


def test_a_metric_that_gives_no_number_is_refused():
    with pytest.raises(UsageError, match="gave list"):
        measure.measure(tables(), XYZ, {"own": lambda t, s: [1]})


def test_effective_rank():
    generator = torch.Generator().manual_seed(0)
    assert effective_rank(torch.randn(4000, 8, generator=generator)) == pytest.approx(8, rel=0.01)
    line = torch.randn(100, 1, generator=generator) * torch.randn(1, 8, generator=generator)
    assert effective_rank(line) == pytest.approx(1, abs=1e-2)
    assert effective_rank(torch.ones(10, 8)) == 0


def test_retrieval_and_verification_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 5, 60)
    features = np.eye(5)[classes] + 0.8 * rng.standard_normal((60, 5))
    found = retrieval(features, classes, ranks=(1, 5))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    others = ~np.eye(60, dtype=bool)
    same = classes[:, None] == classes
    average = [
        reference.average_precision_score(same[i][others[i]], likeness[i][others[i]]) for i in range(60)
    ]
    assert found["mean_average_precision"].value == pytest.approx(np.mean(average))
    first = np.where(others, likeness, -2).argmax(1)
    assert found["recall_at_1"].value == pytest.approx((classes[first] == classes).mean())
    assert found["recall_at_1"].value <= found["recall_at_5"].value
    pairs = verification(features, classes)
    one, two = np.triu_indices(60, 1)
    auroc = reference.roc_auc_score(same[one, two], likeness[one, two])
    assert pairs["verification_auroc"].value == pytest.approx(auroc)
    false, true, _ = reference.roc_curve(same[one, two], likeness[one, two], drop_intermediate=False)
    place = np.argmin(np.abs(1 - true - false))
    assert pairs["equal_error_rate"].value == pytest.approx((1 - true[place] + false[place]) / 2)
    assert pairs["accepted_at_1%"].value == pytest.approx(true[false <= 0.01].max())
    assert pairs["equal_error_rate"].low < pairs["equal_error_rate"].value < pairs["equal_error_rate"].high


def test_similarity_of_what_cannot_be_compared():
    assert retrieval(np.ones((3, 2)), np.array([0, 1, 2])) == {}
    assert verification(np.ones((3, 2)), np.array([0, 0, 0])) == {}
    same = verification(np.ones((4, 2)), np.array([0, 0, 1, 1]))
    assert same["verification_auroc"].value == pytest.approx(0.5)
    assert retrieval(np.zeros((4, 2)), np.array([0, 0, 1, 1]))["recall_at_5"].value == 1

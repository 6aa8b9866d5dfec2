"""Each step by itself, against torch, ONNX Runtime and closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given as supposing
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn
from torch.ao.quantization import MovingAverageMinMaxObserver
from torch.nn.utils import prune

import jichu
from jichu.compression import STEPS, steps
from jichu.compression.base import Retrained, chosen, fold, ramp
from jichu.compression.distillation import Taught
from jichu.compression.low_rank import LowRank
from jichu.compression.magnitude import Magnitude
from jichu.compression.movement import Movement
from jichu.compression.quantization_aware import QuantizationAware, Rounded
from jichu.compression.quantization_aware import steps as widths
from jichu.compression.size import size
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.models import low_rank, ranges
from jichu.models.changes import is_changed
from jichu.models.folder import load, save
from jichu.models.layout import lay_out
from jichu.objectives.base import Context
from jichu.train.fit import fit
from jichu.train.muon import matrices
from test_compression_structured import answers, images, subject, tables, texts

CNN = {"name": "cnn", "widths": [6, 8], "hidden": 12}


def weights(model):
    return {name: layer.weight for name, layer in chosen(model, None, "test").items()}


def shares(model):
    return [1 - float(w.count_nonzero()) / w.numel() for w in weights(model).values()]


def retrained(given, made, count=20, **settings):
    """Trained for so many steps with the steps of a compression."""
    objective, rates = steps.beside(given.objective, made)
    config = jichu.TrainConfig(budget=f"{count} steps", **settings)
    fit(given.model, objective, given.batches() * count, config, adapt=rates)
    steps.end(made, given.model.eval(), True)
    return given.model


# ------------------------------------------------------------------- magnitude


@pytest.mark.parametrize("scope", ["layer", "global"])
@supposing(st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_masks_are_those_of_torch(scope, amount):
    given = subject(CNN, images())
    reference = copy.deepcopy(given.model)
    layers = [*chosen(reference, None, "test").values()]
    if scope == "layer":
        for layer in layers:
            prune.l1_unstructured(layer, "weight", amount)
    else:
        prune.global_unstructured(
            [(layer, "weight") for layer in layers], prune.L1Unstructured, amount=amount
        )
    step = Magnitude(amount, scope=scope)
    step.begin(given)
    steps.end([step], given.model, False)
    for mine, layer in zip(weights(given.model).values(), layers, strict=True):
        assert torch.equal(mine, layer.weight)
    assert not given.config.changes and type(given.model.backbone.blocks[0][0]) is nn.Conv2d


def test_the_ramp_is_cubic_and_ends_where_it_says():
    found = [ramp(Context(0, step, 1000), 0.5) for step in range(1000)]
    asked = {step + 1: share for step, share in enumerate(found) if share is not None}
    assert max(asked) == 500 and asked[500] == 1 and len(asked) == 100
    assert all(share == pytest.approx(1 - (1 - t / 500) ** 3) for t, share in asked.items())
    assert ramp(Context(0, 0, 1), 0.5) == 1  # of a single step too


@pytest.mark.parametrize("kind", [Magnitude, Movement])
def test_zeros_come_one_after_another_and_stay(kind):
    given, seen = subject(CNN, images()), []
    made = [kind(0.7, until=0.5)]
    made[0].begin(given)
    usual = made[0].after_step

    def look(context):
        usual(context)
        seen.append(shares(given.model))

    made[0].after_step = look
    before = {n: w.detach().clone() for n, w in weights(given.model).items()}
    model = retrained(given, made, 40, optimizer={"lr": 0.01})
    whole = [w.numel() for w in weights(model).values()]
    assert [round(s * n) for s, n in zip(shares(model), whole, strict=True)] == [
        round(0.7 * n) for n in whole
    ]
    assert 0 < seen[0][0] < seen[8][0] < seen[19][0] == pytest.approx(0.7, abs=0.01)
    assert seen[19] == seen[-1] == shares(model)
    assert not torch.equal(before["backbone.blocks.0.0"], weights(model)["backbone.blocks.0.0"])


def test_masked_weights_are_matrices_to_muon_and_lie_as_the_others():
    given = subject(CNN, images())
    before = matrices(given.model)
    Magnitude(0.5).begin(given)
    assert matrices(given.model) == before and len(before) == 3
    lay_out(given.model, "channels_last")
    layer = given.model.backbone.blocks[1][0]
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------- movement


def test_scores_sum_up_how_weights_move_away_from_zero():
    """After a step of plain gradient descent: minus rate × gradient × weight (equation 4 of the paper)."""
    given = subject({"name": "mlp", "widths": [5]}, images(8, 1))
    reference, batch = copy.deepcopy(given.model), images(8, 1)
    loss = given.objective.losses(reference(batch), batch).mean()
    layer = reference.backbone.layers[0]
    (slope,) = torch.autograd.grad(loss, [layer.weight])
    step = Movement(0.5, rate=3.0)
    step.begin(given)
    steps_ = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False}
    objective, rates = steps.beside(given.objective, [step])
    fit(
        given.model,
        objective,
        [batch],
        jichu.TrainConfig(budget="1 steps", optimizer=steps_, schedule="constant", warmup=0),
        adapt=rates,
    )
    torch.testing.assert_close(step.scored[0].scores, -0.3 * slope * layer.weight)
    kept = step.scored[0].scores.detach().flatten().topk(math.ceil(layer.weight.numel() / 2)).indices
    steps.end([step], given.model, True)
    left = given.model.backbone.layers[0].weight.detach().flatten()
    assert torch.equal(left.nonzero()[:, 0], kept.sort().values)


# ------------------------------------------------------------------- low rank


@supposing(st.integers(1, 11), st.booleans())
@settings(max_examples=20, deadline=None)
def test_what_is_lost_are_the_smaller_singular_values(rank, convolution):
    """Eckart and Young: the squared error is the sum of the squares of those that are left out."""
    torch.manual_seed(rank)
    layer = nn.Conv2d(4, 12, 3, stride=2, padding=1, dilation=2) if convolution else nn.Linear(20, 12)
    made = low_rank.factored(layer, rank)
    lost = (made.weight - layer.weight).detach().double().square().sum()
    values = torch.linalg.svdvals(layer.weight.detach().flatten(1).double())
    assert float(lost) == pytest.approx(float(values[rank:].square().sum()), rel=1e-4, abs=1e-6)
    x = torch.randn(2, 4, 9, 9) if convolution else torch.randn(3, 5, 20)
    direct = copy.deepcopy(layer)
    direct.weight.data = made.weight.data
    torch.testing.assert_close(made(x), direct(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone, batch", [(CNN, images()), ({"name": "gpt", "width": 32, "depth": 2, "heads": 4}, texts()),
                                             ({"name": "t5", "width": 32, "depth": 2, "heads": 4}, texts())])  # fmt: skip
def test_models_of_low_rank_are_loaded_as_they_are(backbone, batch, tmp_path):
    given = subject(backbone, batch)
    whole, before = answers(given.model, batch), size(given.model, batch)
    LowRank(amount=0.4).begin(given)
    (change,) = given.config.changes
    assert change["name"] == "low-rank" and is_changed(given.model.backbone)
    assert size(given.model, batch)["parameters"] < before["parameters"]
    save(tmp_path, given.model, given.config)
    again, _ = load(tmp_path)
    assert torch.equal(answers(again, batch), answers(given.model, batch))
    assert not torch.equal(answers(again, batch), whole)


def test_all_the_energy_is_all_the_layer():
    given = subject({"name": "mlp", "widths": [64, 64]}, images(8, 1))
    before = answers(given.model, images(8, 1))
    with torch.no_grad():
        layer = given.model.backbone.layers[3]
        layer.weight.copy_(layer.weight[:, :3] @ layer.weight[:3])  # of rank 3
        before = answers(given.model, images(8, 1))
    LowRank(energy=0.999999, layers=".*layers.3").begin(given)
    assert given.config.changes[0]["ranks"] == {"layers.3": 3}
    torch.testing.assert_close(answers(given.model, images(8, 1)), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"amount": 0.5, "rank": 3}, {"rank": 600}])
def test_a_rank_that_says_nothing_is_refused(settings):
    with pytest.raises(UsageError, match=r"amount, rank and energy|smaller as two"):
        LowRank(**settings).begin(subject(CNN, images()))


def test_cut_after_low_rank_and_the_other_way_round(tmp_path):
    for order in (["structured", "low-rank"], ["low-rank", "structured"]):
        given = subject({"name": "cnn", "widths": [16, 32], "hidden": 24}, images())
        made = steps.make([Spec(name=name, amount=0.3) for name in order], "steps", False)
        steps.begin(made, given)
        steps.end(made, given.model, False)
        assert [change["name"] for change in given.config.changes] == [
            {"structured": "cut"}.get(n, n) for n in order
        ]
        save(tmp_path, given.model, given.config)
        assert torch.equal(answers(load(tmp_path)[0], images()), answers(given.model, images()))


# ------------------------------------------------------------------- 8 bits


def in_onnx(values, step, zero, kind, axis=None):
    """Quantised and back, as ONNX Runtime does it."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    f, q = onnx.TensorProto.FLOAT, {"int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8}[kind]
    about = {} if axis is None else {"axis": axis}
    nodes = [onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **about),
             onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **about)]  # fmt: skip
    shape = [] if axis is None else [len(step)]
    inputs = [
        onnx.helper.make_tensor_value_info(n, t, s)
        for n, t, s in (("x", f, values.shape), ("s", f, shape), ("z", q, shape))
    ]
    graph = onnx.helper.make_graph(
        nodes, "g", inputs, [onnx.helper.make_tensor_value_info("y", f, values.shape)]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"x": values.numpy(), "s": np.asarray(step, np.float32), "z": np.asarray(zero, kind)}
    return torch.from_numpy(session.run(None, given)[0])


@supposing(st.integers(0, 1000), st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_weights_are_rounded_as_onnx_runtime_does(seed, scale):
    weight = scale * torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    step = widths(weight, 0, 127)
    found = Rounded(0, 8)(weight)
    assert torch.equal(found, in_onnx(weight, step, np.zeros(5), "int8", axis=0))
    assert torch.equal(Rounded(0, 8)(found), found)  # what is on the grid stays there
    assert float((found - weight).abs().max()) <= float(step.max()) / 2 * 1.001


def test_a_factor_of_each_output_may_be_folded_in_later():
    weight, factor = torch.randn(6, 4), torch.tensor([2.0, -0.5, 3.0, 1.0, -1.5, 0.1])[:, None]
    torch.testing.assert_close(Rounded(0, 8)(weight * factor), Rounded(0, 8)(weight) * factor)


def test_ranges_are_those_of_torchs_observer_and_round_as_onnx_runtime_does():
    part, reference = ranges.Range().train(), MovingAverageMinMaxObserver(dtype=torch.quint8)
    for seed in range(5):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)) * (seed + 1) + 0.5
        part(x)
        reference(x)
    torch.testing.assert_close(
        torch.stack([part.low, part.high]), torch.stack([reference.min_val, reference.max_val])
    )
    step, zero = reference.calculate_qparams()
    mine = part.grid()
    assert float(mine[0]) == pytest.approx(float(step), rel=1e-6) and int(mine[1]) == int(zero)
    part.eval()
    assert torch.equal(part(x), in_onnx(x, mine[0], mine[1], "uint8"))
    assert part(torch.zeros(3)).abs().sum() == 0  # zero is a level
    for x in (torch.full((2,), 3.0), torch.zeros(2)):  # of one sign, and of one value
        part = ranges.Range().train()
        torch.testing.assert_close(part(x), x)


@pytest.mark.parametrize("backbone, batch", [(CNN, images()), ({"name": "bert", "width": 32, "depth": 1, "heads": 4}, texts()),
                                             ({"name": "gpt", "width": 32, "depth": 1, "heads": 4}, texts())])  # fmt: skip
def test_ranges_stay_with_the_model(backbone, batch, tmp_path):
    given = subject(backbone, batch)
    plain = answers(given.model, batch)
    made = [QuantizationAware()]
    made[0].begin(given)
    model = retrained(given, made, 6, optimizer={"lr": 1e-5})
    found = ranges.seen(model)
    assert set(found) == set(given.config.ranges) >= {"heads.label.linear"}
    assert all(low < high for low, high in found.values())
    for layer in weights(model).values():
        assert all(len(row.unique()) <= 255 for row in layer.flatten(1))
    rounded = answers(model, batch)
    assert 0 < float((rounded - plain).abs().max()) < 0.3
    save(tmp_path, model, given.config)
    again, _ = load(tmp_path)
    assert torch.equal(answers(again, batch), rounded) and ranges.seen(again) == found
    ranges.forget(again)
    assert not ranges.seen(again) and set(again.state_dict()) == set(
        subject(backbone, batch).model.state_dict()
    )
    assert not torch.equal(answers(again, batch), rounded)


@pytest.mark.parametrize("kind", [Magnitude, Movement])
@pytest.mark.parametrize("name", ["cnn", "gpt"])
def test_zeros_and_8_bits_go_together(name, kind):
    backbone, batch = (
        (CNN, images()) if name == "cnn" else ({"name": "gpt", "width": 16, "depth": 1, "heads": 2}, texts())
    )
    given = subject(backbone, batch)
    made = [kind(0.6), QuantizationAware()]
    steps.begin(made, given)
    assert set(weights(given.model)) | {"heads.label.linear"} == set(given.config.ranges)
    model = retrained(given, made, 4)
    assert all(share >= 0.59 for share in shares(model))
    axis = 1 if name == "gpt" else 0
    for weight in weights(model).values():
        torch.testing.assert_close(Rounded(axis, 8)(weight), weight, rtol=0, atol=0)


def test_four_bits_have_fifteen_levels():
    given = subject(CNN, images())
    step = QuantizationAware(bits=4, layers="backbone.*")
    step.begin(given)
    fold(given.model)
    assert all(len(row.unique()) <= 15 for w in weights(given.model).values() for row in w.flatten(1))
    assert "heads.label.linear" not in given.config.ranges
    with pytest.raises(UsageError, match="rounded already"):
        QuantizationAware().begin(given)


# ------------------------------------------------------------------- distillation


def test_who_has_not_changed_has_nothing_to_learn_from_itself():
    given, batch = subject(CNN, images()), images()
    step = Taught(alpha=1.0)
    step.meet(given)
    step.begin(given)
    objective = step.around(given.objective)
    objective.bind(given.model, batch)
    losses = objective.losses(objective(given.model, batch), batch)
    torch.testing.assert_close(losses["distillation"], torch.zeros(4), rtol=0, atol=1e-5)


def test_a_student_is_another_model_that_reads_the_same():
    given = subject(CNN, images())
    step = Taught(student={"name": "cnn", "widths": [4]})
    step.meet(given)
    teacher = given.model
    step.begin(given)
    assert given.model is not teacher and given.config.backbone == {"name": "cnn", "widths": [4]}
    assert torch.equal(given.model.inputs["image"].mean, teacher.inputs["image"].mean)
    before, agreed = answers(teacher, images()).softmax(1), answers(given.model, images()).softmax(1)
    model = retrained(given, [step], 60, optimizer={"lr": 0.01})
    after = answers(model, images()).softmax(1)
    assert (after - before).abs().mean() < 0.5 * (agreed - before).abs().mean()
    with pytest.raises(UsageError, match="reads text data"):
        Taught(student="bert-tiny").begin(subject(CNN, images()))


# ------------------------------------------------------------------- all


def test_every_step_keeps_the_contract_of_objectives(batch):
    for made in ([Magnitude(0.5)], [Movement(0.5)]):
        given = subject({"name": "cnn", "widths": [4, 8], "norm": "none"}, images(8, 1))
        made[0].begin(given)
        three = {**batch, "label": batch["label"] % 3}
        jichu.check_objective(Retrained(given.objective, made), given.model, three)


@supposing(st.sampled_from(["structured", "low-rank", "magnitude"]), st.floats(0.2, 0.8))
@settings(max_examples=15, deadline=None)
def test_sizes_that_are_told_are_sizes_that_are_seen(name, amount):
    given = subject({"name": "cnn", "widths": [8, 16], "norm": "none"}, images())
    made = steps.make([Spec(name=name, amount=amount)], "steps", False)
    steps.begin(made, given)
    steps.end(made, given.model, False)
    found, layers = size(given.model, images()), dict(given.model.named_modules())
    state = given.model.state_dict()
    kept = [t for n, t in state.items() if not n.startswith("inputs")]
    assert found["parameters"] == sum(t.numel() for t in kept)
    assert found["nonzero"] == sum(int((t != 0).sum()) for t in kept)
    assert found["bytes"] == sum(4 * t.numel() for t in state.values())
    sides, macs = {"blocks.0": 32, "blocks.1": 16, "heads.": 1}, 0
    for layer_name, layer in layers.items():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            side = next(s for part, s in sides.items() if part in layer_name)
            macs += side**2 * layer.weight.numel()
    assert found["macs"] == macs


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("amount", [0, 1, 1.5, -0.1, math.nan, "half"])
def test_an_amount_that_is_no_share_is_refused(name, amount):
    if name not in ("distillation", "quantization-aware"):
        with pytest.raises(UsageError, match="amount"):
            steps.make([Spec(name=name, amount=amount)], "steps", True)


@pytest.mark.parametrize(
    "names, trains, told",
    [
        (["structurd"], True, "did you mean: structured"),
        ([{"name": "magnitude", "amount": 0.5}, {"name": "structured", "amount": 0.5}], True, "structured before magnitude"),
        ([{"name": "magnitude", "amount": 0.5}] * 2, True, "twice"),
        ([{"name": "low-rank", "amount": 0.5}, {"name": "distillation", "student": "cnn"}], True, "undoes low-rank"),
        (["distillation"], False, "without training"),
        ([{"name": "movement", "amount": 0.5}], False, "without training"),
        (["torch.nn:Linear"], True, "is no Step"),
        ([{"name": "magnitude", "amount": 0.5, "untl": 0.5}], True, "did you mean: until"),
        ([{"name": "movement", "amount": 0.5, "rate": -1}], True, "rate"),
    ],
)  # fmt: skip
def test_steps_in_no_order_are_refused(names, trains, told):
    with pytest.raises(UsageError) as caught:
        steps.make([Spec(**n) if isinstance(n, dict) else Spec(name=n) for n in names], "steps", trains)
    assert told in str(caught.value)


def test_a_teacher_may_stand_anywhere():
    specs = [Spec(name="distillation"), Spec(name="structured", amount=0.5)]
    assert [step.name for step in steps.make(specs, "steps", True)] == ["distillation", "structured"]


def test_a_network_without_layers_is_refused():
    for step in (Magnitude(0.5), LowRank(amount=0.5), QuantizationAware()):
        with pytest.raises(UsageError, match="Columns has no dense layer"):
            step.begin(subject({"name": "columns"}, tables()))

"""Networks by name against published shapes, other implementations and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import jichu
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct
from jichu.models import BACKBONES
from jichu.models.cnn import Cnn
from jichu.models.drop_path import DropPath, rising
from jichu.models.ft_transformer import Attention, FtTransformer, ReGlu, Tokenizer
from jichu.models.inception import InceptionV3
from jichu.models.mlp import Mlp, embedding_width
from jichu.models.periodic import Periodic
from jichu.models.recurrent import Gru, Lstm, Rnn
from jichu.models.resnet import ResNet18, ResNet50
from jichu.models.resnet9 import ResNet9
from jichu.models.small_convnext import SmallConvNext
from jichu.models.tables import Cells, Columns

TABLE = {"numbers": 3, "categories": [4, 2]}


def make(name, size=0, channels=3, numbers=0, categories=(), **arguments):
    given = {"channels": channels, "size": size, "numbers": numbers, "categories": list(categories)}
    return construct("backbone", Spec(name=name, **arguments), BACKBONES, where="backbone", **given)()


def seeded(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def images(size, channels=1, rows=3):
    return {"image": seeded(rows, channels, size, size), "row": torch.arange(rows)}


def rows_of_a_table(rows=6, missing=False):
    numbers, generator = seeded(rows, 3), torch.Generator().manual_seed(0)
    if missing:
        numbers[0, 0] = numbers[1] = float("nan")
    categories = torch.stack([torch.randint(0, n, (rows,), generator=generator) for n in (4, 2)], 1)
    return {"numbers": numbers, "categories": categories, "row": torch.arange(rows)}


# name: parameters with a last layer of 1,000 classes, as torchvision publishes them; width of the features;
# side and number of the last maps of an image of 224 (Inception: 299) pixels
PUBLISHED = {
    "alexnet": (61_100_840, 4096, 6, 256),
    "vgg11": (132_863_336, 4096, 7, 512),
    "vgg11-bn": (132_868_840, 4096, 7, 512),
    "vgg13": (133_047_848, 4096, 7, 512),
    "vgg13-bn": (133_053_736, 4096, 7, 512),
    "vgg16": (138_357_544, 4096, 7, 512),
    "vgg16-bn": (138_365_992, 4096, 7, 512),
    "vgg19": (143_667_240, 4096, 7, 512),
    "vgg19-bn": (143_678_248, 4096, 7, 512),
    "resnet18": (11_689_512, 512, 7, 512),
    "resnet34": (21_797_672, 512, 7, 512),
    "resnet50": (25_557_032, 2048, 7, 2048),
    "resnet101": (44_549_160, 2048, 7, 2048),
    "resnet152": (60_192_808, 2048, 7, 2048),
    "densenet121": (7_978_856, 1024, 7, 1024),
    "densenet169": (14_149_480, 1664, 7, 1664),
    "densenet201": (20_013_928, 1920, 7, 1920),
    # less the second classifier: convolutions 768→128 (1×1) and 128→768 (5×5), two norms, 768→1000
    "inception-v3": (27_161_264 - (768 * 128 * 26 + 2 * 896 + 769_000), 2048, 8, 2048),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_are_the_published_ones(name):
    parameters, width, side, maps = PUBLISHED[name]
    size = 299 if name == "inception-v3" else 224
    with torch.device("meta"):
        network = make(name, size).eval()
        out = network({"image": torch.empty(2, 3, size, size)})
    assert sum(p.numel() for p in network.parameters()) + width * 1000 + 1000 == parameters
    assert network.width == width and out.pooled.shape == (2, width)
    assert out.maps.shape == (2, maps, side, side)


# name: entries in torchvision's state dict without the last layer (and Inception's second classifier);
# some of them with their shapes
NAMES = {
    "alexnet": (14, {
        "features.0.weight": [64, 3, 11, 11], "features.3.weight": [192, 64, 5, 5],
        "features.6.weight": [384, 192, 3, 3], "features.8.bias": [256], "features.10.weight": [256, 256, 3, 3],
        "classifier.1.weight": [4096, 9216], "classifier.4.bias": [4096],
    }),
    "vgg16": (30, {
        "features.0.weight": [64, 3, 3, 3], "features.5.weight": [128, 64, 3, 3], "features.28.bias": [512],
        "classifier.0.weight": [4096, 25088], "classifier.3.weight": [4096, 4096],
    }),
    "vgg11-bn": (8 * 7 + 4, {
        "features.0.weight": [64, 3, 3, 3], "features.1.running_var": [64], "features.4.bias": [128],
        "features.25.weight": [512, 512, 3, 3], "features.26.num_batches_tracked": [],
        "classifier.0.bias": [4096],
    }),
    "resnet50": (318, {
        "conv1.weight": [64, 3, 7, 7], "layer1.0.conv1.weight": [64, 64, 1, 1],
        "layer1.0.downsample.0.weight": [256, 64, 1, 1], "layer2.0.conv2.weight": [128, 128, 3, 3],
        "layer3.5.conv3.weight": [1024, 256, 1, 1], "layer4.0.downsample.1.running_mean": [2048],
        "layer4.2.bn3.weight": [2048],
    }),
    "densenet121": (725, {
        "features.conv0.weight": [64, 3, 7, 7], "features.norm0.bias": [64],
        "features.denseblock1.denselayer1.conv1.weight": [128, 64, 1, 1],
        "features.denseblock1.denselayer6.norm1.weight": [224],
        "features.denseblock3.denselayer24.conv2.weight": [32, 128, 3, 3],
        "features.transition1.norm.running_mean": [256], "features.transition3.conv.weight": [512, 1024, 1, 1],
        "features.norm5.weight": [1024],
    }),
    "inception-v3": (94 * 6, {
        "Conv2d_1a_3x3.conv.weight": [32, 3, 3, 3], "Conv2d_4a_3x3.bn.running_var": [192],
        "Mixed_5b.branch1x1.conv.weight": [64, 192, 1, 1], "Mixed_5b.branch5x5_2.conv.weight": [64, 48, 5, 5],
        "Mixed_5b.branch_pool.conv.weight": [32, 192, 1, 1],
        "Mixed_5d.branch3x3dbl_3.conv.weight": [96, 96, 3, 3],
        "Mixed_6a.branch3x3.conv.weight": [384, 288, 3, 3],
        "Mixed_6b.branch7x7_2.conv.weight": [128, 128, 1, 7],
        "Mixed_6c.branch7x7dbl_4.conv.weight": [160, 160, 7, 1],
        "Mixed_6e.branch7x7dbl_5.conv.weight": [192, 192, 1, 7],
        "Mixed_7a.branch7x7x3_4.conv.weight": [192, 192, 3, 3],
        "Mixed_7b.branch3x3_2b.conv.weight": [384, 384, 3, 1],
        "Mixed_7c.branch3x3dbl_3a.bn.weight": [384], "Mixed_7c.branch_pool.conv.weight": [192, 2048, 1, 1],
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_state_dicts_have_torchvisions_names(name):
    entries, spots = NAMES[name]
    with torch.device("meta"):
        state = {k: list(v.shape) for k, v in make(name, 299).state_dict().items()}
    assert len(state) == entries
    assert {k: state.get(k) for k in spots} == spots


SMALL = {
    "alexnet": (32, {"base": 4, "hidden": 8}),
    "vgg11": (32, {"base": 4, "hidden": 8}),
    "vgg16-bn": (32, {"base": 4, "classifier": False}),
    "resnet18": (16, {"base": 4, "drop_path": 0.3}),
    "resnet50": (32, {"base": 4, "stem": "large", "zero_init_residual": True}),
    "densenet121": (16, {"growth": 2, "dropout": 0.2}),
    "inception-v3": (75, {"base": 1}),
    "resnet9": (8, {"base": 4, "activation": "gelu"}),
    "small-convnext": (16, {"depths": [1, 2], "widths": [8, 16], "drop_path": 0.2}),
    "lstm": (8, {"hidden": 6, "layers": 2, "dropout": 0.1, "bidirectional": True}),
    "gru": (8, {"hidden": 6, "readout": "mean"}),
    "rnn": (4, {"hidden": 6, "over": "pixels"}),
}


@pytest.mark.parametrize("name", SMALL)
def test_networks_for_images_keep_their_contract(name):
    size, arguments = SMALL[name]
    jichu.check_backbone(lambda: make(name, size, 1, **arguments), images(size))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ft-transformer", {"depth": 2, "width": 8, "heads": 2}),
        ("mlp", {"widths": [8], "norm": "batch", "dropout": 0.1}),
        ("mlp", {"widths": [8], "numeric": "periodic"}),
        ("columns", {}),
        ("cells", {}),
    ],
)
@pytest.mark.parametrize("columns", [TABLE, {"numbers": 3}, {"categories": [4, 2]}], ids=str)
def test_networks_for_tables_keep_their_contract(name, arguments, columns):
    batch = rows_of_a_table(missing=name != "cells")
    used = {k: v for k, v in batch.items() if k in (*columns, "row")}
    jichu.check_backbone(lambda: make(name, channels=0, **columns, **arguments), used)


@pytest.mark.parametrize("name", ["ft-transformer", "mlp", "columns", "cells"])
def test_a_table_without_columns_is_refused(name):
    with pytest.raises(UsageError, match="without"):
        make(name, channels=0)


@pytest.mark.parametrize(
    ("name", "least", "arguments"),
    [
        ("alexnet", 63, {"base": 2, "hidden": 2, "stem": "large"}),
        ("alexnet", 15, {"base": 2, "hidden": 2}),
        ("vgg11", 32, {"base": 2, "hidden": 2}),
        ("densenet121", 29, {"growth": 1, "stem": "large"}),
        ("densenet121", 8, {"growth": 1}),
        ("inception-v3", 75, {"base": 1}),
        ("resnet9", 8, {"base": 2}),
        ("small-convnext", 8, {"depths": [1, 1, 1], "widths": [2, 2, 2]}),
    ],
)
def test_the_least_size_is_the_least(name, least, arguments):
    network = make(name, least, 1, **arguments).eval()
    assert torch.isfinite(network(images(least)).pooled).all()
    with pytest.raises((RuntimeError, ValueError)):
        network(images(least - 1))
    with pytest.raises(
        UsageError, match=rf"(?s){least - 1} × {least - 1}.*{least} × {least} or more.*resnet18"
    ):
        make(name, least - 1, 1, **arguments)
    make("resnet18", 1, 1, base=1).eval()(images(1))


@pytest.mark.parametrize("name", ["alexnet", "densenet121", "resnet34", "small-convnext"])
def test_the_stem_follows_the_size(name):
    with torch.device("meta"):
        sides = [make(name, s, stem=stem)(images_on_meta(96)).maps.shape[2]
                 for s, stem in ((96, "auto"), (96, "large"), (95, "auto"), (96, "small"))]  # fmt: skip
    assert sides[0] == sides[1] < sides[2] == sides[3]


def images_on_meta(size):
    return {"image": torch.empty(2, 3, size, size, device="meta")}


def test_arguments_are_checked():
    for arguments, match in (
        ({"drop_path": 1.0}, "drop_path"),
        ({"stem": "smal"}, "small"),
        ({"bas": 3}, "did you mean: base"),
    ):
        with pytest.raises(UsageError, match=match):
            make("resnet34", 32, **arguments)
    with pytest.raises(UsageError, match="2 or more"):
        make("lstm", 8, dropout=0.5)
    with pytest.raises(UsageError, match="multiple"):
        make("ft-transformer", numbers=1, width=10, heads=3)
    with pytest.raises(UsageError, match="2 depths and 3 widths"):
        make("small-convnext", 32, depths=[1, 1])


def test_drop_path_leaves_out_whole_rows_and_keeps_the_mean():
    x = torch.rand(4000, 2, 3, requires_grad=True)
    layer = DropPath(0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = layer(x)
    dropped = (out == 0).all((1, 2))
    assert abs(dropped.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    assert torch.allclose(out[~dropped], x[~dropped] / 0.7)
    out.sum().backward()
    assert (x.grad[dropped] == 0).all() and torch.allclose(x.grad[~dropped], torch.tensor(1 / 0.7))
    assert layer.eval()(x) is x and DropPath(0.0)(x) is x


def test_drop_path_rises_with_depth():
    assert rising(0.4, 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    with torch.device("meta"):
        for network, blocks in (
            (ResNet50(3, 32, drop_path=0.3), 16),
            (SmallConvNext(3, 32, drop_path=0.3), 12),
        ):
            rates = [m.p for m in network.modules() if isinstance(m, DropPath)]
            assert rates == pytest.approx(np.linspace(0, 0.3, blocks + 1)[1:])


@pytest.mark.parametrize("kind", [ResNet18, ResNet50])
def test_zero_init_makes_each_block_its_shortcut(kind):
    x = seeded(2, 4 * kind.block.expansion, 6, 6)
    block = kind(1, 8, base=4, zero_init_residual=True).eval().layer1[1]
    assert torch.equal(block(x), x.relu())
    assert not torch.equal(kind(1, 8, base=4).eval().layer1[1](x), x.relu())


@pytest.mark.parametrize("name", ["vgg19", "alexnet"])
def test_plain_networks_keep_the_variance(name):
    """He's initialisation: what comes out of all convolutions is neither lost nor exploding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make(name, 64, base=16, hidden=64)
    assert 0.05 < network.features(images(64)["image"].expand(-1, 3, -1, -1)).square().mean() < 50


def test_resnet_equals_transformers():
    transformers = pytest.importorskip("transformers")
    for layer_type, kind, hidden in (
        ("basic", ResNet18, [8, 16, 32, 64]),
        ("bottleneck", ResNet50, [32, 64, 128, 256]),
    ):
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=hidden, depths=list(kind.depths), layer_type=layer_type
        )
        theirs, ours = transformers.ResNetModel(config).eval(), kind(3, 64, base=8, stem="large").eval()
        randomise(theirs)
        state = {}
        for key, value in theirs.state_dict().items():
            for old, new in (
                ("embedder.embedder.convolution", "conv1"), ("embedder.embedder.normalization", "bn1"),
                ("shortcut.convolution", "downsample.0"), ("shortcut.normalization", "downsample.1"),
            ):  # fmt: skip
                key = key.replace(old, new)
            parts = key.split(".")
            if parts[0] == "encoder":
                stage, block, *rest = parts[2], parts[4], *parts[5:]
                if rest[0] == "layer":
                    rest = [
                        {"convolution": "conv", "normalization": "bn"}[rest[2]] + str(int(rest[1]) + 1),
                        *rest[3:],
                    ]
                key = ".".join([f"layer{int(stage) + 1}", block, *rest])
            state[key] = value
        ours.load_state_dict(state)
        batch = images(64, 3)
        with torch.no_grad():
            expected = theirs(batch["image"])
            assert torch.allclose(ours(batch).maps, expected.last_hidden_state, rtol=1e-3, atol=1e-4)
            assert torch.allclose(ours(batch).pooled, expected.pooler_output.flatten(1), rtol=1e-3, atol=1e-4)


def test_small_convnext_equals_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 16, 32], depths=[1, 2, 1], num_stages=3, layer_norm_eps=1e-5
    )
    theirs = transformers.ConvNextModel(config).eval()
    randomise(theirs)
    # both in the order of use, but for the scale of a block, which is not in the same place
    ours = SmallConvNext(3, 32, depths=[1, 2, 1], widths=[8, 16, 32], stem="large").eval()
    state = {}
    for own, other in ((".scale", ".layer_scale_parameter"), ("", "")):
        keys = [k for k in ours.state_dict() if k.endswith(own) and k not in state]
        values = [
            v for k, v in theirs.state_dict().items() if other in k and (other or "layer_scale" not in k)
        ]
        state |= dict(zip(keys, values, strict=True))
    ours.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(
            ours(images(32, 3)).maps, theirs(images(32, 3)["image"]).last_hidden_state, rtol=1e-3, atol=1e-4
        )


def randomise(module):
    """Every entry of the state dict away from its first value, so that none can be mistaken."""
    generator = torch.Generator().manual_seed(1)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(
                0.5 * torch.rand(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5 + 0.1
            )


def test_inceptions_blocks_put_their_branches_in_torchvisions_order():
    network = InceptionV3(3, 75, base=4).eval()

    def run(mixed, x, *names):
        for name in names:
            x = mixed.get_submodule(f"branch{name}")(x)
        return x

    with torch.no_grad():
        coarse, x = network.Mixed_7b, seeded(2, 20 * 16, 5, 5)
        expected = [
            run(coarse, x, "1x1"),
            run(coarse, x, "3x3_1", "3x3_2a"), run(coarse, x, "3x3_1", "3x3_2b"),
            run(coarse, x, "3x3dbl_1", "3x3dbl_2", "3x3dbl_3a"),
            run(coarse, x, "3x3dbl_1", "3x3dbl_2", "3x3dbl_3b"),
            run(coarse, F.avg_pool2d(x, 3, 1, 1), "_pool"),
        ]  # fmt: skip
        assert torch.equal(coarse(x), torch.cat(expected, 1))
        halving, x = network.Mixed_7a, seeded(2, 12 * 16, 9, 9)
        expected = [
            run(halving, x, "3x3_1", "3x3_2"),
            run(halving, x, *(f"7x7x3_{i}" for i in range(1, 5))),
            F.max_pool2d(x, 3, 2),
        ]
        assert torch.equal(halving(x), torch.cat(expected, 1))


def test_the_tutorials_vgg_is_a_cnn():
    arguments = {"widths": [64, 64, 128, 128, 256], "norm": "none", "readout": "flatten", "smallest": 1}
    with torch.device("meta"):
        network = make("cnn", 32, **arguments, hidden=[4096, 4096])
    shapes = [list(p.shape) for p in network.parameters() if p.ndim > 1]
    widths = [3, 64, 64, 128, 128, 256]
    assert shapes[:5] == [[b, a, 3, 3] for a, b in itertools.pairwise(widths)]
    assert shapes[5:] == [[4096, 256], [4096, 4096]] and network.width == 4096
    assert sum(isinstance(m, nn.MaxPool2d) for m in network.modules()) == 5
    assert sum(isinstance(m, nn.ReLU) for m in network.modules()) == 7
    assert Cnn(1, 8, hidden=5).state_dict().keys() == Cnn(1, 8, hidden=[5]).state_dict().keys()
    assert {"hidden.0.weight", "hidden.2.weight"} <= Cnn(1, 8, hidden=[5, 4]).state_dict().keys()


def test_resnet9_is_pages():
    network = ResNet9(3, 32)
    c = [64, 128, 256, 512]
    convolutions = 9 * (3 * c[0] + c[0] * c[1] + 2 * c[1] ** 2 + c[1] * c[2] + c[2] * c[3] + 2 * c[3] ** 2)
    norms = 2 * (c[0] + 3 * c[1] + c[2] + 3 * c[3])
    assert sum(p.numel() for p in network.parameters()) == convolutions + norms
    with torch.device("meta"):
        assert ResNet9(3, 32)(images_on_meta(32)).maps.shape == (2, 512, 4, 4)


@pytest.mark.parametrize("activation", ["relu", "celu", "gelu"])
def test_resnet9_in_bfloat16_and_channels_last(activation):
    network, batch = ResNet9(3, 16, base=8, activation=activation).eval(), images(16, 3)
    expected = network(batch).pooled
    network = network.to(memory_format=torch.channels_last)
    last = {**batch, "image": batch["image"].to(memory_format=torch.channels_last)}
    assert network(last).maps.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(network(last).pooled, expected, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(last).pooled
    assert half.dtype == torch.bfloat16
    assert (half - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_recurrent_networks_follow_their_equations():
    """One layer, step by step, as the papers write it."""
    x = seeded(2, 3, 4, 4)
    rows = [torch.cat([x[:, c, r] for c in range(3)], 1) for r in range(4)]
    for kind in (Lstm, Gru, Rnn):
        network = kind(3, 4, hidden=5)
        for parameter in network.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
        p = dict(network.recurrent.named_parameters())
        h, c, states = torch.zeros(2, 5), torch.zeros(2, 5), []
        for row in rows:
            a = row @ p["weight_ih_l0"].T + p["bias_ih_l0"]
            b = h @ p["weight_hh_l0"].T + p["bias_hh_l0"]
            if kind is Lstm:
                i, f, g, o = (a + b).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            elif kind is Gru:
                (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
                new, update = (an + (ar + br).sigmoid() * bn).tanh(), (az + bz).sigmoid()
                h = (1 - update) * new + update * h
            else:
                h = (a + b).tanh()
            states.append(h)
        out = network({"image": x})
        assert torch.allclose(out.pooled, h, atol=1e-5)
        assert torch.allclose(out.sequence, torch.stack(states, 1), atol=1e-5)


def test_recurrent_readouts():
    x = seeded(2, 1, 4, 6)
    network = Lstm(1, 4, hidden=5, layers=2, bidirectional=True, over="pixels")
    out = network({"image": x})
    assert network.width == 10 and out.sequence.shape == (2, 24, 10)
    assert torch.equal(out.pooled, torch.cat([out.sequence[:, -1, :5], out.sequence[:, 0, 5:]], 1))
    network.readout = "mean"
    assert torch.equal(network({"image": x}).pooled, out.sequence.mean(1))
    # pixels come in the order of reading
    steps, _ = network.recurrent(x.reshape(2, 24, 1))
    assert torch.equal(steps, out.sequence)
    state = network.recurrent.state_dict()
    assert state["bias_ih_l1_reverse"].tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10
    square = state["weight_hh_l0"][:5]
    assert torch.allclose(square @ square.T, torch.eye(5), atol=1e-5)


def test_attention_equals_torchs():
    ours, theirs = Attention(12, 3, 0.0), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.load_state_dict(
        {"in_proj_weight": ours.project.weight, "in_proj_bias": ours.project.bias,
         "out_proj.weight": ours.out.weight, "out_proj.bias": ours.out.bias}
    )  # fmt: skip
    x = seeded(2, 5, 12)
    assert torch.allclose(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6)


def test_attention_drops_only_in_training():
    attention, x = Attention(12, 3, 0.5), seeded(2, 5, 12)
    assert not torch.equal(attention(x), attention(x))
    assert torch.equal(attention.eval()(x), attention(x))


def test_reglu_by_hand():
    layer, x = ReGlu(3, 4, 0.0), seeded(2, 3)
    a = x @ layer.widen.weight.T + layer.widen.bias
    hidden = a[:, :4] * a[:, 4:].clamp(min=0)
    assert torch.allclose(layer(x), hidden @ layer.narrow.weight.T + layer.narrow.bias, atol=1e-6)


def test_each_column_has_its_token():
    tokens, batch = Tokenizer(3, [4, 2], 6), rows_of_a_table(missing=True)
    nn.init.normal_(tokens.missing)
    out = tokens(batch)
    assert out.shape == (6, 1 + 3 + 2, 6)
    assert torch.equal(out[:, 0], tokens.whole.expand(6, -1))
    for row in range(6):
        for j in range(3):
            x = batch["numbers"][row, j]
            said = tokens.missing[j] if x.isnan() else x * tokens.weight[j]
            assert torch.allclose(out[row, 1 + j], said + tokens.bias[j])
        for j, start in ((0, 0), (1, 4)):
            said = tokens.codes.weight[start + batch["categories"][row, j]]
            assert torch.allclose(out[row, 4 + j], said + tokens.bias[3 + j])


def test_what_training_never_met_says_nothing():
    tokens = Tokenizer(2, [3], 6)
    nothing = {"numbers": torch.full((1, 2), float("nan")), "categories": torch.zeros(1, 1, dtype=torch.long)}
    assert torch.equal(tokens(nothing)[0, 1:], tokens.bias)


def test_missing_numbers_give_finite_features_and_gradients():
    batch = rows_of_a_table(missing=True)
    for network in (
        FtTransformer(3, [4, 2], depth=2, width=8, heads=2),
        Mlp(numbers=3, categories=[4, 2], widths=[8]),
        Mlp(numbers=3, categories=[4, 2], widths=[8], numeric="periodic"),
    ):
        pooled = network(batch).pooled
        pooled.sum().backward()
        assert torch.isfinite(pooled).all()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_ft_transformer_has_the_papers_size():
    """Its 'default FT-T' for 8 numbers: tokens, and blocks of width 192 with gates of 256."""
    network = FtTransformer(8)
    block = 4 * (192 * 192 + 192) + (192 * 512 + 512) + (256 * 192 + 192)
    norms = 2 * 192 * (2 * 3 - 1 + 1)  # none before the first attention, one at the end
    tokens = 192 * (1 + 8 + 8 + 8)  # of the row, weight, bias, missing
    assert sum(p.numel() for p in network.parameters()) == 3 * block + norms + tokens


def test_columns_and_cells_in_a_row():
    nan = float("nan")
    batch = {"numbers": torch.tensor([[1.5, nan], [nan, -2.0]]), "categories": torch.tensor([[0, 2], [1, 1]])}
    columns = Columns(2, [2, 3])
    assert columns.width == 9
    assert columns(batch).pooled.tolist() == [
        [1.5, 0.0, 0.0, 1.0, 1, 0, 0, 0, 1],
        [0.0, -2.0, 1.0, 0.0, 0, 1, 0, 1, 0],
    ]
    cells = Cells(2, [2, 3])
    assert cells.categorical == [False, False, True, True] and cells.width == 4
    assert torch.allclose(
        cells(batch).pooled, torch.tensor([[1.5, nan, 0.0, 2.0], [nan, -2.0, 1.0, 1.0]]), equal_nan=True
    )


def test_mlp_over_a_table_by_hand():
    batch, network = rows_of_a_table(missing=True), Mlp(numbers=3, categories=[4, 2], widths=[5])
    numbers = batch["numbers"].numpy()
    vectors = [e.weight[batch["categories"][:, i]] for i, e in enumerate(network.embeddings)]
    x = torch.cat(
        [
            torch.tensor(np.where(np.isnan(numbers), 0, numbers)),
            torch.tensor(np.isnan(numbers)).float(),
            *vectors,
        ],
        1,
    )
    layer = network.layers[0]
    assert torch.allclose(network(batch).pooled, (x @ layer.weight.T + layer.bias).relu(), atol=1e-6)
    # fastai's figures for 7, 10 and 100 codes are 5, 6 and 21, rounded; ours are rounded up
    assert [embedding_width(n) for n in (1, 7, 10, 100, 10_000)] == [2, 5, 6, 22, 32]


def test_mlp_over_images_has_the_names_it_had(batch):
    network = Mlp(1, 8, widths=[16, 8])
    assert list(network.state_dict()) == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.3.weight",
        "layers.3.bias",
    ]
    both = Mlp(1, 8, numbers=2, widths=[4])
    assert both.layers[0].in_features == 64 + 2 * 2


def test_periodic_by_hand():
    layer, x = Periodic(2, 0.5, frequencies=3, width=4), seeded(5, 2)
    out = layer(x)
    for row in range(5):
        for column in range(2):
            angles = [2 * math.pi * c * x[row, column].item() for c in layer.frequencies[column].tolist()]
            waves = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
            expected = (waves @ layer.weight[column] + layer.bias[column]).relu()
            assert torch.allclose(out[row, column], expected, atol=1e-5)

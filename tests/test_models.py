"""Networks against their contract, against published shapes, and against scikit-learn."""

import numpy as np
import pytest
import torch
from torch import nn

import jichu
from jichu.core.errors import CheckFailed, UsageError
from jichu.data.decode import Preprocess
from jichu.data.target import Target
from jichu.models import folder
from jichu.models.backbone import Backbone, Features, ModuleBackbone
from jichu.models.classical import LogisticRegression, NaiveBayes
from jichu.models.cnn import Cnn
from jichu.models.folder import ModelConfig
from jichu.models.inputs import Pixels as NormalPixels
from jichu.models.mlp import Mlp, Pixels
from jichu.models.model import Model
from jichu.models.resnet import ResNet18


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cnn(1, 8),
        lambda: Cnn(1, 8, widths=[4, 8], norm="group", readout="flatten", hidden=5),
        lambda: Cnn(1, 8, widths=[4], norm="none"),
        lambda: Mlp(1, 8, widths=[16, 8], dropout=0.2),
        lambda: Pixels(1, 8),
        lambda: ResNet18(1, 8, base=8),
        lambda: ModuleBackbone(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), 1, 8),
    ],
)
def test_backbones_keep_their_contract(make, batch):
    jichu.check_backbone(make, batch)


class Wrong(Backbone):
    width = 3

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.layer, self.unused = nn.Linear(64, 3), nn.Linear(1, 1) if fault == "unused" else None

    def forward(self, batch):
        x = self.layer(batch["image"].flatten(1))
        if self.fault == "width":
            return Features(x[:, :2])
        if self.fault == "tuple":
            return (x,)
        if self.fault == "batch":
            return Features(x - x.mean(0))
        if self.fault == "nan":
            return Features(x / 0 * 0)
        if self.fault == "maps":
            return Features(x, maps=x)
        return Features(x)


@pytest.mark.parametrize("fault", ["unused", "width", "tuple", "batch", "nan", "maps"])
def test_the_check_finds_what_is_wrong(fault, batch):
    with pytest.raises(CheckFailed) as caught:
        jichu.check_backbone(Wrong(fault), batch)
    assert caught.value.code == 4


def test_resnet18_has_torchvisions_names_and_shapes():
    state = {k: list(v.shape) for k, v in ResNet18(3, 224).state_dict().items()}
    assert state["conv1.weight"] == [64, 3, 7, 7]
    assert state["layer1.0.conv1.weight"] == [64, 64, 3, 3]
    assert state["layer2.0.downsample.0.weight"] == [128, 64, 1, 1]
    assert state["layer2.0.downsample.1.running_mean"] == [128]
    assert state["layer4.1.bn2.num_batches_tracked"] == []
    assert "layer1.0.downsample.0.weight" not in state
    # torchvision's resnet18 has 122 entries and 11,689,512 parameters, fc (2 and 513,000) included
    assert len(state) == 120
    assert sum(p.numel() for p in ResNet18(3, 224).parameters()) == 11_689_512 - 513_000
    out = ResNet18(3, 64)({"image": torch.zeros(2, 3, 64, 64)})
    assert out.maps.shape == (2, 512, 8, 8)  # the small stem keeps more places


def test_normalisation_is_part_of_the_model(digits):
    images = torch.from_numpy(digits[0])[:, None]
    normalize = NormalPixels(torch.zeros(1), torch.ones(1))
    normalize.estimate(images, torch.arange(len(images)))
    normal = normalize(images)
    assert abs(normal.mean()) < 1e-4 and abs(normal.std() - 1) < 1e-3
    assert torch.allclose(normalize(images.float() / 255), normal, atol=1e-6)


def test_users_module_is_taken_as_it_is(batch):
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())
    body = ModuleBackbone(module, 1, 8)
    assert body.width == 6 and list(module.state_dict()) == ["0.weight", "0.bias"]
    with pytest.raises(UsageError, match="cannot take images"):
        ModuleBackbone(nn.Linear(3, 3), 1, 8)
    with pytest.raises(UsageError, match=r"gave \[2, 8, 8\]"):
        ModuleBackbone(nn.Sequential(nn.Flatten(1, 2)), 1, 8)


def test_classical_models_equal_scikit_learn(digits):
    from sklearn import linear_model, naive_bayes
    from sklearn.preprocessing import StandardScaler

    x, y = digits[0].reshape(len(digits[0]), -1) / 255.0, digits[1]
    train, test = slice(0, 200), slice(200, 400)
    features, codes = torch.from_numpy(x[train]).float(), torch.from_numpy(y[train])
    bayes = NaiveBayes(64, 10, smoothing=1e-2)
    bayes.estimate(features, codes, features)
    ours = bayes(Features(torch.from_numpy(x[test]).float())).softmax(1).numpy()
    theirs = naive_bayes.GaussianNB(var_smoothing=1e-2).fit(features.numpy(), y[train]).predict_proba(x[test])
    assert np.abs(ours - theirs).max() < 1e-3
    regression = LogisticRegression(64, 10)
    regression.estimate(features, codes, features)
    scaler = StandardScaler().fit(x[train])
    used = np.where(x[train].std(0) > 1e-6, 1.0, 0.0)  # a pixel that never varies is left out by both
    fitted = linear_model.LogisticRegression(max_iter=1000).fit(scaler.transform(x[train]) * used, y[train])
    ours = regression(Features(torch.from_numpy(x[test] * used).float())).softmax(1).numpy()
    theirs = fitted.predict_proba(scaler.transform(x[test] * used) * used)
    assert np.abs(ours - theirs).max() < 2e-3


@pytest.mark.parametrize("head", [LogisticRegression, NaiveBayes])
def test_classes_without_examples_are_never_predicted(head):
    x, codes = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 3] * 10)
    model = head(4, 5)
    model.estimate(x, codes, x)
    assert set(model(Features(x)).argmax(1).tolist()) <= {1, 3}
    assert model(Features(x)).softmax(1)[:, [0, 2, 4]].max() < 1e-6


def test_two_classes_equal_scikit_learn():
    from sklearn import linear_model

    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    codes = (x[:, 0] > 0).long()
    model = LogisticRegression(3, 2)
    model.estimate(x, codes, x)
    standard = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    theirs = (
        linear_model.LogisticRegression(max_iter=1000).fit(standard, codes.numpy()).predict_proba(standard)
    )
    assert np.abs(model(Features(x)).softmax(1).numpy() - theirs).max() < 1e-4


def test_models_are_saved_and_loaded_whole(tmp_path, batch):
    config = ModelConfig(
        {"name": "cnn", "widths": [4]}, Preprocess(8, 1, "crop"), None, {"label": {"name": "linear"}},
        {"label": Target("label", "classification", ("a", "b"), (3, 4), 7)},
    )  # fmt: skip
    model = config.build().eval()
    folder.save(tmp_path, model, config)
    again, read = folder.load(tmp_path)
    assert read == config
    assert torch.equal(again(batch)["label"], model(batch)["label"])
    from safetensors.torch import load_file

    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(jichu.JichuError, match="cannot read the weights"):
        folder.load(tmp_path)


def test_weights_that_do_not_fit_are_named(tmp_path):
    config = ModelConfig({"name": "cnn", "widths": [4]}, Preprocess(8, 1, "crop"))
    folder.save(tmp_path, config.build(), config)
    other = Model(Cnn(1, 8, widths=[5]))
    with pytest.raises(UsageError, match=r"backbone.blocks.0.0.weight is \[4, 1, 3, 3\]"):
        folder.take_over(other, tmp_path)


def test_a_model_folder_does_not_get_to_call_what_it_likes(tmp_path, monkeypatch):
    config = ModelConfig({"name": "cnn", "widths": [4]}, Preprocess(8, 1, "crop"))
    folder.save(tmp_path, config.build(), config)
    about = (tmp_path / "config.json").read_text()
    monkeypatch.chdir(tmp_path)
    for name in ("os:system", "subprocess:Popen"):
        (tmp_path / "config.json").write_text(
            about.replace('"cnn"', f'"{name}"').replace('"widths"', '"command"')
        )
        with pytest.raises(UsageError, match="is no Module"):
            folder.load(tmp_path)
    for damaged in ("{}", "[]", '{"backbone": 3', ""):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(jichu.JichuError):
            folder.load(tmp_path)
    (tmp_path / "config.json").write_text(about)
    folder.load(tmp_path)


def test_tied_weights_are_saved(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(self.one(x.flatten(1)))

    config = ModelConfig(folder.own_backbone(Tied()), Preprocess(8, 1, "crop"))
    model = config.build(Tied())
    folder.save(tmp_path, model, config)
    again, _ = folder.load(tmp_path, Tied())
    assert torch.equal(
        again.state_dict()["backbone.module.two.weight"], model.state_dict()["backbone.module.one.weight"]
    )

"""Objectives that tell an image from a part of it, or from its features: contracts, closed forms, references."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence
from transformers import ViTMAEConfig, ViTMAEForPreTraining

import jichu
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.core.files import read_json
from jichu.data.augment import Augment
from jichu.data.config import AugmentConfig
from jichu.models.cnn import Cnn
from jichu.models.model import Model
from jichu.models.transformers_vision import VISIBLE, vit
from jichu.objectives.autoencoders import Denoising, Variational, decoder, divergence
from jichu.objectives.base import Context
from jichu.objectives.masked_images import MaskedImages, sines, squares

PLAIN = Augment(AugmentConfig())


def transformer():
    return Model(vit(1, 8, width=32, depth=2, heads=2, patch=2))


def convolutions():
    return Model(Cnn(1, 8, widths=[8, 16]))


@pytest.mark.parametrize("net", [transformer, convolutions])
@pytest.mark.parametrize("objective", [lambda: MaskedImages(PLAIN, width=32), lambda: Denoising(Augment(AugmentConfig(noise=0.2)), hidden=16),
                                       lambda: Variational(PLAIN, latent=4, hidden=16)])  # fmt: skip
def test_each_keeps_its_contract(objective, net, batch):
    jichu.check_objective(objective(), net(), batch)


def test_a_transformer_sees_nothing_of_what_is_hidden(batch):
    objective, model = MaskedImages(PLAIN, width=32), transformer().eval()
    objective.bind(model, batch)
    prepared = objective.prepare(batch, Context(0))
    assert (
        objective.drops
        and prepared[VISIBLE].shape == (48, 4)
        and prepared["hidden"].sum(1).tolist() == [12] * 48
    )
    told = objective(model, prepared)["images"]
    pixels = objective._over_pixels(prepared["hidden"], prepared["truth"])
    other = {**prepared, "image": torch.where(pixels, torch.rand(48, 1, 8, 8), prepared["image"])}
    assert torch.equal(objective(model, other)["images"], told)
    changed = {**prepared, "image": torch.where(pixels, prepared["image"], torch.rand(48, 1, 8, 8))}
    assert not torch.allclose(objective(model, changed)["images"], told)


def test_what_is_seen_alone_is_as_transformers_has_it(batch):
    """The encoder of their masked autoencoder, with the same weights and the same patches left."""
    config = ViTMAEConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=8,
                          patch_size=2, num_channels=1, decoder_hidden_size=32, decoder_num_hidden_layers=1,
                          decoder_num_attention_heads=2, decoder_intermediate_size=64)  # fmt: skip
    theirs = ViTMAEForPreTraining(config).eval()
    mine = vit(1, 8, width=32, depth=2, heads=2, patch=2).eval()
    mine.module.load_state_dict(theirs.vit.state_dict(), strict=True)
    image = batch["image"].float() / 255
    noise = torch.rand(48, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs.vit(image, noise=noise)
        kept = wanted.ids_restore.argsort(1)[:, :4]
        found = mine({"image": image, VISIBLE: kept})
    assert torch.allclose(found.sequence, wanted.last_hidden_state[:, 1:], atol=1e-5)
    assert torch.allclose(found.pooled, wanted.last_hidden_state[:, 0], atol=1e-5)


def test_the_loss_is_that_of_transformers(batch):
    config = ViTMAEConfig(image_size=8, patch_size=2, num_channels=1, norm_pix_loss=True, hidden_size=32,
                          num_attention_heads=2, num_hidden_layers=1, decoder_hidden_size=32,
                          decoder_num_attention_heads=2, decoder_num_hidden_layers=1)  # fmt: skip
    theirs = ViTMAEForPreTraining(config).eval()
    image = batch["image"].float() / 255
    with torch.no_grad():
        wanted = theirs(image, noise=torch.rand(48, 16, generator=torch.Generator().manual_seed(0)))
    objective = MaskedImages(PLAIN)
    objective.squares = (4, 4)
    told = {"images": theirs.unpatchify(wanted.logits)}
    found = objective.losses(told, {"truth": image, "hidden": wanted.mask.bool()})
    assert float(found.mean()) == pytest.approx(float(wanted.loss), rel=1e-5)


def test_squares_and_places():
    image = torch.arange(2 * 36.0).view(1, 2, 6, 6)
    cut = squares(image, (3, 3))
    assert cut.shape == (1, 9, 8)
    assert torch.equal(cut[0, 5], image[0, :, 2:4, 4:6].flatten())
    found = sines((4, 4), 32)[4 * 3 + 1]  # line 3, column 1
    rates = [10_000 ** (-i / 8) for i in range(8)]
    wanted = [f(place * rate) for place in (3, 1) for f in (math.sin, math.cos) for rate in rates]
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)


def test_convolutions_see_blanks(batch):
    objective, model = MaskedImages(PLAIN, share=0.5), convolutions()
    objective.bind(model, batch)
    prepared = objective.prepare(batch, Context(0))
    assert (
        not objective.drops and objective.squares == (4, 4) and prepared["hidden"].sum(1).tolist() == [8] * 48
    )
    blank = objective._over_pixels(prepared["hidden"], prepared["truth"])
    for image, hole in zip(prepared["image"], blank, strict=True):
        assert len(image[hole].unique()) == 1
    assert torch.equal(prepared["image"][~blank], prepared["truth"][~blank])
    with pytest.raises(UsageError, match="gives one vector"):
        MaskedImages(PLAIN).bind(Model(Flat()), batch)


class Flat(torch.nn.Module):
    width = 64

    def forward(self, batch):
        return jichu.Features(batch["image"].flatten(1))


def test_the_divergence_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(divergence(mean, log_variance), wanted, atol=1e-5)


def test_the_bound_is_in_nats_a_pixel(batch):
    objective = Variational(PLAIN, latent=3, beta=2.0)
    image = batch["image"].float() / 255
    outputs = {
        "logits": torch.zeros_like(image),
        "mean": torch.ones(48, 3),
        "log_variance": torch.zeros(48, 3),
    }
    terms = objective.losses(outputs, {"image": image})
    assert torch.allclose(terms["reconstruction"], torch.full((48,), math.log(2)))
    assert torch.allclose(terms["divergence"], torch.full((48,), 1.5 / 64)) and objective.scales() == {
        "divergence": 2.0
    }


def test_denoising_asks_for_the_clean_image(batch):
    objective = Denoising(Augment(AugmentConfig(noise=0.3)))
    prepared = objective.prepare(batch, Context(0))
    assert torch.equal(prepared["truth"], batch["image"].float() / 255)
    assert 0.1 < F.l1_loss(prepared["image"], prepared["truth"]) < 0.3


@pytest.mark.parametrize(("name", "backbone"), [("masked-images", "{name: vit, width: 32, depth: 2, heads: 2, patch: 2}"),
                                                ("denoising", "cnn"), ("variational", "cnn")])  # fmt: skip
def test_they_run_as_stages(name, backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "sklearn:digits", "--objective", name, "--budget", "30 steps", "--set", f"backbone={backbone}",
                 "--set", "augment={noise: 0.1}", "--quiet"]) == 0  # fmt: skip
    history = read_json(tmp_path / "runs" / "pretrain" / "summary.json")["stages"][0]["metrics"]
    assert history["linear_probe"] > 0.5
    assert (
        main(["finetune", "sklearn:digits", "--from", "runs/pretrain", "--budget", "5 steps", "--quiet"]) == 0
    )


@pytest.mark.parametrize(
    ("objective", "data", "said"),
    [
        ("masked-cells", "sklearn:digits", "learns from tables, and these data have none"),
        (
            "variational",
            "sklearn:iris",
            "one of vicreg, barlow-twins, simclr, moco, byol, dino, lejepa, masked-cells",
        ),
        ("causal", "sklearn:digits", "learns from texts"),
        ("{name: masked-images, width: 30}", "sklearn:digits", "multiple of 4"),
    ],
)
def test_what_an_objective_is_not_for(objective, data, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", data, "--set", f"objective={objective}", "--budget", "2 steps", "--quiet"]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_augmentation_that_would_do_nothing_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["pretrain", "sklearn:iris", "--objective", "masked-cells", "--budget", "2 steps", "--quiet"]
    assert main([*given, "--set", "augment={table: {swap: 0.1}}"]) == 2
    assert "augment does nothing with masked-cells" in capsys.readouterr().err
    assert main(given) == 0


def test_denoising_has_an_augmentation_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    plain = Denoising.__init__
    monkeypatch.setattr(
        Denoising,
        "__init__",
        lambda self, augment, hidden=16: (seen.append(augment.config), plain(self, augment, hidden))[1],
    )
    for more in ([], ["--set", "augment={flip: true}"]):
        assert (
            main(
                [
                    "pretrain",
                    "sklearn:digits",
                    "--objective",
                    "denoising",
                    "--budget",
                    "2 steps",
                    "--quiet",
                    *more,
                ]
            )
            == 0
        )
    assert seen[0] == AugmentConfig(noise=0.2, erase=0.5) and seen[-1] == AugmentConfig(flip=True)


def test_networks_that_need_all_patches_are_refused(batch):
    """Swin merges neighbouring patches: what is hidden cannot be left out."""
    from transformers import SwinConfig, SwinModel

    from jichu.models.transformers_vision import TransformersVision

    config = SwinConfig(
        image_size=8,
        patch_size=1,
        num_channels=1,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=2,
    )
    with pytest.raises(UsageError, match="gives one vector"):
        MaskedImages(PLAIN).bind(Model(TransformersVision(SwinModel(config), 1, 8)), batch)


def test_layers_behind_the_maps_get_a_gradient(batch):
    jichu.check_objective(MaskedImages(PLAIN, width=32), Model(Cnn(1, 8, widths=[8, 16], hidden=[12])), batch)


@pytest.mark.parametrize("hidden", [16, 40, 56])
@pytest.mark.parametrize("side", [8, 25, 33])
def test_decoders_come_in_all_sizes(hidden, side):
    made = decoder(10, 3, side, hidden)
    assert made(torch.randn(2, 10)).shape == (2, 3, side, side)
    assert sum(p.numel() for p in made.parameters()) < 200_000


@pytest.mark.parametrize("width", [4, 100, 164])
def test_heads_divide_the_width(width, batch):
    objective, model = MaskedImages(PLAIN, width=width), transformer()
    objective.bind(model, batch)
    assert objective(model, objective.prepare(batch, Context(0)))["images"].shape == (48, 1, 8, 8)


@pytest.mark.parametrize("objective", [Denoising(PLAIN), Variational(PLAIN)])
def test_images_have_to_be_square(objective, batch):
    wide = {**batch, "image": torch.zeros(48, 1, 8, 16, dtype=torch.uint8)}
    with pytest.raises(UsageError, match="8 × 16 pixels"):
        objective.bind(convolutions(), wide)


def test_images_that_are_not_square(batch):
    wide = {**batch, "image": torch.randint(256, (48, 1, 8, 16), dtype=torch.uint8)}
    objective, model = MaskedImages(PLAIN, width=32), Model(Cnn(1, 8, widths=[8, 16]))
    objective.bind(model, wide)
    prepared = objective.prepare(wide, Context(0))
    assert objective.squares == (4, 8) and prepared["hidden"].shape == (48, 32)
    assert objective(model, prepared)["images"].shape == (48, 1, 8, 16)
    image = torch.arange(6.0 * 4).view(1, 1, 4, 6)
    assert squares(image, (2, 3))[0, 1].tolist() == [2, 3, 8, 9]
    assert torch.equal(sines((2, 3), 8)[4], sines((3, 3), 8)[4])

"""Sounds: read, resampled, seen as spectrograms, changed, hidden in part, heard by networks."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank, spectrogram

import jichu
from jichu.cli.main import main
from jichu.core.errors import DataError, JichuError, UsageError
from jichu.core.files import read_json, write_json
from jichu.data.augment import Augment
from jichu.data.config import AudioAugmentConfig, AugmentConfig, SpectrogramConfig
from jichu.data.inspection import inspect
from jichu.data.sound import Sound, decode_sound, infer_sound, peek_sound
from jichu.data.spectrum import filters, frames, log_mel, pictures, transform_size
from jichu.models import hub_sounds
from jichu.models.bands import Bands
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.hub import load as load_hub
from jichu.models.inputs import Inputs
from jichu.models.model import Model
from jichu.models.recurrent import Gru
from jichu.models.spectrogram import MASKS, Spectrogram, Waves, hidden
from jichu.models.transformers_audio import UNHEARD, wav2vec2
from jichu.models.transformers_vision import vit
from jichu.objectives.base import Context
from jichu.objectives.contrastive import SimCLR
from jichu.objectives.fixmatch import FixMatch
from jichu.objectives.masked_frames import MaskedFrames
from jichu.objectives.masked_spectrograms import MaskedSpectrograms
from jichu.objectives.supervised import Classification
from jichu.objectives.wrapper import Augmented

RATE = 8000
SOUND = Sound(RATE, 2000)
LOOKS = SpectrogramConfig(mels=16, window=0.02, hop=0.008)
CHANGED = Augment(AugmentConfig(audio=AudioAugmentConfig(shift=0.1, gain=6, noise=0.1, times=1, bands=1)))


def tone(hertz, seconds=0.25, rate=RATE, loud=0.5):
    return (loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pitch(wave, rate=RATE):
    """The loudest frequency."""
    found = np.abs(np.fft.rfft(wave.astype(np.float64) * np.hanning(len(wave))))
    return found.argmax() * rate / len(wave)


@pytest.fixture
def tones(tmp_path):
    """Low and high tones by two speakers, of different lengths, rates and formats."""
    rng = np.random.default_rng(0)
    for i in range(48):
        name, rate = ("low", "high")[i % 2], (RATE, RATE, 16000)[i % 3]
        wave = tone(rng.uniform(300, 500) * (1, 4)[i % 2], rng.uniform(0.1, 0.3), rate, rng.uniform(0.1, 0.9))
        wave += 0.02 * rng.standard_normal(len(wave)).astype(np.float32)
        folder = tmp_path / "tones" / name
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{i}_{('anna', 'bo')[i // 24]}.{('wav', 'flac')[i % 2]}", wave, rate)
    return tmp_path / "tones"


@pytest.fixture
def sounds():
    """A batch of 12 tones in noise."""
    rng = np.random.default_rng(0)
    waves = [tone(200 + 250 * i) + 0.05 * rng.standard_normal(2000) for i in range(12)]
    samples = torch.from_numpy((np.stack(waves) * 2**14).astype(np.int16))
    return {"audio": samples, "label": torch.arange(12) % 2, "row": torch.arange(12)}


def heard(backbone, config=LOOKS):
    return Model(backbone, {}, Inputs(audio=Spectrogram(SOUND, config) if config else Waves(SOUND)))


# ------------------------------------------------------------------- one sound


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_samples_come_out_as_they_were_written(tmp_path, format):
    samples = np.random.default_rng(0).integers(-(2**15) + 1, 2**15, 2000).astype(np.int16)
    soundfile.write(tmp_path / "a", samples, RATE, format=format)
    assert np.abs(decode_sound(tmp_path / "a", SOUND).astype(int) - samples).max() <= 1
    assert np.array_equal(
        decode_sound((tmp_path / "a").read_bytes(), SOUND), decode_sound(tmp_path / "a", SOUND)
    )
    assert peek_sound(tmp_path / "a")[:4] == (RATE, 2000, 1, format)


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_what_is_compressed_sounds_alike(format):
    file = io.BytesIO()
    soundfile.write(file, tone(700, 0.5, 16000), 16000, format=format)
    found = decode_sound(file.getvalue(), Sound(16000, 8000))
    assert pitch(found[1000:7000], 16000) == pytest.approx(700, abs=5)


@given(st.sampled_from([4000, 8000, 11025, 16000, 44100, 48000]), st.sampled_from([8000, 16000, 22050]),
       st.floats(200, 1500))  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_another_rate_has_the_same_pitch_and_loudness(rate, wanted, hertz):
    found = (
        decode_sound((tone(hertz, 0.5, rate), rate), Sound(wanted, wanted // 2)).astype(np.float64) / 2**15
    )
    inside = found[len(found) // 8 : -len(found) // 8]
    assert pitch(inside, wanted) == pytest.approx(hertz, abs=4)
    assert np.sqrt(2 * (inside**2).mean()) == pytest.approx(0.5, rel=0.05)


def test_nothing_above_half_the_rate_is_folded_back():
    found = decode_sound((tone(7000, 0.5, 16000), 16000), Sound(8000, 4000))
    assert np.abs(found[200:-200]).max() < 0.01 * 2**15


def test_channels_are_averaged_and_lengths_made_equal(tmp_path):
    stereo = np.stack([np.full(1000, 0.5), np.full(1000, -0.25)], 1)
    soundfile.write(tmp_path / "a.wav", stereo, RATE, subtype="FLOAT")
    found = decode_sound(tmp_path / "a.wav", SOUND)
    assert set(found[:1000]) == {round(0.125 * (2**15 - 1))} and not found[1000:].any()
    long = np.arange(5000) / 5000
    middle = decode_sound((long, RATE), SOUND)
    assert np.allclose(middle / (2**15 - 1), long[1500:3500], atol=1e-4)
    soundfile.write(tmp_path / "b.wav", long, RATE, subtype="FLOAT")
    assert np.array_equal(decode_sound(tmp_path / "b.wav", SOUND), middle)


def test_what_is_too_loud_keeps_its_shape():
    found = decode_sound((4 * tone(300), RATE), SOUND)
    assert found.max() == 2**15 - 1 and np.allclose(
        found / found.max(), tone(300) / tone(300).max(), atol=1e-3
    )


def test_what_cannot_be_read_is_named(tones):
    (tones / "low" / "empty.wav").write_bytes(b"")
    (tones / "low" / "text.wav").write_text("no sound at all")
    (tones / "low" / "notes.txt").write_text("notes")
    soundfile.write(tones / "high" / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(tones / "high" / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    found = jichu.load(tones)
    reasons = {q["record"]: q["reason"] for q in found.quarantine}
    assert reasons.keys() == {
        "low/empty.wav",
        "low/text.wav",
        "low/notes.txt",
        "high/nothing.wav",
        "high/nan.wav",
    }
    assert "empty" in reasons["low/empty.wav"] and "libsndfile" in reasons["low/text.wav"]
    assert "no samples" in reasons["high/nothing.wav"] and "finite" in reasons["high/nan.wav"]
    assert len(found) == 48


@pytest.mark.parametrize(
    "item", [None, np.zeros(5), (np.zeros(5), 0), (np.array(["a"]), 5), "gone.wav", b"RIFFxxxx"]
)
def test_what_is_no_sound_is_an_error(item):
    with pytest.raises((ValueError, OSError)):
        decode_sound(item, SOUND)


# ------------------------------------------------------------------- data


def test_a_folder_of_sounds(tones):
    found = jichu.load(tones, reader={"name": "audio_folder", "pattern": r"_(?P<speaker>[a-z]+)"},
                       split={"group": "speaker", "test": 0.5})  # fmt: skip
    assert found.kind == "audio" and found.classes == ["high", "low"]
    assert found.preprocess.rate == RATE and 0.2 <= found.preprocess.seconds <= 0.3
    speakers = {name: {found.names[r].split("_")[1][:2] for r in rows} for name, rows in found.splits.items()}
    assert not speakers["train"] & speakers["test"] and all(speakers.values())
    told = inspect(found)
    assert told["sounds"]["rates"] == {RATE: 32, 16000: 16} and told["sounds"]["silent"] == 0
    assert any("differ in rate" in remark for remark in told["remarks"])
    assert jichu.load(tones, rate=16000, seconds=0.5).tensors["audio"].shape == (48, 8000)


@pytest.mark.parametrize(
    ("pattern", "told"), [("(", "regular expression"), ("a+", "no group"), ("(?P<audio>a)", "another name")]
)
def test_a_pattern_that_names_nothing(tones, pattern, told):
    with pytest.raises(UsageError, match=told):
        jichu.load(tones, reader={"name": "audio_folder", "pattern": pattern})


def test_names_that_do_not_match_are_told(tones):
    found = jichu.load(tones, reader={"name": "audio_folder", "pattern": r"_(?P<speaker>anna)"})
    assert len(found) == 24 and "does not match" in found.quarantine[0]["reason"]


def test_sounds_in_tables(tones, tmp_path):
    files = sorted(tones.rglob("*.*"))
    rows = "".join(f"{f.relative_to(tones.parent)},{f.parent.name}\n" for f in files)
    (tmp_path / "list.csv").write_text("file,label\n" + rows)
    table = pa.table({
        "audio": [{"bytes": f.read_bytes(), "path": f.name} for f in files], "label": [f.parent.name for f in files],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "rows.parquet")
    named, inside = jichu.load(tmp_path / "list.csv"), jichu.load(tmp_path / "rows.parquet")
    whole = jichu.load(tones)
    assert torch.equal(named.tensors["audio"], inside.tensors["audio"]) and named.kind == "audio"
    assert torch.equal(inside.tensors["audio"].sum(), whole.tensors["audio"].sum())


def test_sounds_in_memory():
    waves = [tone(300, s) for s in (0.1, 0.2, 0.3)]
    found = jichu.load({"audio": waves, "rate": RATE, "label": ["a", "b", "a"]})
    assert found.preprocess == Sound(RATE, 2400) and found.classes == ["a", "b"]
    other = jichu.load({"audio": [*waves[:2], tone(301, 0.3)], "rate": RATE})
    assert found.fingerprint != other.fingerprint
    with pytest.raises(DataError, match="rate"):
        jichu.load({"audio": waves})


def test_lengths_and_rates_are_inferred():
    def header(seconds, rate):
        return peek_sound((np.zeros(round(seconds * rate)), rate))

    assert infer_sound([header(s / 100, 44100) for s in range(1, 101)], "auto", "auto") == Sound(16000, 16000)
    assert infer_sound([header(1, 8000)] * 3 + [header(60, 16000)] * 2, "auto", "auto") == Sound(8000, 80000)
    assert infer_sound([], 8000, 0.5) == Sound(8000, 4000)
    with pytest.raises(DataError, match="none of the sounds"):
        infer_sound([], "auto", 0.5)


# ------------------------------------------------------------------- spectrograms


@pytest.mark.parametrize(("mels", "bins", "rate"), [(40, 257, 16000), (20, 129, 8000)])
def test_bands_are_those_of_transformers(mels, bins, rate):
    theirs = mel_filter_bank(bins, mels, 20.0, rate / 2, rate, norm=None, mel_scale="htk")
    assert np.allclose(filters(mels, bins, rate), theirs.T, atol=1e-5)


def test_narrow_bands_still_hear_something():
    found = filters(128, 65, 8000)
    assert (found.sum(1) > 0).all()


def test_energies_are_those_of_transformers():
    sound, config = Sound(16000, 16000), SpectrogramConfig(mels=40, window=0.032, hop=0.01)
    wave = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    weights = filters(40, 257, 16000)
    ours = log_mel(torch.from_numpy(wave)[None], sound, config, weights)[0]
    assert ours.shape == (40, frames(sound, config)) and ours.shape[1] == 112
    window = np.hanning(513)[:-1]
    padded = np.pad(wave, (256, 112 * 160 - 16000 + 256))
    theirs = spectrogram(
        padded, window, 512, 160, power=2.0, center=False, mel_filters=weights.numpy().T.astype(np.float64)
    )
    assert np.allclose(ours, np.log(theirs[:, :112] / window.sum() ** 2 + 1e-8), atol=1e-3)


def test_a_tone_is_seen_where_it_sounds():
    sound = Sound(16000, 16000)
    weights = filters(64, transform_size(sound, SpectrogramConfig()) // 2 + 1, 16000)
    centre = [int(weights[band].argmax()) * 16000 / 512 for band in range(64)]
    for hertz in (300, 1000, 4000):
        wave = torch.from_numpy(tone(hertz, 1, 16000))[None]
        loudest = log_mel(wave, sound, SpectrogramConfig(), weights)[0, :, 20:80].mean(1).argmax()
        assert centre[int(loudest)] == pytest.approx(hertz, rel=0.1)
    assert pictures(torch.from_numpy(tone(1000, 1, 16000))[None], sound).max() > 200


def test_spectrograms_are_standardised_and_masked(sounds):
    made = Spectrogram(SOUND, LOOKS)
    made.estimate(sounds["audio"], torch.arange(12))
    found = made(sounds["audio"])
    assert found.shape == (12, 1, 32, 16)
    assert found.mean((0, 1, 2)).abs().max() < 1e-4 and (found.std((0, 1, 2)) - 1).abs().max() < 0.01
    masks = torch.tensor([[[0.25, 0.5, 0, 0], [0, 0, 0.5, 0.75]]]).expand(12, -1, -1)
    kept = made(sounds["audio"], masks)
    assert not kept[:, :, 8:16].any() and not kept[..., 8:12].any()
    assert torch.equal(kept[:, :, :8, :8], found[:, :, :8, :8])
    assert made(sounds["audio"][:0]).shape == (0, 1, 32, 16)


def test_silence_is_no_noise():
    assert not Waves(SOUND)(torch.zeros(2, 2000, dtype=torch.int16)).any()
    assert Spectrogram(SOUND, LOOKS)(torch.zeros(2, 2000)).isfinite().all()


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 50))
@settings(deadline=None)
def test_a_mask_hides_its_share(one, other, count):
    low, high = sorted((one, other))
    found = hidden(torch.tensor([[[low, high]]]), count)
    assert abs(int(found.sum()) - (high - low) * count) <= 1


# ------------------------------------------------------------------- augmentation


def draw(rows, seed=0):
    return Context(seed).for_rows(rows)


@pytest.mark.parametrize(
    "key",
    [{"shift": 0.2}, {"speed": 0.2}, {"gain": 6}, {"tone": 10}, {"noise": 0.2}, {"times": 2}, {"bands": 2}],
)
def test_a_sound_is_changed_by_itself_alone(sounds, key):
    augment = Augment(AugmentConfig(audio=AudioAugmentConfig(**key)))
    whole = augment.columns(sounds, draw(sounds["row"]))
    part = augment.columns({k: v[3:5] for k, v in sounds.items()}, draw(sounds["row"][3:5]))
    for name, values in part.items():
        assert torch.allclose(whole[name][3:5], values, atol=1e-6)
    changed = whole[MASKS] if MASKS in whole else whole["audio"] - sounds["audio"] / 2**15
    assert changed.abs().amax((1, *range(2, changed.ndim))).min() > 0


def test_each_change_is_what_it_says():
    wave = torch.from_numpy(np.stack([tone(1000, 0.5)] * 64))
    batch = {"audio": wave, "row": torch.arange(64)}

    def made(**config):
        return Augment(AugmentConfig(audio=AudioAugmentConfig(**config))).columns(batch, draw(batch["row"]))

    louder = made(gain=6)["audio"].square().mean(1).sqrt() / wave.square().mean(1).sqrt()
    decibels = 20 * louder.log10()
    assert decibels.abs().max() <= 6.001 and decibels.min() < -4 and decibels.max() > 4
    pitches = [pitch(w[1000:3000].numpy()) for w in made(speed=0.2)["audio"]]
    assert 1000 / 1.21 < min(pitches) < 900 and 1100 < max(pitches) < 1210
    toned = made(tone=10)["audio"][:, 500:-500].square().mean(1) / wave[:, 500:-500].square().mean(1)
    decibels = 10 * toned.log10()
    assert decibels.abs().max() <= 10.1 and decibels.min() < -4 and decibels.max() > 4
    noise = (made(noise=0.5)["audio"] - wave).square().mean(1).sqrt() / wave.square().mean(1).sqrt()
    assert noise.max() < 0.55 and noise.min() < 0.1
    silent = (made(shift=0.5)["audio"] == 0).float().mean(1)
    assert silent.max() < 0.52 and silent.max() > 0.3
    masks = made(times=1, bands=2, hidden=0.3)[MASKS]
    long = masks[..., 1::2] - masks[..., ::2]
    assert masks.shape == (64, 3, 4) and long.max() <= 0.3 and masks.max() <= 1
    assert not long[:, 0, 1].any() and not long[:, 1:, 0].any()


# ------------------------------------------------------------------- networks


@pytest.mark.parametrize("backbone", [
    lambda: Cnn(1, 16, widths=[8]), lambda: Gru(1, 16, hidden=8), lambda: Bands(1, 16),
    lambda: vit(1, 16, width=16, depth=1, heads=2, patch=4),
])  # fmt: skip
def test_networks_of_images_take_spectrograms(sounds, backbone):
    found = heard(backbone())(sounds)["features"]
    assert found.pooled.shape[0] == 12 and found.pooled.isfinite().all()
    if found.sequence is not None and found.sequence.shape[2] == 8:
        assert found.sequence.shape[1] == 32  # a step for each look


def test_bands_are_means_and_deviations():
    image = torch.randn(3, 1, 12, 5)
    found = Bands(1, 5)({"image": image}).pooled.view(3, 5, 5)
    assert torch.allclose(found[:, 0], image[:, 0].mean(1)) and torch.allclose(
        found[:, 1], image[:, 0].std(1, correction=0)
    )
    assert torch.allclose(found[:, 2:].mean(1), found[:, 0], atol=1e-6)


SMALL = {"width": 32, "depth": 1, "heads": 2, "convolutions": 16}


def test_wav2vec_is_that_of_transformers(sounds, tmp_path):
    jichu.check_backbone(
        lambda: wav2vec2(RATE, 2000, **SMALL), {**sounds, "audio": Waves(SOUND)(sounds["audio"])}
    )
    ours = wav2vec2(RATE, 2000, **SMALL).eval()
    ours.module.save_pretrained(tmp_path)
    theirs = transformers.AutoModel.from_pretrained(tmp_path).eval()
    waves = Waves(SOUND)(sounds["audio"])
    made = transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE)(
        [*(sounds["audio"].float() / 2**15).numpy()], sampling_rate=RATE, return_tensors="pt"
    )
    assert torch.allclose(made.input_values, waves, atol=1e-3)
    with torch.no_grad():
        assert torch.allclose(theirs(waves).last_hidden_state, ours({"audio": waves}).sequence, atol=1e-5)
    again = load_hub(f"hf:{tmp_path}", rate=RATE, samples=2000).eval()
    with torch.no_grad():
        assert torch.allclose(again({"audio": waves}).pooled, ours({"audio": waves}).pooled, atol=1e-5)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000}))
    with pytest.raises(UsageError, match=r"16,000 Hz.*8,000"):
        load_hub(f"hf:{tmp_path}", rate=RATE, samples=2000)


@pytest.mark.parametrize("kind", hub_sounds.MODEL_TYPES)
def test_checkpoints_that_hear(kind, tmp_path, sounds):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
             "conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [10, 8], "num_conv_pos_embedding_groups": 2,
             "num_conv_pos_embeddings": 19 if kind == "data2vec-audio" else 16}  # fmt: skip
    config = transformers.AutoConfig.for_model(kind, **small)
    theirs = transformers.AutoModel.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_hub(f"hf:{tmp_path}", rate=RATE, samples=2000).eval()
    waves = Waves(SOUND)(sounds["audio"])
    with torch.no_grad():
        assert torch.allclose(theirs(waves).last_hidden_state, ours({"audio": waves}).sequence, atol=1e-4)
        deaf = torch.zeros(12, ours({"audio": waves}).sequence.shape[1], dtype=torch.bool)
        deaf[:, 3:6] = True
        assert not torch.allclose(
            ours({"audio": waves, UNHEARD: deaf}).sequence, ours({"audio": waves}).sequence
        )
    again = load_hub("hf:gone/away", rate=RATE, samples=2000, config=ours.saved_config)
    assert [p.shape for p in again.parameters()] == [p.shape for p in ours.parameters()]


# ------------------------------------------------------------------- objectives


def test_objectives_keep_their_contract(sounds):
    jichu.check_objective(SimCLR(CHANGED, hidden=32, width=16), heard(Cnn(1, 16, widths=[8, 16])), sounds)
    jichu.check_objective(MaskedSpectrograms(CHANGED, width=16), heard(Cnn(1, 16, widths=[8, 16])), sounds)
    jichu.check_objective(
        MaskedSpectrograms(CHANGED, width=16), heard(vit(1, 16, width=16, depth=1, heads=2, patch=4)), sounds
    )
    jichu.check_objective(MaskedFrames(CHANGED, mels=8), heard(wav2vec2(RATE, 2000, **SMALL), None), sounds)


@pytest.mark.parametrize(
    "weak", [AudioAugmentConfig(), AudioAugmentConfig(shift=0.1), AudioAugmentConfig(times=1)]
)
def test_sounds_without_label_are_learnt_from(sounds, weak):
    def made():
        return FixMatch(Augmented(Classification(), Augment(AugmentConfig(audio=weak))), threshold=0.0)

    batch = {**sounds, "label": torch.where(sounds["row"] % 3 == 0, sounds["label"], -1)}
    model = heard(Cnn(1, 16, widths=[8, 16]))
    model.heads["label"] = Linear(16, 2)
    jichu.check_objective(made(), model, batch, overfits=False)
    prepared = made().prepare(batch, Context(0))
    strong = prepared[MASKS][:, weak.times :].flatten(1).any(1)
    assert torch.equal(strong, batch["label"] == -1)
    assert weak.times or not prepared[f"fixmatch.view.{MASKS}"].any()


def test_what_is_hidden_of_a_spectrogram_is_not_seen(sounds):
    model = heard(vit(1, 16, width=16, depth=1, heads=2, patch=4)).eval()
    objective = MaskedSpectrograms(CHANGED, width=16)
    objective.bind(model, sounds)
    prepared = objective.prepare(sounds, Context(0))
    assert objective.grid == (8, 4) and prepared["hidden"].shape == (12, 32) and "audio" not in prepared
    assert objective(model, prepared)["images"].shape == (12, 1, 32, 16)
    assert not any("spectrogram" in name.lower() for name, _ in objective.named_buffers())


def test_frames_that_are_hidden_are_told_from_the_others(sounds):
    model = heard(wav2vec2(RATE, 2000, **SMALL), None).eval()
    objective = MaskedFrames(CHANGED, span=3, share=0.5, mels=8).eval()
    objective.bind(model, sounds)
    prepared = objective.prepare(sounds, Context(0))
    spans = prepared[UNHEARD]
    assert spans.shape == (12, 12) and 0.3 < spans.float().mean() < 0.7
    assert prepared["truth"].shape == (12, 12, 8)
    assert prepared["truth"].mean(1).abs().max() < 1e-4
    outputs = objective(model, prepared)
    shifted = {**prepared, "truth": torch.where(spans[:, :, None], prepared["truth"], prepared["truth"] + 1)}
    assert torch.equal(objective.losses(outputs, prepared), objective.losses(outputs, shifted))


@given(st.integers(2, 40), st.integers(1, 50), st.floats(0.05, 0.95))
@settings(deadline=None)
def test_something_is_hidden_and_something_heard(count, span, share):
    objective = MaskedFrames(CHANGED, span=span, share=share)
    objective.frames = count
    found = objective._spans({"row": torch.arange(8), "audio": torch.zeros(8, 1)}, Context(0))
    assert found.any(1).all() and not found.all(1).any()


def test_objectives_say_what_fits(sounds):
    with pytest.raises(UsageError, match="looks at none"):
        MaskedSpectrograms(CHANGED).bind(heard(wav2vec2(RATE, 2000, **SMALL), None), sounds)
    with pytest.raises(UsageError, match="hears none"):
        MaskedFrames(CHANGED).bind(heard(Cnn(1, 16, widths=[8])), sounds)


# ------------------------------------------------------------------- whole runs


RECIPE = """
name: tones
data: {{path: {path}, seconds: 0.25, split: {{test: 0.34}}}}
stages:
  - {{stage: inspect}}
  - stage: pretrain
    backbone: {backbone}
    objective: {objective}
    budget: 6 steps
    batch_size: 16
  - stage: finetune
    name: tuned
    from: pretrain
    augment: auto
    budget: 30 steps
    batch_size: 16
    optimizer: {{name: adamw, lr: 0.003}}
  - {{stage: finetune, name: bands, head: logistic-regression}}
  - {{stage: audit}}
"""


@pytest.mark.parametrize(("backbone", "objective"), [
    ("{name: gru, hidden: 32, readout: mean}", "vicreg"),
    ("{name: vit, width: 32, depth: 1, heads: 2}", "masked-spectrograms"),
    ("{name: wav2vec2, width: 32, depth: 1, heads: 2, convolutions: 16}", "masked-frames"),
])  # fmt: skip
def test_from_files_to_predictions(tones, in_folder, capsys, backbone, objective):
    (in_folder / "r.yaml").write_text(RECIPE.format(path=tones, backbone=backbone, objective=objective))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    run = jichu.open("runs/tones")
    assert run.headline["bands"]["value"] == 1.0
    if objective == "vicreg":
        assert run.headline["tuned"]["value"] > 0.9
    examples = sorted((in_folder / "runs/tones/examples").iterdir())
    assert examples[0].suffix == ".wav" and peek_sound(examples[0]).rate == RATE
    file = examples[0]
    told = run.predict(str(file))[0]
    wave, rate = soundfile.read(file, dtype="int16")
    for same in (file.read_bytes(), (wave, rate), [(wave, rate)]):
        assert run.predict(same)[0]["scores"] == pytest.approx(told["scores"], abs=1e-5)
    assert run.embed([str(f) for f in examples]).shape[0] == len(examples)
    assert "spectrogram" in (in_folder / "runs/tones/data.html").read_text()
    with pytest.raises(DataError, match="not a sound"):
        run.predict(str(in_folder / "r.yaml"))
    config = read_json(in_folder / "runs/tones/model/config.json")
    assert config["audio"] == {"rate": RATE, "samples": 2000}
    assert ("spectrogram" in config) == (objective != "masked-frames")
    capsys.readouterr()
    assert main(["embed", "runs/tones", str(tones), "--output", "e.parquet"]) == 0
    assert main(["doctor", "runs/tones", "--seconds", "0.05", "--batch-sizes", "1,4"]) == 0
    for key, value in (
        ("audio", {"rate": 5, "samples": 2}),
        ("spectrogram", {"mels": 1}),
        ("audio", {"rate": "a"}),
    ):
        write_json(in_folder / "runs/tones/model/config.json", {**config, key: value})
        with pytest.raises(JichuError):
            _ = jichu.open("runs/tones").model


def test_init_writes_a_recipe_that_runs(tones, in_folder, capsys):
    assert main(["init", str(tones), "-o", "made.yaml"]) == 0
    text = (in_folder / "made.yaml").read_text()
    assert "seconds: 0.3" in text and "bands" in text and "resnet9" in text
    short = [f"stages.{i}.budget=2 steps" for i in (1,)]
    assert main(["run", "made.yaml", "--quiet", *(f"--set={s}" for s in short)]) == 0


@pytest.mark.parametrize(("change", "told"), [
    ("stages.1.objective=masked-images", "learns from images"),
    ("stages.1.objective=masked-frames", "hears none"),
    ("stages.1.backbone=bert-mini", "these are audio data"),
    ("stages.1.augment={flip: true}", "flip changes images"),
    ("stages.1.augment={audio: {}}", "no views"),
    ("stages.1.spectrogram={mels: 4}", "mels"),
    ("data.seconds=0", "seconds"),
    ("data.rate=10", "rate"),
])  # fmt: skip
def test_bad_recipes(tones, in_folder, capsys, change, told):
    (in_folder / "r.yaml").write_text(
        RECIPE.format(path=tones, backbone="{name: cnn, widths: [8]}", objective="vicreg")
    )
    assert main(["run", "r.yaml", "--quiet", "--set", change]) == 2
    assert told in capsys.readouterr().err and not (in_folder / "runs/tones/model").exists()


def test_what_hears_takes_no_spectrogram(tones, in_folder, capsys):
    (in_folder / "r.yaml").write_text(
        RECIPE.format(path=tones, backbone="wav2vec2-mini", objective="masked-frames")
    )
    assert main(["run", "r.yaml", "--quiet", "--set", "stages.1.spectrogram={mels: 32}"]) == 2
    assert "hears sounds as they are" in capsys.readouterr().err
    assert main(["run", "r.yaml", "--quiet", "--set", "stages.1.objective=masked-spectrograms"]) == 2
    assert "looks at none" in capsys.readouterr().err


def test_sounds_that_are_all_the_same(in_folder, capsys):
    for i in range(12):
        (in_folder / "s").mkdir(exist_ok=True)
        soundfile.write(in_folder / "s" / f"{i}.wav", np.zeros(800), RATE)
    (in_folder / "r.yaml").write_text(
        "name: s\ndata: {path: s}\nstages: [{stage: pretrain, backbone: cnn, budget: 2 steps}]"
    )
    assert main(["run", "r.yaml", "--quiet"]) == 3
    assert "are all the same" in capsys.readouterr().err
    assert inspect(jichu.load("s"))["sounds"]["silent"] == 12


def test_a_model_of_another_rate_is_not_gone_on_with(tones, in_folder, capsys):
    (in_folder / "r.yaml").write_text(
        RECIPE.format(path=tones, backbone="{name: cnn, widths: [8]}", objective="vicreg")
    )
    assert main(["run", "r.yaml", "--quiet"]) == 0
    code = main(
        [
            "finetune",
            str(tones),
            "--from",
            "runs/tones",
            "--budget",
            "2 steps",
            "--quiet",
            "--set",
            "data.rate=16000",
        ]
    )
    assert code == 2 and "data.rate: 8000" in capsys.readouterr().err

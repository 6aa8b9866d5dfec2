"""Attention by products against the library's own: numbers, gradients, masks, and what is saved."""

import json
from types import SimpleNamespace

import pytest
import torch

from jichu.models import attention
from jichu.models import transformers_audio as audio
from jichu.models import transformers_text as text
from jichu.models import transformers_vision as vision
from jichu.models.patchtst import PatchTST
from test_text_models import FAMILIES, SMALL, SPECIAL, batch

V, T = 40, 24


def given(length, kind=torch.bfloat16):
    torch.manual_seed(0)
    return [torch.randn(3, 2, length, 64).to(kind).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("length", [7, 64, 150])
@pytest.mark.parametrize("case", ["plain", "causal", "mask", "padding", "documents", "ahead"])
def test_products_are_attention(case, length):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    module = SimpleNamespace(is_causal=case in ("causal", "documents", "ahead"))
    itself, back = torch.eye(length, dtype=torch.bool), torch.ones(length, length, dtype=torch.bool).tril()
    mask = {
        "mask": (torch.rand(3, 1, length, length) > 0.4) | itself,
        "padding": torch.arange(length)[None, None, None] < torch.tensor([3, 5, length])[:, None, None, None],
        "documents": back & ((torch.arange(length) >= 5)[:, None] <= (torch.arange(length) >= 5))[None, None],
        "ahead": back[None, None]
        | (torch.arange(length) < 70),  # of a decoder, and yet some see what follows
    }.get(case)
    outcomes = []
    for function, kind in ((attention._attention, torch.bfloat16), (sdpa_attention_forward, torch.float32)):
        qkv = given(length)
        found, _ = function(module, *(t.to(kind) for t in qkv), mask, 0.0, 0.5)
        found.float().square().sum().backward()
        outcomes.append([found.float(), *(t.grad.float() for t in qkv)])
    for ours, theirs in zip(*outcomes, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize("length, causal", [(513, False), (600, True)])
def test_long_texts_are_the_kernels(length, causal, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "softmax", None)
    q, k, v = given(length)
    found, _ = attention._attention(SimpleNamespace(is_causal=causal), q, k, v, None)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert torch.equal(found, wanted.transpose(1, 2))


def test_weights_are_dropped():
    q, k, v = given(16)
    torch.manual_seed(1)
    same = [attention._attention(SimpleNamespace(is_causal=False), q, k, v, None, 0.5)[0] for _ in range(2)]
    mean = torch.stack([attention._attention(SimpleNamespace(is_causal=False), q, k, v, None, 0.5)[0].float() for _ in range(400)]).mean(0)  # fmt: skip
    whole = attention._attention(SimpleNamespace(is_causal=False), q, k, v, None)[0].float()
    assert not torch.equal(*same) and (mean - whole).norm() < 0.1 * whole.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_knows_nothing_of_it(family, tmp_path):
    model = FAMILIES[family](V, T, SPECIAL, **SMALL).eval()
    assert model.config._attn_implementation == attention.NAME
    model.module.save_pretrained(tmp_path)
    assert attention.NAME not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(batch(5, 9)).pooled
        model.module.set_attn_implementation("sdpa")
        assert (found - model(batch(5, 9)).pooled).norm() < 0.05 * found.norm()


OTHERS = {  # a network of images, of waves and of series, and what it takes
    "vit": (lambda: vision.vit(3, 32, 32, 2, 2), {"image": torch.rand(2, 3, 32, 32)}),
    "wav2vec2": (
        lambda: audio.wav2vec2(4000, 8000, width=32, depth=2, heads=2),
        {"audio": torch.randn(2, 4000)},
    ),
    "patchtst": (lambda: PatchTST(64, 3, width=32, heads=1, dropout=0.0), {"series": torch.randn(2, 64, 3)}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_so_do_networks_of_other_data(kind, tmp_path):
    make, given = OTHERS[kind]
    torch.manual_seed(0)
    model = make().eval()
    assert model.module.config._attn_implementation == attention.NAME
    model.module.save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text()
    with torch.no_grad():
        whole = model(given).pooled
        with torch.autocast("cpu", torch.bfloat16):
            found = model(given).pooled
    assert (found - whole).norm() < 0.05 * whole.norm()


def test_float32_is_left_alone():
    model = text.bert(V, T, SPECIAL, **SMALL).eval()
    with torch.no_grad():
        found = model(batch(5, 9)).pooled
        model.module.set_attn_implementation("sdpa")
        assert torch.equal(found, model(batch(5, 9)).pooled)

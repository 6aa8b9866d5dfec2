"""Language models: parity with transformers both ways, what shares a row, bags of words, recurrent networks."""

import copy
import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import jichu
from jichu.adapt import lora
from jichu.adapt import rules as adapt
from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError
from jichu.core.names import construct
from jichu.data.ragged import Ragged
from jichu.data.special import Special, TextInputs
from jichu.data.target import Target
from jichu.models import BACKBONES, folder
from jichu.models import transformers_text as text
from jichu.models.backbone import Features
from jichu.models.folder import ModelConfig
from jichu.models.library import quiet
from jichu.models.recurrent import GruText, LstmText, RnnText
from jichu.models.words import Words
from jichu.objectives.supervised import Classification
from jichu.train import optimizers
from jichu.train.config import OptimizerConfig
from jichu.train.muon import matrices

V, T = 40, 24  # tokens of the vocabulary, and of the context
SPECIAL = Special(pad=0, unknown=1, mask=2, begin=3, end=4)
SMALL = {"width": 32, "depth": 2, "heads": 2}
FAMILIES = {"bert": text.bert, "gpt": text.gpt, "llama": text.llama, "t5": text.t5}


def rows(*lengths, seed=0):
    """Rows of random tokens, -1 beyond their ends, with begin and end around."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.full((len(lengths), max(lengths)), -1)
    for i, length in enumerate(lengths):
        found[i, :length] = torch.randint(5, V, (length,), generator=generator)
        if length > 1:
            found[i, 0], found[i, length - 1] = 3, 4
    return found


def batch(*lengths):
    return {"tokens": rows(*lengths), "row": torch.arange(len(lengths))}


def make(family, language=False, **arguments):
    torch.manual_seed(0)
    made = FAMILIES[family](V, T, SPECIAL, language=language, **{**SMALL, **arguments})
    for name, parameter in made.named_parameters():  # so that a bias that is lost is seen
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return made.eval()


def theirs(ours, tokens, **options):
    """What the library gives for the same rows, padded with the padding token under an attention mask."""
    mask = tokens >= 0
    with torch.no_grad():
        return ours.module(input_ids=tokens.masked_fill(~mask, 0), attention_mask=mask.long(), **options)


# ------------------------------------------------------------------- by configuration


@pytest.mark.parametrize("readout", ["first", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_of_several_windows_has_the_mean_of_theirs(family, readout):
    model = make(family, **({} if readout == "first" else {"readout": "mean"}))
    tokens = rows(T, 3 * T - 5, 2 * T)
    found = model({"tokens": tokens})
    assert found.mask.shape == found.sequence.shape[:2] == (3, 3 * T)
    for row, length, pooled in zip(tokens, (T, 3 * T - 5, 2 * T), found.pooled, strict=True):
        parts = row[:length].split(T)
        alone = [model({"tokens": part[None]}) for part in parts]
        wanted = sum(one.pooled[0] * len(part) for one, part in zip(alone, parts, strict=True)) / length
        assert torch.allclose(pooled, wanted, atol=1e-5)
        states = torch.cat([one.sequence[0] for one in alone])
        assert torch.allclose(found.sequence[(tokens == row).all(1)][0, :length], states, atol=1e-5)


@pytest.mark.parametrize("readout", ["first", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_backbones_keep_their_contract(family, readout):
    options = {} if readout == "first" else {"readout": "mean"}
    torch.manual_seed(0)
    jichu.check_backbone(lambda: FAMILIES[family](V, T, SPECIAL, **SMALL, **options), batch(5, 9, 1, 12))


@pytest.mark.parametrize(
    ("name", "vocabulary", "context", "published"),
    [
        # BERT (Devlin et al., 2019; Turc et al., 2019), of 30,522 word pieces, with their poolers
        ("bert-tiny", 30522, 512, 4_385_920), ("bert-mini", 30522, 512, 11_170_560),
        ("bert-small", 30522, 512, 28_763_648), ("bert-medium", 30522, 512, 41_373_184),
        ("bert-base", 30522, 512, 109_482_240), ("bert-large", 30522, 512, 335_141_888),
        # GPT-2 (Radford et al., 2019)
        ("gpt-small", 50257, 1024, 124_439_808), ("gpt-medium", 50257, 1024, 354_823_168),
        # a character model of Shakespeare by Karpathy's nanoGPT, "10.65M" without positions, plus biases
        ("gpt-nano", 65, 256, 10_646_784 + 256 * 384 + 6 * (3 + 1 + 4 + 1 + 2) * 384 + 384),
    ],
)  # fmt: skip
def test_sizes_are_those_of_the_papers(name, vocabulary, context, published):
    with torch.device("meta"):
        made = construct("backbone", Spec(name=name), BACKBONES, vocabulary=vocabulary, context=context)()
    assert sum(p.numel() for p in made.parameters()) == published


def test_every_preset_can_be_built():
    given = {"vocabulary": 8000, "context": 128, "special": SPECIAL, "language": True}
    for name, path in BACKBONES.items():
        if "transformers_text" in path:
            with torch.device("meta"):
                made = construct("backbone", Spec(name=name), BACKBONES, **given)()
            assert 0.5e6 < sum(p.numel() for p in made.parameters()) < 360e6
            assert made.module.config._attn_implementation == "products"  # or, where longer, sdpa


def test_arguments_are_checked_by_name():
    build = construct("backbone", Spec(name="bert-mini", dropout=0.2), BACKBONES, vocabulary=9, context=8)
    assert build().module.config.hidden_dropout_prob == 0.2
    with pytest.raises(UsageError, match="did you mean: readout"):
        construct("backbone", Spec(name="gpt", readuot="mean"), BACKBONES, vocabulary=9)
    with pytest.raises(UsageError, match="width"):  # which is what a preset fixes
        construct("backbone", Spec(name="gpt-nano", width=8), BACKBONES, vocabulary=9)
    for call, words in [
        (lambda: make("gpt", width=30, heads=4), "heads divide"),
        (lambda: make("llama", heads=4, kv_heads=3), "divides them"),
        (lambda: text.t5(V, T, Special(end=1)), "made for T5"),
        (lambda: make("gpt")({**batch(T + 1), "predicted": None}), "the model holds 24"),
    ]:
        with pytest.raises(UsageError, match=words):
            call()


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r"jichu\[transformers\]"):
        make("gpt")


# ------------------------------------------------------------------- padding and what shares a row


@pytest.mark.parametrize("family", ["bert", "gpt", "llama"])
def test_padding_equals_an_attention_mask(family):
    ours = make(family)
    tokens = rows(9, 4, 1, 12)
    expected, mask = theirs(ours, tokens).last_hidden_state, tokens >= 0
    out = ours({"tokens": tokens})
    torch.testing.assert_close(out.sequence[mask], expected[mask])
    assert torch.equal(out.mask, mask)


def test_readouts():
    tokens = rows(9, 4, 12)
    mask = tokens >= 0
    bert, gpt, t5 = make("bert"), make("gpt"), make("t5")
    hidden = bert({"tokens": tokens}).sequence
    cls, mean_of = make("bert", readout="cls"), make("bert", readout="mean")
    for other in (cls, mean_of):
        other.module.load_state_dict(bert.module.state_dict())
    assert torch.equal(cls({"tokens": tokens}).pooled, hidden[:, 0])
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(mean_of({"tokens": tokens}).pooled, mean)
    pooled = torch.tanh(bert.pooler.dense(hidden[:, 0]))
    torch.testing.assert_close(bert({"tokens": tokens}).pooled, pooled)
    last = gpt({"tokens": tokens})
    assert torch.equal(last.pooled, last.sequence[torch.arange(3), mask.sum(1) - 1])
    encoded = theirs(t5, tokens).last_hidden_state
    mean = (encoded * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(t5({"tokens": tokens}).pooled, mean)


@pytest.mark.parametrize("make_one", [*(lambda f=f: make(f) for f in FAMILIES), lambda: LstmText(V, bidirectional=True),
                                      lambda: GruText(V, layers=2), lambda: RnnText(V)])  # fmt: skip
def test_documents_of_a_row_do_not_see_each_other(make_one):
    torch.manual_seed(0)
    ours = make_one().eval()
    one, two, three = rows(5, seed=1), rows(1, seed=2), rows(8, seed=3)
    alone = [ours({"tokens": t}).sequence for t in (one, two, three)]
    together = torch.cat([one, two, three], 1)
    other = torch.cat([three[:, 2:], one, torch.full((1, 3), -1)], 1)
    document = torch.tensor([[0] * 5 + [1] + [2] * 8, [0] * 6 + [1] * 5 + [2] * 3])
    found = ours({"tokens": torch.cat([together, other]), "document": document}).sequence
    torch.testing.assert_close(found[0], torch.cat(alone, 1)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1, 6:11], alone[0][0], rtol=1e-4, atol=1e-5)
    apart = ours({"tokens": together}).sequence[0, 6:]
    assert not torch.allclose(apart, alone[2][0], atol=1e-3)  # without numbers they do


@pytest.mark.parametrize("family", ["bert", "gpt", "llama"])
def test_every_token_learns(family):
    """Also one that the library takes for padding: where there is no other it is the end."""
    for special in (SPECIAL, Special(end=4)):
        ours = FAMILIES[family](V, T, special, **SMALL)
        ours({"tokens": torch.tensor([[4, 0, 7, 4, 9]])}).sequence.square().sum().backward()
        gradient = ours.module.get_input_embeddings().weight.grad.abs().sum(1)
        assert gradient[[0, 4, 7, 9]].min() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_empty_texts(family):
    ours = make(family)
    for tokens in (
        torch.full((2, 3), -1),
        torch.empty(2, 0, dtype=torch.long),
        torch.empty(0, 0, dtype=torch.long),
    ):
        out = ours({"tokens": tokens})
        assert out.pooled.shape == (len(tokens), 32) and out.pooled.isfinite().all()


def test_segments_of_a_pair():
    ours = text.bert(V, T, SPECIAL, pair=True, **SMALL).eval()
    tokens = torch.tensor([[3, 9, 8, 4, 7, 6, 4, -1], [3, 9, 4, 7, 6, 8, 5, 4]])
    kinds = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 1]])
    expected = theirs(ours, tokens, token_type_ids=kinds).last_hidden_state
    torch.testing.assert_close(ours({"tokens": tokens}).sequence[tokens >= 0], expected[tokens >= 0])


# ------------------------------------------------------------------- the language head


def language_model(family, **arguments):
    """A model with the head of a language model."""
    spec = {"name": family, **SMALL, **arguments}
    config = ModelConfig(spec, heads={"tokens": {"name": "language"}}, text=TextInputs(V, T, SPECIAL, "…"))
    torch.manual_seed(0)
    model = config.build().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model, config


@pytest.mark.parametrize("family", ["bert", "gpt", "llama"])
def test_scores_equal_the_librarys(family):
    model, _ = language_model(family)
    tokens = rows(9, 4, 12)
    expected = theirs(model.backbone, tokens).logits
    predicted = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    predicted &= tokens >= 0
    out = model({"tokens": tokens, "predicted": predicted})
    torch.testing.assert_close(out["tokens"], expected[predicted])
    whole = model({"tokens": tokens})["tokens"]
    torch.testing.assert_close(whole[tokens >= 0], expected[tokens >= 0])


def test_t5_learns_answers():
    model, _ = language_model("t5")
    tokens, answer = rows(9, 4, 12), rows(3, 6, 2, seed=5)
    labels = answer.masked_fill(answer < 0, -100)
    expected = theirs(model.backbone, tokens, labels=labels)
    out = model({"tokens": tokens, "answer": answer, "predicted": answer >= 0})
    torch.testing.assert_close(out["tokens"], expected.logits[answer >= 0])
    loss = nn.functional.cross_entropy(out["tokens"], answer[answer >= 0])
    torch.testing.assert_close(loss, expected.loss)
    encoded = model.backbone({"tokens": tokens})
    assert torch.equal(encoded.pooled, out["features"].pooled) and encoded.sequence.shape[:2] == tokens.shape
    with pytest.raises(UsageError, match="encoder-decoder"):
        language_model("gpt")[0]({"tokens": tokens, "answer": answer})


def test_the_head_owns_nothing_and_is_copied_with_its_model():
    model, _ = language_model("gpt")
    assert not list(model.heads.state_dict()) and not list(model.heads.parameters())
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.backbone.module.transformer.wte.weight.mul_(2)
    tokens = rows(5)
    assert torch.equal(model({"tokens": tokens})["tokens"], theirs(model.backbone, tokens).logits)
    assert torch.equal(again({"tokens": tokens})["tokens"], theirs(again.backbone, tokens).logits)
    assert again.backbone.module.lm_head.weight is again.backbone.module.transformer.wte.weight
    with pytest.raises(UsageError, match="no language model"):
        ModelConfig({"name": "words"}, heads={"tokens": {"name": "language"}}, text=TextInputs(V, T)).build()


# ------------------------------------------------------------------- folders


LABEL = Target("label", "classification", ("bad", "good", "so so"), (3, 4, 5), 12)


def classifier(family, head=None, target=LABEL, **arguments):
    spec = (
        {"name": family, **arguments} if family.startswith("hf:") else {"name": family, **SMALL, **arguments}
    )
    heads = {"label": {"name": "linear", **(head or {})}}
    config = ModelConfig(spec, heads=heads, targets={"label": target}, text=TextInputs(V, T, SPECIAL))
    torch.manual_seed(0)
    return config.build().eval(), config


def padded(tokens):
    return {"input_ids": tokens.masked_fill(tokens < 0, 0), "attention_mask": (tokens >= 0).long()}


def from_folder(kind, path):
    """The library's model of a folder; it must find all that it looks for and nothing else."""
    with quiet():
        found, report = getattr(transformers, kind).from_pretrained(path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return found.eval()


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "MaskedLM"), ("gpt", "CausalLM"), ("llama", "CausalLM"), ("t5", "Seq2SeqLM")],
)
def test_language_models_load_with_the_library(family, kind, tmp_path):
    model, config = language_model(family)
    folder.save(tmp_path, model, config)
    loaded = from_folder(f"AutoModelFor{kind}", tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [type(loaded).__name__]
    tokens = rows(9, 12)
    given = {"tokens": tokens, "answer": rows(4, 5)} if family == "t5" else {"tokens": tokens}
    more = {"labels": rows(4, 5).masked_fill(rows(4, 5) < 0, -100)} if family == "t5" else {}
    asked = given.get("answer", tokens) >= 0
    with torch.no_grad():
        expected = loaded(**padded(tokens), **more).logits[asked]
    torch.testing.assert_close(model(given)["tokens"][asked], expected)


@pytest.mark.parametrize("family", ["bert", "gpt", "llama"])
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_classifiers_load_with_the_library(family, task, tmp_path):
    target = LABEL if task != "regression" else Target("stars", "regression", rows=9)
    model, config = classifier(family, target=Target(**{**vars(target), "task": task}))
    folder.save(tmp_path, model, config)
    loaded = from_folder("AutoModelForSequenceClassification", tmp_path)
    tokens = rows(9, 4, 12)
    with torch.no_grad():
        torch.testing.assert_close(model({"tokens": tokens})["label"], loaded(**padded(tokens)).logits)
    if task == "classification":
        assert loaded.config.id2label == {0: "bad", 1: "good", 2: "so so"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", ["language", "classifier", "several", "bare"])
def test_our_own_load_gives_the_same_bytes(family, what, tmp_path):
    if what == "language":
        model, config = language_model(family)
    else:
        model, config = classifier(family, {"dropout": 0.3}, readout="mean")
        if what == "several":
            config.heads["label_2"], config.targets["label_2"] = {"name": "linear"}, LABEL
        if what == "bare":
            config.heads.clear()
        model = config.build().eval()
    folder.save(tmp_path / "one", model, config)
    again, read = folder.load(tmp_path / "one")
    assert read == config
    folder.save(tmp_path / "two", again, read)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    tokens = rows(9, 4)
    for name, found in model({"tokens": tokens}).items():
        assert name == "features" or torch.equal(found, again({"tokens": tokens})[name])
    if family != "t5" and what == "bare":
        loaded = from_folder("AutoModel", tmp_path / "one") if family != "bert" else None
        if loaded is not None:
            expected = loaded(**padded(tokens)).last_hidden_state[tokens >= 0]
            torch.testing.assert_close(model({"tokens": tokens})["features"].sequence[tokens >= 0], expected)


def test_the_bare_encoder_loads_with_its_pooler(tmp_path):
    model, config = classifier("bert")
    config.heads.clear()
    model = config.build().eval()
    folder.save(tmp_path, model, config)
    tokens = rows(9, 4)
    with torch.no_grad():
        expected = from_folder("AutoModel", tmp_path)(**padded(tokens)).pooler_output
    torch.testing.assert_close(model({"tokens": tokens})["features"].pooled, expected)


def test_a_tokenizer_is_saved_beside(tmp_path):
    class Written:
        def save(self, folder):
            assert not (folder / "config.json").exists()  # a folder that has one is whole
            (folder / "tokenizer.json").write_text("{}")

    model, config = language_model("gpt")
    folder.save(tmp_path, model, config, Written())
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("family", [*FAMILIES, "lstm-text"])
def test_from_a_language_model_to_a_classifier_and_back(family, tmp_path):
    sizes = {"width": 8, "hidden": 8, "depth": 0, "heads": 0} if family == "lstm-text" else {}
    sizes = {k: v for k, v in sizes.items() if v}
    spec = {"name": family, **(sizes or SMALL)}
    inputs = TextInputs(V, T, SPECIAL)
    pretrained = ModelConfig(spec, heads={"tokens": {"name": "language"}}, text=inputs)
    source = pretrained.build().eval()
    folder.save(tmp_path / "pretrained", source, pretrained)
    tuned = ModelConfig(spec, heads={"label": {"name": "linear"}}, targets={"label": LABEL}, text=inputs)
    model = tuned.build().eval()
    folder.take_over(model, tmp_path / "pretrained")
    tokens = rows(9, 4)
    assert torch.equal(
        model.backbone({"tokens": tokens}).sequence, source.backbone({"tokens": tokens}).sequence
    )
    folder.save(tmp_path / "tuned", model, tuned)
    again = pretrained.build().eval()
    if family == "t5":  # whose classifier has no decoder
        with pytest.raises(UsageError, match="holds no language model"):
            folder.take_over(again, tmp_path / "tuned")
        return
    folder.take_over(again, tmp_path / "tuned")
    assert torch.equal(
        again.backbone({"tokens": tokens}).sequence, model.backbone({"tokens": tokens}).sequence
    )


def test_weights_that_do_not_fit_are_named(tmp_path):
    model, config = classifier("bert")
    folder.save(tmp_path, model, config)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["bert.pooler.dense.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=r"bert.pooler.dense.bias is nothing\n.*\n  expected: \[32\]"):
        folder.load(tmp_path)


# ------------------------------------------------------------------- checkpoints by hf: names

BASE = {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": 32}  # fmt: skip
GROUPED = {**BASE, "num_key_value_heads": 1, "pad_token_id": 0}
TINY = {
    "bert": BASE, "distilbert": {"vocab_size": V, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "gpt2": {"vocab_size": V, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "pad_token_id": 0},
    "llama": GROUPED, "mistral": {**GROUPED, "sliding_window": 4}, "qwen2": {**GROUPED, "tie_word_embeddings": True},
    "qwen3": {**GROUPED, "head_dim": 8}, "roberta": {**BASE, "pad_token_id": 0}, "xlm-roberta": BASE,
    "t5": {"vocab_size": V, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2,
           "decoder_start_token_id": 0},
}  # fmt: skip
CAUSAL = [kind for kind, about in text.KINDS.items() if about.task == "CausalLM"]


def checkpoint(path, kind, task, **options):
    """A checkpoint as the library writes it, and its network."""
    torch.manual_seed(2)
    with quiet():
        config = transformers.AutoConfig.for_model(kind, **TINY[kind], num_labels=3)
        network = getattr(transformers, f"AutoModel{task}").from_config(config).eval()
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.1)
        network.save_pretrained(path, **options)
    return network


def load(path, language=False, vocabulary=V, context=T, **arguments):
    given = {
        "vocabulary": vocabulary,
        "context": context,
        "special": SPECIAL,
        "language": language,
        "pair": False,
    }
    return construct(
        "backbone", Spec(name=f"hf:{path}", **arguments), BACKBONES, of=nn.Module, **given
    )().eval()


def test_every_kind_is_tested():
    assert set(TINY) == set(text.KINDS)


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("kind", TINY)
def test_a_language_model_of_the_library(kind, shards, tmp_path):
    """Its scores are ours; and what we save of it is the library's again."""
    if shards and kind not in ("bert", "llama", "t5"):
        pytest.skip("sharded alike")
    task = text.KINDS[kind].task
    network = checkpoint(tmp_path / "in", kind, f"For{task}", **{"max_shard_size": "20KB"} if shards else {})
    assert shards == (tmp_path / "in/model.safetensors.index.json").exists()
    tokens, answer = rows(9, 4, 12), rows(3, 5, 6)
    config = ModelConfig(
        {"name": f"hf:{tmp_path}/in"}, heads={"tokens": {"name": "language"}}, text=TextInputs(V, T, SPECIAL)
    )
    model = config.build().eval()
    more = {"decoder_input_ids": nn.functional.pad(answer.clamp(min=0), (1, -1))} if kind == "t5" else {}
    given = {"tokens": tokens, "answer": answer} if kind == "t5" else {"tokens": tokens}
    asked = given.get("answer", tokens) >= 0
    with torch.no_grad():
        expected = network(**padded(tokens), **more).logits[asked]
    torch.testing.assert_close(model(given)["tokens"][asked], expected)
    folder.save(tmp_path / "out", model, config)
    loaded = from_folder(f"AutoModelFor{task}", tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(loaded(**padded(tokens), **more).logits[asked], expected)
    (tmp_path / "in").rename(tmp_path / "gone")  # built again without its checkpoint
    again, _ = folder.load(tmp_path / "out")
    assert torch.equal(again(given)["tokens"], model(given)["tokens"])
    folder.save(tmp_path / "twice", *folder.load(tmp_path / "out"))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


@pytest.mark.parametrize("kind", [k for k, about in text.KINDS.items() if about.linear])
def test_a_classifier_around_a_checkpoint(kind, tmp_path):
    """The pooler of a classifier is taken over, and the whole loads as a classifier of the library."""
    network = checkpoint(tmp_path / "in", kind, "ForSequenceClassification")
    model, config = classifier(f"hf:{tmp_path}/in")
    tokens = rows(9, 4, 12)
    linear = network.get_submodule(text.KINDS[kind].linear)
    model.heads["label"].linear.load_state_dict(linear.state_dict())
    with torch.no_grad():
        expected = network(**padded(tokens)).logits
    torch.testing.assert_close(model({"tokens": tokens})["label"], expected)
    folder.save(tmp_path / "out", model, config)
    loaded = from_folder("AutoModelForSequenceClassification", tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(loaded(**padded(tokens)).logits, expected)
    (tmp_path / "in").rename(tmp_path / "gone")
    again, _ = folder.load(tmp_path / "out")
    assert torch.equal(again({"tokens": tokens})["label"], model({"tokens": tokens})["label"])


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "t5"])
def test_the_bare_network_of_a_checkpoint(kind, tmp_path):
    network = checkpoint(tmp_path, kind, "")
    ours, tokens = load(tmp_path), rows(9, 4, 12)
    with torch.no_grad():
        out = (network.encoder if kind == "t5" else network)(**padded(tokens))
    torch.testing.assert_close(
        ours({"tokens": tokens}).sequence[tokens >= 0], out.last_hidden_state[tokens >= 0]
    )
    if kind in ("bert", "roberta"):
        torch.testing.assert_close(ours({"tokens": tokens}).pooled, out.pooler_output)


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3", "roberta", "distilbert"])
def test_documents_apart_in_other_kinds(kind, tmp_path):
    """Also where a layer sees but the last few tokens."""
    checkpoint(tmp_path, kind, "")
    ours = load(tmp_path)
    one, two = rows(6, seed=1), rows(9, seed=2)
    alone = torch.cat([ours({"tokens": t}).sequence for t in (one, two)], 1)
    document = torch.tensor([[0] * 6 + [1] * 9])
    found = ours({"tokens": torch.cat([one, two], 1), "document": document}).sequence
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_with_added_tokens(tmp_path):
    network = checkpoint(tmp_path / "small", "gpt2", "ForCausalLM")
    with quiet():
        network.resize_token_embeddings(V + 3, mean_resizing=False)
        network.save_pretrained(tmp_path / "in")
    ours = load(tmp_path / "in", True, vocabulary=V + 3)
    tokens = torch.tensor([[5, V + 2, V, 7]])
    with torch.no_grad():
        expected = network(input_ids=tokens).logits
    torch.testing.assert_close(ours.logits(ours({"tokens": tokens}).sequence), expected)
    with pytest.raises(UsageError, match="a tokenizer of 44 tokens, and the model knows 43"):
        load(tmp_path / "in", True, vocabulary=V + 4)
    with pytest.raises(UsageError, match="a context of 33 tokens, and the model holds 32"):
        load(tmp_path / "in", context=33)


def damage(path, how):
    config, weights = path / "config.json", path / "model.safetensors"
    about = json.loads(config.read_text())
    if how == "pickle":
        weights.rename(path / "pytorch_model.bin")
    if how == "shape":
        config.write_text(json.dumps({**about, "intermediate_size": 40}))
    if how == "more":
        config.write_text(json.dumps({**about, "num_hidden_layers": 1}))
    if how == "type":
        config.write_text(json.dumps({**about, "model_type": "berrt"}))
    if how == "missing":
        save_file({n: t for n, t in load_file(weights).items() if "layer.1.output.dense" not in n}, weights)
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    if how == "shard":
        with quiet():
            transformers.AutoModel.from_pretrained(path).save_pretrained(path, max_shard_size="20KB")
        next(path.glob("*-of-*")).unlink()


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        (
            "pickle",
            UsageError,
            r"only pytorch_model.bin, and loading that could run code(.|\n)*save_pretrained",
        ),
        ("shape", UsageError, r"weights do not fit: \S+ is \[48"),
        ("more", UsageError, r"tensors more than bert has: bert.encoder.layer.1"),
        ("type", UsageError, "did you mean: bert"),
        ("missing", UsageError, r"lacks 2 tensors of bert: encoder.layer.1.output.dense.bias"),
        ("cut", DataError, "damaged"),
        ("shard", DataError, "safetensors is missing"),
    ],
)
def test_damaged_checkpoints_are_told(how, error, words, tmp_path):
    checkpoint(tmp_path, "bert", "ForMaskedLM")
    damage(tmp_path, how)
    with pytest.raises(error, match=words):
        load(tmp_path)


def test_texts_and_images_are_told_apart(tmp_path):
    checkpoint(tmp_path, "bert", "ForMaskedLM")
    with pytest.raises(UsageError, match="is a bert, which reads texts"):
        construct("backbone", Spec(name=f"hf:{tmp_path}"), BACKBONES, channels=3, size=32)()
    with pytest.raises(UsageError, match="no readout last"):
        load(tmp_path, readout="last")
    assert folder.inputs_for(Spec(name="hf:a/b"), {"text"}) == {"text"}
    assert folder.inputs_for(Spec(name="hf:a/b"), {"image", "table"}) == {"image"}
    assert folder.inputs_for(Spec(name="bert-mini"), {"text"}) == {"text"}
    with pytest.raises(UsageError, match="reads text data, and these are image data"):
        folder.inputs_for(Spec(name="gpt-nano"), {"image"})


def test_a_language_model_wants_its_head(tmp_path):
    checkpoint(tmp_path, "bert", "")
    with pytest.raises(UsageError, match=r"the checkpoint lacks .* tensors of bert: cls"):
        load(tmp_path, True)


# ------------------------------------------------------------------- recurrent networks


@pytest.mark.parametrize("kind", [LstmText, GruText, RnnText])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_networks_read_rows_as_if_alone(kind, both):
    torch.manual_seed(0)
    options = {
        "width": 6,
        "hidden": 5,
        "layers": 2,
        "bidirectional": both,
        "dropout": 0.2,
        "embedding_dropout": 0.1,
    }
    jichu.check_backbone(kind(V, **options), batch(5, 9, 2))
    ours = kind(V, **options).eval()
    tokens = rows(9, 4, 1)
    out = ours({"tokens": tokens})
    for i, length in enumerate((9, 4, 1)):
        steps = ours.embedding(tokens[i : i + 1, :length])
        sequence, state = ours.recurrent(steps)
        torch.testing.assert_close(out.sequence[i, :length], sequence[0])
        state = state[0] if kind is LstmText else state
        torch.testing.assert_close(out.pooled[i], state[-2 if both else -1 :, 0].flatten())
    widest = kind(V, **options, readout="max").eval()
    widest.load_state_dict(ours.state_dict())
    torch.testing.assert_close(widest({"tokens": tokens}).pooled[1], out.sequence[1, :4].amax(0))
    none = ours({"tokens": torch.empty(0, 0, dtype=torch.long)})
    assert none.pooled.shape == (0, ours.width) and not none.sequence.numel()


def test_recurrent_language_models(tmp_path):
    config = ModelConfig({"name": "lstm-text", "width": 8, "hidden": 8}, heads={"tokens": {"name": "language"}},
                         text=TextInputs(V, T, SPECIAL))  # fmt: skip
    model = config.build().eval()
    assert model.backbone.output.weight is model.backbone.embedding.weight
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert [n for n in model.state_dict() if "recurrent" in n] == [f"backbone.recurrent.{n}" for n in names]
    folder.save(tmp_path, model, config)
    again, _ = folder.load(tmp_path)
    tokens = rows(9, 4)
    assert torch.equal(again({"tokens": tokens})["tokens"], model({"tokens": tokens})["tokens"])
    with pytest.raises(UsageError, match="what is to come"):
        LstmText(V, language=True, bidirectional=True)


# ------------------------------------------------------------------- bags of words


class Column:
    """Rows of tokens as a data set has them."""

    def __init__(self, texts):
        lengths = torch.tensor([len(t) for t in texts])
        self.ragged = Ragged(torch.cat(texts), nn.functional.pad(lengths.cumsum(0), (1, 0)))

    def index_select(self, dim, index):
        return self.ragged.padded(index)


@pytest.fixture(scope="module")
def bags():
    """Texts of three classes with words of their own, as tokens, as strings, and their classes."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(V - 5, 0.2), size=3)
    classes = rng.integers(0, 3, 300)
    texts = [torch.from_numpy(5 + rng.choice(V - 5, rng.integers(1, 30), p=weights[c])) for c in classes]
    return Column(texts), [" ".join(f"w{i}" for i in t) for t in texts], torch.from_numpy(classes)


@pytest.mark.parametrize("weighting", ["counts", "tf-idf"])
@pytest.mark.parametrize("head", ["naive-bayes", "logistic-regression"])
def test_bags_of_words_equal_scikit_learn(bags, weighting, head, tmp_path):
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    column, strings, classes = bags
    train, test = torch.arange(200), torch.arange(200, 300)
    config = ModelConfig({"name": "words", "weighting": weighting}, heads={"label": {"name": head}},
                         targets={"label": LABEL}, text=TextInputs(V, T, SPECIAL))  # fmt: skip
    model = config.build()
    model.backbone.estimate({"tokens": column}, train)
    features = model.backbone({"tokens": column.index_select(0, train)}).pooled
    assert features.is_sparse
    model.heads["label"].estimate(features, classes[train], features)
    ours = model({"tokens": column.index_select(0, test)})["label"].softmax(1)
    vectorizer = (CountVectorizer if weighting == "counts" else TfidfVectorizer)(
        vocabulary=[f"w{i}" for i in range(V)]
    )
    x = vectorizer.fit_transform(strings[:200])
    fitted = (MultinomialNB() if head == "naive-bayes" else LogisticRegression(max_iter=1000)).fit(
        x, classes[train]
    )
    expected = fitted.predict_proba(vectorizer.transform(strings[200:]))
    assert np.abs(ours.numpy() - expected).max() < 1e-3
    folder.save(tmp_path, model, config)
    again, _ = folder.load(tmp_path)
    assert torch.equal(again({"tokens": column.index_select(0, test)})["label"].softmax(1), ours)


def test_runs_of_words_are_hashed():
    words = Words(V, SPECIAL, ngrams=2, buckets=1 << 16)
    tokens = torch.tensor([[3, 7, 8, 7, 8, 4], [8, 7, -1, -1, -1, -1], [3, 4, -1, -1, -1, -1]])
    counts = words({"tokens": tokens}).pooled.to_dense()
    # 7 and 8 twice each, 7 8 twice, 8 7 once; then 8, 7 and 8 7
    assert sorted(counts[0][counts[0] > 0].tolist()) == [1, 2, 2, 2]
    assert counts[1].sum() == 3 and (counts[1] * counts[0]).sum() == 5 and not counts[2].any()
    with pytest.raises(UsageError, match="buckets"):
        Words(V, ngrams=2)


def test_heads_that_take_no_counts(bags):
    def build(head, target=LABEL):
        return ModelConfig({"name": "words"}, heads={"label": {"name": head}}, targets={"label": target},
                           text=TextInputs(V, T, SPECIAL)).build()  # fmt: skip

    with pytest.raises(UsageError, match="gradient-boosting does not look at the counts"):
        build("gradient-boosting")
    tokens = bags[0].index_select(0, torch.arange(4))
    assert build("linear")({"tokens": tokens})["label"].shape == (4, 3)
    ridge = build("ridge", Target("stars", "regression"))
    features = ridge.backbone({"tokens": bags[0].index_select(0, torch.arange(300))}).pooled
    counts = features.to_dense()
    ridge.heads["label"].estimate(features, counts[:, 9] - counts[:, 11], features)
    found = ridge.heads["label"](Features(features))[:, 0]
    assert torch.corrcoef(torch.stack([found, counts[:, 9] - counts[:, 11]]))[0, 1] > 0.99


# ------------------------------------------------------------------- LoRA


def adapted(family, rules="lora", language=False):
    """A model with adapters that have learned something, and a copy of what it was before."""
    model, config = language_model(family) if language else classifier(family)
    before = copy.deepcopy(model)
    lora.inject(model, adapt.resolve(rules, model), seed=1)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or name.startswith(("heads.", "backbone.pooler.")):
            nn.init.normal_(parameter, std=0.3)
    return model, before, config


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
@pytest.mark.parametrize("family", ["bert", "gpt", "llama"])
@pytest.mark.parametrize("language", [False, True])
@pytest.mark.parametrize("dora", [False, True])
def test_adapters_are_loaded_by_peft(dora, family, language, tmp_path):
    import peft

    rules = [[r"backbone\..*(query|c_attn|q_proj|c_proj|o_proj)\.weight", {"lora": 3, "alpha": 5, "dora": dora}],
             [r".*\.(value|v_proj|c_fc)\.weight", {"lora": 2, "dora": dora}], [".*", "frozen"]]  # fmt: skip
    preset = "dora" if dora else "lora"
    model, before, config = adapted(family, preset if not language else rules, language)
    head = "tokens" if language else "label"
    tokens = rows(9, 4, 12)
    found = model({"tokens": tokens})[head].detach()
    assert (found - before({"tokens": tokens})[head]).abs().max() > 1e-3
    with pytest.raises(UsageError, match="merge"):
        folder.save(tmp_path / "never", model, config)
    folder.save(tmp_path / "base", before, config)
    lora.save(model, tmp_path / "adapter", "base")
    kind = {"bert": "MaskedLM"}.get(family, "CausalLM") if language else "SequenceClassification"
    base = from_folder(f"AutoModelFor{kind}", tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    where = tokens >= 0 if language else slice(None)
    with torch.no_grad():
        torch.testing.assert_close(theirs(**padded(tokens)).logits[where], found[where])
    lora.merge(model)
    assert list(model.state_dict()) == list(before.state_dict())
    torch.testing.assert_close(model({"tokens": tokens})[head], found)
    folder.save(tmp_path / "merged", model, config)
    merged = from_folder(f"AutoModelFor{kind}", tmp_path / "merged")
    with torch.no_grad():
        torch.testing.assert_close(merged(**padded(tokens)).logits[where], found[where])


def test_training_moves_adapters_and_heads_alone():
    model, _ = classifier("bert")
    lora.inject(model, adapt.resolve("lora", model))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assigned = adapt.assign(model, adapt.resolve("lora", model))
    with adapt.applied(model, assigned):
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        optimizer = optimizers.build(nn.ModuleDict({"model": model}), assigned, OptimizerConfig())
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for n, p in model.named_parameters() if n in trained}
    expected = {n for n in before if ".lora_" in n or n.startswith(("heads.", "backbone.pooler."))}
    assert trained == expected
    assert {adapt.original(n) for n in trained if ".lora_" in n} == {
        f"backbone.module.encoder.layer.{i}.attention.self.{part}.weight"
        for i in (0, 1)
        for part in ("query", "value")
    }
    batches = [{**batch(5, 9, 2, 7), "label": torch.tensor([0, 1, 2, 0])}]
    config = jichu.TrainConfig(
        budget="3 steps", precision="float32", device="cpu", optimizer={"name": "adamw", "lr": 0.1}
    )
    fresh, _ = classifier("bert")
    jichu.fit(fresh, Classification(), batches, config, adapt="lora")
    jichu.fit(model, Classification(), batches, config, adapt="lora")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name])  # adapters begin as the seed says
        assert torch.equal(tensor, before[name]) == (name not in expected)
    assert all(p.requires_grad for p in model.parameters())


def test_the_preset_fits_language_models():
    for family in FAMILIES:
        model, _ = language_model(family)
        lora.inject(model, adapt.resolve("lora", model))
        assigned = adapt.assign(model, adapt.resolve("lora", model))
        trained = [name for name, rule in assigned.items() if rule != "frozen"]
        layers = {"gpt": 1, "t5": 2 * 3}.get(family, 2)  # of each block; of T5 three kinds of attention
        assert len(trained) == 2 * layers * SMALL["depth"] and all(".lora_" in name for name in trained)


def test_lora_rules_are_checked(monkeypatch):
    model, _ = classifier("bert")
    for rule in (
        {"lora": 0},
        {"lora": 1.5},
        {"lora": 2, "alpha": -1},
        {"lora": 2, "dropout": 1},
        {"lora": 2, "dora": "yes"},
        {"rank": 3},
    ):
        with pytest.raises(UsageError, match="lora: rank"):
            adapt.resolve([[".*", rule]], model)
    with pytest.raises(UsageError, match="did you mean: dropout"):
        adapt.resolve([[".*", {"lora": 2, "dropuot": 0.1}]], model)
    with pytest.raises(UsageError, match="no dense layer"):
        lora.inject(model, adapt.resolve([[r".*LayerNorm\.weight", {"lora": 2}], [".*", 1.0]], model))
    with pytest.raises(UsageError, match="decides nothing"):
        lora.inject(model, adapt.resolve([[r".*q_proj.*", {"lora": 2}], [".*", 1.0]], model))
    with pytest.raises(UsageError, match="without adapters"):
        lora.save(model, "nowhere")
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UsageError, match=r"jichu\[peft\]"):
        lora.inject(model, adapt.resolve("lora", model))


@pytest.mark.parametrize(("make", "dense"), [(text.gpt, "attn.c_attn"), (text.bert, "attention.self.query"), (text.t5, "layer.0.SelfAttention.q")])  # fmt: skip
def test_muon_takes_the_dense_layers_and_leaves_embeddings(make, dense):
    special = Special(pad=0, unknown=1, mask=2, begin=3, end=4)
    model = make(50, 16, special, language=True, width=16, depth=1, heads=2)
    taken = {name for name, p in model.named_parameters() if p in matrices(model)}
    assert any(f"{dense}.weight" in name for name in taken)
    tied = {id(model.module.get_input_embeddings().weight), id(model.module.get_output_embeddings().weight)}
    assert not any(id(p) in tied for name, p in model.named_parameters() if name in taken)

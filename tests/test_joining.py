"""How stages join: pretraining and what follows it, of images, tables and texts; each rung of the ladder on each kind
of network; and what does not fit, told with what does."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

import jichu
from jichu.adapt import lora, rules
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.data.batches import Batches
from jichu.data.decode import Preprocess
from jichu.data.schema import TableSchema
from jichu.data.special import Special, TextInputs
from jichu.data.target import Target
from jichu.models import adapters, folder
from jichu.models.folder import ModelConfig
from jichu.objectives.supervised import Classification
from jichu.train.config import TrainConfig


def run(*words, code=0):
    assert main([str(word) for word in words]) == code


QUICK = ["--budget", "2 steps", "--set", "precision=float32"]
SIZES = {"width": 16, "depth": 2, "heads": 2}


# ------------------------------------------------------------------- the ladder


LABEL = Target("label", "classification", ("a", "b", "c"))
IMAGES = {"image": Preprocess(8, 1, "stretch")}
TABLE = {"table": TableSchema(("x", "y"), (), {"z": ("p", "q")})}
TEXTS = {"text": TextInputs(50, 16, Special(pad=0, unknown=1, mask=2, begin=3, end=4))}
NETWORKS = {
    "cnn": ({"widths": [4, 4, 4]}, IMAGES),
    "resnet18": ({"base": 4}, IMAGES),
    "small-convnext": ({"widths": [8, 8], "depths": [1, 1]}, IMAGES),
    "vit": ({**SIZES, "patch": 2}, IMAGES),
    "lstm": ({}, IMAGES),
    "mlp": ({"widths": [8, 8]}, TABLE),
    "ft-transformer": ({"width": 16, "depth": 2}, TABLE),
    "bert": (SIZES, TEXTS),
    "gpt": (SIZES, TEXTS),
    "llama": (SIZES, TEXTS),
    "t5": (SIZES, TEXTS),
    "lstm-text": ({"width": 8, "hidden": 8}, TEXTS),
}
NO_LORA = {"lstm", "lstm-text"}


def some(reads):
    """24 rows for a network, of three classes."""
    generator = torch.Generator().manual_seed(0)
    rows = {"row": torch.arange(24), "label": torch.arange(24) % 3}
    if "image" in reads:
        return {**rows, "image": torch.randint(256, (24, 1, 8, 8), generator=generator, dtype=torch.uint8)}
    if "text" in reads:
        return {**rows, "tokens": torch.randint(5, 50, (24, 12), generator=generator)}
    codes = torch.randint(3, (24, 1), generator=generator)
    return {**rows, "numbers": torch.randn(24, 2, generator=generator), "categories": codes}


@pytest.mark.parametrize("rung", ["full", "head", "discriminative", "last-1", "gradual", "lora", "dora"])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_rung_on_each_network(name, rung, tmp_path):
    """It trains, changes what it may and nothing else, and what is saved is what was trained."""
    arguments, reads = NETWORKS[name]
    torch.manual_seed(0)
    config = ModelConfig({"name": name, **arguments}, heads={"label": {"name": "linear"}}, targets={"label": LABEL},
                         **reads)  # fmt: skip
    model = config.build()
    if name in NO_LORA and rung in rules.LOW_RANK:
        with pytest.raises(UsageError, match=r"full, head, discriminative, gradual, last-2"):
            rules.resolve(rung, model)
        return
    untouched, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    batch = some(reads)
    settings = TrainConfig(
        budget="8 steps",
        batch_size=24,
        precision="float32",
        optimizer={"lr": 0.02},
        warmup=0.0,
        schedule="constant",
        log_every=1,
    )
    found = jichu.fit(model, Classification(), Batches(batch, batch_size=24), settings, adapt=rung)
    assert min(row["loss"] for row in found.history) < found.history[0]["loss"]
    resolved = rules.resolve(rung, model)
    may = {rules.original(n) for n, rule in rules.assign(model, resolved).items() if rule != "frozen"}
    if rung in rules.LOW_RANK:  # beside their base they are the same model
        folder.save(tmp_path / "base", untouched, config)
        base = adapters.tensors(tmp_path / "base")
        lora.save(model, tmp_path / "on" / adapters.FOLDER, "base", base)
        lora.merge(model)
        folder.save(tmp_path / "on", model, config, weights=False)
        based, _ = folder.load(tmp_path / "on")
        torch.testing.assert_close(based(batch)["label"], model.eval()(batch)["label"])
    moved = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    parameters = {n for n, _ in model.named_parameters()}
    assert moved & parameters <= may and any(n.startswith("heads.") for n in moved)
    if rung == "head":
        assert not any(n.startswith("backbone.") and "pooler" not in n for n in moved)  # statistics neither
    elif rung != "full":
        assert any(n.startswith("backbone.") for n in moved)
    folder.save(tmp_path, model, config)
    loaded, _ = folder.load(tmp_path)
    assert torch.equal(loaded(batch)["label"], model.eval()(batch)["label"])


# ------------------------------------------------------------------- from the command line


def table():
    data = load_iris()
    rows = [
        ",".join([*map(str, x), data.target_names[y]]) for x, y in zip(data.data, data.target, strict=True)
    ]
    Path("t.csv").write_text("\n".join(["a,b,c,d,kind", *rows]))


def texts():
    said = [f"{i} : my {['bird', 'cat', 'dog'][i % 3]} is {['rude', 'kind'][i % 2]} .,{['no', 'yes'][i % 2]}"
            for i in range(80)]  # fmt: skip
    Path("s.csv").write_text("\n".join(["said,verdict", *said]))


KINDS = {
    "images": ("sklearn:digits", {
        "cnn": ["simclr", "masked-images", "byol", "denoising"],
        "{name: vit, width: 16, depth: 1, heads: 2, patch: 2}": ["masked-images", "moco"],
    }),
    "tables": ("t.csv", {
        "{name: mlp, widths: [16]}": ["simclr", "masked-cells"],
        "{name: ft-transformer, width: 16, depth: 1}": ["masked-cells", "vicreg"],
    }),
    "texts": ("s.csv", {
        "{name: bert, width: 16, depth: 1, heads: 2}": ["masked"],
        "{name: gpt, width: 16, depth: 1, heads: 2}": ["causal"],
        "{name: t5, width: 16, depth: 1, heads: 2}": ["spans"],
        "{name: lstm-text, width: 16, hidden: 16}": ["causal"],
    }),
}  # fmt: skip
JOINS = [(kind, backbone) for kind, (_, backbones) in KINDS.items() for backbone in backbones]


@pytest.mark.parametrize(("kind", "backbone"), JOINS)
def test_pretraining_goes_on_and_is_adapted(kind, backbone, in_folder, capsys):
    """One objective after the other on the same backbone, each from the run before; adapters on the last; and from the
    adapters another pretraining."""
    table() if kind == "tables" else texts()
    data, backbones = KINDS[kind]
    target = {"images": [], "tables": ["--target", "kind"], "texts": ["--target", "verdict"]}[kind]
    of_data = {"images": [], "tables": ["--set", "data.target=kind"], "texts": [
        "--set", "data.text=said", "--set", "data.context=16", "--set", "data.target=verdict"]}[kind]  # fmt: skip
    start = ["--backbone", backbone, *of_data]
    for i, objective in enumerate([*backbones[backbone], backbones[backbone][0]]):
        run(
            "pretrain",
            data,
            "--name",
            f"p{i}",
            "--objective",
            objective,
            *start,
            *QUICK,
            *(of_data if i and kind != "texts" else []),
        )
        told = capsys.readouterr()
        assert ("begin anew" in told.err + told.out) == (i > 0 and kind != "texts")
        start = ["--from", f"runs/p{i}"]
    adapt = "gradual" if "lstm" in backbone else "lora"
    run("finetune", data, *target, "--name", "f", *start, "--adapt", adapt, *QUICK)
    assert jichu.open("runs/f").headline
    assert (Path("runs/f/model/model.safetensors").exists()) == (adapt == "gradual")
    code = 2 if "t5" in backbone else 0  # its classifier has lost the decoder
    run(
        "pretrain",
        data,
        "--name",
        "again",
        "--objective",
        backbones[backbone][0],
        "--from",
        "runs/f",
        *QUICK,
        code=code,
    )
    told = capsys.readouterr()
    assert "holds no language model" in told.err if code else "begin" in told.err + told.out


def test_what_goes_on_is_what_was_there(in_folder):
    """Continued pretraining begins with the weights of the run before, and does not touch them."""
    run("pretrain", "sklearn:digits", "--name", "a", "--backbone", "cnn", "--objective", "simclr", *QUICK)
    before = {n: t.clone() for n, t in jichu.open("runs/a").model.state_dict().items()}
    run("pretrain", "sklearn:digits", "--name", "b", "--from", "runs/a", "--objective", "masked-images", *QUICK,
        "--set", "optimizer={name: sgd, lr: 1e-30}")  # fmt: skip
    after = jichu.open("runs/b").model.state_dict()
    close = [n for n in before if "running" not in n and "num_batches" not in n]
    assert close and all(torch.equal(after[n], before[n]) for n in close)


def test_on_from_published_checkpoints(in_folder):
    """Of folders as transformers writes them, a language model and one that reads images."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    texts()
    names = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["my", "bird", "cat", "dog", "is", "rude", "kind", ".", ":"],
        *map(str, range(80)),
    ]
    made = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    coder = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]",
                                                 cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")  # fmt: skip
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    bert = transformers.BertConfig(vocab_size=len(names), max_position_embeddings=32, **sizes)
    transformers.BertForMaskedLM(bert).save_pretrained("bert")
    coder.save_pretrained("bert")
    vit = transformers.ViTConfig(image_size=16, patch_size=4, num_channels=3, **sizes)
    transformers.ViTModel(vit).save_pretrained("vit")
    read = ["--set", "data.text=said", "--set", "data.target=verdict"]
    run("pretrain", "s.csv", "--name", "t", "--backbone", "hf:./bert", *QUICK, *read)
    run(
        "finetune",
        "s.csv",
        "--name",
        "tf",
        "--from",
        "runs/t",
        "--target",
        "verdict",
        "--adapt",
        "lora",
        *QUICK,
    )
    run("finetune", "s.csv", "--name", "th", "--backbone", "hf:./bert", "--adapt", "lora", *QUICK, *read)
    run(
        "pretrain", "sklearn:digits", "--name", "i", "--backbone", "hf:./vit", "--objective", "simclr", *QUICK
    )
    run("finetune", "sklearn:digits", "--name", "if", "--from", "runs/i", "--adapt", "lora", *QUICK)
    assert jichu.open("runs/tf").headline and jichu.open("runs/if").headline
    config = (Path("runs/th/model/adapter/adapter_config.json")).read_text()
    assert '"base_model_name_or_path": "./bert"' in config


# ------------------------------------------------------------------- what does not fit


def test_what_does_not_fit_is_told_with_what_does(in_folder, capsys):
    table()
    texts()
    gpt, bert = (f"{{name: {n}, width: 16, depth: 1, heads: 2}}" for n in ("gpt", "bert"))
    read = ["--set", "data.text=said", "--set", "data.context=16"]
    run("pretrain", "sklearn:digits", "--name", "images", "--backbone", "cnn", *QUICK)
    run("pretrain", "t.csv", "--name", "table", "--backbone", "mlp", "--set", "data.target=kind", *QUICK)
    run("pretrain", "s.csv", "--name", "texts", "--backbone", bert, *read, *QUICK)
    capsys.readouterr()
    image, rows, said = "sklearn:digits", "t.csv", "s.csv"
    for code, words, told in [
        (2, ["pretrain", said, "--backbone", bert, "--objective", "causal", *read], "masked, or a backbone such as gpt, llama or lstm-text"),
        (2, ["pretrain", said, "--backbone", gpt, "--objective", "masked", *read], "causal, or a backbone such as bert"),
        (2, ["pretrain", said, "--backbone", "lstm-text", "--objective", "spans", *read], "causal, or a backbone such as t5"),
        (2, ["pretrain", said, "--from", "runs/texts", "--objective", "causal"], "causal does not fit bert"),
        (2, ["pretrain", said, "--backbone", bert, "--objective", "simclr", *read], "causal, masked or spans"),
        (2, ["pretrain", image, "--backbone", "cnn", "--objective", "masked"], "one of vicreg"),
        (2, ["pretrain", image, "--backbone", "lstm", "--objective", "masked-images"], "vit, or a network of convolutions"),
        (2, ["pretrain", image, "--backbone", "bert-mini"], "one of alexnet"),
        (2, ["pretrain", rows, "--backbone", "cnn"], "ft-transformer, mlp"),
        (2, ["pretrain", said, "--backbone", "hf:./nowhere"], "hf:./folder with config.json"),
        (2, ["finetune", rows, "--target", "kind", "--from", "runs/images"], "takes images of 1 channels"),
        (3, ["finetune", image, "--from", "runs/table"], "runs/table cannot read these data: the column 'a' is missing"),
        (2, ["finetune", image, "--from", "runs/texts"], "runs/texts reads texts"),
        (2, ["pretrain", image, "--from", "runs/texts"], "runs/texts reads texts"),
        (2, ["finetune", said, "--target", "verdict", "--from", "runs/images", *read], "runs/images reads no texts"),
        (3, ["pretrain", said, "--from", "runs/table", *read], "runs/table cannot read these data"),
    ]:  # fmt: skip
        run(*words, *QUICK, code=code)
        found = capsys.readouterr().err
        assert told in found and "Traceback" not in found, (words, found)
    assert not Path("runs/finetune").exists() and not Path("runs/pretrain").exists()


@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        (lambda m: (m / "model.safetensors").unlink(), 3, "cannot read the weights"),
        (lambda m: (m / "model.safetensors").write_bytes(b"0" * 9), 3, "cannot read the weights"),
        (lambda m: (m / "config.json").unlink(), 2, "a run that is not finished or whose model was removed"),
        (lambda m: (m / "config.json").write_text("{}"), 3, "config.json"),
    ],
)
def test_incomplete_folders_are_told(damage, code, told, in_folder, capsys):
    run("pretrain", "sklearn:digits", "--name", "a", "--backbone", "cnn", *QUICK)
    damage(Path("runs/a/model"))
    for verb in ("finetune", "pretrain"):
        run(verb, "sklearn:digits", "--from", "runs/a", *QUICK, code=code)
        found = capsys.readouterr().err
        assert told in found and "runs/a" in found and "Traceback" not in found


def test_the_texts_of_the_model_are_read(in_folder):
    """Where a run on texts is gone on with, its columns need not be named again; where they are not there, they must."""
    texts()
    run("pretrain", "s.csv", "--name", "a", "--backbone", "{name: bert, width: 16, depth: 1, heads: 2}", *QUICK,
        "--set", "data.text=said", "--set", "data.context=16")  # fmt: skip
    run("finetune", "s.csv", "--from", "runs/a", "--target", "verdict", *QUICK)
    Path("other.csv").write_text(Path("s.csv").read_text().replace("said,", "told,"))
    run("finetune", "other.csv", "--from", "runs/a", "--target", "verdict", *QUICK, "--set", "data.text=told")
    assert np.isfinite(jichu.open("runs/finetune-2").headline["log_loss"]["value"])

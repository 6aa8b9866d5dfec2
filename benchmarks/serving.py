"""Served under load, clients and server on the same cores (about 10 minutes on 2 cores).

rows: a small BERT (4 layers, 256 wide, fresh weights) that labels sentences of 5 to 45 words for 32 clients: requests a
second beside FastAPI with a pipeline of `transformers`, and LitServe with the same batches as ours.
texts: a GPT (6 layers, 384 wide) that writes 128 tokens after prompts of 32, for 16 clients at once and for one: tokens
a second.

The load is wrk's where it is installed, else that of an asyncio client, which takes more of the cores.
"""

import json
import random

import duel
import torch

import jichu
from jichu.core.config import dump_yaml
from jichu.core.files import write_text
from jichu.data.config import TokenizerConfig
from jichu.data.special import TextInputs
from jichu.data.target import Target
from jichu.data.tokenizer import Tokenizer
from jichu.models import folder as model_folder
from jichu.models.folder import LANGUAGE, ModelConfig
from jichu.recipe.config import one_stage

CLIENTS, SECONDS, AT_ONCE, WRITTEN, PROMPT = 32, 20, 16, 128, 32
WORDS = [
    f"{a}{b}" for a in ("ba", "de", "mi", "sol", "tu", "ra") for b in ("", "n", "ros", "lim", "stra", "quet")
]
EMPTY = {"backbone": "cnn"}  # a stage, for a recipe that never runs


def sentence(rng):
    return " ".join(rng.choices(WORDS, k=rng.randint(5, 45)))


def kept(folder, config, tokenizer):
    """A run's folder with fresh weights."""
    model_folder.save(folder / "model", config.build(), config, tokenizer)
    recipe = one_stage("finetune", "nowhere", EMPTY, name=folder.name, seed=0, data={}, assignments=[])
    write_text(folder / "recipe.yaml", dump_yaml(recipe.plain()))
    return str(folder)


def labels(folder=None, seed=0):
    torch.manual_seed(seed)
    rng = random.Random(0)
    trained = TokenizerConfig(name="wordpiece", vocabulary=1000)
    tokenizer = Tokenizer.train(trained, [sentence(rng) for _ in range(500)])
    target = Target("label", "classification", ("negative", "positive"), (1, 1), 2)
    config = ModelConfig(
        {"name": "bert-mini"}, heads={"label": {"name": "linear"}}, targets={"label": target},
        text=TextInputs(len(tokenizer), 128, tokenizer.special, template="bert"),
    )  # fmt: skip
    return kept(folder or duel.CACHE / "serving" / "bert", config, tokenizer)


def graph(run, texts):
    """The run's model as a file of ONNX."""
    rows = [{"text": text, "label": ("negative", "positive")[i % 2]} for i, text in enumerate(texts)]
    data = duel.CACHE / "serving" / "texts.jsonl"
    write_text(data, "".join(json.dumps(row) + "\n" for row in rows))
    return str(
        jichu.export(run, output=duel.CACHE / "serving" / "bert.onnx", data=str(data), overwrite=True).path
    )


def writes():
    tokenizer = Tokenizer.train(
        TokenizerConfig(vocabulary=1000), ["To be, or not to be: that is the question."]
    )
    text = TextInputs(len(tokenizer), 512, tokenizer.special._replace(end=None))
    return kept(
        duel.CACHE / "serving" / "gpt",
        ModelConfig({"name": "gpt-nano"}, heads={"tokens": {"name": LANGUAGE}}, text=text),
        tokenizer,
    )


def compare(name, metric, systems, given):
    found = duel.duel(systems, given)
    lines, ratios, ranges = duel.figures(found)
    duel.told(f"serving_{name}", metric, given, lines, ratios, ranges)


def main():
    given = duel.arguments(__doc__, rounds=3, parts=("rows", "texts"))
    seconds = 2 if given.quick else SECONDS
    rng = random.Random(1)
    if "rows" in given.parts:
        texts = [sentence(rng) for _ in range(64)]
        common = {"run": labels(), "clients": CLIENTS, "seconds": seconds, "texts": texts}
        peers = [
            (duel.OURS, duel.OURS, None, {}),
            (f"{duel.OURS}, the model as ONNX", duel.OURS, None, {"run": graph(common["run"], texts)}),
            (f"{duel.OURS}, precision: auto", duel.OURS, None, {"precision": "auto"}),
            ("fastapi and a pipeline", "fastapi", "serving", {}),
            ("litserve", "litserve", "litserve", {}),
        ]
        systems = [
            duel.System(name, "serve.py", {**common, "server": server, **more}, environment)
            for name, server, environment, more in peers
        ]
        compare("rows", "requests a second", systems, given)
    if "texts" in given.parts:
        prompts = [[rng.randrange(10, 200) for _ in range(PROMPT)] for _ in range(16)]
        common = {
            "run": writes(),
            "seconds": seconds,
            "prompts": prompts,
            "most": 16 if given.quick else WRITTEN,
        }
        systems = [
            duel.System(name, "serve.py", {**common, "server": duel.OURS, "clients": clients})
            for name, clients in ((duel.OURS, AT_ONCE), (f"{duel.OURS}, one after the other", 1))
        ]
        compare("texts", "tokens a second", systems, given)


if __name__ == "__main__":
    main()

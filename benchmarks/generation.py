"""Texts from a GPT (6 layers, 384 wide, fresh weights, 512 tokens of context), 300 tokens drawn at a
temperature of 0.8 after each of 1 and of 16 prompts of 32 tokens: tokens a second beside `generate` of
`transformers` on the same folder (about 3 minutes on 2 cores)."""

import duel

from jichu.data.config import TokenizerConfig
from jichu.data.special import TextInputs
from jichu.data.tokenizer import Tokenizer
from jichu.models import folder as model_folder
from jichu.models.folder import LANGUAGE, ModelConfig

PROMPT, WRITTEN, CONTEXT = 32, 300, 512


def model():
    """A saved model of ours with fresh weights."""
    folder = duel.CACHE / "generation"
    tokenizer = Tokenizer.train(
        TokenizerConfig(vocabulary=1000), ["To be, or not to be: that is the question."]
    )
    config = ModelConfig(
        backbone={"name": "gpt-nano"}, image=None, heads={"tokens": {"name": LANGUAGE}}, targets={},
        text=TextInputs(len(tokenizer), CONTEXT, tokenizer.special),
    )  # fmt: skip
    model_folder.save(folder, config.build(), config, tokenizer)
    return str(folder)


def main():
    given = duel.arguments(__doc__, rounds=3)
    common = {"model": model(), "prompt": PROMPT, "written": 20 if given.quick else WRITTEN}
    lines, ratios, ranges = [], {}, {}
    for prompts in (1, 16):
        settings = {**common, "prompts": prompts}
        systems = [
            duel.System(name, "generate.py", {**settings, "system": name})
            for name in (duel.OURS, "transformers")
        ]
        some, ratio, spread = duel.figures(duel.duel(systems, given))
        where = f"{prompts} prompt{'s' if prompts > 1 else ''}: "
        lines += [{**row, "system": where + row["system"]} for row in some]
        ratios |= {where + name: value for name, value in ratio.items()}
        ranges |= {where + name: value for name, value in spread.items()}
    duel.told("generation", "tokens a second", given, lines, ratios, ranges)


if __name__ == "__main__":
    main()

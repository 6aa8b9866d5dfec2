"""What a saved model writes after some prompts, by us or by `transformers`: tokens a second, after a short
text that does not count."""

import json
import sys
import time
from pathlib import Path

import torch


def ours(settings, prompts):
    from jichu.data.tokenizer import Tokenizer
    from jichu.models import folder
    from jichu.models.generate import generate

    model, _ = folder.load(Path(settings["model"]))
    model.backbone.special = model.backbone.special._replace(end=None)  # none ends early
    model.backbone.module.generation_config.eos_token_id = None
    tokenizer = Tokenizer.load(settings["model"])

    def write(most):
        found = generate(model, tokenizer, prompts, most=most, temperature=0.8, seed=0)
        return sum(len(each.tokens) for each in found)

    return write


def theirs(settings, prompts):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(settings["model"]).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor(prompts)

    def write(most):
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=True, temperature=0.8,
                top_k=0, pad_token_id=0,
            )  # fmt: skip
        return found[:, ids.shape[1] :].numel()

    return write


def main():
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    prompts = torch.randint(10, 250, (settings["prompts"], settings["prompt"])).tolist()
    write = (ours if settings["system"] == "jichu" else theirs)(settings, prompts)
    write(5)
    started = time.perf_counter()
    tokens = write(settings["written"])
    print(json.dumps({"rows": tokens, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()

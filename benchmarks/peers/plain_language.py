"""Hugging Face's own models of language in the loop that most people write, or in their Trainer: a GPT on
windows of a corpus, or a classifier on sentences sorted by length. Tokens are made before the clock starts.

Settings: task (gpt, classify), data (npz: `tokens`, `offsets`, and for sentences `labels`; the same of
`test_…`), config (of the model), adapt (head, lora; all if nothing is said), batch_size, learning_rate, precision, trainer, warm_steps, steps, seconds.
"""

import contextlib
import itertools
import json
import sys
import time

import numpy as np
import torch
import transformers
from stopwatch import Stopwatch


def sentences(data, which=""):
    tokens, offsets, labels = (data[which + name] for name in ("tokens", "offsets", "labels"))
    return [tokens[a:b] for a, b in itertools.pairwise(offsets)], labels


def windows(tokens, context, count, seed):
    starts = np.random.default_rng(seed).integers(len(tokens) - context - 1, size=count)
    return np.stack([tokens[s : s + context + 1] for s in starts]).astype(np.int64)


def padded(rows, pad):
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(ids != pad).long()}


def build(given):
    config = transformers.AutoConfig.for_model(**given["config"])
    kind = {
        "gpt": transformers.AutoModelForCausalLM,
        "classify": transformers.AutoModelForSequenceClassification,
    }
    model = kind[given["task"]].from_config(config)
    if given.get("adapt") == "head":
        model.base_model.requires_grad_(False)
    if given.get("adapt") == "lora":
        import peft

        lora = peft.LoraConfig("SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
        model = peft.get_peft_model(model, lora)
    return model


def inside(given):
    if given["precision"] == "float32":
        return contextlib.nullcontext
    return lambda: torch.autocast("cpu", torch.bfloat16)


@torch.no_grad()
def gpt_loss(model, given, tokens):
    """Nats a token of the held-out text, in windows one after the other."""
    context, losses = given["context"], []
    model.eval()
    for start in range(0, len(tokens) - 1, context):
        ids = torch.from_numpy(tokens[start : start + context + 1].astype(np.int64))[None]
        scores = model(ids[:, :-1]).logits[0]
        losses.append(torch.nn.functional.cross_entropy(scores.float(), ids[0, 1:], reduction="none"))
    return torch.cat(losses).mean().item()


@torch.no_grad()
def accuracy(model, data, pad):
    rows, labels = sentences(data, "test_")
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    model.eval()
    hits = 0
    for start in range(0, len(order), 64):
        some = order[start : start + 64]
        hits += int(
            (
                model(**padded([rows[i] for i in some], pad)).logits.argmax(1)
                == torch.from_numpy(labels[some])
            ).sum()
        )
    return hits / len(rows)


def batches(given, data):
    """Batches without end (of a GPT), or for some epochs."""
    if given["task"] == "gpt":
        turn = 0
        while True:
            found = torch.from_numpy(
                windows(data["tokens"], given["context"], given["batch_size"], given["seed"] + turn)
            )
            turn += 1
            yield {"input_ids": found[:, :-1].contiguous(), "targets": found[:, 1:].contiguous()}
    rows, labels = sentences(data)
    rng = np.random.default_rng(given["seed"])
    for _ in range(given["epochs"]):
        order = rng.permutation(len(rows))
        chunk = 50 * given["batch_size"]
        parts = [
            sorted(order[i : i + chunk], key=lambda r: len(rows[r])) for i in range(0, len(order), chunk)
        ]
        flat = [r for part in parts for r in part]
        groups = [flat[i : i + given["batch_size"]] for i in range(0, len(flat), given["batch_size"])]
        rng.shuffle(groups)
        for group in groups:
            yield padded([rows[r] for r in group], given["pad"]) | {"labels": torch.from_numpy(labels[group])}


def plain(given, data, model):
    rates = {"gpt": (0.9, 0.95), "classify": (0.9, 0.999)}[given["task"]]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=given["learning_rate"], betas=rates, weight_decay=given["weight_decay"]
    )
    autocast = inside(given)
    watch = Stopwatch(given["warm_steps"], given.get("steps"))
    model.train()
    for batch in batches(given, data):
        targets = batch.pop("targets", None)
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            out = model(**batch)
            loss = out.loss
            if targets is not None:
                loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rows = len(batch["input_ids"])
        if not watch.step(rows) or watch.elapsed() > given.get("seconds", 1e9):
            break
    return watch


class Rows(torch.utils.data.Dataset):
    def __init__(self, given, data, count):
        self.given = given
        if given["task"] == "gpt":
            self.rows = windows(data["tokens"], given["context"], count, given["seed"])
        else:
            self.rows, self.labels = sentences(data)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        if self.given["task"] == "gpt":
            return {"input_ids": self.rows[i][:-1], "labels": self.rows[i][:-1]}
        return {"input_ids": self.rows[i], "labels": int(self.labels[i])}


def by_trainer(given, data, model):
    watch = Stopwatch(given["warm_steps"], given.get("steps"))

    class Told(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            going = watch.step(given["batch_size"])
            if not going or watch.elapsed() > given.get("seconds", 1e9):
                control.should_training_stop = True

    def collate(rows):
        labels = [row["labels"] for row in rows]
        if given["task"] == "gpt":
            ids = torch.from_numpy(np.stack([row["input_ids"] for row in rows]))
            return {"input_ids": ids, "labels": ids}
        return padded([row["input_ids"] for row in rows], given["pad"]) | {"labels": torch.tensor(labels)}

    arguments = transformers.TrainingArguments(
        given["folder"], per_device_train_batch_size=given["batch_size"], learning_rate=given["learning_rate"],
        bf16=given["precision"] == "bfloat16", use_cpu=True, report_to=[], save_strategy="no",
        num_train_epochs=given.get("epochs", 1), lr_scheduler_type="linear", disable_tqdm=True,
        logging_steps=10**9, seed=given["seed"], weight_decay=given["weight_decay"],
        **({"max_steps": 10**6} if given["task"] == "gpt" else {}),
    )  # fmt: skip
    rows = Rows(given, data, 20_000)
    transformers.Trainer(
        model, arguments, train_dataset=rows, data_collator=collate, callbacks=[Told()]
    ).train()
    return watch


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(given["seed"])
    with np.load(given["data"]) as file:
        data = dict(file)
    model = build(given)
    started = time.perf_counter()
    watch = (by_trainer if given.get("trainer") else plain)(given, data, model)
    told = {"taken": time.perf_counter() - started}
    if given.get("measured"):
        if given["task"] == "gpt":
            told["token_loss"] = gpt_loss(model, given, data["test_tokens"])
        else:
            told["accuracy"] = accuracy(model, data, given["pad"])
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    adapted = given.get("adapt")  # then each counts what lies beside the model in its own way
    size = None if adapted else sum(p.numel() for p in model.parameters())
    watch.report(parameters=size, versions=versions, **told)


if __name__ == "__main__":
    main()

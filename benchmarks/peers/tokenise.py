"""Texts to tokens, by us or by `datasets.map` with the same tokenizer: how many texts a second, and how much
memory (that is not mapped from files) the work took beside what was there before it, in all its processes."""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import psutil


class Memory(threading.Thread):
    """Looks every few milliseconds at the anonymous memory of this process and its children."""

    def __init__(self):
        super().__init__(daemon=True)
        self.before, self.most, self.done = anonymous(), 0, False

    def run(self):
        while not self.done:
            self.most = max(self.most, anonymous())
            time.sleep(0.005)

    def added(self):
        self.done = True
        self.join()
        return (max(self.most, anonymous()) - self.before) / 2**20


def anonymous():
    found = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(OSError, psutil.Error):
            status = Path(f"/proc/{process.pid}/status").read_text()
            found += next(int(s.split()[1]) << 10 for s in status.splitlines() if s.startswith("RssAnon"))
    return found


def ours(settings):
    import numpy as np
    import torch

    from jichu.data.mapped import column
    from jichu.data.ragged import Ragged
    from jichu.data.tokenizer import Tokenizer
    from jichu.data.tokens import tokenise

    folder = Path(settings["data"])
    offsets = torch.from_numpy(np.load(folder / "offsets.npy"))
    texts = Ragged(column(folder / "values", int(offsets[-1]), "uint8", []), offsets)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    yield len(texts)
    yield len(tokenise(texts, tokenizer, Path(settings["folder"])).values)


def datasets(settings):
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    folder = Path(settings["data"])
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    rows = datasets.load_from_disk(folder / "arrow")
    yield len(rows)

    def encode(batch):
        return tokenizer(batch["text"], add_special_tokens=False, return_attention_mask=False)

    made = rows.map(
        encode, batched=True, remove_columns=["text"], num_proc=settings.get("processes"),
        cache_file_name=str(Path(settings["folder"], "tokens.arrow")),
    )  # fmt: skip
    yield sum(len(chunk.values) for chunk in made.data.column("input_ids").chunks)


def main():
    settings = json.loads(sys.argv[1])
    os.environ["RAYON_NUM_THREADS"] = str(settings["threads"])
    steps = {"ours": ours, "datasets": datasets}[settings["system"]](settings)
    rows = next(steps)
    memory = Memory()
    memory.start()
    started = time.perf_counter()
    tokens = next(steps)
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": rows, "seconds": seconds, "added_mib": memory.added(), "tokens": tokens}))


if __name__ == "__main__":
    main()

"""150,000 texts, English and Chinese, of one to six lines of at most 300 characters, to the tokens of a
byte-level BPE of 8,000: texts a second and memory beside `datasets.map` with the same tokenizer, batched, in
one process and in two. Both keep what they make in files; starting and opening the texts does not count
(about 10 minutes)."""

import gzip
import json
import random
import statistics

import duel
import numpy as np

from jichu.data.config import TokenizerConfig
from jichu.data.tokenizer import Tokenizer

TEXTS = 150_000
_SOURCES = ("gutenberg_prose/*.txt.gz", "imdb_subset/*.jsonl.gz", "chnsenticorp/*.tsv.gz", "tnews/*.tsv.gz")


def words():
    """Lines of the data pack, those that are at hand; else words that are none."""
    lines = []
    for pattern in _SOURCES:
        for file in sorted(duel.DATA.glob(pattern)):
            text = gzip.decompress(file.read_bytes()).decode()
            lines += [line.strip()[:300] for line in text.split("\n") if line.strip()]
    if not lines:
        draw = random.Random(1)
        lexicon = ["".join(draw.choices("etaoinshrdlucmfwyp", k=draw.randint(2, 9))) for _ in range(20_000)]
        lines = [" ".join(draw.choices(lexicon, k=draw.randint(5, 60))) for _ in range(20_000)]
    return lines


def texts(count):
    """So many texts, each of one to six lines from anywhere: in the form of each system, and the tokenizer;
    made once."""
    folder = duel.CACHE / "texts" / f"lines-{count}"
    if not (folder / "ready").exists():
        import datasets

        folder.mkdir(parents=True, exist_ok=True)
        lines, draw = words(), random.Random(0)
        rows = ["\n".join(draw.choices(lines, k=draw.randint(1, 6))) for _ in range(count)]
        encoded = [row.encode() for row in rows]
        np.save(folder / "offsets.npy", np.cumsum([0, *map(len, encoded)]))
        (folder / "values").write_bytes(b"".join(encoded))
        Tokenizer.train(TokenizerConfig(), rows[:20_000]).save(folder / "tokenizer")
        datasets.Dataset.from_dict({"text": rows}).save_to_disk(folder / "arrow")
        (folder / "ready").touch()
    return str(folder)


def main():
    given = duel.arguments(__doc__, rounds=3)
    folder = texts(TEXTS // 20 if given.quick else TEXTS)
    peer = {"system": "datasets", "data": folder}
    systems = [
        duel.System(duel.OURS, "tokenise.py", {"system": "ours", "data": folder}),
        duel.System("datasets.map", "tokenise.py", peer),
        duel.System("datasets.map, 2 processes", "tokenise.py", {**peer, "processes": 2}),
    ]
    found = duel.duel(systems, given)
    counts = {
        name: outcomes[0].get("tokens") for name, outcomes in found.items() if "failed" not in outcomes[0]
    }
    assert len(set(counts.values())) == 1, f"not the same tokens: {counts}"
    lines, ratios, ranges = duel.figures(found)
    added = {name: statistics.median(o["added_mib"] for o in found[name]) for name in counts}
    memory = {name: round(added[duel.OURS] / value, 3) for name, value in added.items() if name != duel.OURS}
    print(json.dumps({"memory_ratio": memory}))
    about = {"memory_ratio": memory, "tokens": counts[duel.OURS]}
    duel.told("tokenising", f"texts a second, {TEXTS:,} texts", given, lines, ratios, ranges, **about)


if __name__ == "__main__":
    main()

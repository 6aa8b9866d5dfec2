"""Does pretraining on texts alone pay, and for how many labels? The recipes gpt-sentiment and gpt-chinese with 50,
250 and all labels of a class, each with several seeds (of the pretraining, of the labels and of the heads):
pretrained, from scratch, and counts of words. Intervals are the least and the most of the seeds. A quarter to half
an hour a seed and corpus on 2 cores; what is written after each seed is of the seeds so far.

    python benchmarks/texts.py --parts reviews --seeds 3
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import tempfile

import duel
import results

from jichu.core.config import check
from jichu.core.files import read_json
from jichu.recipe.config import Recipe, read_recipe
from jichu.recipe.run import execute

LABELS = (50, 250, None)  # of a class; with all of them the networks are fitted for epochs, not for 200 steps


def reviews():
    """The sentences, and 5,000 longer reviews without a label."""
    folder = duel.CACHE / "reviews"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        shutil.copy(duel.DATA / "sst2" / f"{split}.tsv", folder)
    with gzip.open(duel.DATA / "imdb_subset" / "train.jsonl.gz", "rt") as file:
        texts = [" ".join(json.loads(line)["text"].split()) for line in file]
    (folder / "unlabelled.tsv").write_text("".join(f"\t{text}\n" for text in texts))
    return "gpt-sentiment", [f"data.path={folder}"], "3 epochs"


def chnsenticorp():
    return "gpt-chinese", [f"data.path={duel.DATA / 'chnsenticorp'}"], "3 epochs"


def tnews():
    """Titles of news in 15 classes; the text comes before the label."""
    lines = 'data.reader={name: text, line: "{text}\t{label}", suffixes: [.tsv]}'
    return "gpt-chinese", [f"data.path={duel.DATA / 'tnews'}", lines, "data.context=48"], "1 epochs"


PARTS = {"reviews": reviews, "chnsenticorp": chnsenticorp, "tnews": tnews}


def curve(name, changes, budget, seed):
    """What each model reaches for each number of labels, and the gain; the corpus is pretrained on once."""
    found, model = {}, None
    for count in LABELS:
        labels = f"data.labels_per_class={json.dumps(count)}"
        tree = read_recipe(name, [*changes, labels, "data.draws=1", f"seed={seed}"]).plain()
        if model is not None:
            tree["stages"] = [stage for stage in tree["stages"] if stage["stage"] != "pretrain"]
            tree["data"]["tokenizer"] = None  # it is the model's
        for stage in tree["stages"]:
            if count is None and stage["name"] in ("pretrained", "scratch"):
                stage["budget"] = budget
            if model is not None and stage.get("from") == "pretrain":
                stage["from"] = str(model)
        folder = execute(check(Recipe, tree))
        model = model or folder.stage_model("pretrain").resolve()
        summary = read_json(folder.summary)
        for system, figure in {**summary["headline"], "seconds": {"value": summary["seconds"]}}.items():
            found[f"{count or 'all'} labels a class: {system}"] = figure["value"]
    return found


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    os.chdir(tempfile.mkdtemp())
    for part in given.parts:
        seeds = []
        for seed in range(given.seeds):
            seeds.append(curve(*PARTS[part](), seed))
            rows = [
                {"system": key, "value": statistics.mean(values), "low": min(values), "high": max(values)}
                for key in seeds[0]
                for values in [[found[key] for found in seeds]]
            ]
            told = f"accuracy on the held-out texts, mean, least and most of seeds 0 to {seed}"
            results.write(f"texts_{part}", told, rows)


if __name__ == "__main__":
    main()

"""Does pretraining on texts alone pay, and for how many labels? The recipes bert-sentiment and bert-chinese with
50, 250 and all labels of each class, three draws of labels and of a head's first weights each: pretrained,
from scratch, and bags of words; each corpus is pretrained on once (about an hour on 2 cores).

    python benchmarks/texts.py --parts sst2 reviews
"""

import argparse
import gzip
import json
import os
import shutil
import tempfile

import duel
import results

from jichu.core.config import check
from jichu.core.files import read_json
from jichu.recipe.config import Recipe, read_recipe
from jichu.recipe.run import execute

BUDGETS = {50: "200 steps", 250: "400 steps", None: "3 epochs"}  # by labels of a class
LINES = 'data.reader={name: text, line: "{text}\t{label}", suffixes: [.tsv]}'


def sst2():
    return "bert-sentiment", [f"data.path={duel.DATA / 'sst2'}", "stages.pretrain.budget=20 epochs"]


def reviews():
    """The sentences, and 5,000 longer reviews without a label."""
    folder = duel.CACHE / "reviews"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        shutil.copy(duel.DATA / "sst2" / f"{split}.tsv", folder)
    with gzip.open(duel.DATA / "imdb_subset" / "train.jsonl.gz", "rt") as file:
        texts = [" ".join(json.loads(line)["text"].split()) for line in file]
    (folder / "unlabelled.tsv").write_text("".join(f"\t{text}\n" for text in texts))
    return "bert-sentiment", [f"data.path={folder}"]


def chnsenticorp():
    return "bert-chinese", [f"data.path={duel.DATA / 'chnsenticorp'}"]


def tnews():
    changes = [f"data.path={duel.DATA / 'tnews'}", LINES, "stages.pretrain.budget=2 epochs"]
    return "bert-chinese", changes


PARTS = {"sst2": sst2, "reviews": reviews, "chnsenticorp": chnsenticorp, "tnews": tnews}


def curve(part):
    """A row for each number of labels and each model."""
    name, changes = PARTS[part]()
    rows, model = [], None
    for count, budget in BUDGETS.items():
        tree = read_recipe(name, [*changes, f"data.labels_per_class={json.dumps(count)}"]).plain()
        if model is not None:
            tree["stages"] = [s for s in tree["stages"] if s["stage"] != "pretrain"]
        for stage in tree["stages"]:
            if stage["stage"] == "finetune":
                stage["budget"] = budget
            if model is not None and stage.get("from") == "pretrain":
                stage["from"] = str(model)
        folder = execute(check(Recipe, tree))
        model = model or folder.stage_model("pretrain").resolve()
        summary = read_json(folder.summary)
        labels = next(s["metrics"]["labelled_rows"] for s in summary["stages"] if s["stage"] == "finetune")
        for system, found in summary["headline"].items():
            rows.append({"system": f"{part}, {labels:,} labels: {system}", **found})
        rows.append({"system": f"{part}, {labels:,} labels: seconds", "value": summary["seconds"]})
    return rows


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    given = options.parse_args()
    os.chdir(tempfile.mkdtemp())
    for part in given.parts:
        results.write(
            f"texts_{part}", "accuracy on the held-out texts, three draws; 95% intervals", curve(part)
        )


if __name__ == "__main__":
    main()

"""What is tried: for each target a function that makes one case and hands it to the library.

`TARGETS` holds, by name, the function, its share of all cases and the seconds it is given.
"""

from .arrays import arrays, cifar, idx
from .pictures import image, image_folder
from .recipes import assignments, recipe, yaml_text
from .runs import command_line, hub, language, model, predict, resume, run_folder, training
from .sounds import audio_folder, one_sound, series
from .tables import delimited, jsonl, parquet, text
from .tensors import checkpoints, weights

# function, share of all cases, seconds a case may take
TARGETS = {
    "yaml": (yaml_text, 12, 10), "recipe": (recipe, 16, 10), "set": (assignments, 8, 10), "image": (image, 14, 10),
    "image_folder": (image_folder, 4, 20), "idx": (idx, 6, 20), "cifar": (cifar, 8, 20), "delimited": (delimited, 10, 20),
    "jsonl": (jsonl, 4, 20), "text": (text, 5, 20), "parquet": (parquet, 5, 20), "arrays": (arrays, 2, 20), "checkpoint": (checkpoints, 3, 10),
    "sound": (one_sound, 6, 10), "audio_folder": (audio_folder, 2, 20), "series": (series, 3, 20),
    "weights": (weights, 2, 10), "model": (model, 2, 20), "hub": (hub, 0.4, 20), "run_folder": (run_folder, 1.5, 30), "predict": (predict, 1.5, 20),
    "command_line": (command_line, 0.8, 60), "resume": (resume, 0.2, 60), "training": (training, 0.3, 60), "language": (language, 1.5, 30),
}  # fmt: skip


def counts(cases):
    """How many of all cases each target gets, at least one."""
    total = sum(share for _, share, _ in TARGETS.values())
    return {name: max(1, round(cases * share / total)) for name, (_, share, _) in TARGETS.items()}

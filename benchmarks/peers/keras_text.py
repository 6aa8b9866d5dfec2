"""Keras, `model.fit` on sentences padded to one length, as its own text examples: an embedding that masks
padding, an LSTM and a dense layer. `backend` is tensorflow or torch; tokens are made before the clock starts.

Settings: data (npz: `tokens`, `offsets`, `labels`; the same of `test_…`), vocabulary, classes, width, hidden,
longest, batch_size, learning_rate, epochs (after one that compiles and does not count for the rate).
"""

import itertools
import json
import os
import sys

given = json.loads(sys.argv[1])
os.environ["KERAS_BACKEND"] = given["backend"]

import numpy as np  # noqa: E402

if given["backend"] == "tensorflow":
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(given["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(given["threads"])

import keras  # noqa: E402
from keras import layers  # noqa: E402
from stopwatch import Stopwatch  # noqa: E402


def load(file, prefix):
    """Tokens from 1 on, 0 where there is none, and labels."""
    tokens, offsets = file[prefix + "tokens"].astype("int32"), file[prefix + "offsets"]
    padded = np.zeros((len(offsets) - 1, given["longest"]), "int32")
    for row, (a, b) in enumerate(itertools.pairwise(offsets)):
        kept = tokens[a:b][: given["longest"]]
        padded[row, : len(kept)] = kept + 1
    return padded, file[prefix + "labels"]


def main():
    keras.utils.set_random_seed(given["seed"])
    with np.load(given["data"]) as file:
        x, y = load(file, "")
        held_out = load(file, "test_")
    stack = [
        keras.Input((given["longest"],), dtype="int32"),
        layers.Embedding(given["vocabulary"] + 1, given["width"], mask_zero=True),
        layers.LSTM(given["hidden"]),
        layers.Dense(given["classes"], activation="softmax"),
    ]
    model = keras.Sequential(stack)
    adam = keras.optimizers.Adam(given["learning_rate"])
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    watch = Stopwatch(1, None)
    for epoch in range(given["epochs"]):
        model.fit(x, y, given["batch_size"], 1, verbose=0)
        watch.step(len(x) if epoch else 0)
    accuracy = model.evaluate(*held_out, batch_size=500, verbose=0)[1]
    watch.report(accuracy=accuracy, versions={"keras": keras.__version__, "backend": given["backend"]})


main()

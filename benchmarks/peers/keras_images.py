"""Keras, `model.fit` on arrays: as its own MNIST example, with the network of the duel. `backend` is
tensorflow or torch."""

import json
import os
import sys
from pathlib import Path

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


def load(split):
    images = np.load(Path(given["data"]) / f"{split}-images.npy").astype("float32") / 255
    return images[..., None], np.load(Path(given["data"]) / f"{split}-labels.npy")


class Until(keras.callbacks.Callback):
    """Stops when the accuracy on the test images has come to the target."""

    def __init__(self, watch, target):
        super().__init__()
        self.watch, self.target, self.curve = watch, target, []

    def on_epoch_end(self, epoch, logs=None):
        self.curve.append([self.watch.elapsed(), logs["val_accuracy"]])
        self.model.stop_training = logs["val_accuracy"] >= self.target


def main():
    keras.utils.set_random_seed(given.get("seed", 0))
    x, y = (array[: given.get("rows")] for array in load("train"))
    held_out = load("test")
    stack = [keras.Input(x.shape[1:])]
    for width in given["network"]["widths"]:
        stack += [layers.Conv2D(width, 3, padding="same", activation="relu"), layers.MaxPooling2D(2)]
    stack += [layers.Flatten(), *(layers.Dense(w, activation="relu") for w in given["network"]["hidden"])]
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    adam = keras.optimizers.Adam(given["optimizer"]["lr"])
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    size, found = given["batch_size"], {}
    if target := given.get("target"):
        watch = Stopwatch(0, None)
        until = Until(watch, target)
        model.fit(x, y, size, given["epochs"], verbose=0, validation_data=held_out, callbacks=[until])
        watch.rows, watch.stopped = len(x) * len(until.curve), watch.made + watch.elapsed()
        found = {"curve": until.curve, "taken": until.curve[-1][0], "accuracy": until.curve[-1][1]}
    else:  # the first fit compiles
        warm, steps = given["warm_steps"] * size, given["steps"]
        watch = Stopwatch(1, None)
        model.fit(x[:warm], y[:warm], size, 1, verbose=0)
        watch.step(warm)
        rows = len(x) if steps is None else steps * size
        model.fit(x[:rows], y[:rows], size, 1, verbose=0)
        watch.step(rows)
        found = {"accuracy": model.evaluate(*held_out, batch_size=1000, verbose=0)[1]}
    versions = {"keras": keras.__version__, "backend": given["backend"]}
    watch.report(parameters=model.count_params(), versions=versions, **found)


main()

"""Run folders with fresh weights, and servers of them in a thread."""

import contextlib
import io
import threading
import time

import httpx
import torch
from PIL import Image

from jichu.core.config import dump_yaml
from jichu.core.files import write_text
from jichu.data.config import SpectrogramConfig, TokenizerConfig
from jichu.data.decode import Preprocess
from jichu.data.schema import TableSchema
from jichu.data.sound import Sound
from jichu.data.special import TextInputs
from jichu.data.target import Target
from jichu.data.tokenizer import Tokenizer
from jichu.data.windows import SeriesInputs
from jichu.models import folder as model_folder
from jichu.models.folder import LANGUAGE, ModelConfig
from jichu.recipe.config import one_stage
from jichu.serving import opener
from jichu.ship.server.running import Running
from jichu.ship.server.settings import Settings

CLASSES = Target("kind", "classification", ("no", "yes"), (1, 1), 2)
LINEAR = {"label": {"name": "linear"}}
WORDS = TokenizerConfig(name="characters", vocabulary=200, special="gpt")
SAID = ["It was the best of times, it was the worst of times. 窗前明月光 <{[("]
CONTEXT = 64


def texts(tokenizer, **more):
    return TextInputs(len(tokenizer), CONTEXT, tokenizer.special, **more)


def config(kind, tokenizer):
    labelled = {"heads": LINEAR, "targets": {"label": CLASSES}}
    small = {"width": 32, "depth": 2, "heads": 2}
    return {
        "images": lambda: ModelConfig({"name": "cnn", "widths": [4]}, image=Preprocess(8, 3, "crop"), **labelled),
        "grey": lambda: ModelConfig({"name": "cnn", "widths": [4]}, image=Preprocess(8, 1, "pad"), **labelled),
        "sounds": lambda: ModelConfig(
            {"name": "cnn", "widths": [4]}, audio=Sound(8000, 1600), spectrogram=SpectrogramConfig(mels=16), **labelled
        ),
        "table": lambda: ModelConfig(
            {"name": "mlp", "widths": [8]}, table=TableSchema(("age",), (), {"town": ("a", "b")}), **labelled
        ),
        "reviews": lambda: ModelConfig({"name": "bert", **small}, text=texts(tokenizer), **labelled),
        "pairs": lambda: ModelConfig({"name": "bert", **small}, text=texts(tokenizer, pair=True), **labelled),
        "gpt": lambda: ModelConfig(
            {"name": "gpt", **small}, heads={"tokens": {"name": LANGUAGE}}, text=texts(tokenizer)
        ),
        "chat": lambda: ModelConfig(
            {"name": "llama", **small}, heads={"tokens": {"name": LANGUAGE}}, text=texts(tokenizer, chat=True)
        ),
        "lstm": lambda: ModelConfig(
            {"name": "lstm-text", "width": 16, "hidden": 16}, heads={"tokens": {"name": LANGUAGE}}, text=texts(tokenizer)
        ),
        "answers": lambda: ModelConfig(
            {"name": "t5", **small}, heads={"tokens": {"name": LANGUAGE}}, text=texts(tokenizer),
            targets={"label": Target("answer", "text")},
        ),
        "series": lambda: ModelConfig(
            {"name": "mlp", "widths": [8]}, heads={"label": {"name": "forecast"}}, series=SeriesInputs(("load",), 6, (0,)), pictured=True,
            targets={"label": Target("load", "forecast", series=("load",), steps=3, means=(0.0,), stds=(1.0,))},
        ),
    }[kind]()  # fmt: skip


def make(folder, kind, seed=0):
    """A finished run of a small model with fresh weights."""
    tokenizer = Tokenizer.train(WORDS, SAID)
    torch.manual_seed(seed)
    made = config(kind, tokenizer)
    model = made.build()
    for parameter in model.parameters() if made.language else ():  # livelier than as it begins
        parameter.data.mul_(2)
    model_folder.save(folder / "model", model, made, tokenizer if made.text else None)
    data = {"series": {"context": 6, "horizon": 3}} if made.series else {}
    recipe = one_stage(
        "finetune", "nowhere", {"backbone": "cnn"}, name=folder.name, seed=0, data=data, assignments=[]
    )
    write_text(folder / "recipe.yaml", dump_yaml(recipe.plain()))
    return folder


def png(mode="RGB", size=(8, 8), colour=None):
    """An image, encoded."""
    file = io.BytesIO()
    noise = Image.effect_noise(size, 90).convert(mode) if colour is None else Image.new(mode, size, colour)
    noise.save(file, "PNG")
    return file.getvalue()


class Server:
    """One that runs, and what it logs."""

    def __init__(self, paths, tokens=None, **settings):
        self.logged = []
        given = {"port": 0, "timeout": 20.0, "wait": 1.0, **settings}
        self.running = Running(paths, opener(), Settings(**given), tokens, self.logged.append)
        self.address = self.running.address
        self._thread = threading.Thread(target=self.running.run)
        self._thread.start()
        while not self.running.started:
            assert self._thread.is_alive()
            time.sleep(0.01)

    def client(self, token=None, **more):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.address, timeout=30, headers=headers, trust_env=False, **more)

    def line(self, request):
        """What is logged of a request; a moment after its answer."""
        for _ in range(200):
            if found := [line for line in self.logged if line.get("request") == request]:
                return found[0]
            time.sleep(0.01)
        raise AssertionError(f"nothing is logged of {request}")

    def end(self):
        self.running.end()
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def server(paths, tokens=None, **settings):
    found = Server(paths, tokens, **settings)
    try:
        yield found
    finally:
        found.end()

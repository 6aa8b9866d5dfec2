"""What the cases of data share: settings, loading, compression."""

import functools
import gzip
import zlib

from jichu.core.config import check
from jichu.data.config import DataConfig
from jichu.data.inspection import inspect as look_into
from jichu.data.load import load

from . import grammar
from .mutations import spoil_bytes, spoil_tree


def _data_config(rng, path):
    """Most keys as they are, or drawn and spoilt."""
    tree = {"path": str(path)}
    if rng.random() < 0.4:
        tree = {**grammar.sample(rng, DataConfig), "path": str(path)}
        if rng.random() < 0.5:
            tree = {**tree, "split": {}, "size": rng.choice((4, 8, "auto")), "reader": None}
        if rng.random() < 0.2:
            spoilt = spoil_tree(rng, {**tree, "draws": 1})
            tree = {**(spoilt if isinstance(spoilt, dict) else tree), "path": str(path)}
    config = check(DataConfig, tree)
    # 4,096 pixels a side are what was asked for, and no fault: they would only take long
    most = {"size": 64, "rate": 48_000, "seconds": 2.0}
    given = {key: getattr(config, key) for key in most}
    return config.model_copy(update={k: min(v, most[k]) for k, v in given.items() if v != "auto"})


def loaded(case, path):
    dataset = load(str(path), _data_config(case.rng, path), seed=case.rng.randrange(3))
    if case.rng.random() < 0.2:
        look_into(dataset)


def packed(rng, content):
    """As it is, or compressed, perhaps damaged or far larger inside than outside."""
    kind = rng.random()
    if kind < 0.6:
        return content
    packed = gzip.compress(content, 1)
    if kind < 0.65:
        packed += packed
    elif kind < 0.66:
        packed = _gzip_bomb()
    return spoil_bytes(rng, packed) if kind > 0.85 else packed


@functools.cache
def _gzip_bomb():
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(
        [*(packer.compress(bytes(1 << 20)) for _ in range(200)), packer.flush()]
    )  # 0.2 MB that hold 200 MB

"""`jichu pretrain`, `jichu finetune` and `jichu compress`: recipes of one stage."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from jichu.core.config import Spec, models_in, parse_yaml
from jichu.recipe.config import STAGES, compression, one_stage

from ..options import Options, add_data, add_set, add_target, command
from .run import execute


def add(commands: Any) -> None:
    """The commands."""
    parser = command(
        commands,
        "pretrain",
        pretrain,
        "train a backbone without labels",
        "jichu pretrain photos --backbone resnet18 --budget 10m",
    )
    _add_stage(parser, "pretrain")

    parser = command(
        commands,
        "finetune",
        finetune,
        "fit to labels and measure on held-out rows",
        "jichu finetune photos --from runs/pretrain --adapt head",
    )
    _add_stage(parser, "finetune")
    add_target(parser)
    parser.add_argument("--labels-per-class", type=int, metavar="N", help="use only N labels of each class")
    parser.add_argument("--draws", type=int, metavar="N", help="repeat for N draws of those labels")

    about, example = (
        "make a fitted model smaller, and measure what is left of it",
        "jichu compress runs/finetune --steps '[{name: structured, amount: 0.5}]' --budget '2 epochs'",
    )
    parser = command(commands, "compress", compress, about, example)
    parser.add_argument("run", help="the run folder whose model is to be smaller")
    parser.add_argument("--steps", metavar="LIST", required=True, help=_about("compress", "steps"))
    _add_settings(parser, "compress", but=("from", "backbone", "weights", "initialise", "spectrogram"))


def _add_stage(parser: argparse.ArgumentParser, stage: str) -> None:
    """What a stage that reads data is told."""
    add_data(parser)
    parser.add_argument("--seed", type=int, default=0)
    _add_settings(parser, stage)


def _about(stage: str, key: str) -> str:
    return (STAGES[stage].model_fields[key].description or "").replace("%", "%%")


def _add_settings(parser: argparse.ArgumentParser, stage: str, but: Sequence[str] = ()) -> None:
    """The plain keys of a stage as options; the others by --set."""
    parser.add_argument("--name", help=f"the run's name; {stage} if not given")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run of that name where it stopped"
    )
    for name, field in STAGES[stage].model_fields.items():
        key = field.alias or name
        if name in ("stage", "name") or key in but or not _plain(field):
            continue
        about = _about(stage, name)
        default = getattr(field.default, "name", field.default)
        shown = (
            f"; {default} if not given"
            if default not in (None, False) and "if not given" not in about
            else ""
        )
        option = (
            {"action": argparse.BooleanOptionalAction, "default": None}
            if field.annotation is bool
            else {"metavar": "VALUE"}
        )
        parser.add_argument(
            f"--{key.replace('_', '-')}", dest=f"stage_{key}", help=(about + shown).lstrip("; "), **option
        )
    add_set(parser, "any other key, such as optimizer.lr=0.01 or data.size=32")


def _plain(field: FieldInfo) -> bool:
    """Whether a value of the field can be written as one word: no list, and no structure of its own."""
    return get_origin(field.annotation) is not list and set(models_in(field.annotation)) <= {Spec}


def pretrain(options: Options) -> None:
    """A recipe of one pretrain stage."""
    execute(_one_stage("pretrain", options), options)


def finetune(options: Options) -> None:
    """A recipe of one finetune stage and its audit."""
    keys = ("target", "labels_per_class", "draws")
    data = {k: getattr(options, k) for k in keys if getattr(options, k) is not None}
    execute(_one_stage("finetune", options, data), options)


def compress(options: Options) -> None:
    """A recipe of one compress stage and its audit, on the data of the run that it starts from."""
    own = {"steps": parse_yaml(options.steps, "--steps"), **_settings(options)}
    execute(compression(options.run, own, name=options.name, assignments=options.set), options)


def _settings(options: Options) -> dict[str, Any]:
    given = {
        k.removeprefix("stage_"): v
        for k, v in vars(options).items()
        if k.startswith("stage_") and v is not None
    }
    return {k: parse_yaml(v, f"--{k}") if isinstance(v, str) else v for k, v in given.items()}


def _one_stage(verb: str, options: Options, data: dict[str, Any] | None = None) -> Any:
    return one_stage(
        verb, options.data, _settings(options), name=options.name, seed=options.seed, data=data, assignments=options.set
    )  # fmt: skip

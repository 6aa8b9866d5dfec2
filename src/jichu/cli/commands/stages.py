"""`jichu pretrain`, `jichu finetune` and `jichu compress`: recipes of one stage."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from jichu.core.config import Spec, models_in, parse_yaml
from jichu.core.errors import CheckFailed, UsageError
from jichu.recipe.config import STAGES, one_stage

from ..options import Options, add_data, add_set, add_target, command
from ..output import print_blocks, print_json
from .run import execute

_OF_A_SEARCH = ("allow_loss", "output", "rows")  # options that go with --target


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
    parser.add_argument("--steps", metavar="LIST", help=_about("compress", "steps"))
    parser.add_argument(
        "--target", metavar="GOAL",
        help="search steps and bits until the exported graph meets size=0.25, speed=2 or latency=5ms",
    )  # fmt: skip
    for option, kind, about in (
        ("allow-loss", float, "points of the run's first metric that a target may cost; 1 if not given"),
        ("output", str, "the folder of a search; the run's folder compress if not given"),
        ("rows", int, "of a batch when it is timed; 32 if not given"),
    ):
        parser.add_argument(f"--{option}", type=kind, help=about)
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
    made = one_stage(
        "pretrain", options.data, _settings(options), name=options.name, seed=options.seed, assignments=options.set
    )  # fmt: skip
    execute(made, options)


def finetune(options: Options) -> None:
    """A recipe of one finetune stage and its audit."""
    keys = ("target", "labels_per_class", "draws")
    data = {k: getattr(options, k) for k in keys if getattr(options, k) is not None}
    from jichu.recipe.corrected import finetuning

    execute(
        finetuning(
            options.data,
            _settings(options),
            data,
            name=options.name,
            seed=options.seed,
            assignments=options.set,
        ),
        options,
    )


def compress(options: Options) -> None:
    """A recipe of one compress stage and its audit, on the data of the run that it starts from; or a search."""
    if (options.steps is None) == (options.target is None):
        raise UsageError("neither steps nor a target" if options.steps is None else "steps and a target",
                         where="jichu compress", expected="one of --steps and --target")  # fmt: skip
    search = {key: getattr(options, key) for key in _OF_A_SEARCH if getattr(options, key) is not None}
    if options.target is not None:
        return _searched(options, search)
    if search:
        raise UsageError(f"--{next(iter(search)).replace('_', '-')} with --steps", expected="--target")
    from jichu.recipe.origins import compression

    own = {"steps": parse_yaml(options.steps, "--steps"), **_settings(options)}
    execute(compression(options.run, own, name=options.name, assignments=options.set), options)


def _searched(options: Options, settings: dict[str, Any]) -> None:
    """A search, what it came to, and CheckFailed where the target is not met."""
    from jichu.core.words import speaking
    from jichu.runs import Run
    from jichu.ship.tradeoff_page import section
    from jichu.tradeoffs import PAGE, search

    given = _settings(options)
    own = {"name": options.name, "set": options.set, **given}
    if idle := next((key for key, value in own.items() if value and key not in ("budget", "threads")), None):
        raise UsageError(
            f"--{idle.replace('_', '-')} does nothing with --target", expected="--steps, or without it"
        )
    found = search(options.run, options.target, **settings, **given)
    page = found.folder / PAGE
    if options.json:
        print_json({**found.plain(), "page": str(page)})
    else:
        with speaking(Run(options.run).recipe.language):
            print_blocks(found.told[0], section(found.candidates, found.chosen_on))
        print("\n" + "\n".join([*found.told[1:], f"{found.path or ''}", str(page)]))
    if not found.met:
        raise CheckFailed(found.told[0], where=page, expected="another target, or --allow-loss allows more")


def _settings(options: Options) -> dict[str, Any]:
    given = {
        k.removeprefix("stage_"): v
        for k, v in vars(options).items()
        if k.startswith("stage_") and v is not None
    }
    return {k: parse_yaml(v, f"--{k}") if isinstance(v, str) else v for k, v in given.items()}

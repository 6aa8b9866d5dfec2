"""What a recipe may say. Checked whole before anything runs, and without importing torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from jichu.constraints.config import RuleText
from jichu.core.config import Config, DurationText, Named, Spec, check, override, read_yaml
from jichu.core.errors import JichuError, UsageError, nearest, shown
from jichu.core.words import Language
from jichu.data.config import AugmentConfig, DataConfig, SpectrogramConfig
from jichu.train.config import OptimizerConfig, TrainConfig

RULES = "rules"  # the part of an audit that is about them
Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]  # becomes part of file names


class InspectStage(Config):
    """Say what the data are and what of them cannot be used."""

    stage: Literal["inspect"] = "inspect"
    name: Name = "inspect"


class PixelsConfig(Config):
    """What the model does to pixels before its backbone sees them: scaled to another size, and, 0 to 1,
    less `mean`, over `std`: one number, or one for each channel."""

    size: Annotated[int, Field(ge=4, le=4096)] | None = Field(
        None, description="as the data are, if not given"
    )
    mean: float | list[float] | None = None
    std: Annotated[float, Field(gt=0)] | list[Annotated[float, Field(gt=0)]] | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("one of `mean` and `std` is given; expected both or none")
        return self


class ModelStage(TrainConfig):
    """A stage that trains a model, and what it starts from."""

    name: Name
    from_: str | None = Field(None, alias="from", description="a run or an earlier stage to start from")
    backbone: Named | None = Field(
        None,
        description="start from scratch with this backbone; cnn for images, bert-mini for texts and mlp for"
        " tables if nothing is given",
    )
    weights: str | None = Field(
        None, description="a file of weights for the backbone, in torchvision's or timm's names"
    )
    initialise: Named | None = Field(
        None, description="how the backbone's weights are drawn: he-normal, orthogonal, …"
    )
    pixels: PixelsConfig | None = Field(
        None,
        description="mean and std of pixels; those of the training rows, or of the weights, if not given",
    )
    spectrogram: SpectrogramConfig | None = Field(
        None, description="how sounds become pictures for a backbone that looks at such: mels, window, hop"
    )
    augment: AugmentConfig | Literal["auto"] = Field(AugmentConfig(), description="off if not given")

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        for key in ("backbone", "weights", "initialise", "pixels", "spectrogram"):
            if self.from_ is not None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"`from` and `{key}` are both given; expected one of them")
        if self.weights is not None and self.initialise is not None:
            raise ValueError("`weights` and `initialise` are both given; expected one of them")
        return self


class PretrainStage(ModelStage):
    """Train a backbone on all training rows, without labels."""

    stage: Literal["pretrain"] = "pretrain"
    name: Name = "pretrain"
    backbone: Named | None = Field(
        Spec(name="auto"),
        description="a backbone's name or import path; cnn for images, bert-mini for texts if auto",
    )
    objective: Named = Field(
        Spec(name="auto"),
        description="vicreg for images and tables; for texts masked, causal or spans as the backbone is, if not given",
    )
    augment: AugmentConfig | Literal["auto"] = Field(
        "auto", description="auto follows whether the images have colour"
    )
    budget: DurationText = "1000 steps"
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: OptimizerConfig = OptimizerConfig(lr=4e-3, weight_decay=1e-4)


class SupervisedStage(ModelStage):
    """A stage that fits a model to the labelled training rows, so that it ends with predictions."""

    objective: Named = Field(
        Spec(name="auto"),
        description="classification, multilabel or regression as the target is, if not given",
    )
    wrap: list[Named] = Field(
        [], description="objectives around the objective: mixup, fixmatch, distillation, …"
    )
    reweigh: list[str] = Field(
        [],
        description="columns, such as [sex, race]: rows count so that group and class are independent",
    )
    monitor: str = Field("validation_loss", description="what patience and the schedule plateau watch")
    calibrate: bool = Field(
        True,
        description="divide the logits of classes by the temperature that fits the validation rows best, of which there"
        " are to be 100",
    )


class FinetuneStage(SupervisedStage):
    """Fit a model to the labelled training rows."""

    stage: Literal["finetune"] = "finetune"
    name: Name = "finetune"
    head: Named = Field(
        Spec(name="linear"),
        description="linear, logistic-regression, gradient-boosting, …, or an import path",
    )
    adapt: str | list[Any] = Field(
        "full",
        description="full, head, discriminative, last-2, gradual, lora, dora, or a list of"
        " [pattern, frozen, rate factor or {lora: rank}]",
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        for rule in self.adapt if isinstance(self.adapt, list) else []:
            if not (isinstance(rule, list) and len(rule) == 2 and isinstance(rule[0], str)):
                raise ValueError(
                    f"the rule {rule!r} of `adapt` is not a pair; expected [pattern, frozen or factor]"
                )
        return self


NOTHING = "none"  # the budget of a compression that trains nothing


def _budget_or_none(value: Any) -> Any:
    return NOTHING if re.fullmatch(r"none|None|0+(\.0+)?\s*[a-z]*", str(value).strip()) else value


class CompressStage(SupervisedStage):
    """Make a fitted model smaller, and train it again."""

    stage: Literal["compress"] = "compress"
    name: Name = "compress"
    steps: Annotated[list[Named], Field(min_length=1)] = Field(
        description="what is done, in this order: {name: structured, amount: 0.5}, low-rank, distillation, magnitude,"
        " movement, quantization-aware"
    )
    budget: Annotated[Literal["none"] | DurationText, BeforeValidator(_budget_or_none)] = Field(
        NOTHING, description="how long it is trained again: 2 epochs, 10m or 500 steps; not at all if none"
    )
    objective: Named = Field(
        Spec(name="auto"), description="what the model was fitted by, if not given and that is known"
    )

    @property
    def trains(self) -> bool:
        """Whether the model is trained again."""
        return self.budget != NOTHING

    @model_validator(mode="after")
    def _given(self) -> Self:
        if self.from_ is None:
            raise ValueError("nothing to compress; expected `from`, a run or an earlier stage")
        if self.privacy is not None:
            raise ValueError(
                "`privacy` goes with no compression; expected a private finetune stage, and budget none"
            )
        return self


class AuditStage(Config):
    """Measure every fitted model on the held-out rows and write the report."""

    stage: Literal["audit"] = "audit"
    name: Name = "audit"
    metrics: list[Named] | None = Field(
        None,
        min_length=1,
        description="the usual ones of the target's task if not given; the first is primary",
    )
    gain: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None, description="two stages, the second's first metric subtracted from the first's"
    )
    parts: list[Named] = Field(
        [], description="what else is asked: calibration, cost, fairness, robustness, …"
    )
    gates: dict[str, float | str] = Field(
        {}, description='what figures have to be: {accuracy.lower: 0.9, cost.latency_p99: "<0.02"}'
    )


Stage = Annotated[
    InspectStage | PretrainStage | FinetuneStage | CompressStage | AuditStage, Field(discriminator="stage")
]
STAGES: dict[str, type[Config]] = {
    "inspect": InspectStage,
    "pretrain": PretrainStage,
    "finetune": FinetuneStage,
    "compress": CompressStage,
    "audit": AuditStage,
}


class CardConfig(Config):
    """What the model card says that no figure can."""

    intended_use: str | None = Field(None, description="what the model is for, and what not")
    limits: str | None = Field(None, description="what is known of its limits beside what was measured")
    licence: str | None = Field(None, description="such as apache-2.0, or a sentence")
    contact: str | None = None


class Recipe(Config):
    """The whole of a run."""

    name: Name
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig
    stages: Annotated[list[Stage], Field(min_length=1)]
    rules: list[RuleText] = Field(
        [], description="what answers and rows have to keep: age >= 0, if kind = cat then animal = yes"
    )
    result: str | None = Field(
        None,
        description="the stage whose model is the run's; the last compressed, else the first fitted, if not given",
    )
    card: CardConfig | None = Field(
        None, description="what MODEL_CARD.md is to say of intended use, licence and contact"
    )
    language: Language | None = Field(
        None,
        description="of the report, the card and the page of the data; that of the environment if not given",
    )

    @model_validator(mode="after")
    def _joined(self) -> Recipe:
        titles = [rule.title for rule in self.rules]
        if twice := next((title for i, title in enumerate(titles) if title in titles[:i]), None):
            raise ValueError(f"two rules are called {shown(twice)}; expected a name of its own for each")
        seen: list[str] = []
        trained: list[str] = []
        for stage in self.stages:
            if stage.name in seen:
                raise ValueError(f"two stages are named {stage.name!r}; expected a name of its own for each")
            measurable = bool(trained) and set(self.fitted) <= set(trained)
            if isinstance(stage, AuditStage) and not measurable:
                raise ValueError(
                    f"stages.{stage.name} has nothing to measure; expected stages that train, all before it"
                )
            seen.append(stage.name)
            if isinstance(stage, ModelStage):
                trained.append(stage.name)
        for kind, name, choices in [
            *(
                ("finetune", name, self.fitted or trained)
                for s in self.stages
                if isinstance(s, AuditStage)
                for name in s.gain or []
            ),
            *(("trained", name, trained) for name in [self.result] if name is not None),
        ]:
            if name not in choices:
                near = nearest(name, choices)
                raise ValueError(
                    f"no {kind} stage is named {shown(name)}; expected one of {', '.join(choices)}"
                    + (f"; did you mean {near}?" if near else "")
                )
        return self

    @property
    def fitted(self) -> list[str]:
        """The names of the stages that end with predictions."""
        return [s.name for s in self.stages if isinstance(s, SupervisedStage)]

    @property
    def audit(self) -> AuditStage | None:
        """The audit of which `audit.json` is: the last one."""
        return next((s for s in reversed(self.stages) if isinstance(s, AuditStage)), None)

    @property
    def chosen(self) -> str | None:
        """The stage whose model is the run's."""
        trained = [s.name for s in self.stages if isinstance(s, ModelStage)]
        compressed = [s.name for s in reversed(self.stages) if isinstance(s, CompressStage)]
        return self.result or next(iter(compressed or self.fitted or trained), None)

    def questions(self, stage: AuditStage) -> list[Spec]:
        """The parts of an audit: those that are asked for, and where there are rules how they are kept. UsageError where
        rules are asked for that there are not."""
        asked = any(part.name == RULES for part in stage.parts)
        if asked and not self.rules:
            raise UsageError(
                "there are no rules", where=f"{stage.name}.parts", expected="rules: [age >= 0, …]"
            )
        return stage.parts if asked or not self.rules else [*stage.parts, Spec(name=RULES)]

    def plain(self) -> dict[str, Any]:
        """As written to `recipe.yaml`: every default filled in."""
        return self.model_dump(by_alias=True, mode="json")


def folder_of_recipes() -> Path:
    """Where the shipped recipes are: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.exists() else package.parents[1] / "recipes"


def shipped() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(path.stem for path in folder_of_recipes().glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a recipe given as a path or as the name of a shipped one."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or os.path.isfile(path):
        if not os.path.isfile(path):
            near = nearest(path.name, (p.name for p in path.parent.glob("*.yaml")))
            raise UsageError(f"no recipe at {path}", expected="a YAML file", nearest=near)
        return path
    if name not in shipped():
        raise UsageError(
            f"no recipe named {shown(name)}",
            expected=f"a YAML file, or one of {', '.join(shipped())}", nearest=nearest(name, shipped()),
        )  # fmt: skip
    return folder_of_recipes() / f"{name}.yaml"


def read_recipe(name: str, assignments: list[str] | None = None) -> Recipe:
    """Read a recipe, apply `a.b=value` assignments, and check it whole."""
    path = find(name)
    tree = read_yaml(path)
    tree.setdefault("name", path.stem)
    return _teachers_beside(check(Recipe, override(tree, assignments or []), where=str(path)), path.parent)


def _teachers_beside(recipe: Recipe, folder: Path) -> Recipe:
    """A teacher is looked for where the command is given, then where the recipe is."""

    def found(spec: Spec) -> Spec:
        teacher = spec.arguments.get("teacher")
        if not isinstance(teacher, str) or teacher in recipe.fitted or os.path.exists(teacher):
            return spec
        there = folder / teacher
        return Spec(name=spec.name, **{**spec.arguments, "teacher": str(there)}) if there.exists() else spec

    stages = [
        s.model_copy(update={"wrap": [found(spec) for spec in s.wrap]})
        if isinstance(s, SupervisedStage) and s.wrap
        else s
        for s in recipe.stages
    ]
    return recipe.model_copy(update={"stages": stages})


def one_stage(
    verb: str, path: str, settings: dict[str, Any], *, name: str | None = None, seed: int = 0,
    data: dict[str, Any] | None = None, assignments: list[str] | None = None, rules: Sequence[Any] = (),
) -> Recipe:  # fmt: skip
    """The recipe of one verb: its stage, and where that fits a model the audit that follows."""
    tree: dict[str, Any] = {"stage": verb, **settings}
    own = [a for a in assignments or [] if a.split("=")[0].split(".")[0] in _keys(verb)]
    rest = [a for a in assignments or [] if a not in own]
    stages = [override(tree, own)]
    if verb in ("finetune", "compress"):
        stages.append({"stage": "audit"})
    recipe = {"name": name or verb, "seed": seed, "data": {"path": path, **(data or {})}, "stages": stages}
    recipe |= {"rules": list(rules)} if rules else {}
    try:
        return check(Recipe, override(recipe, rest))
    except JichuError as error:
        prefix = f"stages.0.{verb}."
        raise type(error)(
            error.what, where=str(error.where).replace(prefix, "").replace("stages.0.", "") if error.where else None,
            expected=error.expected, nearest=error.nearest,
        ) from None  # fmt: skip


def _keys(verb: str) -> set[str]:
    return {field.alias or name for name, field in STAGES[verb].model_fields.items()} - {"stage"}

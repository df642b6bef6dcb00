"""A study's parameters: strict, frozen, complete. An unknown name is an error, and every default is visible here."""

from __future__ import annotations

import difflib
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from medstudy import paths
from medstudy.data import leakage
from medstudy.datasets import Params as DataParams
from medstudy.datasets import label as data_label
from medstudy.errors import ParamsError
from medstudy.resolution.plan import roundings
from medstudy.resolution.policies import Control, Single, Training
from medstudy.utils import yaml_files

LABEL = r"^[a-z][a-z0-9_-]*$"
Label = Annotated[str, Field(pattern=LABEL, max_length=64)]  # part of a folder's name, which has at most 255 bytes
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # as torch takes it


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Model(_Params):
    """A checkpoint by hub id, folder, or "base" for the stand-in that ships with the package."""

    label: Label | None = None  # its name among the models of a study
    id: str = "base"
    revision: str | None = None
    family: Literal[
        "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "idefics3", "smolvlm", "gemma3", "auto"
    ] = "qwen2_vl"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @field_validator("id")
    @classmethod
    def _placed(cls, id: str, info: ValidationInfo) -> str:
        """Absolute where it is a folder; see `medstudy.paths.placed`."""
        return id if id == "base" else paths.placed(id, (info.context or {}).get("folder"), hub=True)


class Lora(_Params):
    """Adapters beside the language model's matrices of these names; nothing else is trained."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Optimisation(_Params):
    """How every regime is trained; the same for all, so that resolution is the only difference."""

    epochs: int = Field(gt=0, le=100_000)  # more would not end
    optimizer: Literal["adamw", "muon"] = "adamw"
    lora: Lora | None = None  # null: full fine-tuning
    freeze_vision_tower: bool = False  # train the merger and the language model only
    cache_features: bool = True  # keep what a frozen tower makes of each image on the disk
    tokens_per_pass: PositiveInt = 8192  # of a forward pass: keeps memory flat whatever the policy
    images_per_step: PositiveInt = 8
    learning_rate: PositiveFloat
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of all steps
    clip: PositiveFloat = 1.0  # gradient norm
    processes: PositiveInt = 1  # of a training, one a device (on a CPU, one a core); the results are the same
    sharding: Literal["ddp", "fsdp"] = "ddp"  # each process holds all weights, or its share of weights and states
    gradient_checkpointing: bool = False  # keep a layer's input alone and compute the rest again: less memory, 4/3 time
    validations: PositiveInt = 8  # evenly spaced, on the val split, at the regime's own policy
    checkpoint_seconds: PositiveInt = 60

    @model_validator(mode="after")
    def _shares(self) -> Optimisation:
        if self.sharding == "fsdp" and self.processes == 1:
            raise ValueError("sharding: fsdp shares weights between processes, so processes must be at least 2, got 1")
        if self.sharding == "fsdp" and self.optimizer == "muon":
            raise ValueError(
                "optimizer: muon works on whole matrices, of which sharding: fsdp gives a process only a share; use "
                "adamw, or sharding: ddp"
            )
        return self

    @property
    def keeps_features(self) -> bool:
        """Whether the tower stays as it was, and what it makes of each image is kept on the disk."""
        return self.cache_features and (self.freeze_vision_tower or self.lora is not None)


class Author(_Params):
    """How the paper's first author decodes (see `medstudy.evaluation.sampling`): sampled, beside the greedy answers."""

    temperature: PositiveFloat = 0.2
    max_new_tokens: PositiveInt = 128


class Decoding(_Params):
    """Greedy generation, and the author's where asked: every figure and claim is of the greedy answers."""

    max_new_tokens: PositiveInt = 128
    tokens_per_pass: PositiveInt = 8192  # of a forward pass: images with their questions are packed into it
    option_likelihoods: bool = False  # also record the log-likelihood of each option of a choice
    author: Author | None = None  # also answer at every rung as the paper's first author does; null: greedy alone


class Controls(_Params):
    """Views that tell where an effect comes from; asked of the models of one regime, `of`."""

    of: str = "native"
    views: tuple[Control, ...] = ()


class Allowed(_Params):
    """A leak that a study admits: every figure, table and claim then says so, with the reason."""

    evaluated: str  # the data set whose test or val images stand elsewhere
    trained: str | None = None  # in an earlier split (train, val) of this one; null: of itself
    reason: str = Field(min_length=1)


class Leakage(_Params):
    """When two images count as the same (`medstudy.data.leakage.find`); the leaks that do not stop the study."""

    distance: NonNegativeInt = leakage.DISTANCE
    likeness: float = Field(default=leakage.LIKENESS, gt=0, le=1)
    allow: tuple[Allowed, ...] = ()


class Intervals(_Params):
    """Resampling of images and seeds."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: PositiveInt = 2000
    seed: NonNegativeInt = 0


class Study(_Params):
    """One study: models × regimes × seeds, each evaluated at every rung of the inference ladder."""

    study: Label
    datasets: tuple[DataParams, ...] = Field(min_length=1)
    model: Model = Model()
    models: tuple[Model, ...] = ()  # instead of `model`: several, each with figures and claims of its own
    regimes: tuple[Training, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    inference: tuple[Single, ...] = Field(min_length=1)
    controls: Controls = Controls()
    leakage: Leakage = Leakage()
    low: str  # label of the low-resolution regime that native is compared with
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    training: Optimisation
    evaluation: Decoding = Decoding()
    workers: NonNegativeInt = 0  # processes a job that read and resize images ahead of the model
    intervals: Intervals = Intervals()
    tflops: PositiveFloat | None = None  # for estimates: 10^12 operations a second, sustained by the device it is for
    root: Path = paths.ROOT  # runs/ and figures/ are written under it

    @field_validator("root")
    @classmethod
    def _placed(cls, root: Path, info: ValidationInfo) -> Path:
        """Absolute: taken from the params file's folder; of params made in Python from here."""
        folder = (info.context or {}).get("folder") or Path.cwd()
        home = os.path.expanduser(root)
        if home.startswith("~"):
            raise ValueError(f"~NAME is the home of a user, but there is none of {root.parts[0]!r}")
        found = Path(os.path.normpath(folder / home))
        if os.path.isfile(found):
            raise ValueError(f"runs/ and figures/ are written below a folder, but {root.name!r} is a file")
        try:
            return paths.resolve(found)
        except ParamsError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _labels(self) -> Study:
        for what, labels in (
            ("regimes", [regime.label for regime in self.regimes]),
            ("inference", [rung.label for rung in self.inference]),
            ("controls", [view.label for view in self.controls.views]),
            ("seeds", list(self.seeds)),
            ("datasets", [data_label(dataset) for dataset in self.datasets]),
        ):
            if len(set(labels)) != len(labels):
                raise ValueError(f"{what} must differ from each other, got {labels}")
        self._check_models()
        policies = (*self.regimes, *self.inference, *self.controls.views)
        if len(rounded := frozenset().union(*map(roundings, policies))) > 1:
            raise ValueError(
                f"all policies of a study have one `rounding`, for their labels do not say it, got {sorted(rounded)}"
            )
        data = [data_label(dataset) for dataset in self.datasets]
        for one in self.leakage.allow:
            if wrong := {one.evaluated, one.trained or one.evaluated} - set(data):
                raise ValueError(f"leakage.allow must name data sets of the study {data}, got {sorted(wrong)}")
        regimes = [regime.label for regime in self.regimes]
        for name, label in (("low", self.low), *([("controls.of", self.controls.of)] if self.controls.views else [])):
            if label not in regimes:
                raise ValueError(f"{name} must name one of the regimes {regimes}, got {label!r}")
        return self

    def _check_models(self) -> None:
        if self.models and "model" in self.model_fields_set:
            raise ValueError("a study has one `model` or several `models`, got both")
        labels = [model.label for model in self.models]
        if None in labels or len(set(labels)) != len(labels):
            raise ValueError(f"each of several models needs a label of its own, got {labels}")

    def each(self) -> list[Study]:
        """This study once for each of its models."""
        return [self.model_copy(update={"model": model, "models": ()}) for model in self.models] or [self]

    @property
    def title(self) -> str:
        """Its name, and that of its model among several."""
        return self.study if self.model.label is None else f"{self.study} {self.model.label}"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def figures(self) -> Path:
        """Of one model's study."""
        return self.root / "figures" / self.study / (self.model.label or "")

    def policy(self, label: str):
        """The regime, rung or control of that label."""
        known = {policy.label: policy for policy in (*self.controls.views, *self.inference, *self.regimes)}
        return known[label]


def load(path: str | Path) -> Study:
    """Read params/NAME.yaml. Raises ParamsError that names every wrong entry, what arrived and what is valid.

    A relative `path` is looked for here, then in the repository. Relative paths in the file (`path` and `images` of
    data, `id` of a model, `root`) are taken from the file's own folder, links resolved, and are absolute in the result.
    """
    return parse(read(path), str(path), paths.resolve(path).resolve().parent)


def read(path: str | Path) -> dict:
    """The settings in a params file, as they are written. Raises ParamsError."""
    file = paths.resolve(path)
    if not file.is_file():
        raise ParamsError(
            f"A study is a yaml file, but there is none at {path} (looked for in {Path.cwd()} and {paths.ROOT}). See "
            "params/ for the ones that ship."
        )
    content = yaml_files.load(file, path)
    if not isinstance(content, dict):
        got = "an empty file" if content is None else type(content).__name__
        raise ParamsError(f"{path} must hold `name: value` lines, got {got}.")
    return content


def parse(content: dict, origin: str = "params", folder: Path | None = None) -> Study:
    """Validate a mapping as a study, with relative paths from `folder`, or as they are where it is None; see `load`."""
    import json

    try:
        return Study.model_validate_json(json.dumps(content), context={"folder": folder})
    except ValidationError as error:
        raise ParamsError(f"{origin} is not a valid study:\n{_explain(error)}") from None


def data(content: dict, origin: str = "params", folder: Path | None = None):
    """Validate a mapping as one data set of a study; see `parse`."""
    import json

    try:
        return TypeAdapter(DataParams).validate_json(json.dumps(content), context={"folder": folder})
    except ValidationError as error:
        raise ParamsError(f"{origin} do not describe a data set:\n{_explain(error, DataParams)}") from None


def _explain(error: ValidationError, root: object = Study) -> str:
    """Every wrong entry of a content of the type `root`."""
    return "\n".join(_line(entry, root) for entry in error.errors(include_url=False))


def _line(entry: dict, root: object) -> str:
    where = ".".join(map(str, entry["loc"])) or "study"
    if entry["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        names = _names(entry["loc"], root)
        close = difflib.get_close_matches(str(entry["loc"][-1]), names, 1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        return f"  {where}: no such parameter; valid names here: {', '.join(names)}{meant}"
    return f"  {where}: {entry['msg']} (got {entry.get('input')!r})"


def _names(location: tuple, root: object) -> list[str]:
    """The valid field names at the place where an unknown one arrived: fields, or kinds of a union."""
    found = _models(root)
    for part in (one for one in location[:-1] if isinstance(one, str)):
        inner = (kind for model in found for name, kind in _fields(model).items() if name == part)
        of_kind = [model for model in found if part == _tag(model)]
        found = of_kind or [model for kind in inner for model in _models(kind)]
    return sorted({name for model in found for name in _fields(model)})


def _models(kind: object) -> list[type]:
    """The models that a type is made of."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
        return [kind]
    return [model for part in get_args(kind) for model in _models(part)]


def _fields(model: type) -> dict[str, object]:
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    return {field.name: field.type for field in fields(model)}


def _tag(model: type) -> object:
    """What says in a union that a part is of this model: its `name` or `policy`."""
    known = getattr(model, "model_fields", {})
    return next((known[name].default for name in ("name", "policy") if name in known), None)

"""A study's parameters: strict, frozen and complete. An unknown name is an error, and all defaults are in this file."""

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
from medstudy.data.reading_params import Bounds, Probe
from medstudy.datasets import Params as DataParams
from medstudy.datasets import label as data_label
from medstudy.errors import ParamsError
from medstudy.resolution.plan import check_policies, roundings
from medstudy.resolution.policies import Control, Single, Training
from medstudy.utils import yaml_files

LABEL = r"^[a-z][a-z0-9_-]*$"
Label = Annotated[str, Field(pattern=LABEL, max_length=64)]  # part of a folder's name, which is at most 255 bytes
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # as torch takes it


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Model(_Params):
    """A checkpoint: a hub id, a folder, or "base" for the small model that ships with the package."""

    label: Label | None = None  # the model's name among several models of a study
    id: str = "base"
    revision: str | None = None
    family: Literal[
        "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "idefics3", "smolvlm", "gemma3", "auto",
        "vision",  # a plain vision encoder, for a probe study alone
    ] = "qwen2_vl"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @field_validator("id")
    @classmethod
    def _placed(cls, id: str, info: ValidationInfo) -> str:
        """A folder as an absolute path; see `medstudy.paths.placed`."""
        return id if id == "base" else paths.placed(id, (info.context or {}).get("folder"), hub=True)


class Lora(_Params):
    """Low-rank adapters for the language model's matrices of these names; nothing else is trained."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Optimisation(_Params):
    """How each regime is trained: all in the same way, so that resolution is the only difference."""

    epochs: int = Field(gt=0, le=100_000)
    optimizer: Literal["adamw", "muon"] = "adamw"
    lora: Lora | None = None  # null: full fine-tuning
    freeze_vision_tower: bool = False  # train only the merger and the language model
    cache_features: bool = True  # keep the features of a frozen vision tower on disk
    tokens_per_pass: PositiveInt = 8192  # at most, in a forward pass: memory does not depend on the policy
    images_per_step: PositiveInt = 8
    learning_rate: PositiveFloat
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of all steps
    clip: PositiveFloat = 1.0  # gradient norm
    processes: PositiveInt = 1  # for one training, one per device (on a CPU, per core); results do not depend on it
    sharding: Literal["ddp", "fsdp"] = "ddp"  # each process holds all weights, or a share of weights and states
    gradient_checkpointing: bool = False  # recompute activations in the backward pass: less memory, 4/3 of the time
    compile_layers: bool = False  # torch.compile every layer: slow first steps, then fewer and larger kernels
    validations: PositiveInt = 8  # evenly spaced, on the val split, with the regime's own policy
    checkpoint_seconds: PositiveInt = 60

    @model_validator(mode="after")
    def _shares(self) -> Optimisation:
        if self.sharding == "fsdp" and self.processes == 1:
            raise ValueError("sharding: fsdp divides weights among processes, so processes must be at least 2, got 1")
        if self.sharding == "fsdp" and self.optimizer == "muon":
            raise ValueError(
                "optimizer: muon needs whole matrices, but with sharding: fsdp a process has only a share of each; use "
                "adamw, or sharding: ddp"
            )
        if self.compile_layers and self.gradient_checkpointing:
            raise ValueError(
                "compile_layers has no effect on layers that gradient_checkpointing recomputes: set one to false"
            )
        return self

    @property
    def keeps_features(self) -> bool:
        """Whether the vision tower is frozen and its features are kept on disk."""
        return self.cache_features and (self.freeze_vision_tower or self.lora is not None)


class Author(_Params):
    """How the paper's first author decodes: by sampling (`medstudy.evaluation.sampling`), besides greedy answers."""

    temperature: PositiveFloat = 0.2
    max_new_tokens: PositiveInt = 128


class Decoding(_Params):
    """Greedy generation, optionally also the author's. All figures and claims use the greedy answers."""

    max_new_tokens: PositiveInt = 128
    tokens_per_pass: PositiveInt = 8192  # at most, in a forward pass, into which images and questions are packed
    option_likelihoods: bool = False  # also record the log-likelihood of each option of a choice
    author: Author | None = None  # also answer at each rung as the paper's first author does; null: greedy only


class Controls(_Params):
    """Views that show where an effect comes from. They are evaluated for the models of one regime, `of`."""

    of: str = "native"
    views: tuple[Control, ...] = ()


class Allowed(_Params):
    """A leak that a study admits. All figures, tables and claims then state it with the reason."""

    evaluated: str  # the data set whose test or val images are also elsewhere
    trained: str | None = None  # the data set that has them in an earlier split (train, val); null: the same data set
    reason: str = Field(min_length=1)


class Leakage(_Params):
    """When two images count as the same (`medstudy.data.leakage.find`), and which leaks do not stop the study."""

    distance: NonNegativeInt = leakage.DISTANCE
    likeness: float = Field(default=leakage.LIKENESS, gt=0, le=1)
    allow: tuple[Allowed, ...] = ()


class Intervals(_Params):
    """How images and seeds are resampled for confidence intervals."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: PositiveInt = 2000
    seed: NonNegativeInt = 0


class Study(_Params):
    """A study: models × regimes × seeds, each evaluated at every rung of the inference ladder."""

    study: Label
    datasets: tuple[DataParams, ...] = Field(min_length=1)
    model: Model = Model()
    models: tuple[Model, ...] = ()  # several instead of `model`, each with its own figures and claims
    regimes: tuple[Training, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    inference: tuple[Single, ...] = Field(min_length=1)
    controls: Controls = Controls()
    leakage: Leakage = Leakage()
    low: str  # label of the low-resolution regime that native is compared with
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    training: Optimisation | None = None
    probe: Probe | None = None  # instead of `training`: a study of frozen encoders
    bounds: Bounds | None = Bounds()  # beside the scores of a study with `training`; null: none
    evaluation: Decoding = Decoding()
    workers: NonNegativeInt = 0  # processes per job that read and resize images ahead of the model
    intervals: Intervals = Intervals()
    tflops: PositiveFloat | None = None  # for estimates: 10^12 operations per second that the device sustains
    root: Path = paths.ROOT  # the folder for runs/ and figures/

    @field_validator("root")
    @classmethod
    def _placed(cls, root: Path, info: ValidationInfo) -> Path:
        """An absolute path, relative to the params file's folder, or for params made in Python to the current one."""
        folder = (info.context or {}).get("folder") or Path.cwd()
        home = os.path.expanduser(root)
        if home.startswith("~"):
            raise ValueError(f"~NAME is a user's home folder, but there is no user {root.parts[0]!r}")
        path = Path(os.path.normpath(folder / home))
        if os.path.isfile(path):
            raise ValueError(f"runs/ and figures/ are written to a folder, but {root.name!r} is a file")
        try:
            return paths.resolve(path)
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
        families = [model.family for model in self.models or (self.model,)]
        check_policies(self.regimes, self.inference, self.controls.views, families, self.probe is not None)
        self._check_kind()
        if len(rounded := roundings(*self.regimes, *self.inference, *self.controls.views)) > 1:
            raise ValueError(
                f"all policies of a study must have the same `rounding`; labels do not show it, got {sorted(rounded)}"
            )
        data = [data_label(dataset) for dataset in self.datasets]
        for leak in self.leakage.allow:
            if wrong := {leak.evaluated, leak.trained or leak.evaluated} - set(data):
                raise ValueError(f"leakage.allow must name data sets of the study {data}, got {sorted(wrong)}")
        regimes = [regime.label for regime in self.regimes]
        for name, label in (("low", self.low), *([("controls.of", self.controls.of)] if self.controls.views else [])):
            if label not in regimes:
                raise ValueError(f"{name} must name one of the regimes {regimes}, got {label!r}")
        return self

    def _check_models(self) -> None:
        if self.models and "model" in self.model_fields_set:
            raise ValueError("a study has either one `model` or several `models`, got both")
        labels = [model.label for model in self.models]
        if None in labels or len(set(labels)) != len(labels):
            raise ValueError(f"each of several models needs its own label, got {labels}")

    def _check_kind(self) -> None:
        if (self.training is None) == (self.probe is None):
            raise ValueError("a study has either `training` or, for frozen encoders, `probe`: give one of them")
        if self.probe is None and any(model.family == "vision" for model in (self.model, *self.models)):
            raise ValueError("family: vision has no language model, so it needs `probe`, not `training`")

    def each(self) -> list[Study]:
        """The study of each model."""
        return [self.model_copy(update={"model": model, "models": ()}) for model in self.models] or [self]

    @property
    def title(self) -> str:
        """The study's name, with the label of its model if there are several."""
        return self.study if self.model.label is None else f"{self.study} {self.model.label}"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def figures(self) -> Path:
        """The folder for figures of one model's study."""
        return self.root / "figures" / self.study / (self.model.label or "")

    def policy(self, label: str) -> Training | Control:
        """The regime, rung or control with this label."""
        known = {policy.label: policy for policy in (*self.controls.views, *self.inference, *self.regimes)}
        return known[label]


def load(path: str | Path) -> Study:
    """Read params/NAME.yaml. Raises ParamsError that names every wrong entry, what arrived and what is valid.

    A relative `path` is looked up in the current folder, then in the repository. Relative paths in the file (`path` and
    `images` of data, `id` of a model, `root`) are relative to the file's folder, and absolute in the result.
    """
    return parse(read(path), str(path), paths.resolve(path).resolve().parent)


def read(path: str | Path) -> dict:
    """The settings in a params file, as they are written. Raises ParamsError."""
    file = paths.resolve(path)
    if not file.is_file():
        raise ParamsError(
            f"A study is a yaml file, but there is none at {path} (looked for in {Path.cwd()} and {paths.ROOT}). See "
            "params/ for examples."
        )
    content = yaml_files.load(file, path)
    if not isinstance(content, dict):
        got = "an empty file" if content is None else type(content).__name__
        raise ParamsError(f"{path} must hold `name: value` lines, got {got}.")
    return content


def parse(content: dict, origin: str = "params", folder: Path | None = None) -> Study:
    """Validate a mapping as a study. Relative paths in it are relative to `folder`, if given; see `load`."""
    import json

    try:
        return Study.model_validate_json(json.dumps(content), context={"folder": folder})
    except ValidationError as error:
        raise ParamsError(f"{origin} is not a valid study:\n{_explain(error)}") from None


def data(content: dict, origin: str = "params", folder: Path | None = None) -> DataParams:
    """Validate a mapping as one data set of a study; see `parse`."""
    import json

    try:
        return TypeAdapter(DataParams).validate_json(json.dumps(content), context={"folder": folder})
    except ValidationError as error:
        raise ParamsError(f"{origin} do not describe a data set:\n{_explain(error, DataParams)}") from None


def _explain(error: ValidationError, root: object = Study) -> str:
    """One line for each wrong entry of a value of the type `root`."""
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
    """The valid names at a location with an unknown name: of its fields, or the kinds of a union."""
    models = _models(root)
    for part in (part for part in location[:-1] if isinstance(part, str)):
        inner = (kind for model in models for name, kind in _fields(model).items() if name == part)
        of_kind = [model for model in models if part == _tag(model)]
        models = of_kind or [model for kind in inner for model in _models(kind)]
    return sorted({name for model in models for name in _fields(model)})


def _models(kind: object) -> list[type]:
    """The pydantic models and dataclasses in a type."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
        return [kind]
    return [model for part in get_args(kind) for model in _models(part)]


def _fields(model: type) -> dict[str, object]:
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    return {field.name: field.type for field in fields(model)}


def _tag(model: type) -> object:
    """The value of `name` or `policy` that selects this model in a union."""
    known = getattr(model, "model_fields", {})
    return next((known[name].default for name in ("name", "policy") if name in known), None)

"""A whole study, and the rules that hold between its blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, ValidationInfo, field_validator, model_validator

from medstudy import paths
from medstudy.data.reading_params import Bounds, Probe
from medstudy.datasets import Params as DataParams
from medstudy.datasets import label as data_label
from medstudy.errors import ParamsError
from medstudy.params.model import Label, Model, Strict
from medstudy.params.settings import Controls, Decoding, Intervals, Leakage, Optimisation
from medstudy.resolution.plan import check_arms, roundings
from medstudy.resolution.policies import Control, Single, Training

Seed = Annotated[int, Field(ge=0, lt=2**63)]  # as torch takes it


class Study(Strict):
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
        check_arms(self.regimes, self.controls.views)
        self._check_kind()
        policies = (*self.regimes, *self.inference, *self.controls.views)
        if len(rounded := frozenset().union(*map(roundings, policies))) > 1:
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

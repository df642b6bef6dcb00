"""A whole study, and the rules that hold between its blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, ValidationInfo, field_validator, model_validator

from medstudy import paths
from medstudy.data import coordinates
from medstudy.data.coordinates import check_known
from medstudy.data.reading_params import Bounds, Probe
from medstudy.datasets import Params as DataParams
from medstudy.datasets import label as data_label
from medstudy.errors import ParamsError
from medstudy.params.model import Label, Model
from medstudy.params.settings import Controls, Decoding, Intervals, Leakage, Optimisation
from medstudy.params.strict import Strict
from medstudy.resolution.plan import check_policies, roundings
from medstudy.resolution.policies import Control, Single, Training

Seed = Annotated[int, Field(ge=0, lt=2**63)]  # as torch takes it


class Study(Strict):
    """A study: models × regimes × seeds, each evaluated at every rung of the inference ladder.

    Without regimes nothing is trained: each model is evaluated as it is (its regime is "base").
    """

    study: Label
    datasets: tuple[DataParams, ...] = Field(min_length=1)
    model: Model = Model()
    models: tuple[Model, ...] = ()  # several instead of `model`, each with its own figures and claims
    regimes: tuple[Training, ...] = ()  # none: a study without training
    seeds: tuple[Seed, ...] = ()
    inference: tuple[Single, ...] = Field(min_length=1)
    controls: Controls = Controls()
    leakage: Leakage = Leakage()
    low: str | None = None  # label of what native is compared with: a regime, or without regimes a rung
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    training: Optimisation | None = None
    probe: Probe | None = None  # instead of `training`: a study of frozen encoders
    bounds: Bounds | None = Bounds()  # beside the scores; null: none. Without regimes: none, unless they are given
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
        check_known(self.datasets, self.models or (self.model,))
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
        self._check_names()
        return self

    def _check_models(self) -> None:
        if self.models and "model" in self.model_fields_set:
            raise ValueError("a study has either one `model` or several `models`, got both")
        labels = [model.label for model in self.models]
        if None in labels or len(set(labels)) != len(labels):
            raise ValueError(f"each of several models needs its own label, got {labels}")

    def _check_kind(self) -> None:
        if self.regimes:
            self._check_trained()
        elif given := [name for name in ("training", "probe") if getattr(self, name) is not None]:
            raise ValueError(f"`{given[0]}` needs `regimes`, and there are none: add regimes, or remove `{given[0]}`")
        elif len(self.seeds) > 1:
            raise ValueError(f"a study without regimes trains nothing, so it has one seed or none, got {self.seeds}")
        for model in self.models or (self.model,):
            self._check_abilities(model)
        if self.bounded and not self.regimes and not any(each.model.abilities.bounds for each in self.each()):
            raise ValueError("bounds need a vision tower that runs alone, and no model has one: set `bounds: null`")

    def _check_trained(self) -> None:
        if not self.seeds:
            raise ValueError("seeds must have at least 1 seed, because each regime is trained once for each")
        if (self.training is None) == (self.probe is None):
            raise ValueError(
                "a study with regimes has either `training` or, for frozen encoders, `probe`: give one of them. To "
                "evaluate a model as it is, set `regimes: []`"
            )

    def _check_abilities(self, model: Model) -> None:
        """Raise ValueError if the study asks of a model what its family cannot do."""
        can, family = model.abilities, f"family: {model.family}"
        if self.probe is None and not can.answers:
            raise ValueError(f"{family} has no language model, so it needs `probe`, not `training` or `regimes: []`")
        if self.training is not None and not can.trains:
            raise ValueError(f"{family} cannot be trained here, so it needs `regimes: []` and no `training`")
        if self.evaluation.option_likelihoods and not can.likelihoods:
            raise ValueError(f"{family} gives no likelihoods: set `evaluation.option_likelihoods: false`")
        asks = [rung.label for rung in self.inference if getattr(rung, "box", "") == "own"]
        if asks and not coordinates.of_model(model.family, model.coordinates):
            raise ValueError(
                f"{asks[0]} asks the model for boxes, but it is not known how a model of {family} writes coordinates: "
                "set `coordinates` of the model, or drop the rung"
            )
        if self.regimes and model.trained_on is not None:
            raise ValueError("`trained_on` is for a study without regimes: these models are trained by the study")

    def _check_names(self) -> None:
        """Raise ValueError if `low` or `controls.of` names nothing of this study."""
        regimes, rungs = [regime.label for regime in self.regimes], [rung.label for rung in self.inference]
        if self.regimes and self.low not in regimes:
            raise ValueError(f"low must name one of the regimes {regimes}, got {self.low!r}")
        if not self.regimes and self.low not in (None, *rungs):
            raise ValueError(f"low must name one of the rungs {rungs} in a study without regimes, got {self.low!r}")
        if self.controls.views and self.controlled not in (*regimes, "base"):
            raise ValueError(f"controls.of must name one of the regimes {regimes}, or base, got {self.controlled!r}")
        if not self.regimes and self.bounded is not None and self.low is None:
            raise ValueError(f"bounds compare native with `low`: name one of the rungs {rungs}, or set `bounds: null`")

    def each(self) -> list[Study]:
        """The study of each model."""
        return [self.model_copy(update={"model": model, "models": ()}) for model in self.models] or [self]

    @property
    def trains(self) -> bool:
        """Whether the study trains anything; otherwise it evaluates its models as they are."""
        return bool(self.regimes)

    @property
    def controlled(self) -> str:
        """The regime whose models are evaluated under the controls."""
        return self.controls.of or ("native" if self.regimes else "base")

    @property
    def bounded(self) -> Bounds | None:
        """The settings of the bounds; None if there are none. A study without regimes has them only if it says so."""
        return self.bounds if self.regimes or "bounds" in self.model_fields_set else None

    @property
    def seed(self) -> int:
        """The seed of an evaluation of the model as it is."""
        return self.seeds[0] if self.seeds else 0

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

    @property
    def compared(self) -> Path:
        """The folder for what compares several models; no model's label begins with an underscore."""
        return self.root / "figures" / self.study / "_models"

    def policy(self, label: str) -> Training | Control:
        """The regime, rung or control with this label."""
        known = {policy.label: policy for policy in (*self.controls.views, *self.inference, *self.regimes)}
        return known[label]

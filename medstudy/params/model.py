"""Which model a study asks, and where its weights are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from medstudy import paths
from medstudy.data.coordinates import Coordinates
from medstudy.params.clip import Clip
from medstudy.params.server import FAMILY, Server
from medstudy.params.strict import Strict

LABEL = r"^[a-z][a-z0-9_-]*$"
Label = Annotated[str, Field(pattern=LABEL, max_length=64)]  # part of a folder's name, which is at most 255 bytes


@dataclass(frozen=True)
class Abilities:
    """What a study can do with the models of a family."""

    answers: bool = True  # it answers questions; without a language model, it can only be probed
    trains: bool = True  # its weights are trained here, so it may have regimes
    bounds: bool = True  # its vision tower runs alone, as the readers of the bounds need it
    likelihoods: bool = True  # it gives the log-likelihood of an option
    counts: bool = True  # its FLOPs and its memory follow from its configuration


FAMILIES = {  # abilities by the name of a family; those of every other are the default
    "auto": Abilities(bounds=False),  # its tower runs inside the model
    "vision": Abilities(answers=False, trains=False, likelihoods=False),
    "openai": Abilities(trains=False, bounds=False, likelihoods=False, counts=False),
    "clip": Abilities(trains=False, counts=False),
}


class TrainedOn(Strict):
    """At which resolution a released model was trained, as its source says: images of side² or `max_pixels` pixels."""

    side: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    source: str = Field(min_length=1)  # where this is stated, such as "model card"

    @model_validator(mode="after")
    def _one_size(self) -> TrainedOn:
        if (self.side is None) == (self.max_pixels is None):
            raise ValueError("trained_on has either `side` or `max_pixels`: give one of them")
        return self

    @property
    def pixels(self) -> int:
        """The pixels of its training images."""
        return self.max_pixels or self.side**2

    @property
    def words(self) -> str:
        return f"{self.side}² pixels" if self.side else f"up to {self.max_pixels} pixels"


class Model(Strict):
    """A checkpoint: a hub id, a folder, or "base" for the small model that ships with the package.

    family: openai is a model behind a server; `id` is then its name there.
    """

    label: Label | None = None  # the model's name among several models of a study
    family: Literal[
        "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "idefics3", "smolvlm", "gemma3", "auto",
        "vision",  # a plain vision encoder, for a probe study alone
        "clip",  # a contrastive encoder of images and texts
        "openai",  # a model behind a server
    ] = "qwen2_vl"
    id: str = "base"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    coordinates: Coordinates | None = None  # how it writes points and boxes; null: as its makers say
    server: Server | None = None  # of family openai, and of no other
    trained_on: TrainedOn | None = None  # without regimes; null: as the checkpoint's stamp says, if it has one
    clip: Clip | None = Field(default=None, validate_default=True)  # texts of a contrastive encoder; null: none

    @field_validator("clip")
    @classmethod
    def _with_texts(cls, clip: Clip | None, info: ValidationInfo) -> Clip | None:
        """A contrastive encoder without texts of its own has the default ones. Raises ValueError."""
        family = info.data.get("family")
        if clip is not None and family not in ("clip", None):
            raise ValueError(f"these are the texts of family: clip, but family is {family}: remove them")
        return clip or Clip() if family == "clip" else clip

    @field_validator("id")
    @classmethod
    def _placed(cls, id: str, info: ValidationInfo) -> str:
        """A folder as an absolute path; see `medstudy.paths.placed`. A name at a server stays as it is."""
        if id == "base" or info.data.get("family") == FAMILY:
            return id
        return paths.placed(id, (info.context or {}).get("folder"), hub=True)

    @model_validator(mode="after")
    def _served(self) -> Model:
        if (self.family == FAMILY) != (self.server is not None):
            raise ValueError(
                f"family: {FAMILY} and `server` go together: a model behind a server has both, any other neither"
            )
        return self

    @property
    def abilities(self) -> Abilities:
        return FAMILIES.get(self.family, Abilities())

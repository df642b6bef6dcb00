"""Which model a study asks, and where its weights are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from medstudy import paths
from medstudy.params.clip import Clip
from medstudy.params.strict import Strict

LABEL = r"^[a-z][a-z0-9_-]*$"
Label = Annotated[str, Field(pattern=LABEL, max_length=64)]  # part of a folder's name, which is at most 255 bytes


class Model(Strict):
    """A checkpoint: a hub id, a folder, or "base" for the small model that ships with the package."""

    label: Label | None = None  # the model's name among several models of a study
    id: str = "base"
    revision: str | None = None
    family: Literal[
        "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "idefics3", "smolvlm", "gemma3", "auto",
        "vision",  # a plain vision encoder, for a probe study alone
        "clip",  # a contrastive encoder of images and texts
    ] = "qwen2_vl"
    dtype: Literal["float32", "bfloat16"] = "float32"
    clip: Clip | None = None  # the texts that a contrastive encoder compares; null for every other family

    @model_validator(mode="before")
    @classmethod
    def _with_texts(cls, content: object) -> object:
        """A contrastive encoder without texts of its own has the default ones. Raises ValueError."""
        if not isinstance(content, dict):
            return content
        if content.get("family") == "clip":
            return content | {"clip": {} if content.get("clip") is None else content["clip"]}
        if content.get("clip") is not None:
            raise ValueError(f"clip has the texts of family: clip, but family is {content.get('family', 'qwen2_vl')}")
        return content

    @field_validator("id")
    @classmethod
    def _placed(cls, id: str, info: ValidationInfo) -> str:
        """A folder as an absolute path; see `medstudy.paths.placed`."""
        return id if id == "base" else paths.placed(id, (info.context or {}).get("folder"), hub=True)

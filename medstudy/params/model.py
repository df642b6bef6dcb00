"""Which model a study asks, and where its weights are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from medstudy import paths

LABEL = r"^[a-z][a-z0-9_-]*$"
Label = Annotated[str, Field(pattern=LABEL, max_length=64)]  # part of a folder's name, which is at most 255 bytes


class Strict(BaseModel):
    """The settings of all blocks: frozen, and an unknown or mistyped entry is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Model(Strict):
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

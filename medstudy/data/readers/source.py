"""Parameters that all data sets share."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from medstudy import paths


class Source(BaseModel):
    """Where a data set comes from, and how much of it is used.

    path: a hub id, or a folder with the same files; a relative path is relative to the params file's folder.
    revision: a commit of the hub's repository; None is the newest, which the run's record names.
    train, val, test: maximum of images in each split, chosen in a seeded order that keeps groups together; None is all,
    0 none.
    val_share: share of the training groups to hold out for validation if the source has no such split.
    split: "source" keeps the source's splits; "group" redraws them by group, with test_share of the groups for testing,
    so that no group is in two splits.
    seed: of that order and those draws.
    no_claims: why no claim is tested on it, such as too few patients to decide one; empty: claims are tested.
    on_unreadable: an image that cannot be read stops the study, or is left out and listed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)
    on_hub: ClassVar[bool] = False  # whether `path` may be a hub id even if it has no default

    path: str
    revision: str | None = None
    train: NonNegativeInt | None = None
    val: NonNegativeInt | None = None
    test: PositiveInt | None = None
    val_share: float = Field(default=0.1, gt=0, lt=1)
    test_share: float = Field(default=0.2, gt=0, lt=1)
    split: Literal["source", "group"] = "source"
    on_unreadable: Literal["stop", "skip"] = "stop"
    seed: NonNegativeInt = 42
    no_claims: str = ""

    @field_validator("path", "images", check_fields=False)
    @classmethod
    def _placed(cls, text: str | None, info: ValidationInfo) -> str | None:
        """The path, absolute if it is a folder or file; see `medstudy.paths.placed`."""
        folder = (info.context or {}).get("folder")
        hub = info.field_name == "path" and (cls.on_hub or not cls.model_fields["path"].is_required())
        return text if text is None else paths.placed(text, folder, hub)

    @model_validator(mode="after")
    def _leaves_some(self) -> Source:
        if self.split == "group" and self.test_share + self.val_share >= 1:
            raise ValueError("test_share and val_share must leave some groups to train on")
        return self

    @property
    def root(self) -> Path:
        """`path` as a folder; a relative one (params made in Python) is found here, else in the repository."""
        return paths.resolve(self.path)

"""Settings of bounds and probes: readers of frozen features and of pixels (`medstudy.bounds`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

PENALTIES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class _Reading(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    images: PositiveInt | None = 600  # at most, of each data set and split, drawn by group; null: all
    least: PositiveInt = 20  # training answers to a question that its reader needs
    answers: int = Field(default=12, ge=2)  # different training answers of an open question, at most
    penalties: tuple[PositiveFloat, ...] = Field(default=PENALTIES, min_length=1)  # of the ridge; val chooses one
    seed: NonNegativeInt = 0  # of the draw of images


class Bounds(_Reading):
    """The bounds of every task of a study: a linear reader of the frozen tower, and one of plain pixels."""


class Probe(_Reading):
    """A probe study: a linear reader of a frozen encoder, fitted at each regime's views and tested on the ladder."""

    draws: PositiveInt = 4  # views of a training image under `mixed`

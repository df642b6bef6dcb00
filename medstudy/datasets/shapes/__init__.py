"""Shapes: the general corpus of procedural images on which a small model is trained before any study.

It replaces the low-resolution general web images of a real model's pre-training: shapes, colours, counts, positions,
textures, small dots, thin lines and short words, 56 to 168 px a side, nothing biomedical. The data set's name in params
and ids is "general".
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medstudy.data.example import Example, check_split
from medstudy.datasets.shapes import questions_items, questions_marks  # noqa: F401  (they register the writers)
from medstudy.datasets.shapes.questions import questions
from medstudy.datasets.shapes.render import render
from medstudy.datasets.shapes.scene import compose
from medstudy.datasets.shapes.words import vocabulary

__all__ = ["VERSION", "Params", "example", "load", "vocabulary"]

VERSION = "2"


class Params(BaseModel):
    """The number of images in each split, and their seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    name: Literal["general"] = "general"
    train: int = Field(20_000, ge=0)
    val: int = Field(500, ge=0)
    test: int = Field(500, ge=0)
    seed: int = Field(0, ge=0)


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of a split, in order. Raises DataError for a split that does not exist."""
    check_split(split)
    return (example(params.seed, split, index) for index in range(getattr(params, split)))


def example(seed: int, split: str, i: int, plain: bool = False, size: tuple[int, int] | None = None) -> Example:
    """Image `i` of a split with 4 or 5 questions; it depends only on the arguments.

    plain: one object at a time. size: height and width in px; None: small ones, drawn with the image.
    """
    check_split(split)
    rng = Random(f"general/{seed}/{split}/{i}")
    scene = compose(rng, plain, size)
    image_id = f"general-{seed}-{split}-{i:06d}"
    image = render(scene, np.random.default_rng(rng.getrandbits(64)))
    return Example(
        image_id, image, questions(scene, rng, plain), dataset="general", split=split, group=image_id,
        family="general", modality="synthetic", anatomy="none", render=True,
        source=f"medstudy general generator {VERSION}", license="CC0-1.0",
    )

"""The phantom: procedural biomedical images in which the size of the detail that decides each answer is known.

Four families mirror those of the paper: radiology, pathology, subcellular, cytology. Each image is first planned (what
it shows: answers and detail sizes), then drawn. Image i of a family and split depends only on (seed, split, family, i),
so any image can be made without the others. Choices are asked in words, and by letter too if the params say so
(`medstudy.data.formats`). With `locate` images are also asked to be counted in, pointed at and boxed
(`medstudy.datasets.phantom.locate`); their pixels and their other questions are the same. A further family, of no
medical kind, is drawn only if the params name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
from numpy.random import Generator
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, field_validator

from medstudy.data import formats
from medstudy.data.example import SPLITS, Example, Question, check_split
from medstudy.datasets.phantom import cytology, drawing, geometry, locate, pathology, radiology, subcellular
from medstudy.utils import parallel

VERSION = "2"  # 1: the same images, choices by letter, places as open questions
PROCESSES = 2  # a data job may draw in as many
MANY = 200  # images of a split from which more than one process is worth its start
FAMILIES = {"radiology": radiology, "pathology": pathology, "subcellular": subcellular, "cytology": cytology}
MORE = FAMILIES | {"geometry": geometry}  # in this order, by which images are drawn: new ones at the end
Family = Literal["radiology", "pathology", "subcellular", "cytology", "geometry"]


class Scene(Protocol):
    """What an image shows. Each family has its own."""

    modality: str
    anatomy: str

    def questions(self) -> tuple[Question, ...]:
        """Choices have shuffled options and are answered by letter."""

    def render(self, rng: Generator, marks: locate.Marks | None = None) -> np.ndarray:
        """uint8 [height, width, 3]. marks: receives where features were drawn."""


class Params(BaseModel):
    """The number of images in each split; the families take turns.

    letters: ask each choice by letter too. locate: ask for counts, points and boxes too. boxes: give each question the
    box of the detail that decides it, if that is in one place. um_per_px: what size a pixel of its images shall have,
    in µm, for policies of `spacing`; null: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: Literal["phantom"] = "phantom"
    train: NonNegativeInt = 480
    val: NonNegativeInt = 80
    test: NonNegativeInt = 320
    seed: NonNegativeInt = 0
    families: tuple[Family, ...] = Field(default=tuple(FAMILIES), min_length=1)
    letters: bool = False
    locate: bool = False
    boxes: bool = False
    um_per_px: PositiveFloat | None = None

    @field_validator("families")
    @classmethod
    def _different(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(families)) != len(families):
            raise ValueError(f"each family may be named only once, got {families}")
        return families


def load(params: Params, split: str, processes: int = 1) -> Iterator[Example]:
    """The examples of one split, families interleaved. Raises DataError for a split that does not exist.

    processes: in how many a large split is drawn.
    """
    check_split(split)
    families, count = params.families, getattr(params, split)
    pairs = ((families[i % len(families)], i // len(families)) for i in range(count))
    options = params.letters, params.locate, params.boxes, params.um_per_px
    items = ((params.seed, split, family, index, *options) for family, index in pairs)
    return parallel.mapped(example, items, processes if count >= MANY else 1)


def plan(seed: int, split: str, family: str, index: int) -> tuple[Scene, Generator]:
    """(what image `index` of a family shows, the generator that draws it)."""
    planning, rendering = drawing.streams(seed, SPLITS.index(split), list(MORE).index(family), index)
    return MORE[family].plan(planning), rendering


def example(
    seed: int, split: str, family: str, index: int, letters: bool = False, located: bool = False, boxes: bool = False,
    um_per_px: float | None = None,
) -> Example:
    """Image `index` (from 0) of one family and split, with its questions. The rest is as in `Params`."""
    scene, generator = plan(seed, split, family, index)
    marks = locate.Marks(scene.shape)
    image_id = f"phantom-{seed}-{split}-{family}-{index:05d}"
    image = Image.fromarray(scene.render(generator, marks))
    questions = formats.asked(scene.questions(), letters)
    asked = tuple(locate.questions(marks)) if located else ()
    return Example(
        image_id=image_id, image=image, questions=(*(locate.boxed(questions, marks) if boxes else questions), *asked),
        dataset="phantom", split=split, group=image_id, family=family, modality=scene.modality, anatomy=scene.anatomy,
        render=True, source=f"phantom {VERSION}", license="CC0-1.0", um_per_px=um_per_px,
    )

"""The records that flow through a study: an example is an image with its questions."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from medstudy.data.encoded_image import Picture
from medstudy.errors import DataError
from medstudy.resolution.sizes import Box

KINDS = ("closed", "open", "choice", "description", "class", "count", "point", "box", "report")
SPLITS = ("train", "val", "test")
LETTERS = "ABCDEFGHIJ"
GREEDY = "greedy"  # a prediction's decoding; any other is named by its temperature


def check_split(split: str) -> None:
    """Raise DataError for a split that does not exist."""
    if split not in SPLITS:
        raise DataError(f"A split is one of {', '.join(SPLITS)}, got {split!r}. Choose one of them.")


@dataclass(frozen=True)
class Question:
    """One question about one image, with its reference answer.

    `detail_px` is the size, in native pixels, of the smallest feature that decides the answer. None marks a coarse
    control, whose answer is visible at any resolution. For kind "choice" the answer is the letter; for kind "class" it
    is one of the `options`, if there are any, else one of all answers to questions with this id; for a point or box
    JSON in native pixels (`medstudy.data.places`). Questions that share a `set_id` are also scored as a set, which is
    right if all of them are. `tags` are "name=value", for example "department=radiology". A question with a `format`
    asks another one in another form (`medstudy.data.formats`). `box` is the feature that decides the answer, in native
    pixels.
    """

    id: str
    text: str
    answer: str
    kind: str
    task: str
    options: tuple[str, ...] = ()
    detail_px: float | None = None
    cell_line: str | None = None
    localizations: tuple[str, ...] = ()
    set_id: str | None = None
    tags: tuple[str, ...] = ()
    format: str = ""
    box: Box | None = None

    @classmethod
    def closed(cls, id: str, text: str, yes: bool, task: str, detail_px: float | None = None) -> Question:
        """A question whose answer is yes or no."""
        return cls(id, text, "yes" if yes else "no", "closed", task, detail_px=detail_px)


@dataclass(frozen=True)
class Shot:
    """An image that a prompt shows before the example's own: an earlier image of the patient, or a solved example.

    A shot with an answer is a turn of its own (image, question, answer). Without one, its image joins the example's.
    """

    image: Image.Image | Picture
    question: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Example:
    """One image with its questions. Examples that are not independent share a `group`.

    `context` is what the prompt shows before the image, in order. `images` is everything it shows. `render` says
    whether the licence lets the image appear in figures. Data sets yield PIL images in RGB, or encoded pictures that
    are decoded on use. `um_per_px` is the size of a native pixel in µm, if it is known.
    """

    image_id: str
    image: Image.Image | Picture
    questions: tuple[Question, ...]
    dataset: str
    split: str
    group: str
    family: str
    modality: str
    anatomy: str
    render: bool
    source: str
    license: str
    context: tuple[Shot, ...] = ()
    um_per_px: float | None = None

    @property
    def images(self) -> tuple[Image.Image | Picture, ...]:
        return (*(shot.image for shot in self.context), self.image)

"""The records that flow through a study: a question, an example, and the columns of a prediction row."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from medstudy.pictures import Picture

KINDS = ("closed", "open", "choice", "description", "class")
SPLITS = ("train", "val", "test")
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Question:
    """One question about one image, with its reference answer.

    `detail_px` is the size, in native pixels, of the smallest feature that decides the answer; None marks a
    coarse control, whose answer survives any rung of the ladder. For kind "choice" the answer is the letter.
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


@dataclass(frozen=True)
class Example:
    """One image with its questions. Examples that are not independent share a `group`.

    A builder yields RGB PIL images, `store.read` pictures that are decoded when looked at (`pictures.pil`).
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

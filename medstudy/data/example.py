"""The records that flow through a study: a question, an example, and the columns of a prediction row."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from medstudy.data.encoded_image import Picture

KINDS = ("closed", "open", "choice", "description", "class")
SPLITS = ("train", "val", "test")
LETTERS = "ABCDEFGHIJ"
GREEDY = "greedy"  # a prediction's decoding; any other is named by its temperature


@dataclass(frozen=True)
class Question:
    """One question about one image, with its reference answer.

    `detail_px` is the size, in native pixels, of the smallest feature that decides the answer; None marks a
    coarse control, whose answer survives any rung of the ladder. For kind "choice" the answer is the letter.
    Questions of one `set_id` are also scored together: right when all are. `tags` are "name=value", as
    "department=radiology".
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

    @classmethod
    def closed(cls, id: str, text: str, yes: bool, task: str, detail_px: float | None = None) -> Question:
        """A question whose answer is yes or no."""
        return cls(id, text, "yes" if yes else "no", "closed", task, detail_px=detail_px)


@dataclass(frozen=True)
class Shot:
    """What a prompt shows before an example's own image: an earlier image of the patient, or an example in context.

    With an answer it is a turn of its own (image, question, answer); without, its image stands beside the example's.
    """

    image: Image.Image | Picture
    question: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Example:
    """One image with its questions. Examples that are not independent share a `group`.

    `context` is what the prompt shows before the image, in order, and `images` all that it shows.

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
    context: tuple[Shot, ...] = ()

    @property
    def images(self) -> tuple[Image.Image | Picture, ...]:
        return (*(shot.image for shot in self.context), self.image)

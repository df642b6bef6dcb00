"""The columns that a table of the user's own data may have.

A column is found by its name; `columns:` in the params states another name for it. Required: `image` or `images`,
`question` and `answer`.

    image            path of the image (in a hub data set, the image itself); `file_name` is accepted too
    images           several images: the question is about the last; the others are shown before it
    question         its text; the params' `ask` replaces a missing column
    answer           its text; of a choice, the key, text, letter or number (from 0) of an option; of a point or box
                     JSON in native pixels, [[x, y], …] or [[x0, y0, x1, y1], …]
    options          of a choice or class: a list, a mapping, a text with | between parts, or one column per option
    kind             closed, open, choice, class, description, count, point, box or report; by default from the options
                     and the answer, which is then closed, open or choice
    group            what must not be split, such as a patient
    split            train, val or test

These are read only if `columns:` states them:

    id, task, modality, anatomy, family
    cell_line, localizations    what a description is scored by
    set_id           questions that are also scored together
    format           "letter": the choice asks by letter what the row with the same id, without "_letter", asks in words
    detail           size in native pixels of the smallest feature that decides the question; empty for a coarse one
    box              [x0, y0, x1, y1] of that feature, in one column or four; its shorter side is the detail
    um_per_px        size of a native pixel of the image in µm, instead of what its file states
    tags             columns by which results are grouped
    reading          how a row's image is read, such as {frame: page} (`medstudy.imaging.read_options.ReadOptions`)
    unused           columns that are none of these, although their names are similar
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAMES = {
    "image": ("image", "file_name"), "images": ("images",), "question": ("question",), "answer": ("answer",),
    "options": ("options",), "kind": ("kind",), "group": ("group",), "split": ("split",),
}
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}


class Columns(BaseModel):
    """The source's column of each role; None: the column of that name, if any. "a.b" is entry b of column a."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    image: str | None = None
    images: str | None = None
    question: str | None = None
    answer: str | None = None
    options: str | tuple[str, ...] | None = None
    kind: str | None = None
    group: str | None = None
    split: str | None = None
    id: str | None = None
    task: str | None = None
    modality: str | None = None
    anatomy: str | None = None
    family: str | None = None
    cell_line: str | None = None
    localizations: str | None = None
    set_id: str | None = None
    format: str | None = None
    detail: str | None = None
    box: str | tuple[str, str, str, str] | None = None
    um_per_px: str | None = None
    tags: tuple[str, ...] = ()
    reading: dict[str, str] = Field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Columns:
        single = [name for name in (self.image, self.images, self.question, self.answer, self.options) if name]
        for names in (single, self.tags):
            if repeated := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"a column has one role (image, question, answer, a tag …), but {repeated[0]!r} two")
        return self

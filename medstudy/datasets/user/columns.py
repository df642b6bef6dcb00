"""Which columns of the user's table hold what, and what one of its rows asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medstudy.data.example import Question
from medstudy.data.readers import image_marks, question_rules
from medstudy.data.readers.cells import RowError, filled, parsed, text, value
from medstudy.datasets.user import detail_size, options

Kind = Literal["closed", "open", "choice", "class"]
KINDS = ("closed", "open", "choice", "class", "description")
SEVERAL = re.compile(r"""\[\s*(["']).*\1\s*,?\s*\]""", re.DOTALL)  # ["CT", "computed tomography"]
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}


class Columns(BaseModel):
    """The source's column of each thing; "a.b" is entry b of column a. None: the column of that name, if it is there.

    image: one image, by its path; without a column `image`, `file_name` is taken. images: several, the last of which
    the question is about and the others are shown before it. options: of a choice; a list, or one column an option.
    kind: closed, open, choice, class or description. group: what is never split, as a patient. All the following only
    where stated: id, task, modality, anatomy, family; cell_line and localizations, which a description is scored by;
    set_id, of questions that are also scored together. detail: the size in native pixels of the smallest feature that
    decides the question, empty for a coarse one; or box, [x0, y0, x1, y1] of that feature, in one column or in four,
    whose shorter side is the detail. tags: columns that group the results. reading: how a row's image is read,
    as {frame: page}; see `medstudy.imaging.read_options.Reading`. unused: columns that are none of these, though their
    names
    nearly are.
    """

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
    detail: str | None = None
    box: str | tuple[str, str, str, str] | None = None
    tags: tuple[str, ...] = ()
    reading: dict[str, str] = Field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Columns:
        single = [name for name in (self.image, self.images, self.question, self.answer, self.options) if name]
        for names in (single, self.tags):
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"a column is one thing (image, question, answer, a tag …), got {twice[0]!r} twice")
        return self


@dataclass(frozen=True)
class Asked:
    """What a row asks about its images.

    reading: what the row says of how they are read. box: of the deciding feature, in the last image. counted: whether
    the answer is a bare number, which counts from 0 unless the whole table says otherwise. lettered: whether letters
    were taken off the options' texts (`options.Options`).
    """

    where: str
    images: tuple
    question: Question
    split: str | None
    group: str | None
    modality: str | None
    anatomy: str | None
    reading: Mapping = field(default_factory=dict)
    family: str | None = None
    box: detail_size.Box | None = None
    counted: bool = False
    lettered: bool = False


def read(row: Mapping, where: str, number: int, columns: Columns, label: str, kind: str, ask: str | None) -> Asked:
    """What one row asks. label: what the data set is called, for tasks; kind: "auto", or of every row. Raises RowError.

    Auto: a choice where there are options, closed where the answer is yes or no, else open.
    """
    shown, answer = images(row, columns), value(row, columns.answer)
    texts = options.read(row, columns.options)
    asked, placed = image_marks.placed(text(value(row, columns.question)), texts.texts, len(shown))
    asked = asked or image_marks.placed(ask or "", (), len(shown))[0]
    if not asked:
        raise RowError("no question", "A row needs a question, but this one has none. Fill it in, or remove the row.")
    if not text(answer):
        raise RowError("empty answer", "A row needs an answer, but this one has none. Fill it in, or remove the row.")
    image_marks.refuse_all(text(answer), "answer")
    _single(text(answer))
    kind = text(value(row, columns.kind)).lower() or kind
    kind = "choice" if kind == "auto" and texts.texts else kind
    right, counted = options.right(texts, answer) if kind == "choice" else (0, False)
    name = text(value(row, columns.id)) or (asked if kind == "class" else str(number))
    made = _question(name, asked, text(answer), placed, right, kind, label)
    detail, box = detail_size.read(row, columns.detail, columns.box)
    stated = {
        "task": text(value(row, columns.task)) or made.task, "detail_px": detail,
        "cell_line": text(value(row, columns.cell_line)) or None,
        "localizations": _list(value(row, columns.localizations)), "set_id": text(value(row, columns.set_id)) or None,
    }
    made = replace(made, **stated, tags=_tags(row, columns.tags))
    if kind == "description" and not (made.cell_line or made.localizations):
        raise RowError("description", "A description is scored by its cell_line or localizations: state a column.")
    return Asked(
        where, shown, made, _split(row, columns.split), text(value(row, columns.group)) or None,
        text(value(row, columns.modality)) or None, text(value(row, columns.anatomy)) or None,
        {role: cell for role, name in columns.reading.items() if filled(cell := value(row, name))},
        text(value(row, columns.family)) or None, box, counted, texts.lettered,
    )


def _question(name: str, asked: str, answer: str, texts: tuple[str, ...], right: int, kind: str,
              label: str) -> Question:
    if kind == "auto":
        return question_rules.closed_or_open(name, asked, answer, label)
    if kind not in KINDS:
        raise RowError("unknown kind", f"A question's kind is one of {', '.join(KINDS)}, got {kind!r}. Use one.")
    if kind == "choice":
        return question_rules.choice(name, asked, texts, right, f"{label} choice")
    if kind == "closed" and answer.lower() not in ("yes", "no"):
        raise RowError("not yes or no", f"A closed question is answered yes or no, not {answer!r}. Make it open.")
    return Question(name, asked, answer, kind, f"{label} {kind}")


def _single(answer: str) -> None:
    """Raise RowError for the JSON, or Python's text, of a list of answers: scores compare with one text."""
    if SEVERAL.fullmatch(answer):
        raise RowError("several answers", f"A row has one answer, but this is a list: {answer[:60]}. Choose one.")


def images(row: Mapping, columns: Columns) -> tuple:
    """The row's images in order, as the source has them: paths, or the hub's {bytes, path}. Raises RowError."""
    content = value(row, columns.images) if columns.images else value(row, columns.image)
    if isinstance(content, str) and content.lstrip().startswith("["):
        content = parsed(content)
    found = list(content) if isinstance(content, (list, tuple)) else [content] if filled(content) else []
    if not found:
        raise RowError("no image", "A row needs an image, but this one names none. Fill it in, or remove the row.")
    if not all(one and filled(one) for one in found):
        raise RowError("no image", f"A row's list of images has no gap, but one of its {len(found)} is empty. Mend it.")
    return tuple(one.strip() if isinstance(one, str) else one for one in found)


def _list(content) -> tuple[str, ...]:
    """A list, the JSON of one, or parts between |. Raises RowError."""
    if isinstance(content, str):
        content = parsed(content) if content.lstrip().startswith("[") else content.split("|")
    if not isinstance(content, (list, tuple, type(None))):
        raise RowError("not a list", f"Localizations are a list or a text, got {content!r:.60}.")
    return tuple(found for one in content or () if (found := text(one)))


def _tags(row: Mapping, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}={content}" for name in names if (content := text(value(row, name))))


def _split(row: Mapping, name: str | None) -> str | None:
    said = text(value(row, name))
    if name and said.lower() not in SPLITS:
        raise RowError("unknown split", f"A row's split is one of {', '.join(SPLITS)}, got {said!r}. Use one.")
    return SPLITS.get(said.lower())

"""One row of the user's table as a question about its images."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from medstudy.data import counts, places, yes_no
from medstudy.data.example import KINDS, Question
from medstudy.data.readers import image_marks, question_rules
from medstudy.data.readers.cells import RowError, filled, text, unpacked, value
from medstudy.datasets.user import detail_size, options
from medstudy.datasets.user.columns import SPLITS, Columns
from medstudy.datasets.user.params import UserData
from medstudy.errors import DataError

LIST = re.compile(r"""\[\s*(["']).*\1\s*,?\s*\]""", re.DOTALL)  # ["CT", "computed tomography"]


@dataclass(frozen=True)
class RowQuestion:
    """A row's question, images and properties. where: names the row in errors.

    reading: options for reading this row's images. box: the deciding feature, in the last image. counted: the answer is
    a bare number, which counts from 0 unless the whole table shows otherwise. lettered: letters were removed from the
    options' texts (`options.Options`). um_per_px: size of a native pixel in µm.
    """

    where: str
    images: tuple
    question: Question
    split: str | None
    group: str | None
    modality: str | None
    anatomy: str | None
    reading: Mapping[str, Any] = field(default_factory=dict)
    family: str | None = None
    box: detail_size.Box | None = None
    counted: bool = False
    lettered: bool = False
    um_per_px: float | None = None


def read(row: Mapping, where: str, number: int, columns: Columns, params: UserData) -> RowQuestion:
    """The question of a row. columns: of its table. number: of the row, the question's default id. Raises RowError."""

    def stated(role: str) -> str:
        return text(value(row, getattr(columns, role)))

    # the texts, with their image marks
    shown, answer = images(row, columns), value(row, columns.answer)
    choices = options.read(row, columns.options)
    question, texts = image_marks.placed(stated("question"), choices.texts, len(shown))
    question = question or image_marks.placed(params.ask or "", (), len(shown))[0]
    if not question:
        raise RowError("no question", "A row needs a question, but this one has none. Fill it in, or remove the row.")
    # the kind, the answer's text, and of a choice the right option
    kind = stated("kind").lower() or params.kind
    reference = _reference(answer, kind)
    if not reference:
        raise RowError("empty answer", "A row needs an answer, but this one has none. Fill it in, or remove the row.")
    image_marks.refuse_marks(reference, "answer")
    if kind not in places.KINDS:
        _refuse_list(reference)
    kind = "choice" if kind == "auto" and choices.texts else kind
    right, counted = options.right(choices, answer) if kind == "choice" else (0, False)
    name = stated("id") or (question if kind == "class" else str(number))
    asked = _question(name, question, reference, texts, right, kind, params.label)
    # everything else that the row states
    detail, box = detail_size.read(row, columns.detail, columns.box)
    asked = replace(
        asked, task=stated("task") or asked.task, detail_px=detail, cell_line=stated("cell_line") or None,
        localizations=_localizations(value(row, columns.localizations)), set_id=stated("set_id") or None,
        format=stated("format"),
        tags=tuple(f"{name}={content}" for name in columns.tags if (content := text(value(row, name)))),
    )
    if kind == "description" and not (asked.cell_line or asked.localizations):
        raise RowError("description", "A description is scored by its cell_line or localizations: state a column.")
    return RowQuestion(
        where, shown, asked, _split(stated("split"), columns.split), stated("group") or None,
        stated("modality") or None, stated("anatomy") or None,
        {option: cell for option, name in columns.reading.items() if filled(cell := value(row, name))},
        stated("family") or None, box, counted, choices.lettered, detail_size.spacing(value(row, columns.um_per_px)),
    )


def images(row: Mapping, columns: Columns) -> tuple:
    """The row's images in order, as in the source: paths, or the hub's {bytes, path}. Raises RowError."""
    content = unpacked(value(row, columns.images if columns.images else columns.image), ("[",))
    listed = list(content) if isinstance(content, (list, tuple)) else [content] if filled(content) else []
    if not listed:
        raise RowError("no image", "A row needs an image, but this one names none. Fill it in, or remove the row.")
    if not all(image and filled(image) for image in listed):
        raise RowError("no image", f"A row's images must not be empty, but one of its {len(listed)} is. Fill it in.")
    return tuple(image.strip() if isinstance(image, str) else image for image in listed)


def _question(name: str, question: str, answer: str, texts: tuple[str, ...], right: int, kind: str,
              label: str) -> Question:
    if kind == "auto":
        return question_rules.closed_or_open(name, question, answer, label)
    if kind not in KINDS:
        raise RowError("unknown kind", f"A question's kind must be one of {', '.join(KINDS)}, got {kind!r}. Use one.")
    if kind == "choice":
        return question_rules.choice(name, question, texts, right, f"{label} choice")
    if kind == "closed" and yes_no.find(answer) is None:
        raise RowError("not yes or no", f"A closed question's answer must be yes or no, got {answer!r}. Make it open.")
    try:
        _CHECKS.get(kind, lambda _: None)(answer)
    except DataError as error:
        raise RowError(kind, str(error)) from None
    return Question(name, question, answer, kind, f"{label} {kind}", texts if kind == "class" else ())


_CHECKS = {"count": counts.reference, "point": lambda answer: places.reference(answer, "point"),
           "box": lambda answer: places.reference(answer, "box")}


def _reference(answer: Any, kind: str) -> str:
    """The answer as text; a list or mapping of points or boxes as JSON."""
    return json.dumps(answer) if kind in places.KINDS and isinstance(answer, (list, dict)) else text(answer)


def _refuse_list(answer: str) -> None:
    """Raise RowError for a list of answers as JSON or as Python writes it: scores compare with one text."""
    if LIST.fullmatch(answer):
        raise RowError("several answers", f"A row must have one answer, but this is a list: {answer[:60]}. Choose one.")


def _localizations(content: Any) -> tuple[str, ...]:
    """A list, the JSON of one, or parts between |. Raises RowError."""
    content = unpacked(content, ("[",))
    content = content.split("|") if isinstance(content, str) else content
    if not isinstance(content, (list, tuple, type(None))):
        raise RowError("not a list", f"Localizations must be a list or a text, got {content!r:.60}. Fix the cell.")
    return tuple(part for cell in content or () if (part := text(cell)))


def _split(stated: str, column: str | None) -> str | None:
    if column and stated.lower() not in SPLITS:
        raise RowError("unknown split", f"A row's split must be one of {', '.join(SPLITS)}, got {stated!r}. Use one.")
    return SPLITS.get(stated.lower())

"""Which columns of the user's table hold what, and what one of its rows asks."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medstudy.errors import DataError
from medstudy.records import LETTERS, Question
from medstudy.sources import questions

Kind = Literal["closed", "open", "choice", "class"]
KINDS = ("closed", "open", "choice", "class")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}  # fmt: skip
STANDARD = {"image": ("image", "file_name"), "images": ("images",), "question": ("question",), "answer": ("answer",),
            "options": ("options",), "kind": ("kind",), "group": ("group",), "split": ("split",)}  # fmt: skip


class RowError(DataError):
    """What is wrong with one row: `problem` in two or three words, for a table, and the message in full."""

    def __init__(self, problem: str, message: str):
        super().__init__(message)
        self.problem = problem


class Columns(BaseModel):
    """The source's column of each thing; "a.b" is entry b of column a. None: the column of that name, if it is there.

    image: one image, by its path; without a column `image`, `file_name` is taken. images: several, the last of which
    the question is about and the others are shown before it. options: of a choice; a list, or one column an option.
    kind: closed, open, choice or class. group: what is never split, as a patient. id, task, modality, anatomy: only
    where stated. tags: columns by which results are told apart. reading: how a row's image is read, as {frame: page};
    see `medstudy.imaging.reading.Reading`.
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
    tags: tuple[str, ...] = ()
    reading: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What a row asks, of which images; `reading` is what it says of how they are read."""

    where: str
    images: tuple
    question: Question
    split: str | None
    group: str | None
    modality: str | None
    anatomy: str | None
    reading: Mapping = field(default_factory=dict)


def bound(columns: Columns, there: Collection[str], where: str, ask: str | None = None) -> Columns:
    """The columns that a table has for each thing. Raises DataError naming one that it lacks, and what it has.

    ask: the question of every row, where the table has none.
    """
    stated = columns.model_dump(exclude_none=True)
    for role, names in stated.items():
        for name in _names(names):
            if name.split(".")[0] not in there:
                raise DataError(
                    f"Each of `columns` must be in the table, but {role} is {name!r} and {where} has "
                    f"{', '.join(map(str, there)) or 'none'}. Name one of these."
                )
    found = {role: next((name for name in names if name in there), None) for role, names in STANDARD.items()}
    if found["image"] and found["images"] or stated.keys() & {"image", "images"}:
        found.pop("image"), found.pop("images")
    made = columns.model_copy(update={role: name for role, name in found.items() if name and role not in stated})
    for role, missing in (
        ("image", not (made.image or made.images)),
        ("question", not (made.question or ask)),
        ("answer", not made.answer),
    ):
        if missing:
            raise DataError(
                f"A table needs a column `{role}`, but {where} has {', '.join(map(str, there)) or 'none'}. Say under "
                f"`columns` which of them it is{', or state `ask`' if role == 'question' else ''}."
            )
    return made


def read(row: Mapping, where: str, number: int, columns: Columns, label: str, kind: str, ask: str | None) -> Asked:
    """What one row asks. label: what the data set is called, for tasks; kind: "auto", or of every row. Raises RowError.

    Auto: a choice where there are options, closed where the answer is yes or no, else open.
    """
    question = text(value(row, columns.question)) if columns.question else ""
    question, answer = question or ask or "", value(row, columns.answer)
    if not question:
        raise RowError("no question", "A row needs a question, but this one has none. Fill it in, or remove the row.")
    if not text(answer):
        raise RowError("empty answer", "A row needs an answer, but this one has none. Fill it in, or remove the row.")
    options = _options(row, columns.options)
    kind = text(value(row, columns.kind)).lower() or kind
    task, tags = text(value(row, columns.task)), _tags(row, columns.tags)
    name = text(value(row, columns.id)) or str(number)
    return Asked(
        where, images(row, columns), _question(name, question, answer, options, kind, task, label, tags),
        _split(row, columns.split), text(value(row, columns.group)) or None,
        text(value(row, columns.modality)) or None, text(value(row, columns.anatomy)) or None,
        {role: cell for role, name in columns.reading.items() if _filled(cell := value(row, name))},
    )  # fmt: skip


def value(row: Mapping, name: str | None):
    """An entry of a row by its column, nested ones as "a.b"; None where there is none."""
    if name is None or name in row:
        return row.get(name)
    head, _, rest = name.partition(".")
    inner = row.get(head)
    return value(inner, rest) if rest and isinstance(inner, Mapping) else None


def text(content) -> str:
    """A cell as text, stripped; "" for null and NaN, and a whole number without a point. Raises RowError."""
    if content is None or (isinstance(content, float) and math.isnan(content)):
        return ""
    if isinstance(content, bool) or not isinstance(content, (str, int, float)):
        raise RowError("not a text", f"A cell must hold text or a number, got {content!r:.60}. Write it as text.")
    return str(int(content) if isinstance(content, float) and content.is_integer() else content).strip()


def _filled(cell) -> bool:
    return cell is not None and cell != "" and cell == cell  # NaN is not itself


def _question(
    name: str, asked: str, answer, options: tuple[str, ...], kind: str, task: str, label: str, tags
) -> Question:
    if kind == "auto":
        kind = "choice" if options else "auto"
    elif kind not in KINDS:
        raise RowError("unknown kind", f"A question's kind is one of {', '.join(KINDS)}, got {kind!r}. Use one.")
    task = {"task": task} if task else {}
    if kind == "choice":
        made = questions.choice(name, asked, options, _right(options, answer), f"{label} choice", tags=tags)
    elif kind == "auto":
        made = questions.closed_or_open(name, asked, text(answer), label, tags=tags)
    else:
        if kind == "closed" and text(answer).lower() not in ("yes", "no"):
            raise RowError("not yes or no", f"A closed question is answered yes or no, not {answer!r}. Make it open.")
        # one class question asks the same of many images, and its classes are the answers of all that share its id
        name = asked if kind == "class" else name
        made = Question(name, asked, text(answer), kind, f"{label} {kind}", tags=tags)
    return Question(**(vars(made) | task))


def _right(options: tuple[str, ...], answer) -> int:
    """The number of the right option, which an answer gives as its text, its letter, or a number from 0."""
    if not 2 <= len(options) <= len(LETTERS):
        raise RowError("options", f"A choice has 2 to {len(LETTERS)} options, one a letter, got {len(options)}.")
    said = text(answer)
    by_text = [i for i, option in enumerate(options) if option.casefold() == said.casefold()]
    by_letter = [LETTERS.index(said.upper())] if len(said) == 1 and said.upper() in LETTERS[: len(options)] else []
    by_number = [answer] if isinstance(answer, int) and 0 <= answer < len(options) else []
    found = {*by_text, *by_letter, *by_number}
    if len(found) != 1:
        what = "more than one of them" if found else "none of them"
        raise RowError(
            "answer not an option",
            f"A choice's answer is the text, the letter or the number (from 0) of one of its options, but {said!r} is "
            f"{what}: {list(options)}. Write the option's text.",
        )
    return found.pop()


def _options(row: Mapping, names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """A list, a mapping of letters, or text: a JSON list or parts between |; or one column an option.

    Empty ones at the end go. Raises RowError for one before: letters and numbers would name another option.
    """
    content = [value(row, name) for name in names] if isinstance(names, tuple) else value(row, names)
    if isinstance(content, str):
        content = _parsed(content) if content.lstrip().startswith("[") else content.split("|")
    if isinstance(content, Mapping):
        content = [content.get(key) for key in (LETTERS if content.keys() <= set(LETTERS) else sorted(content))]
    if not isinstance(content, (list, tuple, type(None))):
        raise RowError("not a list", f"Options are a list, a mapping of letters or a text, got {content!r:.60}.")
    found = [text(one) for one in content or ()]
    while found and not found[-1]:
        found.pop()
    if "" in found:
        raise RowError("options", f"Options stand without a gap, but number {found.index('')} of {found} is empty.")
    return tuple(found)


def _parsed(content: str) -> list:
    try:
        return json.loads(content)
    except ValueError as error:
        raise RowError("not a list", f"A cell in brackets is a JSON list, got {content!r:.60} ({error}).") from error


def images(row: Mapping, columns: Columns) -> tuple:
    """The row's images in order, as the source has them: paths, or the hub's {bytes, path}. Raises RowError."""
    content = value(row, columns.images) if columns.images else value(row, columns.image)
    if isinstance(content, str) and content.lstrip().startswith("["):
        content = _parsed(content)
    found = content if isinstance(content, (list, tuple)) else [content]
    found = [one.strip() if isinstance(one, str) else one for one in found if one]
    if not found:
        raise RowError("no image", "A row needs an image, but this one names none. Fill it in, or remove the row.")
    return tuple(found)


def _tags(row: Mapping, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}={content}" for name in names if (content := text(value(row, name))))


def _split(row: Mapping, name: str | None) -> str | None:
    said = text(value(row, name))
    if name and said.lower() not in SPLITS:
        raise RowError("unknown split", f"A row's split is one of {', '.join(SPLITS)}, got {said!r}. Use one.")
    return SPLITS.get(said.lower())


def _names(names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names.values()) if isinstance(names, Mapping) else tuple(names)

"""Rules that turn a source's texts into questions: closed, open, or a choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medstudy.data import yes_no
from medstudy.data.example import LETTERS, Question
from medstudy.errors import DataError


def closed_or_open(id: str, text: str, answer: str, task: str, language: str = "en", **more: Any) -> Question:
    """A closed question if the answer, in lower case, is yes or no, as in the author's evaluation; else an open one.

    Departure: an answer is stripped first, so that "yes " is closed; for the author it is open. language: of the words
    for yes and no (`medstudy.data.yes_no`).
    """
    answer = answer.strip()
    known = yes_no.LANGUAGES[language]
    kind = "closed" if answer.lower() in (*known.yes, *known.no) else "open"
    return Question(id=id, text=text, answer=answer, kind=kind, task=f"{task} {kind}", **more)


def choice(id: str, text: str, options: Sequence[str], right: int, task: str, **more: Any) -> Question:
    """A choice among `options`; number `right` (from 0) is the answer. Raises DataError."""
    if not 0 <= right < len(options):
        raise DataError(f"A choice's answer must be one of its {len(options)} options, but {id!r} has number {right}.")
    if len(options) > len(LETTERS):
        raise DataError(f"A choice has at most {len(LETTERS)} options, one per letter, but {id!r} has {len(options)}.")
    return Question(id=id, text=text, answer=LETTERS[right], kind="choice", task=task, options=tuple(options), **more)


def tagged(row: Mapping, names: Iterable[str]) -> tuple[str, ...]:
    """Columns of a row as tags "name=value"; null and blank ones are left out."""
    return tuple(f"{name}={row[name]}" for name in names if str(row.get(name) or "").strip())


def answered(row: Mapping, question: str = "question", answer: str = "answer") -> bool:
    """Whether a row has both texts; a few rows of public sources lack one."""
    return all(str(row[name] or "").strip() for name in (question, answer))


def lettered(id: str, text: str, options: Mapping[str, str], answer: str, task: str, **more: Any) -> Question:
    """A choice whose options have the letters A, B, … without a gap, and whose answer is one. Raises DataError."""
    letters = "".join(options)
    if letters != LETTERS[: len(letters)] or answer not in options:
        raise DataError(
            f"A choice's options must be lettered A, B, C … and its answer must be a letter, but {id!r} has the "
            f"options {', '.join(options) or 'none'} and the answer {answer!r}. Fix the row, or leave it out."
        )
    return choice(id, text, tuple(options.values()), letters.index(answer), task, **more)

"""The author's rules that turn a source's text into a question: what is closed, what is a choice."""

from __future__ import annotations

from collections.abc import Sequence

from medstudy.errors import DataError
from medstudy.records import LETTERS, Question


def closed_or_open(id: str, text: str, answer: str, task: str, **more) -> Question:
    """Closed when the answer, lower case, is yes or no, as in the author's evaluation; else open."""
    kind = "closed" if answer.strip().lower() in ("yes", "no") else "open"
    return Question(id=id, text=text, answer=answer, kind=kind, task=f"{task} {kind}", **more)


def choice(id: str, text: str, options: Sequence[str], right: int, task: str, **more) -> Question:
    """A choice among `options`, of which number `right` (from 0) is the answer. Raises DataError."""
    if not 0 <= right < len(options):
        raise DataError(f"A choice's answer is one of its {len(options)} options, but {id!r} names number {right}.")
    return Question(
        id=id, text=text, answer=LETTERS[right], kind="choice", task=task, options=tuple(options), **more
    )

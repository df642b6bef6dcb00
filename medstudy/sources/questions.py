"""The author's rules that turn a source's text into a question: what is closed, what is a choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from medstudy.errors import DataError
from medstudy.records import LETTERS, Question


def closed_or_open(id: str, text: str, answer: str, task: str, **more) -> Question:
    """Closed when the answer, lower case, is yes or no, as in the author's evaluation; else open.

    Departure: blanks around an answer are taken off first, so that "yes " is closed; for the author it is open.
    """
    answer = answer.strip()
    kind = "closed" if answer.lower() in ("yes", "no") else "open"
    return Question(id=id, text=text, answer=answer, kind=kind, task=f"{task} {kind}", **more)


def choice(id: str, text: str, options: Sequence[str], right: int, task: str, **more) -> Question:
    """A choice among `options`, of which number `right` (from 0) is the answer. Raises DataError."""
    if not 0 <= right < len(options):
        raise DataError(f"A choice's answer is one of its {len(options)} options, but {id!r} names number {right}.")
    if len(options) > len(LETTERS):
        raise DataError(f"A choice has at most {len(LETTERS)} options, one a letter, but {id!r} has {len(options)}.")
    return Question(
        id=id, text=text, answer=LETTERS[right], kind="choice", task=task, options=tuple(options), **more
    )


def tagged(row: Mapping, names: Iterable[str]) -> tuple[str, ...]:
    """Those of a row's columns as tags "name=value"; one that is null or blank is left out."""
    return tuple(f"{name}={row[name]}" for name in names if str(row.get(name) or "").strip())


def answered(row: Mapping, question: str = "question", answer: str = "answer") -> bool:
    """Whether a row has both texts: a few rows of public sources lack one."""
    return all(str(row[name] or "").strip() for name in (question, answer))


def lettered(id: str, text: str, options: Mapping[str, str], answer: str, task: str, **more) -> Question:
    """A choice whose answer is one of the letters that its options go by: A, B, … without a gap. Raises DataError."""
    letters = "".join(options)
    if letters != LETTERS[: len(letters)] or answer not in options:
        raise DataError(
            f"A choice's options go by A, B, C …, and its answer is one of them, but {id!r} has the options "
            f"{', '.join(options) or 'none'} and the answer {answer!r}. Mend the row, or leave it out."
        )
    return choice(id, text, tuple(options.values()), letters.index(answer), task, **more)

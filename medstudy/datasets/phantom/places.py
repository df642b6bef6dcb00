"""Where the deciding details of an image are: noted while it is drawn, if someone asks. Noting changes no pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from medstudy.data import known
from medstudy.data.example import Question

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1 in native pixels
_NOTED: ContextVar[dict[str, Corners] | None] = ContextVar("noted", default=None)


@contextmanager
def noted() -> Iterator[dict[str, Corners]]:
    """The corners of each detail that is drawn in the block, by the ids of the questions that it decides."""
    places: dict[str, Corners] = {}
    token = _NOTED.set(places)
    try:
        yield places
    finally:
        _NOTED.reset(token)


def note(questions: Sequence[str], y: float, x: float, reach: float) -> None:
    """Note a detail that reaches `reach` pixels from its centre, in place of an earlier one of these questions."""
    if (places := _NOTED.get()) is not None:
        places |= dict.fromkeys(questions, (float(x) - reach, float(y) - reach, float(x) + reach, float(y) + reach))


def boxed(
    questions: Sequence[Question], places: dict[str, Corners], height: int, width: int
) -> tuple[Question, ...]:
    """The questions with the boxes of their details; those by letter have the box of those in words."""
    names = (question.id.removesuffix(f"_{question.format}") for question in questions)
    return tuple(
        replace(question, box=known.inside(places[name], height, width)) if name in places else question
        for question, name in zip(questions, names, strict=True)
    )

"""The texts that a contrastive encoder compares with an image to answer a question, and which questions it can answer.

    compared.of(question, settings, classes)      # Compared(answers=("A", "B"), texts=(("a photo of red",), …))

A question with options compares them; one of kind "class" without options, all answers that occur to it; one of yes or
no, a pair of statements that the params give for its task. No other kind has texts to compare.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medstudy.data import formats
from medstudy.data.example import Example, Question
from medstudy.params.clip import EVERY, OPTION, QUESTION, Clip

PLACES = re.compile("|".join(map(re.escape, (OPTION, QUESTION))))
Classes = Mapping[tuple[str, str], tuple[str, ...]]  # by data set and question


@dataclass(frozen=True)
class Compared:
    """The answers among which an image chooses, and the texts of each. options: whether they are the question's own."""

    answers: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    options: bool

    @property
    def prompt(self) -> str:
        """What was compared, one line for each text: its answer and the text."""
        return "\n".join(f"{answer}: {text}" for answer, texts in zip(self.answers, self.texts, strict=True)
                         for text in texts)


def of(question: Question, settings: Clip, classes: Sequence[str] = ()) -> Compared | None:
    """What a question compares; None if it cannot be answered so. classes: all answers that occur to it."""
    if question.kind == "closed":
        return _statements(question, settings)
    words = question.options or (tuple(classes) if question.kind == "class" else ())
    if question.kind not in ("choice", "class") or len(words) < 2:
        return None
    answers = formats.candidates(question) if question.options else words
    templates = settings.by_task.get(question.task, settings.templates)
    texts = tuple(tuple(_filled(template, question, word) for template in templates) for word in words)
    return Compared(tuple(answers), texts, bool(question.options))


def _statements(question: Question, settings: Clip) -> Compared | None:
    pair = settings.yes_no.get(question.task, settings.yes_no.get(EVERY))
    if pair is None:
        return None
    texts = (tuple(_filled(text, question) for text in side) for side in (pair.if_yes, pair.if_no))
    return Compared(("yes", "no"), tuple(texts), False)


def _filled(template: str, question: Question, option: str = "") -> str:
    return PLACES.sub(lambda place: option if place[0] == OPTION else question.text, template)


def occurring(examples: Iterable[Example]) -> Classes:
    """All answers to each question of kind "class" that lists no options, as scores know them."""
    answers = defaultdict(set)
    for example in examples:
        for question in example.questions:
            if question.kind == "class" and not question.options:
                answers[example.dataset, question.id].add(question.answer)
    return {key: tuple(sorted(found)) for key, found in answers.items()}


def questions(example: Example, settings: Clip, classes: Classes) -> list[Compared | None]:
    """`of` each question of an example; None for all of one that shows several images, which an encoder cannot."""
    if example.context:
        return [None] * len(example.questions)
    return [of(question, settings, classes.get((example.dataset, question.id), ())) for question in example.questions]

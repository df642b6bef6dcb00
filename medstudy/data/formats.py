"""The two forms in which a multiple-choice question is asked: in words, which is the default, and by letter.

In words, the question lists its options and is answered by one of them: "Which stain was used: Giemsa or Pap?" A small
language model that sees the answer may still fail to match it to a shuffled letter, so letters test the format together
with sight. Asked by letter too, the same choice has `format` "letter": its scores are kept apart
(`medstudy.scoring.score.by_letter`) and are compared with those in words, question by question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from medstudy.data.example import LETTERS, Question

LETTER = "letter"


def asked(questions: Iterable[Question], letters: bool = False) -> tuple[Question, ...]:
    """The questions with each choice in words. letters: ask each choice by letter too."""
    return tuple(form for question in questions for form in _forms(question, letters))


def _forms(question: Question, letters: bool) -> Iterator[Question]:
    if question.kind != "choice":
        yield question
        return
    yield in_words(question)
    if letters:
        yield replace(question, id=f"{question.id}_{LETTER}", format=LETTER)


def in_words(choice: Question) -> Question:
    """A choice as a question of kind "class" that lists its options in words and is answered by one of them.

    Options are written as inside a sentence.
    """
    words = [_within_sentence(option) for option in choice.options]
    right = words[LETTERS.index(choice.answer)]
    return worded(choice.id, choice.text, right, words, choice.task, choice.detail_px)


def worded(id: str, text: str, answer: str, options: Iterable[str], task: str,
           detail_px: float | None = None) -> Question:
    """A question of kind "class" that lists its options: "Where is it?" with left and right asks "… it: left or right?"

    They are listed by number or alphabet, so that their order tells nothing.
    """
    listed = tuple(sorted(options, key=_place))
    return Question(id, f"{text.rstrip('?')}: {alternatives(listed)}?", answer, "class", task, listed, detail_px)


def asked_as(question_id: str) -> str:
    """The id of the question in words that a question by letter asks, from its id."""
    return question_id.removesuffix(f"_{LETTER}")


def without_words(questions: Iterable[Question]) -> Question | None:
    """The first question with a format that is no choice by letter with a question in words among these; or None."""
    asked_ = {question.id: question for question in questions}
    for question in asked_.values():
        words = asked_.get(asked_as(question.id), question)
        paired = (question.format, question.kind, words.format) == (LETTER, "choice", "")
        if question.format and not paired:
            return question
    return None


def alternatives(words: Sequence[str]) -> str:
    """ "a, b or c"."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def candidates(question: Question) -> tuple[str, ...]:
    """The answers that name each option of a question: of a choice its letters, else the options' texts."""
    return tuple(LETTERS[: len(question.options)]) if question.kind == "choice" else question.options


def _within_sentence(option: str) -> str:
    """The option with a small first letter, unless its first word is one such as "X-ray" or "MRI"."""
    return option[:1].lower() + option[1:] if option[1:2].islower() else option


def _place(word: str) -> tuple[float, str]:
    """The place in a list: numbers by size, then words by alphabet."""
    return (float(word) if word.isdecimal() else float("inf"), word.casefold())

"""Which questions can be bounded: those with a finite set of answers, asked in the same words often enough.

A reader gets an image and no text. So each question text of a task gets a reader of its own, and a task is bounded if
all its test questions are. The answer to predict is the answer itself: of a choice the text of the option, whatever its
letter, so that a bound does not depend on the format in which the model answers. A choice that is asked by letter
besides words is read once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from medstudy.data import formats, standard_scores
from medstudy.data.example import LETTERS, SPLITS, Example, Question
from medstudy.data.reading_params import Bounds, Probe

TASK = ["dataset", "task"]
UNBOUNDED = [*TASK, "kind", "n_questions", "why"]


@dataclass(frozen=True)
class Asked:
    """One question about one image. possible: the answers that it allows; empty where training says which there are."""

    example: Example
    question: Question
    answer: str
    possible: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """All questions of a task in the same words, by split."""

    dataset: str
    task: str
    kind: str
    text: str
    asked: dict[str, list[Asked]] = field(repr=False)

    def answers(self, split: str) -> list[str]:
        return [each.answer for each in self.asked[split]]

    def possible(self, each: Asked) -> list[str]:
        """The answers that a question allows: its own options, else all of training."""
        return sorted(each.possible or set(self.answers("train")))


def units(examples: dict[str, Sequence[Example]], settings: Bounds | Probe) -> tuple[list[Unit], pd.DataFrame]:
    """The bounded units in the order of the data, and a table of the tasks that are not bounded, with the reason.

    examples: by split.
    """
    found: dict[tuple[str, str, str], Unit] = {}
    for split in SPLITS:
        for example in examples[split]:
            for question in example.questions:
                if question.format != formats.LETTER:  # the same choice is asked in words
                    text = stem(question)
                    new = Unit(example.dataset, question.task, question.kind, text, {name: [] for name in SPLITS})
                    unit = found.setdefault((example.dataset, question.task, text), new)
                    unit.asked[split].append(asked(example, question))
    tasks: dict[tuple[str, str], list[Unit]] = defaultdict(list)
    for unit in found.values():
        if unit.asked["test"]:
            tasks[unit.dataset, unit.task].append(unit)
    bounded: list[Unit] = []
    left: list[dict] = []
    for (dataset, task), parts in tasks.items():
        if why := _reason(parts, settings):
            number = sum(len(unit.asked["test"]) for unit in parts)
            kinds = ", ".join(sorted({unit.kind for unit in parts}))
            left.append(dict(zip(UNBOUNDED, (dataset, task, kinds, number, why), strict=True)))
        else:
            bounded += parts
    return bounded, pd.DataFrame(left, columns=UNBOUNDED)


def stem(question: Question) -> str:
    """The text without its list of options, which may differ between images."""
    listed = f": {formats.alternatives(question.options)}?"
    return question.text.removesuffix(listed) if question.options else question.text


def asked(example: Example, question: Question) -> Asked:
    """A question with the answer to predict, by its kind."""
    if question.kind == "choice":
        return Asked(example, question, question.options[LETTERS.index(question.answer)], question.options)
    if question.kind == "closed":
        return Asked(example, question, standard_scores.yes_or_no(question.answer), ("no", "yes"))
    return Asked(example, question, question.answer, question.options)


def _reason(parts: Iterable[Unit], settings: Bounds | Probe) -> str:
    """Why a task is not bounded; empty if it is."""
    parts = list(parts)
    every = [each for unit in parts for each in unit.asked["test"]]
    if any(unit.kind in ("description", "report") for unit in parts):
        return "its answers are free text"
    if any(unit.kind in ("count", "point", "box") for unit in parts):
        return "its answers are numbers or places, not one of a few"
    if any(each.example.context for each in every):
        return "its questions show several images"
    rare = [unit for unit in parts if len(unit.asked["train"]) < settings.least]
    if rare:
        number = sum(len(unit.asked["test"]) for unit in rare)
        return (f"training answers {number} of its {len(every)} test questions fewer than {settings.least} times in "
                "the same words")
    for unit in parts:
        counts = Counter(unit.answers("train"))
        if unit.kind == "open" and len(counts) > settings.answers:
            return f"its answers are open: {len(counts)} different ones in {counts.total()} training questions"
        if len(counts) < 2:
            return "training has one answer to a question: there is nothing to tell apart"
    return ""

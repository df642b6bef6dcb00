"""Questions that are asked of one image twice: with the same answer (a repeat), or with another (a contradiction).

Images are the same where all their pixels are, whatever they are called. Two answers contradict each other where only
one can be right: yes and no, two options of the same choice, two classes. An open question may have several answers.
"""

from __future__ import annotations

import pandas as pd

from medstudy.data.example import LETTERS, Example, Question

COLUMNS = ["conflict", "dataset", "split", "image_id", "question_id", "question", "answer", "other_split",
           "other_image_id", "other_question_id", "other_answer"]
SINGLE = ("closed", "choice", "class")  # kinds with one right answer


class Seen:
    """The questions of a data set while its examples stream by; a few hundred bytes of each are kept."""

    def __init__(self) -> None:
        self.first: dict[tuple, dict[str, tuple]] = {}
        self.rows: list[dict] = []

    def add(self, example: Example, prints: list[dict]) -> list[dict]:
        """The conflicts of an example with those before it. prints: of its images (`fingerprints.rows_of`)."""
        shown = tuple(one["exact"] for one in prints)
        found = []
        for question in example.questions:
            answer, options = _said(question)
            known = self.first.setdefault((shown, _plain(question.text), options), {})
            here = (example.split, example.image_id, question)
            for earlier, there in known.items():
                what = _conflict(answer, earlier, here, there)
                if what:
                    found.append(_row(what, example.dataset, here, there))
                    break
            known.setdefault(answer, here)
        self.rows += found
        return found

    def table(self) -> pd.DataFrame:
        """One row a question that conflicts with an earlier one; columns `COLUMNS`."""
        return pd.DataFrame(self.rows, columns=COLUMNS)


def stops(row: dict) -> bool:
    """Whether a conflict is one of two test questions that cannot both be right."""
    return row["conflict"] == "contradiction" and row["split"] == row["other_split"] == "test"


def message(row: dict) -> str:
    """A conflict in words, without a question's text, which may not be shown."""
    where = f"{row['other_question_id']!r} of {row['other_image_id']} in {row['other_split']}"
    if row["conflict"] == "repeated question":
        return f"Question {row['question_id']!r} repeats {where}: it counts twice."
    return (
        f"Question {row['question_id']!r} is answered {row['answer']!r}, but the same question of the same image "
        f"({where}) {row['other_answer']!r}."
    )


def _said(question: Question) -> tuple[str, tuple[str, ...]]:
    """(answer, options) as they are compared: of a choice the right option's text."""
    if question.kind == "choice":
        return _plain(question.options[LETTERS.index(question.answer)]), tuple(sorted(map(_plain, question.options)))
    return _plain(question.answer), ()


def _conflict(answer: str, earlier: str, here: tuple, there: tuple) -> str:
    if answer == earlier:  # copies of an image are listed as such
        return "repeated question" if here[:2] == there[:2] else ""
    single = here[2].kind in SINGLE and there[2].kind in SINGLE
    return "contradiction" if single else "several answers"


def _row(what: str, dataset: str, here: tuple, there: tuple) -> dict:
    (split, image, question), (other_split, other_image, other) = here, there
    values = (what, dataset, split, image, question.id, question.text, question.answer, other_split, other_image,
              other.id, other.answer)
    return dict(zip(COLUMNS, values, strict=True))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")

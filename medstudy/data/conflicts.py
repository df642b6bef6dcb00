"""Questions asked twice about one image: with the same answer (a repeat), or with different answers (a contradiction).

Images are the same if all their pixels are equal, whatever their names. Two answers contradict each other if only one
can be right: yes and no, two options of the same choice, two classes. An open question may have several right answers.
"""

from __future__ import annotations

import pandas as pd

from medstudy.data.example import LETTERS, Example, Question

COLUMNS = ["conflict", "dataset", "split", "image_id", "question_id", "question", "answer", "other_split",
           "other_image_id", "other_question_id", "other_answer"]
SINGLE = ("closed", "choice", "class")  # kinds with one right answer


class Conflicts:
    """The conflicts among the questions of a data set, whose examples are added one by one; images are not kept."""

    def __init__(self) -> None:
        self.first: dict[tuple, dict[str, tuple]] = {}
        self.rows: list[dict] = []

    def add(self, example: Example, prints: list[dict]) -> list[dict]:
        """The conflicts of an example with earlier ones. prints: of its images (`perceptual_hash.rows_of`)."""
        pixels = tuple(row["exact"] for row in prints)
        new = []
        for question in example.questions:
            answer, options = _comparable(question)
            answers = self.first.setdefault((pixels, _plain(question.text), options), {})
            here = (example.split, example.image_id, question)
            for earlier, there in answers.items():
                kind = _conflict(answer, earlier, here, there)
                if kind:
                    new.append(_row(kind, example.dataset, here, there))
                    break
            answers.setdefault(answer, here)
        self.rows += new
        return new

    def table(self) -> pd.DataFrame:
        """One row for each question that conflicts with an earlier one; columns `COLUMNS`."""
        return pd.DataFrame(self.rows, columns=COLUMNS)


def stops(row: dict) -> bool:
    """Whether a conflict is between two test questions that cannot both be right."""
    return row["conflict"] == "contradiction" and row["split"] == row["other_split"] == "test"


def message(row: dict) -> str:
    """A sentence on a conflict, without the text of the question, which may not be shown."""
    where = f"{row['other_question_id']!r} of {row['other_image_id']} in {row['other_split']}"
    if row["conflict"] == "repeated question":
        return f"Question {row['question_id']!r} repeats {where}: it counts twice."
    return (
        f"Question {row['question_id']!r} is answered {row['answer']!r}, but the same question of the same image "
        f"({where}) {row['other_answer']!r}."
    )


def _comparable(question: Question) -> tuple[str, tuple[str, ...]]:
    """(answer, options) in a form to compare; the answer of a choice is the text of the right option."""
    if question.kind == "choice":
        return _plain(question.options[LETTERS.index(question.answer)]), tuple(sorted(map(_plain, question.options)))
    return _plain(question.answer), ()


def _conflict(answer: str, earlier: str, here: tuple, there: tuple) -> str:
    """The kind of conflict, or "" for none."""
    if answer == earlier:  # in copies of an image it is no repeat: copies are listed elsewhere
        return "repeated question" if here[:2] == there[:2] else ""
    single = here[2].kind in SINGLE and there[2].kind in SINGLE
    return "contradiction" if single else "several answers"


def _row(kind: str, dataset: str, here: tuple, there: tuple) -> dict:
    (split, image, question), (other_split, other_image, other) = here, there
    values = (kind, dataset, split, image, question.id, question.text, question.answer, other_split, other_image,
              other.id, other.answer)
    return dict(zip(COLUMNS, values, strict=True))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")

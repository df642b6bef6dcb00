"""Questions that a model cannot answer at all, such as open ones for an encoder: left out, and counted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from medstudy.data.example import Example

FILE = "left_out.csv"
COLUMNS = ["dataset", "kind", "questions", "left_out"]


def count(examples: Iterable[Example], predictions: pd.DataFrame) -> pd.DataFrame:
    """How many questions of each data set and kind there are, and how many have no row: `COLUMNS`, only where some do.

    predictions: those of one rung. The same questions are left out at every rung.
    """
    asked = pd.DataFrame(
        [(example.dataset, example.image_id, question.id, question.kind)
         for example in examples for question in example.questions],
        columns=["dataset", "image_id", "question_id", "kind"],
    )
    answered = pd.MultiIndex.from_frame(predictions[["dataset", "image_id", "question_id"]])
    missing = ~pd.MultiIndex.from_frame(asked[["dataset", "image_id", "question_id"]]).isin(answered)
    counts = asked.assign(left_out=missing).groupby(["dataset", "kind"], as_index=False).agg(
        questions=("left_out", "size"), left_out=("left_out", "sum")
    )
    return counts[counts["left_out"] > 0].reset_index(drop=True)


def write(examples: Iterable[Example], predictions: pd.DataFrame, folder: Path) -> None:
    """Print the counts and write them to left_out.csv; nothing if every question has an answer."""
    counts = count(examples, predictions)
    if len(counts):
        print(f"This model cannot answer {counts['left_out'].sum()} of the questions; they are left out at every rung:")
        print(counts.to_string(index=False))
        counts.to_csv(folder / FILE, index=False)

"""What each task asks: its family, level and kind, one question of it, and the answers it takes."""

from __future__ import annotations

import pandas as pd

from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.scoring import score

TITLE = "Tasks"
HIDDEN = "not shown"
ANSWERS = 6  # listed; of more, the first and how many there are


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x family x task x kind of the test split: level, an example question, answers, counts."""
    if study.examples.empty:
        return pd.DataFrame()
    test = study.examples[study.examples["split"] == "test"]
    by = ["dataset", "family", "task", "kind"]
    test = test.assign(level=score.levels(test))
    rows = [dict(zip(by, key, strict=True)) | _row(part) for key, part in test.groupby(by)]
    return columns.by_dataset(columns.frame(rows))


def _row(rows: pd.DataFrame) -> dict:
    shown = rows["render"].any() if "render" in rows else True
    return {
        "level": "coarse" if rows["level"].nunique() > 1 else rows["level"].iloc[0],
        "example": rows["text"].iloc[0] if shown else HIDDEN,
        "answers": _answers(rows) if shown else HIDDEN,
        "questions": len(rows),
        "images": rows["image_id"].nunique(),
    }


def _answers(rows: pd.DataFrame) -> str:
    """The options of a choice, else the reference answers."""
    lettered = rows["kind"].iloc[0] == "choice"
    found = sorted({option for options in rows["options"] for option in options} if lettered else set(rows["answer"]))
    more = f", … ({len(found)})" if len(found) > ANSWERS else ""
    return ", ".join(found[:1] if rows["kind"].iloc[0] == "description" else found[:ANSWERS]) + more


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "Every task of the test split. level: fine when the size of the smallest feature that decides the answer is "
        "known in native pixels, coarse where that of other tasks of the data set is, unknown where it is of none. "
        "kind: closed (yes or no), open (a word or two), choice (a letter; its options are shuffled for every "
        "question), class (one of a few names), description (a sentence). example: one question as it is asked; "
        "answers: all that occur, or the options of a choice; both only of data that may be shown."
    )

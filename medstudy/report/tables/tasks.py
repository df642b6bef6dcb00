"""The tasks: family, level and kind, an example question, and possible answers."""

from __future__ import annotations

import pandas as pd

from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.scoring import score

TITLE = "Tasks"
HIDDEN = "not shown"
ANSWERS = 6  # answers listed; if there are more, the first ones and their number


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x family x task x kind of the test split: level, an example question, answers, counts."""
    if study.examples.empty:
        return pd.DataFrame()
    test = study.examples[study.examples["split"] == "test"]
    by = ["dataset", "family", "task", "kind"]
    test = test.assign(level=score.levels(test))
    rows = [dict(zip(by, key, strict=True)) | _row(part) for key, part in test.groupby(by)]
    return columns.in_order(pd.DataFrame(rows))


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
    """The options of questions that have them, else the reference answers."""
    answers = sorted({option for options in rows["options"] for option in options} or set(rows["answer"]))
    more = f", … ({len(answers)})" if len(answers) > ANSWERS else ""
    return ", ".join(answers[:1] if rows["kind"].iloc[0] == "description" else answers[:ANSWERS]) + more


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    more = (" count (a number), point and box (places in native pixels), report (a text)."
            if set(columns.MEASURED) & set(table["kind"]) else "")
    return (
        "Every task of the test split. level: fine if the size of the smallest feature that decides the answer is "
        "known in native pixels; coarse if it is not, but known for other tasks of the data set; unknown if it is not "
        "known for any. kind: closed (yes or no), open (a word or two), choice (a letter), class "
        "(one of a few names; phantom and atlas list them in the question), description (a sentence). example: one "
        "question as asked; answers: the options, or else all that occur; both only for data that may be shown."
        + (f" Further kinds:{more}" if more else "")
    )

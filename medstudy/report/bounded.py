"""The cells that the figure and the table of bounds share."""

from __future__ import annotations

import pandas as pd

from medstudy.bounds.results import GUESS
from medstudy.report import selections
from medstudy.report.study_data import StudyData
from medstudy.statistics import summarise

COLUMNS = ["dataset", "level", "task", "reader", "end", "inference", "chance", "mark", "estimate", "low", "high",
           "n_questions", "n_images", "n_seeds"]
MODEL = "model"


def cells(study: StudyData) -> pd.DataFrame:
    """One row per bounded task x reader (model, tower, pixels) x end (native, low): `summarise`, chance and mark.

    model: trained and run at the same policy. Each reader is fitted and tested at the same rung. chance: of guessing
    among the possible answers.
    """
    answers = study.bounds.answers
    if answers.empty:
        return pd.DataFrame(columns=COLUMNS)
    marks = study.bounds.marks
    ends = {marks[end].iloc[0]: end for end in ("native", "low")}
    by = ["dataset", "level", "task", "reader", "inference"]
    parts = [answers[(answers["reader"] != GUESS) & answers["inference"].isin(list(ends))]]
    scores = selections.texts(selections.plain(study.scores))
    own = scores[scores["inference"].isin(list(ends)) & (scores["regime"] == scores["inference"])]
    bounded = answers[["dataset", "task"]].drop_duplicates()
    parts.append(own.merge(bounded, on=["dataset", "task"]).assign(reader=MODEL))
    table = pd.concat([summarise(rows, by, confidence=study.confidence) for rows in parts if len(rows)])
    chance = answers.groupby(["dataset", "task"], as_index=False)["chance"].mean()
    table = table.assign(end=table["inference"].map(ends))
    about = chance.merge(marks[["dataset", "task", "mark"]], on=["dataset", "task"])
    return table.merge(about, on=["dataset", "task"])[COLUMNS]

"""Choices: what their answers score, and how many of them name no option or several, rung by rung."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import summarise

TITLE = "How choices were answered"
BY = ["dataset", "regime", "inference"]
COUNTS = ["questions", "images", "seeds"]


def applies(study: StudyData) -> bool:
    """Whether the study asks choices."""
    return not _rows(study).empty


def _rows(study: StudyData) -> pd.DataFrame:
    rows = selections.plain(study.scores)
    return rows[rows["kind"] == "choice"] if "answer_read" in rows else rows.iloc[:0]


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x regime x inference policy: scores, and shares of answers that name none or several, in %."""
    rows = _rows(study)
    if rows.empty:
        return pd.DataFrame()
    shares = {how: rows["answer_read"].eq(how).astype(float) for how in ("none", "several")}
    rows, table = rows.assign(**shares), pd.DataFrame()
    for value in ("strict", "author", "likelihood", *shares):
        if rows[value].notna().any():
            found = columns.percent(summarise(rows, BY, value, study.level), f"{value}_pct")
            table = found if table.empty else table.merge(found.drop(columns=COUNTS), on=BY, how="left")
    places = pd.DataFrame({
        "dataset": table["dataset"].map(selections.datasets(table).index),
        "regime": table["regime"].map(selections.regimes(table).index),
        "inference": table["inference"].map(selections.ladder(rows).index),
    })
    table = table.loc[places.sort_values(list(places)).index].reset_index(drop=True)
    return table[[name for name in table if name not in COUNTS] + COUNTS]


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    scored = (
        " likelihood: the right option has the highest log-likelihood of all, whatever was written (lm-eval's acc)."
        if "likelihood_pct" in table
        else ""
    )
    return (
        "Multiple-choice questions by training regime and inference policy. strict: the answer names the right option "
        "and no other, by its letter or its text; author: its first character is the letter, as in the paper's first "
        f"author's code.{scored} none: answers that name no option; several: answers that name more than one. Both "
        "count as wrong by the strict score: a rung may score low because its answers are not in form. Per cent; "
        f"brackets: {captions.interval_words(study)}; images counts independent groups."
    )

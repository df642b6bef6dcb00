"""Questions with options: their scores, and how many answers name no option or several, at each rung."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import summarise

TITLE = "How questions with options were answered"
BY = ["dataset", "regime", "inference"]
COUNTS = ["questions", "images", "seeds"]


def applies(study: StudyData) -> bool:
    """Whether the study has questions with options."""
    return not _rows(study).empty


def _rows(study: StudyData) -> pd.DataFrame:
    rows = selections.plain(study.scores)
    return rows[rows["answer_read"].notna()] if "answer_read" in rows else rows.iloc[:0]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime x inference policy: scores, and answers that name none or several options, in %."""
    rows = _rows(study)
    if rows.empty:
        return pd.DataFrame()
    shares = {how: rows["answer_read"].eq(how).astype(float) for how in ("none", "several")}
    rows, table = rows.assign(**shares), pd.DataFrame()
    for value in ("strict", "author", "likelihood", "likelihood_norm", *shares):
        if rows[value].notna().any():
            part = columns.percent(summarise(rows, BY, value, study.confidence), f"{value}_pct")
            table = part if table.empty else table.merge(part.drop(columns=COUNTS), on=BY, how="left")
    table = columns.in_order(table, regime=selections.regimes(table), inference=selections.ladder(rows))
    return table[[name for name in table if name not in COUNTS] + COUNTS]


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    likelihood = (
        " likelihood: the right option has the highest log-likelihood, whatever the answer was (lm-eval's acc); "
        "likelihood_norm: the highest log-likelihood per character of the option (acc_norm)."
        if "likelihood_pct" in table
        else ""
    )
    return (
        "Choices, and questions that list their options in words, by training regime and inference policy. strict: the "
        "answer names the right option and no other (of a choice by letter or by text); author: as in the code of the "
        "paper's first author, the first character of a choice's answer is the letter, and an answer in words contains "
        f"the option.{likelihood} none: answers that name no option; several: answers that name more than one. Both "
        "are wrong by the strict metric, so a rung may score low because of the form of its answers. In per cent; in "
        f"brackets {captions.interval_words(study)}; images counts independent groups."
    )

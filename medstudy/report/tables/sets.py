"""Questions that are scored together: the share of sets answered right as a whole, and of pairs that are confused."""

from __future__ import annotations

import pandas as pd

from medstudy.report import selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.scoring.score import set_scores
from medstudy.statistics import summarise

TITLE = "Questions scored as sets"
BY = ["dataset", "regime", "inference"]
COUNTS = {"questions": "sets", "images": "groups"}  # `set_scores` has one row per set


def applies(study: StudyData) -> bool:
    """Whether a data set of the study has sets."""
    return "set_id" in study.scores and study.scores["set_id"].notna().any()


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime x inference policy of the plain grid: set accuracy and confusion in %."""
    rows = selections.plain(study.scores)
    sets = set_scores(rows)
    if sets.empty:
        return pd.DataFrame()
    table = columns.percent(summarise(sets, BY, confidence=study.confidence), "set_accuracy_pct").rename(columns=COUNTS)
    means = 100 * sets.groupby(BY, observed=True)[["chance", "accuracy"]].mean()
    names = {"chance": "guessing_pct", "accuracy": "question_accuracy_pct"}
    table = table.merge(selections.texts(means.rename(columns=names).reset_index()), on=BY)
    if sets["confused"].notna().any():
        table = table.merge(_confusion(sets, study.confidence), on=BY, how="left")
    counts = ["sets", "groups", "seeds"]
    table = columns.in_order(table, regime=selections.regimes(table), inference=selections.ladder(rows))
    return table[[name for name in table if name not in counts] + counts]


def _confusion(sets: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Pairs with different references that got the same option for both, among pairs where each answer names one."""
    table = columns.percent(summarise(sets, BY, "confused", confidence), "confusion_pct")
    return table[[*BY, "confusion_pct", "confusion_pct_low", "confusion_pct_high", "questions"]].rename(
        columns={"questions": "pairs"}
    )


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    confusion = (
        " confusion: the share of pairs with the same options and different references that got the same option for "
        "both, among pairs in which both answers name one option (MediConfusion's code: start with a letter)."
        if "confusion_pct" in table
        else ""
    )
    return (
        "A set is right if all its questions are (MediConfusion: a pair of images with the same question; ProbMed: the "
        "questions of one image about one dimension, including made-up attributes). guessing: the chance of a whole "
        "set by uniform guessing; question_accuracy: the mean over single questions. Metrics are the strict ones: one "
        "option or class and no other, yes or no as a word. "
        f"In brackets {study.confidence:.0%} intervals over image groups and training seeds.{confusion}"
    )

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
COUNTS = {"questions": "sets", "images": "groups"}  # `set_scores` has a row a set


def applies(study: StudyData) -> bool:
    """Whether a data set of the study has sets."""
    return "set_id" in study.scores and study.scores["set_id"].notna().any()


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x regime x inference policy of the plain grid: set accuracy and confusion in %."""
    rows = selections.plain(study.scores)
    sets = set_scores(rows)
    if sets.empty:
        return pd.DataFrame()
    table = columns.percent(summarise(sets, BY, level=study.level), "set_accuracy_pct").rename(columns=COUNTS)
    means = 100 * sets.groupby(BY, observed=True)[["chance", "accuracy"]].mean()
    names = {"chance": "guessing_pct", "accuracy": "question_accuracy_pct"}
    table = table.merge(selections.texts(means.rename(columns=names).reset_index()), on=BY)
    table = table.merge(_confusion(sets, study.level), on=BY, how="left") if sets["confused"].notna().any() else table
    places = pd.DataFrame({
        "dataset": table["dataset"].map(selections.datasets(table).index),
        "regime": table["regime"].map(selections.regimes(table).index),
        "inference": table["inference"].map(selections.ladder(rows).index),
    })
    counts = ["sets", "groups", "seeds"]
    table = table.loc[places.sort_values(list(places)).index].reset_index(drop=True)
    return table[[name for name in table if name not in counts] + counts]


def _confusion(sets: pd.DataFrame, level: float) -> pd.DataFrame:
    """Of pairs of choices that are to be told apart: the share given the same option, of those that name one each."""
    table = columns.percent(summarise(sets, BY, "confused", level), "confusion_pct")
    return table[[*BY, "confusion_pct", "confusion_pct_low", "confusion_pct_high", "questions"]].rename(
        columns={"questions": "pairs"}
    )


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    confusion = (
        " confusion: the share of pairs with the same options and different references that were given the same option "
        "for both, of the pairs in which both answers name one option (MediConfusion's code: start with a letter)."
        if "confusion_pct" in table
        else ""
    )
    return (
        "A set is right when every one of its questions is (MediConfusion: a pair of images with the same question; "
        "ProbMed: the questions of one image about one dimension, made-up attributes among them). guessing: the chance "
        "of a whole set by uniform guessing; question_accuracy: the mean of its questions one by one. Scores are the "
        "strict ones: one option or class and no other, yes or no as a word. "
        f"Brackets: {study.level:.0%} intervals over image groups and training seeds.{confusion}"
    )

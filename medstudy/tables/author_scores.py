"""The numbers that the paper's first author's code reports, by data set and regime."""

from __future__ import annotations

import pandas as pd

from medstudy.figures import data
from medstudy.figures.data import StudyData
from medstudy.scoring import author_table

TITLE = "The author's metrics"


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x regime x inference policy of the plain grid: `author_table` in %, over all seeds."""
    rows = data.plain(study.scores)
    if rows.empty:
        return pd.DataFrame()
    table = author_table(rows, ["dataset", "regime", "inference"])
    metrics = [c for c in table if c not in ("dataset", "regime", "inference")]
    table = table.assign(**{c: 100 * table[c].astype(float) for c in metrics}).dropna(axis=1, how="all")
    table = table.rename(columns={c: f"{c}_pct" for c in metrics})
    places = pd.DataFrame({
        "dataset": table["dataset"].map(data.datasets(table).index),
        "regime": table["regime"].map(data.regimes(table).index),
        "inference": table["inference"].map(data.ladder(rows).index),
    })  # fmt: skip
    return table.loc[places.sort_values(list(places)).index].reset_index(drop=True)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "What the paper's first author's evaluation would print for this study: accuracy of closed "
        "questions, recall and F1 of open ones, letter accuracy of multiple choice, containment of the "
        "class, cell-line recall, and the mean over localizations of the share of their rows that name "
        "them; per cent, all seeds together, n as in the main results. Point values as that code prints "
        "them; intervals of the scores stand in the other tables."
    )

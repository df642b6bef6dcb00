"""The numbers that the paper's first author's code reports, by data set, regime and inference policy, beside ours."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.scoring import author_report

TITLE = "The author's metrics"
DECODING = (
    "The author's decoding was not asked for in this study (`evaluation.author` in its params), so that only greedy "
    "answers stand here."
)


def build(study: StudyData) -> pd.DataFrame:
    """`author_mode.table` of the plain grid, over all seeds; a decoding that was not asked for has no columns."""
    rows = selections.plain(study.scores)
    if rows.empty:
        return pd.DataFrame()
    if len(study.author):
        rows = pd.concat([rows, selections.plain(study.author)], ignore_index=True)
    table = author_report.table(rows, study.level).dropna(axis=1, how="all")
    places = pd.DataFrame({
        "dataset": table["dataset"].map(selections.datasets(table).index),
        "regime": table["regime"].map(selections.regimes(table).index),
        "inference": table["inference"].map(selections.ladder(rows).index),
    })
    return table.loc[places.sort_values(list(places), kind="stable").index].reset_index(drop=True)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    drawn = " ".join(sorted(study.author["decoding"].unique())) if len(study.author) else ""
    return (
        "What the paper's first author's evaluation reports, with its two differences from ours set apart. "
        f"author_mode: sampled answers{f' ({drawn})' if drawn else ''} and the author's scores; greedy_author: greedy "
        "answers and the author's scores; strict_mode: greedy answers and standard scores, as everywhere else; "
        "sampled_standard: the remaining pair. The author's scores: the word yes or no found anywhere; recall and F1 "
        "of words, repeats counted; the first letter; the class contained in the text; the first cell line named; the "
        "mean over localizations of the share of their rows that name them. The standard ones: yes or no as a word "
        "and its opposite not; recall and F1 of multisets of words; this option, by letter or text, and no other; this "
        "class and no other; this cell line and no other; the F1 of the localizations of a row. Per cent, all seeds "
        f"together; in brackets {captions.interval_words(study)}; images counts independent groups."
        f"{'' if len(study.author) else ' ' + DECODING}"
    )

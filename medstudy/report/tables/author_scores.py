"""The metrics of the paper's first author next to ours, by data set, regime and inference policy."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.scoring import author_report

TITLE = "The author's metrics"
DECODING = (
    "This study does not use the author's decoding (`evaluation.author` in its parameters), so all answers are greedy."
)


def build(study: StudyData) -> pd.DataFrame:
    """`author_report.table` without controls, over all seeds; a decoding that the study does not use has no columns."""
    rows = selections.plain(study.scores)
    if rows.empty:
        return pd.DataFrame()
    if len(study.author):
        rows = pd.concat([rows, selections.plain(study.author)], ignore_index=True)
    table = author_report.table(rows, study.confidence)
    if table.empty:  # the author has no metric for these kinds of answers, such as reports
        return table
    table = table.dropna(axis=1, how="all")
    return columns.in_order(table, regime=selections.regimes(table), inference=selections.ladder(rows))


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    decodings = " ".join(sorted(study.author["decoding"].unique())) if len(study.author) else ""
    return (
        "What the evaluation code of the paper's first author reports, with its two differences from ours separated. "
        f"author_mode: sampled answers{f' ({decodings})' if decodings else ''} and the author's metrics; "
        "greedy_author: greedy answers and the author's metrics; strict_mode: greedy answers and standard metrics, as "
        "everywhere else; sampled_standard: the remaining combination. The author's metrics: yes or no found anywhere, "
        "also inside a word; recall and F1 of words, repeats counted; the first letter; the class contained in the "
        "text; the first cell line named; for each localization the fraction of its rows that name it, averaged. The "
        "standard metrics: yes or no as a word, and not its opposite; recall and F1 of multisets of words; this "
        "option, by letter or text, and no other; this class and no other; this cell line and no other; the F1 of a "
        f"row's localizations. In per cent, all seeds together; in brackets {captions.interval_words(study)}; images "
        f"counts independent groups.{'' if len(study.author) else ' ' + DECODING}"
    )

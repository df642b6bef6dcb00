"""Main results: every regime at the inference policy that matches its training, by data set and kind of question."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import summarise

TITLE = "Main results"
KEYS = ["dataset", "kind", "regime", "inference"]
ALL = "all kinds"


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x kind (or "all kinds") x regime: the author's and the strict score, % with intervals."""
    rows = selections.aligned(study.scores)
    if rows.empty:
        return pd.DataFrame()
    both = pd.concat([rows.assign(kind=ALL), rows.assign(kind=rows["kind"].astype(str))], ignore_index=True)
    table = columns.percent(summarise(both, KEYS, value="strict", confidence=study.confidence), "strict_pct")
    if both["author"].notna().any():  # the author's code has no metric of counts, points, boxes and reports
        author = columns.percent(summarise(both, KEYS, value="author", confidence=study.confidence), "author_pct")
        ends = ["author_pct", "author_pct_low", "author_pct_high"]
        table = table.merge(author[[*KEYS, *ends]], on=KEYS, how="left")
        table = table[[*KEYS, *ends, *(name for name in table if name not in (*KEYS, *ends))]]
    for value in ("likelihood", "likelihood_norm"):
        if value in rows and rows[value].notna().any():
            name = f"{value}_pct"
            likely = columns.percent(summarise(rows, KEYS, value, study.confidence), name)
            ends = [name, f"{name}_low", f"{name}_high"]
            table = table.merge(selections.texts(likely)[[*KEYS, *ends]], on=KEYS, how="left")
    counts, kinds = ["questions", "images", "seeds"], [ALL, *sorted(set(table["kind"]) - {ALL})]
    table = table[[name for name in table if name not in counts] + counts]
    return columns.in_order(table, kind=kinds, regime=selections.regimes(table))


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    likelihood = (
        "likelihood_pct: of questions with options, the right one has the highest log-likelihood, whatever the answer "
        "was; likelihood_norm_pct: the highest per character of the option. "
        if "likelihood_pct" in table
        else ""
    )
    if set(columns.MEASURED) & set(table.reset_index()["kind"]):
        likelihood = f"{likelihood}The measures of counts, points, boxes and reports are in the table of their own. "
    return (
        "Each training regime at the inference policy that matches it (native for mixed, add and curriculum regimes). "
        "author_pct: the metric of the public code of the paper's first author, bug for bug; strict_pct: the standard "
        "metric (yes or no as a word, recall of multisets of words, the option or class named and no other), which all "
        f"other figures and tables call the score. {likelihood}In brackets {captions.interval_words(study)}; images "
        "counts independent groups."
    )

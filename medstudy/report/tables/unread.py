"""How many answers could not be read, and how long models reasoned, at each rung."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import summarise

TITLE = "Answers that could not be read"
BY = ["dataset", "regime", "inference", "kind"]
COUNTS = ["questions", "images", "seeds"]


def applies(study: StudyData) -> bool:
    """Whether it is known which answers could be read: scores of earlier versions do not say it."""
    return "unread" in study.scores and study.scores["unread"].notna().any()


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime x inference policy x kind: unread answers in %, mean tokens of reasoning."""
    if not applies(study):
        return pd.DataFrame()
    rows = selections.plain(study.scores)
    table = selections.texts(columns.percent(summarise(rows, BY, "unread", study.confidence), "unread_pct"))
    if "thinking_tokens" in rows and rows["thinking_tokens"].gt(0).any():
        tokens = rows.groupby(BY, observed=True)["thinking_tokens"].mean().rename("thinking_tokens")
        table = table.merge(selections.texts(tokens.reset_index()), on=BY, how="left")
    kinds = sorted(table["kind"].unique())
    orders = {"regime": selections.regimes(table), "inference": selections.ladder(rows), "kind": kinds}
    table = columns.in_order(table, **orders)
    return table[[name for name in table if name not in COUNTS] + COUNTS]


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    tokens = (" thinking_tokens: the mean number of tokens of reasoning, which is left out before an answer is read."
              if "thinking_tokens" in table else "")
    return (
        "unread: the share of answers that a score could not read: neither or both of yes and no, no option or "
        "several, no single number, no point or box in the form that the prompt asks for, or nothing left without the "
        "reasoning. These answers are wrong, so a rung may score low because of the form of its answers. In per cent; "
        "in brackets "
        f"{captions.interval_words(study)}; images counts independent groups.{tokens}"
    )

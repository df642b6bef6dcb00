"""Retrieval by a contrastive encoder: how often an image finds its caption, and a caption its image, at each rung."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import summarise

TITLE = "Retrieval of captions and images"
BY = ["dataset", "inference", "direction"]
AT = (1, 5, 10)
COUNTS = ["questions", "images", "seeds"]


def applies(study: StudyData) -> bool:
    """Whether a contrastive encoder has looked for captions."""
    return not study.retrieval.empty


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x rung or control x direction: recall at 1, 5 and 10 in %, and the mean rank."""
    if study.retrieval.empty:
        return pd.DataFrame()
    rows, table = study.retrieval, pd.DataFrame()
    for most in AT:
        found = rows.assign(found=(rows["rank"] <= most).astype(float))
        part = columns.percent(summarise(found, BY, "found", study.confidence), f"recall_at_{most}_pct")
        table = part if table.empty else table.merge(part.drop(columns=COUNTS), on=BY)
    table = table.merge(_ranks(rows, study.confidence), on=BY)
    order = [*selections.ladder(study.scores), *rows["inference"].unique()]
    table = columns.in_order(table, inference=list(dict.fromkeys(order)), direction=list(rows["direction"].unique()))
    named = table.rename(columns={"questions": "queries"}).drop(columns="seeds")
    return named[[name for name in named if name not in ("queries", "images")] + ["queries", "images"]]


def _ranks(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """The mean rank with its interval: that of the place from the first (0) to the last (1) of the candidates."""
    last = (rows["candidates"] - 1).clip(lower=1)
    means = summarise(rows.assign(place=(rows["rank"] - 1) / last), BY, "place", confidence)
    means = means.merge(rows.groupby(BY, as_index=False)["candidates"].first(), on=BY)
    names = {"estimate": "mean_rank", "low": "mean_rank_low", "high": "mean_rank_high"}
    ranks = {new: 1 + means[old] * (means["candidates"] - 1) for old, new in names.items()}
    return means[[*BY, "candidates"]].assign(**ranks)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "A contrastive encoder ranks all different captions of a data set by their cosine with an image, and all its "
        "images with a caption by their cosine with a caption; an image's captions are the references of its "
        "descriptions or reports. recall_at_k: the right one is among the first k; images with the same caption are "
        "all right. mean_rank: from 1, the mean over ties. candidates: among how many; guessing finds k of them. In "
        f"per cent; {captions.interval_words(study)}; images counts independent groups."
    )

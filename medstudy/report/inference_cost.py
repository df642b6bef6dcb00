"""Scores and what answering costs, by model (or regime) and rung: what a figure, a table and their captions share."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from medstudy.report import selections
from medstudy.statistics import summarise

CELL = ["dataset", "regime", "inference"]
A_QUESTION = ["prompt_tokens", "answer_tokens", "flops", "prefill_seconds", "decode_seconds", "seconds"]
AN_IMAGE = ["flops", "seconds"]
RULE = (
    "Operations are counted by formula, of an image's prefill in equal parts for its questions. Seconds are measured "
    "for a pass of several images and shared out: the prefill by operations, decoding by tokens. They hold for the "
    "machine used, and differ from run to run."
)


def points(
    scores: pd.DataFrame, costs: pd.DataFrame, confidence: float, series: Sequence[str] = ("regime",)
) -> pd.DataFrame:
    """One row per data set x series x rung: `summarise`, and mean costs (NaN where unknown).

    series: the columns that tell lines apart. Costs a question have the names of `A_QUESTION`; `image_flops` and
    `image_seconds` are of all questions of an image; `tokens` are visual tokens an image; `memory_mb` is the highest
    peak of a pass. Means are over questions, or images, of all seeds.
    """
    rows, by = selections.plain(scores), ["dataset", *series, "inference"]
    if rows.empty or costs.empty:
        return pd.DataFrame()
    spent = costs[costs["control"] == "none"]
    cells = spent.groupby(by, observed=True)
    table = cells[A_QUESTION].mean().join(cells["memory_mb"].max())
    images = spent.groupby([*by, "seed", "image_id"], observed=True).agg(
        tokens=("visual_tokens", "first"), **{f"image_{name}": (name, _sum) for name in AN_IMAGE}
    )
    table = table.join(images.groupby(by, observed=True).mean()).reset_index()
    known = selections.texts(summarise(rows, [*by, "budget_pixels"], confidence=confidence))
    return known.merge(table, on=by, how="inner")


def _sum(values: pd.Series) -> float:
    """The sum; NaN if a value is unknown."""
    return values.sum(skipna=False)


def front(spent: pd.Series, estimate: pd.Series) -> pd.Series:
    """True where nothing has a higher score for the same cost or less, nor the same score for less."""
    ordered = pd.DataFrame({"spent": spent, "estimate": estimate}).dropna()
    ordered = ordered.sort_values(["spent", "estimate"], ascending=[True, False])
    best_cheaper = ordered["estimate"].cummax().shift(fill_value=float("-inf"))
    return (ordered["estimate"] > best_cheaper).reindex(spent.index, fill_value=False)

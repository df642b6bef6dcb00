"""The numbers that the paper's first author's code reports, beside the same with greedy answers and standard scores.

Two things set the author's results apart: answers sampled at a temperature (`medstudy.sampling`) and lenient scores
(`medstudy.metrics`). Both are crossed here, so that the one can be told from the other. No model is needed: all follows
from predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medstudy import scoring
from medstudy.intervals import Interval, macro_interval, mean_interval

KEYS = ["dataset", "regime", "inference"]


@dataclass(frozen=True)
class Metric:
    """One number of the author's report: the questions it is over, its score of a row, and the standard one beside it.

    of: the column each value of which weighs the same, or None for a mean over questions.
    """

    name: str
    kind: str
    author: str
    standard: str
    of: str | None = None


METRICS = (
    Metric("closed accuracy", "closed", "author", "strict"),
    Metric("open recall", "open", "recall", "strict_recall"),
    Metric("open F1", "open", "f1", "strict_f1"),
    Metric("letter accuracy", "choice", "author", "strict"),
    Metric("class accuracy", "class", "author", "strict"),
    Metric("cell-line recall", "description", "cell_line_hit", "strict_cell_line"),
    Metric("localization macro recall", "description", "named", "strict_localization_f1", of="localizations"),
)
COLUMNS = {  # (whose decoding, whose score)
    "author_mode_pct": ("sampled", "author"),
    "sampled_standard_pct": ("sampled", "standard"),
    "greedy_author_pct": ("greedy", "author"),
    "strict_mode_pct": ("greedy", "standard"),
}


def table(scores: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row a data set x regime x inference policy x metric: `COLUMNS` in %, each with its interval, and the counts.

    `scores` are those of `scoring.score`, of all decodings. A column is NaN where its answers were not asked for.
    """
    decoded = {"greedy": scoring.greedy(scores), "sampled": scoring.sampled(scores)}
    cells = {name: dict(list(rows.groupby(KEYS, sort=True))) for name, rows in decoded.items()}
    keys = sorted(set().union(*cells.values()))
    none = scores.iloc[:0]
    rows = [
        dict(zip(KEYS, key, strict=True)) | found
        for key in keys
        for metric in METRICS
        if (found := _row(metric, {name: cells[name].get(key, none) for name in cells}, level))
    ]
    return pd.DataFrame(rows)


def _row(metric: Metric, decoded: dict[str, pd.DataFrame], level: float) -> dict | None:
    """The metric under each decoding and score; None where no answer of the cell has it."""
    found = {name: _interval(metric, decoded[whose], score, level) for name, (whose, score) in COLUMNS.items()}
    there = [one for one in found.values() if one is not None]
    if not there:
        return None
    row: dict = {"metric": metric.name}
    for name, one in found.items():
        ends = (one.estimate, one.low, one.high) if one is not None else (np.nan,) * 3
        row |= {f"{name}{end}": 100 * value for end, value in zip(("", "_low", "_high"), ends, strict=True)}
    return row | {"questions": there[0].n_questions, "images": there[0].n_images, "seeds": there[0].n_seeds}


def _interval(metric: Metric, rows: pd.DataFrame, score: str, level: float) -> Interval | None:
    rows, value = rows[rows["kind"] == metric.kind], getattr(metric, score)
    if metric.of and score == "author":
        rows = scoring.localizations_named(rows)
        return macro_interval(rows, metric.of, value, level) if len(rows) else None
    return mean_interval(rows, value, level) if len(rows) and rows[value].notna().any() else None

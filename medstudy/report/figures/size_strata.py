"""Results by native image size: a cap changes only the images above it, so large images should gain most."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medstudy.report import captions, frames, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import native_strata, summarise

TITLE = "Results by native image size"
COLUMNS = ["dataset", "level", "stratum", "order", "regime", "inference", "estimate", "low", "high", "n_questions",
           "n_images", "n_seeds"]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x stratum (thirds of the images by native pixels) x regime, aligned inference."""
    rows = selections.aligned(study.scores)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    parts = [_strata(part, study.confidence) for _, part in rows.groupby("dataset", observed=True)]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _strata(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    strata = native_strata(rows)
    by = ["dataset", "level", "stratum", "regime", "inference"]
    table = summarise(rows.assign(stratum=strata.astype(str)), by, confidence=confidence)
    table = table.assign(order=table["stratum"].map(list(strata.cat.categories).index))
    return table.sort_values(["level", "order", "regime"])


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One row per data set, one column per level; in each stratum, regimes side by side."""
    fig, _ = frames.by_level(table, fig, partial(panel, regimes=selections.regimes(table)), top=0.6, height=1.9)
    fig.supxlabel("native image size, √(height × width)", fontsize=8)
    return fig


def panel(table: pd.DataFrame, ax: Axes, regimes: list[str]) -> Axes:
    """One data set and level."""
    for k, regime in enumerate(regimes):
        part = table[table["regime"] == regime].sort_values("order")
        x = part["order"] + 0.7 / len(regimes) * (k - (len(regimes) - 1) / 2)
        error = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
        look = style.regime_style(regime)
        ax.errorbar(x, part["estimate"], error, fmt=look["marker"], color=look["color"], linewidth=1)
    strata = table.drop_duplicates("order").sort_values("order")
    images = table.groupby("order")["n_images"].max()
    ax.set_xticks(
        strata["order"],
        [f"{s}\nn = {images[o]}" for o, s in zip(strata["order"], strata["stratum"], strict=True)],
    )
    ax.grid(axis="x", visible=False)
    ax.set_xlim(strata["order"].min() - 0.5, strata["order"].max() + 0.5)
    style.percent_axis(ax.yaxis)
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.aligned(study.scores)
    return (
        "**Question.** Do large images gain most from native resolution? **Method.** Each regime at the inference "
        "policy that matches its training (native for mixed, add and curriculum regimes); test images in thirds by "
        f"native pixel count. **n.** {captions.count_words(rows)}; below each third its number of independent images. "
        f"Bars are {captions.interval_words(study)}. **How to read it.** Compare regimes within a third, not thirds "
        "with each other: the questions differ with the size of the images."
    )

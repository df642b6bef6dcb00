"""The acuity threshold (smallest detail seen) against inference resolution, one line per training regime."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import acuity_table

TITLE = "Acuity threshold against inference resolution"
COLUMNS = ["dataset", "regime", "inference", "budget_pixels", "side_px", "tokens", "mean_scale", "threshold_px", "low",
           "high", "estimable", "why", "n_questions", "n_images", "n_seeds"]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime x inference policy: `acuity_table` with the mean shown side, tokens and scale."""
    fine = selections.plain(study.scores).dropna(subset="detail_px")
    if fine.empty:
        return pd.DataFrame(columns=COLUMNS)
    by = ["dataset", "regime", "inference", "budget_pixels"]
    table = acuity_table(fine, by, confidence=study.confidence, n=min(study.resamples, 400))
    table = table.merge(selections.shown_sizes(fine, ["dataset", "inference"]), on=["dataset", "inference"])
    scale = fine.groupby(["dataset", "inference"], observed=True)["scale"].mean().rename("mean_scale").reset_index()
    table = table.merge(selections.texts(scale), on=["dataset", "inference"])
    return table[COLUMNS] if table["estimable"].any() else pd.DataFrame(columns=COLUMNS)


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One column per data set with a threshold; log-log; the dotted line is a detail shown 2 px wide."""
    names = [n for n in selections.datasets(table) if table.loc[table["dataset"] == n, "estimable"].any()]
    fig = fig or style.new_figure(style.SINGLE * len(names), 2.9)
    axes = fig.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for index, (ax, name) in enumerate(zip(axes, names, strict=True)):
        panel(table[table["dataset"] == name], ax)
        style.letter(ax, index, name)
        ax.set_xlabel("shown at: pixel budget\n(below: mean visual tokens)")
    axes[0].set_ylabel("threshold, native px")
    style.regime_legend(fig, selections.regimes(table), columns=3)
    return fig


def panel(table: pd.DataFrame, ax: Axes) -> Axes:
    """One data set. Intervals that exceed the sizes shown end at the frame."""
    ends = table[["low", "high", "threshold_px"]].replace([0, np.inf], np.nan)
    bottom, top = ends.min().min() / 1.3, ends.max().max() * 1.3
    names = selections.regimes(table)
    for k, regime in enumerate(names):
        line = table[(table["regime"] == regime) & table["estimable"]].sort_values("budget_pixels")
        x = line["side_px"] * 2 ** (0.06 * (k - (len(names) - 1) / 2))
        low, high = line["low"].clip(lower=bottom), line["high"].clip(upper=top)
        error = [line["threshold_px"] - low, high - line["threshold_px"]]
        ax.errorbar(x, line["threshold_px"], error, linewidth=1, **style.regime_style(regime))
    sizes = table.drop_duplicates("inference").sort_values("side_px")
    ax.plot(sizes["side_px"], 2 / sizes["mean_scale"], color=style.GREY, linewidth=0.8, linestyle=":")
    style.rung_axis(ax, sizes)
    ax.set_yscale("log", base=2)
    ax.set_ylim(bottom, top)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    fine = selections.plain(study.scores).dropna(subset="detail_px")
    missing = (~table["estimable"]).sum()
    return (
        "**Question.** Do models see smaller details if they are shown more pixels? **Method.** The threshold of the "
        "psychometric fit (half-way between chance and ceiling) to the fine questions of each training regime at each "
        "inference policy, in native pixels of the detail; both axes are logarithmic. "
        f"**n.** {captions.count_words(fine)}. Bars are bootstrap {study.confidence:.0%} intervals over images and "
        f"seeds; a bar that reaches the frame is open-ended. {missing} of {len(table)} thresholds were not estimable "
        "(the CSV gives the reasons) and are not drawn. **How to read it.** Lower is sharper. The dotted line is the "
        "sampling limit: a detail that the policy shows two pixels wide on average. No model can be far below it; a "
        "line that stays above it is limited by the model, not by the pixels."
    )

"""Score against inference resolution, one line per training regime, separately for fine and coarse questions."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import summarise

TITLE = "Score against inference resolution"
COLUMNS = ["dataset", "level", "regime", "inference", "budget_pixels", "side_px", "tokens", "aligned", "chance",
           "estimate", "low", "high", "n_questions", "n_images", "n_seeds"]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x regime x inference policy: `summarise`, mean shown side and visual tokens."""
    rows = selections.plain(study.scores)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    table = summarise(rows, ["dataset", "level", "regime", "inference", "budget_pixels"], confidence=study.confidence)
    table = table.merge(selections.shown_sizes(rows, ["dataset", "inference"]), on=["dataset", "inference"])
    chance = selections.texts(rows.groupby(["dataset", "level"], as_index=False, observed=True)["chance"].mean())
    table = table.merge(chance, on=["dataset", "level"])
    return table.assign(aligned=table["regime"].map(style.own_view) == table["inference"])[COLUMNS]


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One row per data set, one column per level; bands are intervals; points with a black edge are aligned."""
    names = selections.datasets(table)
    levels = style.levels(table)
    fig = fig or style.new_figure(style.DOUBLE, 0.5 + 2.3 * len(names))
    axes = fig.subplots(len(names), len(levels), squeeze=False, sharey="row")
    for i, (row, name) in enumerate(zip(axes, names, strict=True)):
        for j, (ax, level) in enumerate(zip(row, levels, strict=True)):
            panel(table[(table["dataset"] == name) & (table["level"] == level)], ax)
            style.letter(ax, i * len(levels) + j, f"{name}, {style.LEVEL_WORDS[level]}")
        row[0].set_ylabel("score, %")
    for ax in axes[-1]:
        ax.set_xlabel("shown at: pixel budget (below: mean visual tokens)")
    style.regime_legend(fig, selections.regimes(table))
    return fig


def panel(table: pd.DataFrame, ax: Axes) -> Axes:
    """One data set and level: lines with bands over the ladder, and the chance of guessing right."""
    if table.empty:
        ax.set_axis_off()
        return ax
    for regime in selections.regimes(table):
        line, look = table[table["regime"] == regime].sort_values("budget_pixels"), style.regime_style(regime)
        ax.fill_between(line["side_px"], line["low"], line["high"], color=look["color"], alpha=0.13, linewidth=0)
        ax.plot(line["side_px"], line["estimate"], **look)
        aligned = line[line["aligned"]]
        ax.plot(aligned["side_px"], aligned["estimate"], **look, ls="", ms=7, markeredgecolor="black", zorder=5)
    ax.axhline(table["chance"].iloc[0], color=style.GREY, linewidth=0.8, linestyle=":")
    style.rung_axis(ax, table.drop_duplicates("inference").sort_values("side_px"))
    style.percent_axis(ax.yaxis)
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.plain(study.scores)
    levels = "; ".join(
        f"{r.dataset} {r.level}: {r.n_questions} questions"
        for r in table.drop_duplicates(["dataset", "level"]).itertuples()
    )
    return (
        "**Question.** How does each regime's score depend on the inference resolution? **Method.** Every trained "
        "model at every rung of the ladder; x is the geometric mean of the side √(height × width) of images as they "
        "are shown (log scale), labelled with the rung's pixel budget and the mean visual tokens of an image. "
        f"**n.** {captions.count_words(rows)} ({levels}). Bands are {captions.interval_words(study)}. **How to read "
        "it.** Large points with a black edge: trained and run at the same rung. The dotted line is uniform guessing "
        "(0 for open questions). A flat line is a model that resolution does not affect. Coarse questions can be "
        "answered at every rung by design, so a line that falls on them shows mismatch."
    )

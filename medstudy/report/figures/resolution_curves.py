"""Score against inference resolution, one line per training regime, separately for fine and coarse questions."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medstudy.report import captions, frames, selections, style
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
    fig, last = frames.by_level(table, fig, panel)
    for ax in last:
        ax.set_xlabel("shown at: pixel budget (below: mean visual tokens)")
    return fig


def panel(table: pd.DataFrame, ax: Axes) -> Axes:
    """One data set and level: lines with bands over the ladder, and the chance of guessing right."""
    frames.ladder(table, ax)
    for regime, line in table[table["aligned"]].groupby("regime", observed=True):
        look = style.regime_style(regime)
        ax.plot(line["side_px"], line["estimate"], **look, ls="", ms=7, markeredgecolor="black", zorder=5)
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

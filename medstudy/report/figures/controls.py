"""Baselines: the native model with the image, with another item's image, and without an image."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medstudy.report import captions, frames, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import summarise

TITLE = "Blind and shuffled baselines"
COLUMNS = ["dataset", "level", "task", "regime", "view", "chance", "estimate", "low", "high", "n_questions", "n_images",
           "n_seeds"]
VIEWS = {"native": ("its own image", style.BLUE, "o"), "shuffled": ("another item's image", style.ORANGE, "D"),
         "blind": ("no image", style.BLACK, "x")}
ALL = "all tasks"


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x task (or "all tasks") x view (native, shuffled, blind): `summarise`, mean chance.

    Only models evaluated with these controls; empty without a blind or shuffled control.
    """
    rows = selections.tested(study.scores)
    controlled = rows.loc[rows["control"].isin(["blind", "shuffled"]), "regime"].unique()
    view = rows["inference"].astype(object).where(rows["control"] == "none", rows["control"].astype(object))
    chosen = rows.assign(view=view)[view.isin(list(VIEWS)) & rows["regime"].isin(controlled)]
    if chosen.empty:
        return pd.DataFrame(columns=COLUMNS)
    chosen = chosen.assign(task=chosen["task"].astype(object))
    both = pd.concat([chosen, chosen.assign(task=ALL)], ignore_index=True)
    by = ["dataset", "level", "task", "regime", "view"]
    chance = selections.texts(both.groupby(["dataset", "level", "task"], as_index=False,
    observed=True)["chance"].mean())
    return summarise(both, by, confidence=study.confidence).merge(chance, on=["dataset", "level", "task"])[COLUMNS]


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One column per data set, one row per task, fine above coarse; short grey bars are uniform guessing."""
    fig = frames.by_task(table, fig, panel, width=1.3, top=0.95, height=0.18, first=ALL)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=label)
        for view, (label, colour, marker) in VIEWS.items()
        if (table["view"] == view).any()
    ]
    guess = Line2D([], [], color=style.GREY, marker="|", linestyle="", markersize=8, label="uniform guessing")
    fig.legend(handles=[*handles, guess], loc="outside upper center", ncols=4)
    return fig


def panel(table: pd.DataFrame, ax: Axes, rows: list[tuple[str, str]]) -> Axes:
    """One data set: a point with interval for each task and view."""
    for k, (view, (_, colour, marker)) in enumerate(VIEWS.items()):
        part = table[table["view"] == view].set_index(["level", "task"]).reindex(rows)
        error = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
        y = np.arange(len(rows)) + 0.2 * (k - 1)
        ax.errorbar(part["estimate"], y, xerr=error, fmt=marker, color=colour, markersize=3.8, linewidth=0.9)
    chance = table.drop_duplicates(["level", "task"]).set_index(["level", "task"])["chance"].reindex(rows)
    ax.plot(chance, range(len(rows)), "|", color=style.GREY, markersize=10, markeredgewidth=1.2, zorder=1)
    ax.set_yticks(range(len(rows)), [f"{task} ({level})" if task == ALL else task for level, task in rows])
    for label, (_, task) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if task == ALL else "normal")
    ax.set_xlim(-0.02, 1.02)
    ax.grid(axis="y", visible=False)
    style.percent_axis(ax.xaxis)
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    trained = captions.join([style.regime_label(r) for r in selections.regimes(table)])
    rows = selections.tested(study.scores)
    rows = rows[rows["control"].isin(["blind", "shuffled"])]
    missing = [label for view, (label, *_) in VIEWS.items() if not (table["view"] == view).any()]
    return (
        "**Question.** Do the models use the image, or do they answer from the question alone? **Method.** "
        + (f"The models trained at {trained} answer" if not study.as_is else "The model, as it is, answers")
        + " the same questions with the image, with another item's image, and without an image. "
        + (f"Not run: {captions.join(missing)}. " if missing else "")
        + f"**n.** {captions.count_words(rows)}. Bars are {captions.interval_words(study)}. **How to read it.** The "
        "distance from 'no image' to 'its own image' is the value of the image; a task where they coincide says "
        "nothing about resolution. Grey ticks are uniform guessing among the possible answers (0 for open questions). "
        "'No image' may exceed them if some answers are more frequent or only a few occur: compare with it first."
    )

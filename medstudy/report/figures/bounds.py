"""Bounds: the model's score of each task beside what readers of its tower and of plain pixels find there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medstudy.bounds.results import FINE, PIXELS, TOWER, UNSEEN
from medstudy.report import captions, frames, selections, style
from medstudy.report.bounded import MODEL, cells
from medstudy.report.study_data import StudyData

TITLE = "Bounds: what there is to be seen, and what the models say"
READERS = {MODEL: ("the model", style.BLUE, "o"), TOWER: ("linear probe of its tower", style.GREEN, "D"),
           PIXELS: ("linear reader of pixels", style.VERMILLION, "s")}


def build(study: StudyData) -> pd.DataFrame:
    """See `medstudy.report.bounded.cells`."""
    return cells(study)


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One column per data set, one row per task, fine above coarse; filled: native, open: low."""
    fig = frames.by_task(table, fig, panel, width=1.5, top=1.0, height=0.34)
    look = {"linestyle": "", "markersize": 4}
    handles = [Line2D([], [], color=colour, marker=marker, label=label, **look)
               for reader, (label, colour, marker) in READERS.items() if (table["reader"] == reader).any()]
    low = table.loc[table["end"] == "low", "inference"]
    handles += [Line2D([], [], color=style.BLACK, marker="o", label="native", **look)]
    if len(low):
        handles += [Line2D([], [], color=style.BLACK, marker="o", markerfacecolor="white",
                           label=style.rung_label(low.iloc[0]), **look)]
    handles += [Line2D([], [], color=style.GREY, marker="|", linestyle="", markersize=8, label="uniform guessing")]
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


def panel(table: pd.DataFrame, ax: Axes, rows: list[tuple[str, str]]) -> Axes:
    """One data set: for each task a line of points for each reader, native and low; names show the mark."""
    for k, (reader, (_, colour, marker)) in enumerate(READERS.items()):
        for end, face, shift in (("low", "white", 0.06), ("native", colour, -0.06)):
            y = np.arange(len(rows)) + 0.28 * (k - 1) + shift
            chosen = table[(table["reader"] == reader) & (table["end"] == end)]
            part = chosen.set_index(["level", "task"]).reindex(rows)
            error = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
            ax.errorbar(part["estimate"], y, xerr=error, fmt=marker, color=colour, markerfacecolor=face,
                        markersize=3.4, linewidth=0.7)
    by_task = table.drop_duplicates(["level", "task"]).set_index(["level", "task"]).reindex(rows)
    ax.plot(by_task["chance"], range(len(rows)), "|", color=style.GREY, markersize=12, markeredgewidth=1.2, zorder=1)
    ax.set_yticks(range(len(rows)), [task for _, task in rows])
    for label, (level, _), mark in zip(ax.get_yticklabels(), rows, by_task["mark"], strict=True):
        label.set_color(style.GREY if mark == UNSEEN else style.BLACK)
        label.set_fontweight("bold" if mark == FINE else "normal")
        label.set_fontstyle("normal" if level == "fine" else "italic")
    ax.set_xlim(-0.02, 1.02)
    ax.grid(axis="y", visible=False)
    style.percent_axis(ax.xaxis)
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = study.bounds.answers
    counts = "; ".join(_count(name, rows[rows["dataset"] == name]) for name in selections.datasets(rows))
    marks = study.bounds.marks
    unseen = [f"{row.task} ({row.dataset})" for row in marks[~marks["visible"]].itertuples()]
    low = style.rung_label(marks["low"].iloc[0])
    flat = marks[marks["visible"] & ~marks["fine"] & (marks["level"] == "fine")]
    flat = [f"{row.task} ({row.dataset})" for row in flat.itertuples()]
    left = [f"{row.task} ({row.dataset})" for row in study.bounds.unbounded.itertuples()]
    return (
        "**Question.** For each task, what is there to be seen, and how much of it do the models say? **Method.** "
        "Models are trained and run at the same resolution. The probe and the reader of pixels are linear, fitted on "
        "the train images at a rung and tested there; neither uses a language model, and the pixels' reader no "
        f"pre-training. **n.** Of the readers: {counts}. Bars are {captions.interval_words(study)}; the readers are "
        "fitted once. **How to read it.** A bound is what a simple reader finds: there is at least that to be seen. A "
        "model below its probe fails to say what its tower sees; a probe below the pixels is a tower that does not "
        f"see. Bold tasks are fine by their bound: it falls from native to {low}, by intervals. Upright names have a "
        "known small detail, names in italics none."
        + (f" Not shown to be visible at native, so silent about resolution (grey): {captions.join(unseen)}."
           if unseen else "")
        + (f" With a small detail, but no shown fall of the bound: {captions.join(flat)}." if flat else "")
        + (f" Not bounded, for the reasons in the table of bounds: {captions.join(left)}." if left else "")
    )


def _count(name: str, rows: pd.DataFrame) -> str:
    questions, images = len(rows[["image_id", "question_id"]].drop_duplicates()), rows["group"].nunique()
    return f"{name}: {questions} questions about {images} independent images"

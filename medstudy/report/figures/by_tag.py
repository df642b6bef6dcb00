"""Native against low resolution for each tag, modality and anatomy: paired differences with Holm's correction."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import tags

TITLE = "Native against low resolution by tag, modality and anatomy"
MOST = 12  # values drawn for each label; the table has all
LONGEST = 26  # characters of a name; the CSV has all


def build(study: StudyData) -> pd.DataFrame:
    """The rows drawn: `tags.compare` of native and low, both at their own resolution, with `against` and `alpha`.

    For each label the `MOST` values with most questions; `values` counts all of them.
    """
    cells = (selections.arm(study.scores, policy) for policy in ("native", study.low or ""))
    table = tags.compare(*cells, confidence=study.confidence)
    table = table.assign(against=study.low or "", alpha=1 - study.confidence)
    values = table.groupby(["dataset", "label", "category"], sort=False)["n_questions"].sum().reset_index()
    rank = values.groupby(["dataset", "label"])["n_questions"].rank(method="first", ascending=False)
    many = values.groupby(["dataset", "label"])["category"].transform("size")
    drawn = values.assign(values=many)[rank <= MOST].drop(columns="n_questions")
    return table.merge(drawn, on=["dataset", "label", "category"])


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One column per data set; labels in bold, their values below; x is the gain of native in points."""
    names = selections.datasets(table)
    lists = {name: _rows(table[table["dataset"] == name]) for name in names}
    longest = max(map(len, lists.values()))
    wide = style.SINGLE * 1.3 if len(names) == 1 else style.DOUBLE
    fig = fig or style.new_figure(wide, 0.95 + 0.17 * longest)
    axes = fig.subplots(1, len(names), squeeze=False, sharex=True)[0]
    for index, (ax, name) in enumerate(zip(axes, names, strict=True)):
        panel(table[table["dataset"] == name], ax, lists[name], longest)
        style.letter(ax, index, name)
    levels = style.levels(table)
    handles = [Line2D([], [], color=style.LEVELS[level], marker="o", markersize=4, label=style.LEVEL_WORDS[level])
               for level in levels]
    sure = "filled: differs from 0 after Holm"
    handles.append(Line2D([], [], color="black", marker="o", linestyle="", markersize=4, label=sure))
    fig.legend(handles=handles, loc="outside upper center", ncols=4)
    return fig


def _rows(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(label, value) from top to bottom; a label comes first, with an empty value."""
    rows = []
    for label, part in table.groupby("label", sort=False):
        sizes = part.groupby("category", sort=False)["n_questions"].sum().sort_values(ascending=False, kind="stable")
        rows += [(label, ""), *((label, value) for value in sizes.index)]
    return rows


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def panel(table: pd.DataFrame, ax: Axes, rows: list[tuple[str, str]], longest: int) -> Axes:
    """One data set: a point with interval for each value and level, filled if Holm's p is significant."""
    levels = style.levels(table)
    for k, level in enumerate(levels):
        part = table[table["level"] == level].set_index(["label", "category"]).reindex(rows)
        y = np.arange(len(rows)) + 0.3 * (k - (len(levels) - 1) / 2)
        error = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
        ax.errorbar(part["estimate"], y, xerr=error, fmt="none", ecolor=style.LEVELS[level], linewidth=0.9)
        sure, colour = (part["p_holm"] < part["alpha"]).to_numpy(), style.LEVELS[level]
        for where, face in ((sure, colour), (~sure, "white")):
            ax.plot(part["estimate"][where], y[where], "o", color=colour, markerfacecolor=face, markersize=3.8)
    ax.axvline(0, color="black", linewidth=0.7)
    counts = table.groupby(["label", "category"])["n_questions"].sum()
    words = [f"{_short(value)} ({counts[label, value]})" if value else _short(label) for label, value in rows]
    ax.set_yticks(range(len(rows)), words)
    for tick, (_, value) in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set(fontweight="normal" if value else "bold", fontsize=6.5)
    ax.set_ylim(longest - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    style.percent_axis(ax.xaxis, points=True)
    ax.set_xlabel("native − low, points")
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    low = style.regime_label(study.low or "none")
    rows = selections.plain(study.scores)
    run, other = ("run", "the same model") if study.as_is else ("trained and run", "the model")
    family = [f"{n} in {name}" for name, n in table.groupby("dataset")["family_size"].first().items()]
    sure = int((table["p_holm"] < table["alpha"]).sum())
    labels = table.drop_duplicates(["dataset", "label"])
    cut = [f"{row.label} of {row.dataset} ({row.values - MOST} more)"
           for row in labels[labels["values"] > MOST].itertuples()]
    left_out = f" Only the {MOST} values with most questions are drawn; the table has all: {captions.join(cut)}."
    return (
        "**Question.** Does the gain from native resolution depend on the kind of image or question? **Method.** The "
        f"model {run} at native resolution minus {other} {run} at {low}, paired question by "
        "question, for each value of the questions' tags and of the images' modality, anatomy and family. A label "
        f"that groups the questions exactly like another one is left out. **n.** {captions.count_words(rows)}; the "
        f"number of questions of each value is in brackets. Bars are {study.confidence:.0%} intervals of the paired "
        "difference, with image groups and training seeds as random factors. **How to read it.** Right of 0, native is "
        f"better. Values were not chosen in advance: after Holm's correction over all values of a data set "
        f"({captions.join(family)}), {sure} of the {len(table)} differences drawn exclude 0. Compare values with care: "
        f"their questions differ.{left_out if cut else ''}"
    )

"""The gain of native over low resolution as a stack of information, tokens and scale, and compute."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import differences
from medstudy.statistics.gain_parts import GAIN, NATIVE, PARTS, arms

TITLE = "The gain of native resolution in parts"
NEEDS_TRAINING = True  # a study without regimes cannot have it
COLUMNS = ["dataset", "level", "task", "part", "estimate", "low", "high", "p", "p_holm", "family_size", "mean_a",
           "mean_b", "n_questions", "n_images", "n_seeds"]
ALL = "all tasks"
LOOKS = {  # of each part: colour, hatch and marker
    "information": (style.BLUE, "", "o"),
    "tokens and scale": (style.ORANGE, "////", "d"),
    "compute": (style.GREY, "....", "p"),
}


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x task (or "all tasks") x part (or "gain"): the paired difference of two arms.

    The estimates of the parts add up to that of the gain. Holm's correction is over the tasks of a data set and part;
    the rows "all tasks" are a family of their own. Empty if the study lacks one of the four arms.
    """
    rows = selections.tested(study.scores)
    tables = [_data_set(rows[rows["dataset"] == name], study).assign(dataset=name)
              for name in selections.datasets(rows)]
    drawn = [table for table in tables if len(table)]
    return pd.concat(drawn, ignore_index=True)[COLUMNS] if drawn else pd.DataFrame(columns=COLUMNS)


def _data_set(rows: pd.DataFrame, study: StudyData) -> pd.DataFrame:
    cells, parts = arms(rows, NATIVE, study.low or ""), [GAIN, *PARTS]
    if not {arm for part in parts for arm in (part.has, part.lacks)} <= set(cells):
        return pd.DataFrame()
    tables = [_differences(cells[part.has], cells[part.lacks], study.confidence).assign(part=part.words)
              for part in parts]
    return pd.concat(tables, ignore_index=True)


def _differences(has: pd.DataFrame, lacks: pd.DataFrame, confidence: float) -> pd.DataFrame:
    pooled = differences(has, lacks, ["level"], confidence=confidence).assign(task=ALL)
    tasks = differences(has, lacks, ["level", "task"], confidence=confidence)
    return pd.concat([selections.texts(pooled), selections.texts(tasks)], ignore_index=True)


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One row per data set: left the parts stacked, with the gain; right each part with its interval."""
    names = selections.datasets(table)
    lines = {name: _lines(table[table["dataset"] == name]) for name in names}
    heights = [0.6 + 0.19 * len(lines[name]) for name in names]
    fig = fig or style.new_figure(style.DOUBLE, 0.45 + sum(heights))
    axes = fig.subplots(len(names), 2, squeeze=False, sharex="col", gridspec_kw={"height_ratios": heights})
    for i, (row, name) in enumerate(zip(axes, names, strict=True)):
        part = table[table["dataset"] == name].set_index(["part", "level", "task"])
        for j, (ax, panel, words) in enumerate(zip(row, (stack, parts), ("parts stacked", "each part"), strict=True)):
            panel(part, ax, lines[name])
            _frame(ax, lines[name], labelled=not j)
            style.letter(ax, 2 * i + j, f"{name}, {words}")
    for ax, words in zip(axes[-1], ("gain of native", "part of it"), strict=True):
        ax.set_xlabel(f"{words}, points")
    _legend(fig)
    return fig


def _lines(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(level, task) from top to bottom: fine first, "all tasks" first, then by the gain."""
    gains = table[table["part"] == GAIN.words]
    rank = gains.assign(level=gains["level"].map(list(style.LEVELS).index), task_rank=gains["task"] != ALL)
    ordered = rank.sort_values(["level", "task_rank", "estimate", "task"], ascending=[True, True, False, True])
    return [(list(style.LEVELS)[level], task) for level, task in zip(ordered["level"], ordered["task"], strict=True)]


def stack(part: pd.DataFrame, ax: Axes, lines: list[tuple[str, str]]) -> Axes:
    """Parts above 0 side by side to the right, those below 0 to the left; a diamond is their sum, the gain."""
    y, right, left = np.arange(len(lines)), np.zeros(len(lines)), np.zeros(len(lines))
    for words, (colour, hatch, _) in LOOKS.items():
        value = part.loc[words].reindex(lines)["estimate"].to_numpy(float)
        ax.barh(y, value, 0.62, np.where(value < 0, left, right), color=colour, hatch=hatch, edgecolor="white",
                linewidth=0.3)
        left, right = left + np.minimum(value, 0), right + np.maximum(value, 0)
    gain = part.loc[GAIN.words].reindex(lines)
    error = [gain["estimate"] - gain["low"], gain["high"] - gain["estimate"]]
    ax.errorbar(gain["estimate"], y, xerr=error, fmt="D", color="black", markersize=3.2, linewidth=0.9)
    return ax


def parts(part: pd.DataFrame, ax: Axes, lines: list[tuple[str, str]]) -> Axes:
    """A point with its interval for each part."""
    for place, (words, (colour, _, marker)) in enumerate(LOOKS.items()):
        row = part.loc[words].reindex(lines)
        error = [row["estimate"] - row["low"], row["high"] - row["estimate"]]
        y = np.arange(len(lines)) + 0.26 * (place - 1)
        ax.errorbar(row["estimate"], y, xerr=error, fmt=marker, color=colour, markersize=3.6, linewidth=0.9)
    return ax


def _frame(ax: Axes, lines: list[tuple[str, str]], labelled: bool) -> None:
    ax.axvline(0, color="black", linewidth=0.7)
    words = [f"{task} ({level})" if task == ALL else task for level, task in lines]
    ax.set_yticks(range(len(lines)), words if labelled else [""] * len(lines))
    for label, (_, task) in zip(ax.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if task == ALL else "normal")
    for place, (level, _) in enumerate(lines[1:], start=1):
        if level != lines[place - 1][0]:
            ax.axhline(place - 0.5, color="black", linewidth=0.4, linestyle=":")
    ax.set_ylim(len(lines) - 0.5, -0.6)
    ax.grid(axis="y", visible=False)
    style.percent_axis(ax.xaxis, points=True)


def _legend(fig: Figure) -> None:
    bars = [Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0.3, label=words)
            for words, (colour, hatch, _) in LOOKS.items()]
    gain = Line2D([], [], color="black", marker="D", markersize=3.2, linewidth=0.9, label="gain: the sum of the parts")
    fig.legend(handles=[*bars, gain], loc="outside upper center", ncols=4)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.plain(study.scores)
    low = style.regime_label(study.low or "low")
    return (
        "**Question.** Is the gain of native resolution one of information, of tokens and scale, or of compute? "
        f"**Method.** Four arms, each trained and run on its own view: {low}; {low} with as many training steps as "
        "take native's FLOPs (this adds *compute*); images downsampled to it and enlarged again (*tokens and scale*); "
        "native images (*information*). A part is the paired difference of two neighbours over the same questions, "
        f"images and seeds, so the parts add up to the gain. {_results(table)} **n.** {captions.count_words(rows)}. "
        f"Bars are {study.confidence:.0%} intervals for a paired difference, over image groups and training seeds. "
        "**How to read it.** Left: parts above 0 are stacked to the right, those below 0 to the left; the diamond is "
        "their sum. Right: the same parts with their intervals, which share arms and do not add up. A part whose "
        "interval holds 0 is not shown to exist. Coarse questions need no fine detail: their information should be "
        "nothing. Single tasks have few questions; p_holm in the CSV corrects for their number."
    )


def _results(table: pd.DataFrame) -> str:
    pooled = table[table["task"] == ALL].set_index(["dataset", "level", "part"])["estimate"]
    cells = table.loc[table["task"] == ALL, ["dataset", "level"]].drop_duplicates().itertuples(index=False)
    return " ".join(
        f"{name}, {style.LEVEL_WORDS[level]}: {100 * pooled[name, level, GAIN.words]:+.1f} points = "
        + " ".join(f"{100 * pooled[name, level, part.words]:+.1f} ({part.words})" for part in PARTS) + "."
        for name, level in cells
    )

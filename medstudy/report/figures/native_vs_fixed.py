"""Native against fixed low resolution, each trained and run at its own, task by task: paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import differences

TITLE = "Native against fixed resolution, task by task"
COLUMNS = ["dataset", "level", "task", "against", "estimate", "low", "high", "p", "p_holm", "family_size", "effect",
           "mean_a", "mean_b", "n_questions", "n_images", "n_seeds"]
ALL = "all tasks"


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x task (or "all tasks") x fixed regime: `differences` of native minus fixed.

    Both are trained and run at their own resolution; where nothing is trained, the same model is run at both. Holm's
    correction is over the tasks of a data set and regime; the rows "all tasks" are a family of their own.
    """
    rows = selections.plain(study.scores)
    compared = selections.regimes(rows) if selections.trained(rows) else [study.low or ""]
    fixed = [policy for policy in compared if policy.startswith("fixed-")]
    native = selections.arm(study.scores, "native")
    parts = [
        _differences(part, low[low["dataset"] == name], study.confidence).assign(dataset=name, against=regime)
        for regime in fixed
        for low in [selections.arm(study.scores, regime)]
        for name, part in native.groupby("dataset", observed=True)
        if (low["dataset"] == name).any()
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _differences(native: pd.DataFrame, low: pd.DataFrame, confidence: float) -> pd.DataFrame:
    tasks = differences(native, low, ["level", "task"], confidence=confidence)
    pooled = differences(native, low, ["level"], confidence=confidence).assign(task=ALL)
    return pd.concat([pooled, tasks], ignore_index=True)


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One column per data set, one row per task, fine above coarse; x is the gain of native in points."""
    names = selections.datasets(table)
    lists = {name: _rows(table[table["dataset"] == name]) for name in names}
    height = 0.95 + 0.17 * max(map(len, lists.values()))
    fig = fig or style.new_figure(style.SINGLE * 1.3 if len(names) == 1 else style.DOUBLE, height)
    axes = fig.subplots(1, len(names), squeeze=False, sharex=True)[0]
    for index, (ax, name) in enumerate(zip(axes, names, strict=True)):
        _panel(ax, table[table["dataset"] == name], lists[name], max(map(len, lists.values())))
        style.letter(ax, index, name)
    _legend(fig, axes[0], table)
    return fig


def _rows(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(level, task) from top to bottom: fine first, "all tasks" first, then by the gain over the first regime."""
    first = table[table["against"] == style.regime_order(table["against"])[0]]
    rank = first.assign(level=first["level"].map(list(style.LEVELS).index), task_rank=first["task"] != ALL)
    ordered = rank.sort_values(["level", "task_rank", "estimate"], ascending=[True, True, False])
    return [(list(style.LEVELS)[level], task) for level, task in zip(ordered["level"], ordered["task"], strict=True)]


def _panel(ax: Axes, table: pd.DataFrame, rows: list[tuple[str, str]], longest: int) -> None:
    against = style.regime_order(table["against"])
    for k, regime in enumerate(against):
        part = table[table["against"] == regime].set_index(["level", "task"]).reindex(rows)
        y = np.arange(len(rows)) + 0.22 * (k - (len(against) - 1) / 2)
        for level, colour in style.LEVELS.items():
            here = part.index.get_level_values("level") == level
            if not here.any():
                continue
            rest = here & (part.index.get_level_values("task") != ALL)
            for chosen, size in ((rest, 4), (here & ~rest, 6)):
                ax.errorbar(
                    part.loc[chosen, "estimate"],
                    y[chosen],
                    xerr=[(part["estimate"] - part["low"])[chosen], (part["high"] - part["estimate"])[chosen]],
                    fmt=style.regime_style(regime)["marker"],
                    color=colour,
                    markersize=size,
                    markerfacecolor=colour if k == 0 else "white",
                    linewidth=1.6 if size > 4 else 0.9,
                )
    ax.axvline(0, color="black", linewidth=0.7)
    coarse = [i for i, (level, _) in enumerate(rows) if level == "coarse"]
    if coarse and coarse[0]:
        ax.axhline(coarse[0] - 0.5, color="black", linewidth=0.4, linestyle=":")
    ax.set_yticks(range(len(rows)), [task for _, task in rows])
    for label, (_, task) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if task == ALL else "normal")
    ax.set_ylim(longest - 0.5, -0.6)
    ax.grid(axis="y", visible=False)
    style.percent_axis(ax.xaxis, points=True)
    ax.set_xlabel("native − fixed, points")


def _legend(fig: Figure, ax: Axes, table: pd.DataFrame) -> None:
    levels = [Line2D([], [], color=style.LEVELS[level], linewidth=1.5, label=style.LEVEL_WORDS[level])
              for level in style.levels(table)]
    against = style.regime_order(table["against"])
    looks = [
        Line2D([], [], color="black", linestyle="", marker=style.regime_style(regime)["marker"],
               markerfacecolor="black" if k == 0 else "white", label=f"against {style.regime_label(regime)}")
        for k, regime in enumerate(against)
    ]
    fig.legend(handles=levels + looks, loc="outside upper center", ncols=4)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.plain(study.scores)
    results = "; ".join(
        f"{r.dataset}, {r.level}, against {style.regime_label(r.against)}: {100 * r.estimate:+.1f} "
        f"[{100 * r.low:+.1f}, {100 * r.high:+.1f}]"
        for r in table[table["task"] == ALL].itertuples()
    )
    tasks = table[table["task"] != ALL]
    sure = (tasks["p_holm"] < 1 - study.confidence).sum()
    return (
        f"**Question.** Which tasks gain from native resolution? **Method.** {_method(study)}, paired question by "
        f"question, in percentage points of the score. **n.** {captions.count_words(rows)}. Bars are "
        f"{study.confidence:.0%} intervals of the paired difference, with image groups and training seeds as random "
        "factors. **How to read it.** Right of 0, native is better. Fine questions depend on a small detail; coarse "
        "ones are controls that resolution should not affect. "
        f"Large markers pool all tasks of a level, in points: {results}. After Holm's correction within each data set "
        f"and comparison, {sure} of {len(tasks)} task differences exclude 0. A gain may start below guessing: the "
        "figure of the controls shows what each task's score means."
    )


def _method(study: StudyData) -> str:
    if study.as_is:
        return "The model run at native resolution minus the same model run at a fixed one"
    return "The model trained and run at native resolution minus the model trained and run at a fixed one"

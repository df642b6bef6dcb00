"""The train x inference grid by task: one panel per regime, one row per task."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import summarise

TITLE = "Training against inference resolution, task by task"
COLUMNS = ["dataset", "level", "task", "regime", "inference", "budget_pixels", "estimate", "low", "high",
           "n_questions", "n_images", "n_seeds"]
PANELS = 3  # regimes side by side: native, low and mixed if they were run


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x task x regime x inference policy: `summarise`, of at most three regimes."""
    rows = selections.plain(study.scores)
    wanted = [r for r in ("native", study.low, "mixed") if r in set(rows["regime"].unique())]
    rows = rows[rows["regime"].isin(wanted or selections.regimes(rows)[:PANELS])]
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    by = ["dataset", "level", "task", "regime", "inference", "budget_pixels"]
    return summarise(rows, by, confidence=study.confidence)[COLUMNS]


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One panel per regime; rows are tasks (by data set, fine above coarse), columns inference policies."""
    regimes, lines = selections.regimes(table), _lines(table)
    fig = fig or style.new_figure(style.DOUBLE, 0.8 + 0.15 * len(lines))
    axes = fig.subplots(1, len(regimes), squeeze=False, sharey=True)[0]
    for ax, regime in zip(axes, regimes, strict=True):
        image = _panel(ax, table[table["regime"] == regime], lines, selections.ladder(table))
        ax.set_title(f"trained at {style.regime_label(regime)}", fontsize=7.5, loc="left")
    labels = [task or f"{name}, {level}" for name, level, task in lines]
    axes[0].set_yticks([y + 0.5 for y in range(len(lines))], labels, fontsize=6.5)
    for label, (*_, task) in zip(axes[0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("normal" if task else "bold")
    fig.supxlabel("shown at (inference)", fontsize=8)
    bar = fig.colorbar(image, ax=axes, shrink=0.4, aspect=30, pad=0.01, label="score, %")
    style.percent_axis(bar.ax.yaxis)
    return fig


def _lines(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(data set, level, task) from top to bottom; an empty task marks the heading of the lines below."""
    keys = set(table[["dataset", "level", "task"]].itertuples(index=False, name=None))
    keys |= {(name, level, "") for name, level, _ in keys}
    order = selections.datasets(table)
    return sorted(keys, key=lambda key: (order.index(key[0]), list(style.LEVELS).index(key[1]), key[2]))


def _panel(ax: Axes, part: pd.DataFrame, lines: list[tuple[str, str, str]], policies: list[str]) -> QuadMesh:
    named = part.assign(text=captions.estimate_words(part)).set_index(["dataset", "level", "task", "inference"])
    cells = named[["estimate", "text"]].unstack("inference")
    grid, text = (cells[name].reindex(index=pd.MultiIndex.from_tuples(lines), columns=policies)
                  for name in ("estimate", "text"))
    image = style.heatmap(ax, grid, text, 0, 1, 5.5, linewidths=0.6, yticklabels=False)
    ax.grid(False)
    ax.tick_params(labelsize=6)
    return image


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.plain(study.scores)
    n = len(table[["dataset", "level", "task"]].drop_duplicates())
    others = captions.join([style.regime_label(r) for r in selections.regimes(rows) if r not in set(table["regime"])])
    half = (table["high"] - table["low"]) / 2
    return (
        f"**Question.** Which tasks suffer from a mismatch? **Method.** The previous figure by task: the mean score in "
        f"% of {n} tasks for every training regime (panel) at every inference policy (column). "
        f"**n.** {captions.count_words(rows)}; {table['n_questions'].min()} to {table['n_questions'].max()} questions "
        f"a task. ± is half the width of {captions.interval_words(study)}, here ±{100 * half.min():.0f} to "
        f"±{100 * half.max():.0f} points, so single cells mean little. **How to read it.** Compare a row across panels "
        "(the effect of training) and within a panel (the effect of inference). Fine tasks are above coarse ones."
        + (f" Not drawn here, but in the previous figure: {others}." if others else "")
    )

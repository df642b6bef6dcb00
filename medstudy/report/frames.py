"""Layouts that several figures share: data sets × levels of questions, the ladder, and data sets task by task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medstudy.report import selections, style


def by_level(
    table: pd.DataFrame, fig: Figure | None, panel: Callable[[pd.DataFrame, Axes], object],
    top: float = 0.5, height: float = 2.3,
) -> tuple[Figure, Sequence[Axes]]:
    """One row of panels per data set, one column per level, with a legend of regimes; and the axes of the last row.

    panel: draws the table's rows of one data set and level. top, height: of the legend and of a row, in inches.
    """
    names, levels = selections.datasets(table), style.levels(table)
    fig = fig or style.new_figure(style.DOUBLE, top + height * len(names))
    axes = fig.subplots(len(names), len(levels), squeeze=False, sharey="row")
    for i, (row, name) in enumerate(zip(axes, names, strict=True)):
        for j, (ax, level) in enumerate(zip(row, levels, strict=True)):
            panel(table[(table["dataset"] == name) & (table["level"] == level)], ax)
            style.letter(ax, i * len(levels) + j, f"{name}, {style.LEVEL_WORDS[level]}")
        row[0].set_ylabel("score, %")
    style.regime_legend(fig, selections.regimes(table))
    return fig, axes[-1]


def ladder(table: pd.DataFrame, ax: Axes) -> None:
    """One data set and level: a line with a band per regime over the rungs, and the chance of guessing right.

    Rungs that show parts of an image, or fewer visual tokens, are open points beside the line.
    """
    if table.empty:
        ax.set_axis_off()
        return
    for regime in selections.regimes(table):
        rows, look = table[table["regime"] == regime].sort_values("budget_pixels"), style.regime_style(regime)
        whole = rows["inference"].map(style.whole)
        line, apart = rows[whole], rows[~whole]
        ax.fill_between(line["side_px"], line["low"], line["high"], color=look["color"], alpha=0.13, linewidth=0)
        ax.plot(line["side_px"], line["estimate"], **look)
        if len(apart):
            error = [apart["estimate"] - apart["low"], apart["high"] - apart["estimate"]]
            ax.errorbar(apart["side_px"], apart["estimate"], error, **look, ls="", mfc="white", elinewidth=0.6)
    ax.axhline(table["chance"].iloc[0], color=style.GREY, linewidth=0.8, linestyle=":")
    style.rung_axis(ax, table.drop_duplicates("inference").sort_values("side_px"))
    style.percent_axis(ax.yaxis)


def by_task(
    table: pd.DataFrame, fig: Figure | None, panel: Callable[[pd.DataFrame, Axes, list[tuple[str, str]]], object],
    width: float, top: float, height: float, first: str = "",
) -> Figure:
    """One column per data set, with a line of points for each (level, task), fine above coarse.

    panel: draws the rows of one data set on these lines. width: of a single column, in widths of a column of text; top,
    height: of the legend and of a line, in inches. first: the task that stands above the others of its level.
    """
    names = selections.datasets(table)
    lists = {name: _lines(table[table["dataset"] == name], first) for name in names}
    longest = max(map(len, lists.values()))
    fig = fig or style.new_figure(style.SINGLE * width if len(names) == 1 else style.DOUBLE, top + height * longest)
    axes = fig.subplots(1, len(names), squeeze=False)[0]
    for index, (ax, name) in enumerate(zip(axes, names, strict=True)):
        panel(table[table["dataset"] == name], ax, lists[name])
        ax.set_ylim(longest - 0.5, -0.6)
        style.letter(ax, index, name)
        ax.set_xlabel("score, %")
    return fig


def _lines(table: pd.DataFrame, first: str) -> list[tuple[str, str]]:
    keys = set(table[["level", "task"]].itertuples(index=False, name=None))
    return sorted(keys, key=lambda key: (list(style.LEVELS).index(key[0]), key[1] != first, key[1]))

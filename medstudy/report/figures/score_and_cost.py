"""Score against what answering a question costs (FLOPs, seconds, visual tokens), over models and rungs, with fronts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from medstudy.report import captions, inference_cost, selections, style
from medstudy.report.study_data import StudyData

TITLE = "Score against the cost of an answer"
COSTS = {"flops": ("GFLOP a question", 1e9), "seconds": ("seconds a question", 1.0),
         "tokens": ("visual tokens an image", 1.0)}
COLUMNS = ["dataset", "cost", "series", "inference", "budget_pixels", "spent", "front", "estimate", "low", "high",
           "n_questions", "n_images", "n_seeds"]
LABELLED = 8  # points of a panel whose rungs are written beside them, at most
DIGITS = ((1, (1, 2, 3, 4, 6, 8)), (2, (1, 2, 5)), (np.inf, (1,)))  # of ticks, where an axis has fewer decades
Look = Callable[[str], dict[str, str]]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x cost x regime (column `series`) x rung; spent in the units of `COSTS`; front = Pareto."""
    return long(inference_cost.points(study.scores, study.costs, study.confidence), "regime")


def long(points: pd.DataFrame, series: str) -> pd.DataFrame:
    """The rows drawn, from `inference_cost.points`; costs that are unknown have no row."""
    if points.empty:
        return pd.DataFrame(columns=COLUMNS)
    parts = [points.assign(cost=cost, series=points[series], spent=points[cost] / unit)
             for cost, (_, unit) in COSTS.items()]
    table = pd.concat(parts, ignore_index=True).dropna(subset="spent")
    table = table[table["spent"] > 0].reset_index(drop=True)
    fronts = [inference_cost.front(part["spent"], part["estimate"]) for _, part in table.groupby(["dataset", "cost"])]
    return table.assign(front=pd.concat(fronts) if fronts else False)[COLUMNS]


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One row per data set, one column per cost; a line joins the rungs of a regime, grey steps join the front."""
    return drawn(table, style.regime_order(table["series"]), style.regime_style, style.regime_label, "trained at", fig)


def drawn(
    table: pd.DataFrame, series: list[str], look: Look, label: Callable[[str], str], title: str,
    fig: Figure | None = None,
) -> Figure:
    """`draw` with any series of lines."""
    names, costs = selections.datasets(table), [cost for cost in COSTS if (table["cost"] == cost).any()]
    fig = fig or style.new_figure(style.DOUBLE, 0.7 + 1.9 * len(names))
    axes = fig.subplots(len(names), len(costs), squeeze=False, sharex="col", sharey="row")
    for i, (row, name) in enumerate(zip(axes, names, strict=True)):
        for ax, cost in zip(row, costs, strict=True):
            panel(table[(table["dataset"] == name) & (table["cost"] == cost)], ax, series, look)
        style.letter(row[0], i, name)
        row[0].set_ylabel("score, %")
    for ax, cost in zip(axes[-1], costs, strict=True):
        ax.set_xlabel(COSTS[cost][0])
    handles = [Line2D([], [], label=label(name), **look(name)) for name in series]
    fig.legend(handles=handles, loc="outside upper center", ncols=min(6, len(handles)), title=title)
    return fig


def panel(table: pd.DataFrame, ax: Axes, series: list[str], look: Look) -> Axes:
    """One cost: a line of points with intervals for each of `series`, and the front as steps."""
    front = table[table["front"]].sort_values("spent")
    ax.step(front["spent"], front["estimate"], where="post", color=style.GREY, linewidth=2.4, alpha=0.35, zorder=1)
    for name in series:
        line = table[table["series"] == name].sort_values(["budget_pixels", "inference"])
        error = [line["estimate"] - line["low"], line["high"] - line["estimate"]]
        ax.errorbar(line["spent"], line["estimate"], error, linewidth=0.8, markersize=4, **look(name))
        for row in line.itertuples() if len(table) <= LABELLED else ():
            ax.annotate(style.rung_label(row.inference), (row.spent, row.estimate), xytext=(2, 3), fontsize=5.5,
                        textcoords="offset points", color=look(name)["color"])
    ax.set_xscale("log")
    decades = np.log10(table["spent"].max() / table["spent"].min()) if len(table) else 1
    ax.xaxis.set_major_locator(LogLocator(subs=next(digits for most, digits in DIGITS if decades < most)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    style.percent_axis(ax.yaxis)
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows, tower = selections.plain(study.scores), captions.tower_words(study)
    tower = f" {tower}" if tower else ""
    return (
        "**Question.** What does a score cost at inference? **Method.** Every regime at every rung: the mean score "
        "against floating-point operations and seconds a question, and visual tokens an image (log scales). "
        f"{inference_cost.RULE}{tower} **n.** {captions.count_words(rows)}. Bars are "
        f"{captions.interval_words(study)}; costs have no interval. {read()} {words(table)}"
    )


def read() -> str:
    """How to read a panel."""
    return (
        "**How to read it.** A line joins the rungs of one model from low to native. The broad grey steps join the "
        "Pareto front of the estimates: no point to the left of a step scores higher. Where bars overlap, the front is "
        "uncertain."
    )


def words(table: pd.DataFrame) -> str:
    """The ends of the front in operations, by data set."""
    parts = []
    for name in selections.datasets(table):
        front = table[(table["dataset"] == name) & (table["cost"] == "flops") & table["front"]].sort_values("spent")
        if len(front):
            ends = [f"{100 * row.estimate:.1f} % for {row.spent:.3g} GFLOP ({row.series} at {row.inference})"
                    for row in front.iloc[[0, -1] if len(front) > 1 else [0]].itertuples()]
            parts.append(f"Front of {name}: {' to '.join(ends)}.")
    return " ".join(parts)

"""The train x inference grid: score of every regime at every rung, per family and on average."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import summarise

TITLE = "Training against inference resolution, on average and per family"
COLUMNS = ["dataset", "panel", "regime", "inference", "budget_pixels", "estimate", "low", "high", "n_questions",
           "n_images", "n_seeds"]
ALL = "all families"


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x panel ("all families" or a family) x regime x inference policy: `summarise`."""
    rows = selections.plain(study.scores)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    by = ["regime", "inference", "budget_pixels"]
    pooled = summarise(rows, ["dataset", *by], confidence=study.confidence).assign(panel=ALL)
    families = summarise(rows, ["dataset", "family", *by], confidence=study.confidence)
    families = families.rename(columns={"family": "panel"})
    return pd.concat([pooled, families], ignore_index=True)[COLUMNS]


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One column per data set, one row per panel; the cell holds the score and half the width of its interval, in %."""
    names, regimes = selections.datasets(table), selections.regimes(table)
    panels = {n: [ALL, *sorted(set(table.loc[table["dataset"] == n, "panel"]) - {ALL})] for n in names}
    rows = max(map(len, panels.values()))
    width = style.SINGLE * 1.2 if len(names) == 1 else style.DOUBLE
    fig = fig or style.new_figure(width, 0.75 + rows * (0.42 + 0.19 * len(regimes)))
    axes = fig.subplots(rows, len(names), squeeze=False, sharex=True)
    drawn = []
    for column, name in zip(axes.T, names, strict=True):
        for ax, panel in zip(column, panels[name], strict=False):
            part = table[(table["dataset"] == name) & (table["panel"] == panel)]
            drawn.append(heatmap(ax, part, regimes, selections.ladder(table), table["estimate"]))
            ax.set_title(f"{name}, {panel}", loc="left", fontsize=7.5, fontweight="bold" if panel == ALL else None)
        for ax in column[len(panels[name]) :]:
            ax.set_axis_off()
        column[len(panels[name]) - 1].tick_params(labelbottom=True)
    fig.supxlabel("shown at (inference)", fontsize=8)
    fig.supylabel("trained at", fontsize=8)
    bar = fig.colorbar(drawn[0], ax=axes, shrink=0.5, aspect=30, pad=0.01, label="score, %")
    style.percent_axis(bar.ax.yaxis)
    return fig


def heatmap(ax: Axes, part: pd.DataFrame, regimes: list[str], policies: list[str], scale: pd.Series) -> QuadMesh:
    """One grid of cells, coloured over the range of `scale`; cells trained and run at the same rung are framed."""
    cells = part.assign(text=captions.estimate_words(part)).pivot(index="regime", columns="inference")
    grid, text = (cells[name].reindex(index=regimes, columns=policies) for name in ("estimate", "text"))
    labels = [style.regime_label(r) for r in regimes]
    image = style.heatmap(ax, grid, text, scale.min(), scale.max(), 6.5, yticklabels=labels)
    for y, regime in enumerate(regimes):
        if (own := style.own_view(regime)) in policies:
            ax.add_patch(_frame(policies.index(own), y))
    return image


def _frame(x: int, y: int) -> Rectangle:
    look = {"fill": False, "edgecolor": style.VERMILLION, "linewidth": 1.4}
    return Rectangle((x + 0.03, y + 0.06), 0.94, 0.88, **look)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.plain(study.scores)
    half = (table["high"] - table["low"]) / 2
    return (
        "**Question.** What does a mismatch between training and inference resolution cost? **Method.** Every trained "
        "model is evaluated at every rung of the inference ladder; cells are mean scores over questions, in %. "
        f"**n.** {captions.count_words(rows)}. ± is half the width of {captions.interval_words(study)} (median "
        f"±{100 * half.median():.0f} points). **How to read it.** Rows are training regimes; columns are what is shown "
        "at inference, from the smallest pixel budget to native. Framed cells are trained and run at the same rung: "
        "their row shows what a mismatch costs that model, their column what training elsewhere costs on the same "
        "pixels. All panels share one colour scale. Procedural and real images are never pooled."
    )

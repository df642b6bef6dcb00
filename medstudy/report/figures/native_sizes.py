"""Native image sizes by data set and family, with the ladder's pixel budgets: which images can a rung change?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from medstudy.report import selections, style
from medstudy.report.study_data import StudyData

TITLE = "Native image sizes, and what each rung of the ladder shrinks"
COLUMNS = ["dataset", "family", "images", "low_px", "high_px", "share"]


def build(study: StudyData) -> pd.DataFrame:
    """Histogram rows: dataset, family, images (in the family), low_px, high_px (bin of sqrt(h x w)), share.

    Then the ladder's budgets as rows with family "budget": low_px = the rung's side, share = the share of the data
    set's images that are larger and therefore shrunk.
    """
    if study.examples.empty:
        return pd.DataFrame(columns=[*COLUMNS, "policy"])
    once = study.examples.drop_duplicates(["dataset", "image_id"])
    sized = once.assign(side=np.sqrt(once["height"] * once["width"]))
    edges = _edges(sized["side"])
    families = [_histogram(rows, edges, *key) for key, rows in sized.groupby(["dataset", "family"])]
    return pd.concat([*families, _budgets(sized, study.scores)], ignore_index=True)


def _edges(sides: pd.Series) -> np.ndarray:
    """Bin edges, eight per octave, over all data sets."""
    low, high = np.floor(np.log2(sides.min()) * 8), np.ceil(np.log2(sides.max() + 1) * 8)
    return 2 ** (np.arange(low, high + 1) / 8)


def _histogram(rows: pd.DataFrame, edges: np.ndarray, dataset: str, family: str) -> pd.DataFrame:
    share = np.histogram(rows["side"], edges)[0] / len(rows)
    bins = {"low_px": edges[:-1], "high_px": edges[1:], "share": share}
    return pd.DataFrame({"dataset": dataset, "family": family, "images": len(rows), **bins, "policy": ""})


def _budgets(sized: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    rungs = selections.plain(scores).drop_duplicates("inference")
    return pd.DataFrame(
        {
            "dataset": dataset,
            "family": "budget",
            "images": len(rows),
            "low_px": np.sqrt(budget),
            "high_px": np.sqrt(budget),
            "share": (rows["side"] ** 2 > budget).mean(),
            "policy": policy,
        }
        for dataset, rows in sized.groupby("dataset")
        for policy, budget in zip(rungs["inference"], rungs["budget_pixels"], strict=True)
        if style.rung(policy)
    )


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One row per family, one column per data set; dashed lines mark the ladder's budgets."""
    bins, budgets = table[table["family"] != "budget"], table[table["family"] == "budget"]
    names = selections.datasets(bins)
    families = {name: sorted(bins.loc[bins["dataset"] == name, "family"].unique()) for name in names}
    rows = max(map(len, families.values()))
    fig = fig or style.new_figure(style.SINGLE if len(names) == 1 else style.DOUBLE, 0.7 + 0.62 * rows)
    axes = fig.subplots(rows, len(names), squeeze=False, sharex=True, sharey=True)
    for column, name in zip(axes.T, names, strict=True):
        marks = budgets[budgets["dataset"] == name]
        for ax, family in zip(column, families[name], strict=False):
            _panel(ax, bins[(bins["dataset"] == name) & (bins["family"] == family)], marks)
        for ax in column[len(families[name]) :]:
            ax.set_axis_off()
        _label(column, name, marks, len(families[name]))
    axes[0, 0].set_ylim(0, 1.05 * bins["share"].max())
    fig.supxlabel("native side √(height × width), px", fontsize=8)
    fig.supylabel("share of the family's images, %", fontsize=8)
    return fig


def _panel(ax: Axes, rows: pd.DataFrame, marks: pd.DataFrame) -> None:
    ax.stairs(rows["share"], [*rows["low_px"], rows["high_px"].iloc[-1]], fill=True, color=style.SKY)
    ax.set_xscale("log", base=2)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=2))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=None))
    for side in marks["low_px"]:
        ax.axvline(side, color=style.VERMILLION, linewidth=0.8, linestyle=(0, (3, 2)))
    text = f"{rows['family'].iloc[0]}, n = {rows['images'].iloc[0]}"
    ax.set_title(text, loc="left", fontsize=7, pad=2)


def _label(column: np.ndarray, name: str, marks: pd.DataFrame, families: int) -> None:
    last = column[families - 1]
    ticks = [28 * 2**k for k in range(1, 12) if 28 * 2**k <= last.get_xlim()[1]]
    last.set_xticks(ticks, [str(t) for t in ticks])
    last.xaxis.set_minor_formatter(NullFormatter())
    last.tick_params(labelbottom=True)
    column[0].annotate(name, (0, 1), (0, 22), xycoords="axes fraction", textcoords="offset points", fontweight="bold")
    for row in marks.itertuples():
        column[0].annotate(
            style.rung_label(row.policy),
            (row.low_px, 1),
            (0, 11),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=style.VERMILLION,
        )


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    bins, budgets = table[table["family"] != "budget"], table[table["family"] == "budget"]
    counts = bins.drop_duplicates(["dataset", "family"]).groupby("dataset")["images"].sum()
    sizes = "; ".join(f"{name}: {counts[name]} images" for name in selections.datasets(bins))
    shrunk = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{style.rung_label(r.policy)} shrinks {r.share:.0%}"
            for r in budgets[budgets["dataset"] == name].sort_values("low_px").itertuples()
        )
        for name in selections.datasets(bins)
        if (budgets["dataset"] == name).any()
    )
    return (
        "**Question.** How large are the images, and which of them does each rung of the ladder change? **Method.** "
        "Every image of every split, once; the side is the square root of height × width; eight bins an octave. "
        f"**n.** {sizes}. All images of the data sets, so there are no intervals. **How to read it.** A dashed line is "
        f"a pixel budget of the ladder: it shrinks the images to its right and leaves those to its left. {shrunk}."
    )

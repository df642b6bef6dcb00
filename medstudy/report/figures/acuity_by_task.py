"""Acuity of the controlled models: score against the deciding detail in the pixels that are left, task by task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from medstudy.bounds.results import UNSEEN
from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import acuity, summarise

TITLE = "Acuity by task: score against the detail that is left"
ACROSS = 3  # panels a row
FEWEST = 5  # image groups behind a point
ALL = "all of these tasks"
COLUMNS = ["row", "dataset", "regime", "task", "left_px", "estimate", "low", "high", "chance", "n_questions",
           "n_images", "n_seeds", "why"]
EMPTY = pd.DataFrame(columns=COLUMNS)


def build(study: StudyData) -> pd.DataFrame:
    """Rows of three types (column `row`), each for a data set x regime x task, and for all of its tasks together.

    Data sets without a fit of all tasks are left out.

    Rows of scores: the fine questions of the models that were also shown images downsampled and enlarged again
    (`down_up`), at their own view and at these. All have the same visual tokens; only the detail differs. Tasks that no
    bound can tell from chance are left out. left_px: the size of the deciding detail in pixels of the smallest image
    that it went through. "observed": mean score with interval in one octave of left_px. "fit": the psychometric curve.
    "threshold": left_px with its interval; NaN, with `why`, where it is not estimable.
    """
    rows = _rows(study)
    if rows.empty:
        return EMPTY
    rows = pd.concat([rows.assign(task=ALL), rows])
    by = ["dataset", "regime", "task"]
    middle = 2 ** (np.floor(np.log2(rows["left_px"])) + 0.5)
    observed = summarise(rows.assign(left_px=middle), [*by, "left_px"], confidence=study.confidence)
    observed = observed[observed["n_images"] >= FEWEST].assign(row="observed")
    cells = rows.groupby(by, sort=True)
    fits = pd.concat(_fit(part, dict(zip(by, key, strict=True)), study) for key, part in cells)
    fitted = fits.loc[(fits["row"] == "fit") & (fits["task"] == ALL), "dataset"].unique()
    observed, fits = (part[part["dataset"].isin(fitted)] for part in (observed, fits))
    return pd.concat([observed, fits], ignore_index=True).reindex(columns=COLUMNS)


def _rows(study: StudyData) -> pd.DataFrame:
    """The scores that are used, with `left_px`."""
    fine = selections.tested(study.scores).dropna(subset="detail_px")
    reduced = selections.texts(selections.controls(fine))
    reduced = reduced[reduced["control"] == "down_up"]
    if reduced.empty:
        return reduced
    own = selections.texts(selections.aligned(fine))
    rows = pd.concat([own[own["regime"].isin(reduced["regime"].unique())], reduced])
    if len(marks := study.bounds.marks):
        unseen = marks.loc[marks["mark"] == UNSEEN, ["dataset", "task"]].assign(unseen=True)
        rows = rows.merge(unseen, on=["dataset", "task"], how="left")
        rows = rows[rows["unseen"].isna()].drop(columns="unseen")
    pixels = rows["detail_height"] * rows["detail_width"] / (rows["height"] * rows["width"])
    return rows.assign(left_px=rows["detail_px"] * np.sqrt(pixels).clip(upper=1))


def _fit(part: pd.DataFrame, key: dict, study: StudyData) -> pd.DataFrame:
    fit = acuity(part.assign(detail_px=part["left_px"]), confidence=study.confidence, n=min(study.resamples, 400))
    counts = {"chance": fit.chance, "n_questions": fit.n_questions, "n_images": fit.n_images, "n_seeds": fit.n_seeds}
    ends = {"left_px": fit.threshold_px, "low": fit.low, "high": fit.high, "why": fit.why}
    threshold = pd.DataFrame([key | counts | ends | {"row": "threshold"}])
    if not fit.estimable:
        return threshold
    x = np.geomspace(part["left_px"].min(), part["left_px"].max(), 60)
    curve = pd.DataFrame({"left_px": x, "estimate": fit.predict(x)}).assign(row="fit", **key, **counts)
    return pd.concat([threshold.assign(estimate=float(fit.predict(fit.threshold_px))), curve], ignore_index=True)


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One panel per data set, regime and task, all tasks together first."""
    keys = list(table[["dataset", "regime", "task"]].drop_duplicates().itertuples(index=False, name=None))
    keys = sorted(keys, key=lambda key: (*key[:2], key[2] != ALL, key[2]))
    across = min(ACROSS, len(keys))
    down = -(-len(keys) // across)
    fig = fig or style.new_figure(style.DOUBLE, 0.4 + 1.7 * down)
    axes = fig.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for index, (ax, (name, regime, task)) in enumerate(zip(axes, keys, strict=False)):
        chosen = (table["dataset"] == name) & (table["regime"] == regime) & (table["task"] == task)
        _panel(ax, table[chosen], style.regime_style(regime))
        style.letter(ax, index, task if task != ALL else f"{name}, {style.regime_label(regime)}")
    for ax in axes[len(keys) :]:
        ax.set_axis_off()
    ticks = 2.0 ** np.arange(np.floor(np.log2(table["left_px"].min())), np.log2(table["left_px"].max()) + 0.5)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylim(-0.02, 1.03)
    style.percent_axis(axes[0].yaxis)
    fig.supxlabel("size of the deciding detail, in the pixels that are left", fontsize=8)
    fig.supylabel("score, %", fontsize=8)
    return fig


def _panel(ax: Axes, table: pd.DataFrame, look: dict[str, str]) -> None:
    seen = table[table["row"] == "observed"].sort_values("left_px")
    error = [seen["estimate"] - seen["low"], seen["high"] - seen["estimate"]]
    ax.errorbar(seen["left_px"], seen["estimate"], error, fmt=look["marker"], color=look["color"], markersize=3.2,
                linewidth=0.8)
    curve = table[table["row"] == "fit"]
    ax.plot(curve["left_px"], curve["estimate"], color=look["color"], linewidth=1.2)
    ax.axhline(table["chance"].dropna().iloc[0], color=style.GREY, linewidth=0.8, linestyle=":")
    for row in table[table["row"] == "threshold"].dropna(subset="left_px").itertuples():
        ends = np.clip([row.low, row.high], seen["left_px"].min() / 2, seen["left_px"].max() * 2)
        ax.plot(ends, [0.04, 0.04], color=look["color"], linewidth=1)
        ax.plot(row.left_px, 0.04, "|", color=look["color"], markersize=6, markeredgewidth=1.6)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = _rows(study)
    rows = rows[rows["dataset"].isin(table["dataset"])]
    return (
        "**Question.** How many pixels must a deciding detail have for these models to see it? **Method.** Fine "
        "questions, asked of the same models at their own view and with images downsampled and enlarged again: the "
        "visual tokens stay, the detail goes. Its size is counted in pixels of the smallest image that it went "
        f"through (log scale). Points are means over one octave with at least {FEWEST} independent images; curves are "
        "psychometric fits (logistic in log size, chance fixed, lapse rate free). "
        f"**n.** {captions.count_words(rows)}. Bars on points are {captions.interval_words(study)}. Ticks at the "
        f"bottom are thresholds, half-way between chance and ceiling, with bootstrap {study.confidence:.0%} intervals "
        "over images and seeds; the dotted line is uniform guessing. **How to read it.** A curve that rises says how "
        "fine a detail may become before it is lost. Tasks that no reader tells from chance (figure of bounds) are "
        "left out. "
        f"{_words(table)} The CSV has all thresholds."
    )


def _words(table: pd.DataFrame) -> str:
    """The threshold over all tasks of each data set and regime."""
    words = []
    for row in table[(table["row"] == "threshold") & (table["task"] == ALL)].itertuples():
        value = row.why if np.isnan(row.left_px) else f"{row.left_px:.1f} px [{row.low:.1f}, {row.high:.1f}]"
        words.append(f"Threshold of {style.regime_label(row.regime)}-trained models on {row.dataset}: {value}.")
    return " ".join(words)

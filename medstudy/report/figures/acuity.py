"""Acuity curves: score against the size of the deciding detail, for every training regime and several rungs."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import acuity, summarise

TITLE = "Acuity: score against the size of the deciding detail"
RUNGS, ACROSS = 3, 3  # inference policies a panel, panels a row
FEWEST = 5  # image groups behind a point
COLUMNS = ["row", "dataset", "regime", "inference", "budget_pixels", "detail_px", "estimate", "low", "high",
           "chance", "n_questions", "n_images", "n_seeds", "why"]

EMPTY = pd.DataFrame(columns=COLUMNS)


def build(study: StudyData) -> pd.DataFrame:
    """Rows of three types (column `row`), each for a data set x regime x inference policy.

    "observed": mean score with interval of the questions in one octave of detail size (detail_px = its geometric
    middle), where at least five image groups have some. "fit": the psychometric curve at detail_px.
    "threshold": detail_px with its interval in low and high (px); NaN, with `why`, where it is not estimable.
    Data sets without any fit have thresholds only. Empty when there is no fit at all.
    """
    fine = selections.plain(study.scores).dropna(subset="detail_px")
    if fine.empty:
        return EMPTY
    chosen = fine[fine["inference"].isin(selections.evenly_spaced(selections.ladder(fine), RUNGS))]
    middle = 2 ** (np.floor(np.log2(chosen["detail_px"])) + 0.5)
    by = ["dataset", "regime", "inference", "budget_pixels"]
    observed = summarise(chosen.assign(detail_px=middle), [*by, "detail_px"], confidence=study.confidence).assign(
        row="observed"
    )
    observed = observed[observed["n_images"] >= FEWEST]
    cells = chosen.groupby(by, observed=True)
    fits = pd.concat(_fit(part, dict(zip(by, key, strict=True)), study) for key, part in cells)
    fitted = fits.loc[fits["row"] == "fit", "dataset"].unique()
    observed = observed[observed["dataset"].isin(fitted)]
    return pd.concat([observed, fits], ignore_index=True).reindex(columns=COLUMNS) if len(fitted) else EMPTY


def _fit(part: pd.DataFrame, key: dict, study: StudyData) -> pd.DataFrame:
    fit = acuity(part, confidence=study.confidence, n=min(study.resamples, 400))
    counts = {"chance": fit.chance, "n_questions": fit.n_questions, "n_images": fit.n_images, "n_seeds": fit.n_seeds}
    ends = {"detail_px": fit.threshold_px, "low": fit.low, "high": fit.high, "why": fit.why}
    threshold = pd.DataFrame([key | counts | ends | {"row": "threshold"}])
    if not fit.estimable:
        return threshold
    x = np.geomspace(part["detail_px"].min(), part["detail_px"].max(), 60)
    curve = pd.DataFrame({"detail_px": x, "estimate": fit.predict(x)}).assign(row="fit", **key, **counts)
    threshold["estimate"] = float(fit.predict(fit.threshold_px))
    return pd.concat([threshold, curve], ignore_index=True)


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One panel per data set with a fit and regime; colours are inference policies, dark (low) to light (native)."""
    table = table[table["dataset"].isin(table.loc[table["row"] == "fit", "dataset"])]
    panels = [
        (name, r) for name in selections.datasets(table) for r in selections.regimes(table[table["dataset"] == name])
    ]
    across, policies = min(ACROSS, len(panels)), selections.ladder(table)
    down = -(-len(panels) // across)
    fig = fig or style.new_figure(style.DOUBLE, 0.6 + 2.0 * down)
    axes = fig.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for index, (ax, (name, regime)) in enumerate(zip(axes, panels, strict=False)):
        _panel(ax, table[(table["dataset"] == name) & (table["regime"] == regime)], policies)
        style.letter(ax, index, f"{name}, {style.regime_label(regime)}")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    fig.supxlabel("size of the deciding detail, native px", fontsize=8)
    fig.supylabel("score, %", fontsize=8)
    looks = [Line2D([], [], label=style.rung_label(p), **_look(p, policies)) for p in policies]
    fig.legend(handles=looks, loc="outside upper center", ncols=len(looks), title="shown at")
    return fig


def _look(policy: str, policies: list[str]) -> dict:
    place = policies.index(policy) / max(1, len(policies) - 1)
    return {"color": matplotlib.colormaps["viridis"](0.82 * place), "marker": "osD^v<>"[policies.index(policy) % 7]}


def _panel(ax: Axes, table: pd.DataFrame, policies: list[str]) -> None:
    for k, policy in enumerate(policies):
        look, part = _look(policy, policies), table[table["inference"] == policy]
        colour = look["color"]
        seen = part[part["row"] == "observed"].sort_values("detail_px")
        x = seen["detail_px"] * 2 ** (0.09 * (k - (len(policies) - 1) / 2))
        error = [seen["estimate"] - seen["low"], seen["high"] - seen["estimate"]]
        ax.errorbar(x, seen["estimate"], error, fmt=look["marker"], color=colour, markersize=3.2, linewidth=0.8)
        curve = part[part["row"] == "fit"]
        ax.plot(curve["detail_px"], curve["estimate"], color=colour, linewidth=1.4)
        for row in part[part["row"] == "threshold"].dropna(subset="detail_px").itertuples():
            ends = np.clip([row.low, row.high], seen["detail_px"].min() / 2, seen["detail_px"].max() * 2)
            y = 0.03 + 0.035 * k
            ax.plot(ends, [y, y], color=colour, linewidth=1, transform=ax.get_xaxis_transform())
            ax.plot(row.detail_px, y, "|", color=colour, markersize=6, markeredgewidth=1.6,
                    transform=ax.get_xaxis_transform())
    ax.set_xscale("log", base=2)
    ticks = 2.0 ** np.arange(np.floor(np.log2(table["detail_px"].min())), np.log2(table["detail_px"].max()) + 0.5)
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(-0.02, 1.03)
    style.percent_axis(ax.yaxis)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    fine = selections.plain(study.scores).dropna(subset="detail_px")
    return (
        "**Question.** How small a detail can each model see, and does the inference resolution limit it? **Method.** "
        "Fine questions only; score against the size of the smallest feature that decides the answer, in native pixels "
        f"(log scale). Points are means over one octave of sizes with at least {FEWEST} independent images, shifted "
        "sideways where they coincide. Curves are psychometric fits to all single answers (logistic in log size, "
        f"chance fixed, lapse rate free). **n.** {captions.count_words(fine)}. Bars on points are "
        f"{captions.interval_words(study)}. Ticks at the bottom are thresholds, half-way between chance and ceiling, "
        f"with bootstrap {study.confidence:.0%} intervals over images and seeds. **How to read it.** The further left "
        f"a curve, the smaller the details that the model sees. Points without a curve: the fit was not estimable. "
        f"{_words(table)} The CSV has all thresholds."
    )


def _words(table: pd.DataFrame) -> str:
    """The thresholds at the highest rung by data set; for a data set without a fit, the first reason."""
    thresholds, words = table[table["row"] == "threshold"], []
    for name in selections.datasets(thresholds):
        part = thresholds[thresholds["dataset"] == name]
        top = part[part["inference"] == selections.ladder(part)[-1]]
        if part["detail_px"].isna().all():
            words.append(f"{name} is not drawn: {part['why'].iloc[0]}.")
            continue
        of = {row.regime: _pixels(row) for row in top.itertuples()}
        rows = [f"{style.regime_label(regime)} {of[regime]}" for regime in selections.regimes(top)]
        words.append(f"Thresholds of {name} shown at {top['inference'].iloc[0]}, by training: {'; '.join(rows)}.")
    return " ".join(words)


def _pixels(row: Any) -> str:
    if np.isnan(row.detail_px):
        return "not estimable"
    low = f"{row.low:.1f}" if row.low > 0 else "below the details shown"
    high = f"{row.high:.1f}" if np.isfinite(row.high) else "above the details shown"
    return f"{row.detail_px:.1f} px [{low}, {high}]"

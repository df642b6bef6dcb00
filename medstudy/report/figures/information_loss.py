"""Does a low budget cost information or tokens? The control down_up loses the first and keeps the second."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import summarise

TITLE = "Information loss against token count"
COLUMNS = ["dataset", "level", "regime", "inference", "control", "tokens", "estimate", "low", "high", "n_questions",
           "n_images", "n_seeds"]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x view, of the models evaluated with the down_up control (usually native).

    Views: native, each down_up rung, and the fixed rung of the same side. Empty without a down_up control.
    """
    rows = selections.tested(study.scores)
    controls = selections.controls(rows)
    controls = controls[controls["control"] == "down_up"]
    sides = {style.rung(policy) for policy in controls["inference"]}
    views = {"native", *controls["inference"], *(f"fixed-{side}" for side in sides)}
    controlled = rows["regime"].isin(controls["regime"].unique())
    chosen = rows[controlled & rows["inference"].isin(views) & rows["control"].isin(["none", "down_up"])]
    if controls.empty:
        return pd.DataFrame(columns=COLUMNS)
    by = ["dataset", "level", "regime", "inference", "control"]
    table = summarise(chosen, by, confidence=study.confidence)
    sizes = selections.shown_sizes(chosen, ["dataset", "inference"])[["dataset", "inference", "tokens"]]
    return table.merge(sizes, on=["dataset", "inference"])[COLUMNS]


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One row per data set, one column per level; one line per view, from native down."""
    names = selections.datasets(table)
    levels = style.levels(table)
    views = _order(table)
    fig = fig or style.new_figure(style.DOUBLE, 0.5 + len(names) * (0.5 + 0.2 * len(views)))
    axes = fig.subplots(len(names), len(levels), squeeze=False, sharex=True, sharey="row")
    for i, (row, name) in enumerate(zip(axes, names, strict=True)):
        for j, (ax, level) in enumerate(zip(row, levels, strict=True)):
            part = table[(table["dataset"] == name) & (table["level"] == level)]
            panel(part.set_index("inference").reindex(views), ax)
            style.letter(ax, i * len(levels) + j, f"{name}, {style.LEVEL_WORDS[level]}")
        tokens = table[table["dataset"] == name].drop_duplicates("inference").set_index("inference")["tokens"]
        row[0].set_yticks(range(len(views)), [f"{_label(v)} ({tokens[v]:.0f} tokens)" for v in views])
    for ax in axes[-1]:
        ax.set_xlabel("score, %")
    return fig


def _order(table: pd.DataFrame) -> list[str]:
    """native, then down_up and fixed for each side from high to low."""
    return sorted(
        table["inference"].unique(),
        key=lambda v: (v != "native", -(style.rung(v) or 0), v.startswith("fixed")),
    )


def _label(view: str) -> str:
    side = style.rung(view)
    if side is None:
        return view
    return f"down to {side}² and up again" if view.startswith("down_up") else f"down to {side}²"


def panel(part: pd.DataFrame, ax: Axes) -> Axes:
    """Points with intervals; blue keeps information and tokens, orange only the tokens, vermillion neither."""
    for y, (view, row) in enumerate(part.iterrows()):
        kind = view.split("-")[0]
        look = {"native": (style.BLUE, "o"), "down_up": (style.ORANGE, "d")}.get(kind, (style.VERMILLION, "s"))
        error = [[row["estimate"] - row["low"]], [row["high"] - row["estimate"]]]
        ax.errorbar(row["estimate"], y, xerr=error, color=look[0], fmt=look[1], markersize=5)
    if "native" in part.index:
        ax.axvspan(*part.loc["native", ["low", "high"]].astype(float), color=style.BLUE, alpha=0.08, linewidth=0)
    ax.set_ylim(len(part) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    style.percent_axis(ax.xaxis)
    return ax


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.controls(study.scores)
    rows = rows[rows["control"] == "down_up"]
    trained = captions.join([style.regime_label(r) for r in selections.regimes(table)])
    return (
        "**Question.** Does a low pixel budget hurt because details are lost, or because there are fewer visual "
        f"tokens? **Method.** The models trained at {trained} are shown each image at native size, downsampled to a "
        "budget (fewer pixels and tokens), and downsampled and upsampled again to its native size (details lost, "
        f"native token count kept). **n.** {captions.count_words(rows)}. Bars are {captions.interval_words(study)}; "
        "the blue band repeats the interval of native. **How to read it.** The step from native to 'down and up again' "
        "is what these models lose with the detail; models that used it better could lose more. The step from there to "
        "'down' is what fewer tokens, and a scale that the model was not trained at, add. Mean visual tokens of an "
        "image are in brackets."
    )

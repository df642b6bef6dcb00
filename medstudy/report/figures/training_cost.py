"""Score against what training cost (FLOPs, visual tokens, seconds), with the Pareto front."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.statistics import summarise

TITLE = "Score against training cost"
NEEDS_TRAINING = True  # a study without regimes cannot have it
COSTS = {"flops": "training, TFLOP", "visual_tokens": "training, visual tokens (thousands)",
         "seconds": "training, seconds"}
MEASURES = {"aligned": "at its own resolution", "ladder": "mean over the ladder"}
COLUMNS = ["dataset", "measure", "cost", "regime", "spent", "front", "estimate", "low", "high", "n_questions",
           "n_images", "n_seeds"]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x measure x cost x regime; spent in the units of `COSTS`, mean over seeds; front = Pareto.

    measure "aligned": at the policy that matches training (native for mixed, add and curriculum); "ladder": every
    rung weighs the same.
    """
    rows = selections.plain(study.scores)
    if rows.empty or study.training.empty:
        return pd.DataFrame(columns=COLUMNS)
    by = ["dataset", "regime"]
    scores = pd.concat(
        [summarise(part, by, confidence=study.confidence).assign(measure=name)
         for name, part in (("aligned", selections.aligned(study.scores)), ("ladder", rows))]
    )
    table = scores.merge(selections.spent(study.training), on="regime")
    front = [_front(part) for _, part in table.groupby(["dataset", "measure", "cost"])]
    return table.assign(front=pd.concat(front)).reset_index(drop=True)[COLUMNS]


def _front(part: pd.DataFrame) -> pd.Series:
    """True where no regime has a higher score for the same cost or less, nor the same score for less."""
    ordered = part.sort_values(["spent", "estimate"], ascending=[True, False])
    best_cheaper = ordered["estimate"].cummax().shift(fill_value=float("-inf"))
    return ordered["estimate"] > best_cheaper


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """One row per data set and measure, one column per cost; the step line joins the Pareto front."""
    names = selections.datasets(table)
    bands = [(name, measure) for name in names for measure in MEASURES]
    fig = fig or style.new_figure(style.DOUBLE, 0.5 + 1.6 * len(bands))
    axes = fig.subplots(len(bands), len(COSTS), squeeze=False, sharex="col", sharey="row")
    for i, (row, (name, measure)) in enumerate(zip(axes, bands, strict=True)):
        for ax, cost in zip(row, COSTS, strict=True):
            chosen = (table["dataset"] == name) & (table["measure"] == measure) & (table["cost"] == cost)
            panel(table[chosen], ax)
        style.letter(row[0], i, f"{name}, {MEASURES[measure]}")
        row[0].set_ylabel("score, %")
    for ax, label in zip(axes[-1], COSTS.values(), strict=True):
        ax.set_xlabel(label)
    style.regime_legend(fig, selections.regimes(table))
    return fig


def panel(table: pd.DataFrame, ax: Axes) -> Axes:
    """One cost: a point with interval for each regime, the front as steps."""
    front = table[table["front"]].sort_values("spent")
    ax.step(front["spent"], front["estimate"], where="post", color=style.GREY, linewidth=0.9, zorder=1)
    for row in table.itertuples():
        error = [[row.estimate - row.low], [row.high - row.estimate]]
        ax.errorbar(row.spent, row.estimate, error, linewidth=1, markersize=5, **_look(row.regime))
    ax.set_xlim(0, table["spent"].max() * 1.1)
    style.percent_axis(ax.yaxis)
    return ax


def _look(regime: str) -> dict[str, str]:
    look = style.regime_style(regime)
    return {"color": look["color"], "fmt": look["marker"]}


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    rows = selections.plain(study.scores)
    cost = table[table["cost"] == "flops"].drop_duplicates("regime").set_index("regime")["spent"]
    base = cost.get("native", cost.max())
    shares = ", ".join(f"{style.regime_label(r)} {cost[r] / base:.0%}" for r in selections.regimes(table))
    return (
        "**Question.** What does a score cost to train? **Method.** Cumulative cost at the end of training, averaged "
        "over seeds: floating-point operations by formula (forward and backward), visual tokens processed, and seconds "
        "of wall-clock time on the machine used. The upper row of a data set shows each regime at the policy that "
        "matches its training (native for mixed, add and curriculum regimes), the lower row the mean over all rungs. "
        f"**n.** {captions.count_words(rows)}. Bars are {captions.interval_words(study)}; costs have no interval. "
        "**How to read it.** The grey steps join the Pareto front of the estimates: no regime to the left of a step "
        f"scores higher. Where bars overlap, the front is uncertain. Operations relative to native: {shares}. "
        f"{captions.tower_words(study)}"
    )

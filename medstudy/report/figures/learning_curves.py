"""Learning curves: loss and validation loss against images seen and against visual tokens processed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medstudy.report import selections, style
from medstudy.report.study_data import StudyData

TITLE = "Learning curves"
NEEDS_TRAINING = True  # a study without regimes cannot have it
BINS = 40  # windows per run over which the training loss is averaged
LOSSES = {"loss": "training loss,\nnats a question", "val_loss": "validation loss,\nnats a question"}
AXES = {"images_seen": "images seen", "visual_tokens": "visual tokens, millions"}
COLUMNS = ["quantity", "regime", "seed", "images_seen", "visual_tokens", "value"]


def build(study: StudyData) -> pd.DataFrame:
    """Rows quantity (loss | val_loss), regime, seed (number or "mean"), images_seen, visual_tokens, value.

    The training loss is averaged over 40 equal windows of steps; the validation loss is as measured. "mean" is the
    mean over seeds at the same window.
    """
    if study.training.empty:
        return pd.DataFrame(columns=COLUMNS)
    runs = [_run(rows) for _, rows in study.training.groupby("run_id", sort=True)]
    seeds = pd.concat(runs, ignore_index=True)
    by = ["quantity", "regime", "window"]
    means = (
        seeds.groupby(by, as_index=False)[["images_seen", "visual_tokens", "value"]]
        .mean()
        .assign(seed="mean")
    )
    return pd.concat([seeds.assign(seed=seeds["seed"].astype(str)), means], ignore_index=True)[COLUMNS]


def _run(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.sort_values("step")
    windows = (
        np.minimum(np.arange(len(rows)) * BINS // len(rows), BINS - 1)
        if len(rows) > BINS
        else np.arange(len(rows))
    )
    x = ["images_seen", "visual_tokens"]
    train = rows.assign(window=windows).groupby("window", as_index=False)[[*x, "loss"]].mean()
    val = rows.dropna(subset="val_loss")
    val = val.assign(window=np.arange(len(val)))[["window", *x, "val_loss"]]
    parts = [
        part.rename(columns={name: "value"}).assign(quantity=name)
        for name, part in (("loss", train), ("val_loss", val))
    ]
    return pd.concat(parts).assign(regime=rows["regime"].iloc[0], seed=rows["seed"].iloc[0])


def draw(table: pd.DataFrame, fig: Figure | None = None) -> Figure:
    """Two by two panels: one row per loss, one column per x axis; thin lines are seeds, thick lines their mean."""
    fig = fig or style.new_figure(style.DOUBLE, 4.2)
    axes = fig.subplots(2, 2, sharey="row")
    for row, (quantity, ylabel) in zip(axes, LOSSES.items(), strict=True):
        for ax, (x, xlabel) in zip(row, AXES.items(), strict=True):
            _panel(ax, table[table["quantity"] == quantity], x)
            ax.set_xlabel(xlabel)
        row[0].set_ylabel(ylabel)
    for index, ax in enumerate(axes.flat):
        style.letter(ax, index)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig


def _panel(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    looks = {style.regime_label(r): style.regime_style(r) for r in selections.regimes(rows)}
    unit = 1e6 if x == "visual_tokens" else 1
    rows = rows.assign(regime=rows["regime"].map(style.regime_label), **{x: rows[x] / unit})
    mean = rows["seed"] == "mean"
    line = {"x": x, "y": "value", "hue": "regime", "hue_order": list(looks), "estimator": None, "ax": ax,
            "palette": {name: look["color"] for name, look in looks.items()}}
    seaborn.lineplot(rows[~mean], units="seed", linewidth=0.5, alpha=0.45, legend=False, **line)
    marked = {"style": "regime", "markers": {name: look["marker"] for name, look in looks.items()}, "dashes": False}
    points = rows[mean].groupby("regime").size().max()
    seaborn.lineplot(rows[mean], markevery=max(1, points // 8), markeredgewidth=0, linewidth=1.5, **marked, **line)
    ax.legend_.remove()


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    runs = table[table["seed"] != "mean"].groupby("regime")["seed"].nunique()
    n = ", ".join(f"{style.regime_label(r)} {runs[r]}" for r in selections.regimes(table))
    tokens = table.groupby("regime")["visual_tokens"].max() / 1e6
    cost = ", ".join(f"{style.regime_label(r)} {tokens[r]:.2f}" for r in selections.regimes(table))
    return (
        "**Question.** Has training converged in every regime, and how much does it process? **Method.** Mean "
        "cross-entropy of a question's answer tokens, in nats, averaged over questions. The training loss is averaged "
        "over windows of steps; the validation loss is measured on the validation split at the regime's own policy, so "
        "losses of different regimes belong to images shown at different sizes. "
        f"**n.** Seeds by regime: {n}. Thin lines are seeds (they show the whole spread, so there are no intervals), "
        "thick lines with markers their mean. **How to read it.** x is the number of images seen (a, c) or of visual "
        f"tokens processed by the language model (b, d); at the end of training, in millions: {cost}. If a validation "
        "loss still falls, the regimes are compared after equal training, not at convergence."
    )

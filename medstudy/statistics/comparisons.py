"""Comparisons of two conditions over the same questions: paired differences, interactions, ratios, Holm's correction.

Intervals follow `intervals` (Hillis 2014, with its departures): images and training seeds are both random. Scores are
subtracted question by question and seed by seed first, so effects that both conditions share cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import special
from statsmodels.stats.proportion import proportion_effectsize

from medstudy.errors import DataError
from medstudy.statistics.intervals import QUESTION, coded, spread, wilson


@dataclass(frozen=True)
class Difference:
    """Mean score of a minus mean score of b over the same questions; `effect` is Cohen's h (1988) of the two means.

    h = 2 asin(sqrt(mean_a)) - 2 asin(sqrt(mean_b)); about 0.2 is small, 0.5 medium, 0.8 large.
    """

    estimate: float
    low: float
    high: float
    p: float
    effect: float
    mean_a: float
    mean_b: float
    n_questions: int
    n_images: int
    n_seeds: int


@dataclass(frozen=True)
class RelativeChange:
    """mean_a / mean_b - 1 with its interval; NaN if mean_b is 0, and `note` says so."""

    estimate: float
    low: float
    high: float
    n_questions: int
    n_images: int
    n_seeds: int
    note: str = ""


def pairs(a: pd.DataFrame, b: pd.DataFrame, value: str = "score") -> pd.DataFrame:
    """One row per question and seed: columns image, run, question (codes), a, b, and the other columns of a.

    Seeds are paired by number, over the seeds that both conditions have. A condition with one seed, such as the base
    model, is compared with each seed of the other. Raises DataError if questions do not match.
    """
    a, b = _same_seeds(a[a[value].notna()], b[b[value].notna()])
    key = [*QUESTION, "seed"] + (["model"] if "model" in a and a["model"].nunique() > 1 else [])
    for name, side in (("a", a), ("b", b)):
        if side.duplicated(key).any():
            raise DataError(
                f"A condition has one row for each question and seed, but {name} has several. Select one regime, "
                "one inference policy and one control first."
            )
    both = a.merge(b[[*key, value]], on=key, suffixes=("", "_b"))
    if not len(both) == len(a) == len(b):
        raise DataError(
            f"Paired conditions answer the same questions, but a has {len(a)} answers, b has {len(b)}, and they share "
            f"{len(both)}."
        )
    rows = coded(both, value)
    return rows.assign(a=rows["value"], b=rows[f"{value}_b"].astype(float))


def _narrow(rows: pd.DataFrame, *more: str | None) -> pd.DataFrame:
    """The columns that a comparison needs; a join would carry all others along."""
    needed = (*QUESTION, "group", "seed", "model", *more)
    return rows[[name for name in rows if name in needed]]


def _same_seeds(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the seeds that both conditions have; a single seed is repeated for each seed of the other."""
    seeds_a, seeds_b = a["seed"].unique(), b["seed"].unique()
    if len(seeds_b) == 1 < len(seeds_a):
        b = pd.concat([b.assign(seed=seed) for seed in seeds_a])
    if len(seeds_a) == 1 < len(seeds_b):
        a = pd.concat([a.assign(seed=seed) for seed in seeds_b])
    common = set(a["seed"]) & set(b["seed"])
    if not common:
        raise DataError(
            f"Paired conditions share a training seed, but a has {sorted(seeds_a)} and b has {sorted(seeds_b)}. "
            "Run the missing seeds."
        )
    return a[a["seed"].isin(common)], b[b["seed"].isin(common)]


def paired_difference(
    a: pd.DataFrame, b: pd.DataFrame, value: str = "score", confidence: float = 0.95, macro: str | None = None
) -> Difference:
    """a minus b over the same questions, clustered by image and seed, with a two-sided p value of no difference.

    macro: a column, such as "task", each value of which has the same weight, however many questions it has.
    If the differences do not vary, the width is Wilson's for 0 events in as many image clusters.
    """
    rows = pairs(_narrow(a, value, macro), b, value)
    weight = 1 / rows.groupby(macro, observed=True)["a"].transform("size") if macro else pd.Series(1.0, rows.index)
    weight = weight / weight.sum()
    mean_a, mean_b = float((weight * rows["a"]).sum()), float((weight * rows["b"]).sum())
    influence = weight * (rows["a"] - rows["b"] - mean_a + mean_b)
    effect = float(proportion_effectsize(min(1.0, mean_a), min(1.0, mean_b)))
    return _difference(rows, influence, mean_a, mean_b, confidence, effect, bound=1.0)


def contrast(
    a: pd.DataFrame, b: pd.DataFrame, column: str, first: str, second: str, value: str = "score",
    confidence: float = 0.95,
) -> Difference:
    """The interaction of condition and column: (a - b) where `column` is `first`, minus (a - b) where it is `second`.

    mean_a and mean_b of the result are the two differences; `effect` does not apply and is NaN.
    """
    rows = pairs(_narrow(a, value, column), b, value)
    rows = rows[rows[column].isin([first, second])]
    if rows[column].nunique() != 2:
        raise DataError(
            f"A contrast needs rows with {column} = {first!r} and with {second!r}, but got only "
            f"{sorted(rows[column].astype(str).unique())}."
        )
    gain, cell = rows["a"] - rows["b"], rows[column].astype(str)
    means, counts = gain.groupby(cell).mean(), cell.value_counts()
    influence = cell.map({first: 1.0, second: -1.0}) * (gain - cell.map(means)) / cell.map(counts)
    nan = float("nan")
    return _difference(rows, influence, float(means[first]), float(means[second]), confidence, nan, bound=2.0)


def _difference(
    rows: pd.DataFrame, influence: pd.Series, mean_a: float, mean_b: float, confidence: float, effect: float,
    bound: float,
) -> Difference:
    """mean_a - mean_b with the interval from each row's influence; both ends stay within ±bound."""
    sizes = spread(rows["image"].to_numpy(), rows["run"].to_numpy(), influence.to_numpy())
    estimate, margin = mean_a - mean_b, sizes.margin(1 - confidence)
    low, high = max(-bound, estimate - margin), min(bound, estimate + margin)
    return Difference(estimate, low, high, sizes.p_value(estimate), effect, mean_a, mean_b,
                      rows["question"].nunique(), sizes.n_images, sizes.n_seeds)


def differences(
    a: pd.DataFrame, b: pd.DataFrame, by: Sequence[str], value: str = "score", confidence: float = 0.95
) -> pd.DataFrame:
    """`paired_difference` in every cell of `by`, with Holm's p values over the family of cells and its size."""
    by = list(by)
    cells_b = dict(list(b.groupby(by, sort=True, observed=True)))
    rows = []
    for key, cell_a in a.groupby(by, sort=True, observed=True):
        if key not in cells_b:
            raise DataError(f"Both conditions need rows in every cell, but b has none where {by} is {key}.")
        difference = paired_difference(cell_a, cells_b[key], value, confidence)
        rows.append(dict(zip(by, key, strict=True)) | asdict(difference))
    table = pd.DataFrame(rows)
    return table.assign(**holm(table["p"])[["p_holm", "family_size"]])


def relative_change(a: pd.DataFrame, b: pd.DataFrame, value: str = "score", confidence: float = 0.95) -> RelativeChange:
    """mean(a) / mean(b) - 1 over the same questions, with the interval of the log ratio (delta method).

    If every answer of a is wrong, the log is undefined: the upper end is then Wilson's for a, divided by mean(b).
    """
    rows = pairs(_narrow(a, value), b, value)
    counts = rows["question"].nunique(), rows["image"].nunique(), rows["run"].nunique()
    mean_a, mean_b = float(rows["a"].mean()), float(rows["b"].mean())
    if mean_b == 0:
        return RelativeChange(np.nan, np.nan, np.nan, *counts, note="the score to compare with is 0")
    ratio = mean_a / mean_b
    # influence of each row on log(mean_a / mean_b)
    influence = (rows["a"] / max(mean_a, 1e-300) - rows["b"] / mean_b).to_numpy() / len(rows)
    sizes = spread(rows["image"].to_numpy(), rows["run"].to_numpy(), influence)
    if mean_a == 0:
        top = wilson(0.0, sizes.n_images, special.ndtri((1 + confidence) / 2))[1]
        return RelativeChange(-1.0, -1.0, top / mean_b - 1, *counts)
    margin = sizes.margin(1 - confidence)
    low, high = (float(ratio * np.exp(m) - 1) for m in (-margin, margin))
    return RelativeChange(ratio - 1, low, high, *counts)


def holm(p: pd.Series | dict) -> pd.DataFrame:
    """Holm's step-down p values (1979, Scand J Stat 6:65), in the given order; columns p, p_holm, family_size."""
    p = pd.Series(p, dtype=float)
    order = np.argsort(p.to_numpy())
    steps = np.maximum.accumulate(p.to_numpy()[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1)
    return pd.DataFrame({"p": p, "p_holm": adjusted, "family_size": len(p)}, index=p.index)

"""Comparisons of two conditions over the same questions: paired differences, interactions, ratios, Holm's correction.

Intervals follow `intervals` (Hillis 2014, with its departures): images and training seeds are both random. Scores are
subtracted question by question, so what makes a question hard for both conditions cancels. If both conditions are of
the same models, such as native models at two rungs, training noise cancels too. If they are of different regimes, their
trainings are independent (`intervals.two_regimes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import special
from statsmodels.stats.proportion import proportion_effectsize

from medstudy.errors import DataError
from medstudy.statistics.intervals import QUESTION, Spread, coded, codes, spread, two_regimes, wilson

Measure = Callable[[pd.DataFrame, pd.Series, pd.Series], Spread]


@dataclass(frozen=True)
class Difference:
    """Mean score of a minus mean score of b over the same questions; `effect` is Cohen's h (1988) of the two means.

    h = 2 asin(sqrt(mean_a)) - 2 asin(sqrt(mean_b)); about 0.2 is small, 0.5 medium, 0.8 large. `spread`: the variances
    behind the interval.
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
    spread: Spread


@dataclass(frozen=True)
class RelativeChange:
    """mean_a / mean_b - 1 with its interval, and the variances of log(mean_a / mean_b) that it was made of.

    `note` is set where the ratio says little: mean_b is 0, and the numbers are NaN; or the interval of mean_b includes
    0, and the interval is bounded: from -1 (mean_a is 0) to 1 / mean_b - 1 (mean_a is 1).
    """

    estimate: float
    low: float
    high: float
    n_questions: int
    n_images: int
    n_seeds: int
    note: str = ""
    spread: Spread | None = None


def pairs(a: pd.DataFrame, b: pd.DataFrame, value: str = "score", by: Sequence[str] = ()) -> pd.DataFrame:
    """One row per question and seed: columns image, run, question (codes), a, b, and the other columns of a.

    by: columns whose values each have rows of their own, such as the labels of questions that have several.

    Seeds are paired by number, over the seeds that both conditions have. A condition with one seed, such as the base
    model, is compared with each seed of the other. Raises DataError if questions do not match.
    """
    a, b = _same_seeds(a[a[value].notna()], b[b[value].notna()])
    key = [*QUESTION, "seed", *by] + (["model"] if "model" in a and a["model"].nunique() > 1 else [])
    for name, side in (("a", a), ("b", b)):
        if len(np.unique(codes(side, key))) < len(side):
            raise DataError(
                f"A condition has one row for each question and seed, but {name} has several. Select one regime, "
                "one inference policy and one control first."
            )
    in_order = len(a) == len(b) and all(np.array_equal(a[name].to_numpy(), b[name].to_numpy()) for name in key)
    if in_order:  # the usual case; a join gives the same in ten times the time
        both = a.reset_index(drop=True).assign(**{f"{value}_b": b[value].to_numpy()})
    else:
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
    common = set(a["seed"].unique()) & set(b["seed"].unique())
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

    macro: a column, such as "task", whose values all get the same weight, regardless of their number of questions.
    If the differences do not vary, the width is Wilson's for 0 events in as many image clusters.
    """
    return _paired(pairs(_narrow(a, value, macro), b, value), _measure(a, b), confidence, macro)


def _paired(rows: pd.DataFrame, measure: Measure, confidence: float, macro: str | None = None) -> Difference:
    """`paired_difference` of rows of `pairs`."""
    weight = 1 / rows.groupby(macro, observed=True)["a"].transform("size") if macro else pd.Series(1.0, rows.index)
    weight = weight / weight.sum()
    mean_a, mean_b = float((weight * rows["a"]).sum()), float((weight * rows["b"]).sum())
    sizes = measure(rows, weight * (rows["a"] - mean_a), weight * (mean_b - rows["b"]))
    effect = float(proportion_effectsize(min(1.0, mean_a), min(1.0, mean_b)))
    return _difference(rows, sizes, mean_a, mean_b, confidence, effect, bound=1.0)


def _measure(a: pd.DataFrame, b: pd.DataFrame) -> Measure:
    """The function (rows of `pairs`, influence of a, influence of b) -> variances, for one regime or for two."""
    both = "regime" in a and "regime" in b
    trained_apart = both and not set(a["regime"].unique()) & set(b["regime"].unique())

    def measure(rows: pd.DataFrame, of_a: pd.Series, of_b: pd.Series) -> Spread:
        where = rows["image"].to_numpy(), rows["run"].to_numpy()
        of_a, of_b = of_a.to_numpy(), of_b.to_numpy()
        return two_regimes(*where, of_a, of_b) if trained_apart else spread(*where, of_a + of_b)

    return measure


def contrast(
    a: pd.DataFrame, b: pd.DataFrame, column: str, first: str, second: str, value: str = "score",
    confidence: float = 0.95,
) -> Difference:
    """The interaction of condition and column: (a - b) where `column` is `first`, minus (a - b) where it is `second`.

    mean_a and mean_b of the result are the two differences; `effect` does not apply and is NaN.
    """
    rows, measure = pairs(_narrow(a, value, column), b, value), _measure(a, b)
    rows = rows[rows[column].isin([first, second])]
    if rows[column].nunique() != 2:
        raise DataError(
            f"A contrast needs rows with {column} = {first!r} and with {second!r}, but got only "
            f"{sorted(rows[column].astype(str).unique())}."
        )
    cell, sides = rows[column].astype(str), rows[["a", "b"]]
    weight = cell.map({first: 1.0, second: -1.0}) / cell.map(cell.value_counts())
    apart = sides - sides.groupby(cell).transform("mean")
    sizes = measure(rows, weight * apart["a"], -weight * apart["b"])
    means, nan = (rows["a"] - rows["b"]).groupby(cell).mean(), float("nan")
    return _difference(rows, sizes, float(means[first]), float(means[second]), confidence, nan, bound=2.0)


def _difference(
    rows: pd.DataFrame, sizes: Spread, mean_a: float, mean_b: float, confidence: float, effect: float, bound: float
) -> Difference:
    """mean_a - mean_b with the interval from these variances; both ends stay within ±bound."""
    estimate, margin = mean_a - mean_b, sizes.margin(1 - confidence)
    low, high = max(-bound, estimate - margin), min(bound, estimate + margin)
    return Difference(estimate, low, high, sizes.p_value(estimate), effect, mean_a, mean_b,
                      rows["question"].nunique(), sizes.n_images, sizes.n_seeds, sizes)


def differences(
    a: pd.DataFrame, b: pd.DataFrame, by: Sequence[str], value: str = "score", confidence: float = 0.95
) -> pd.DataFrame:
    """`paired_difference` in every cell of `by`, with Holm's p values over the family of cells and its size.

    `by` belongs to the question: a and b have the same values. Raises DataError otherwise.
    """
    by = list(by)
    rows, measure = pairs(_narrow(a, value, *by), b, value, by), _measure(a, b)
    cells = []
    for key, cell in rows.groupby(by, sort=True, observed=True):
        difference = asdict(_paired(cell, measure, confidence))
        cells.append(dict(zip(by, key, strict=True)) | {k: v for k, v in difference.items() if k != "spread"})
    table = pd.DataFrame(cells)
    return table.assign(**holm(table["p"])[["p_holm", "family_size"]])


def relative_change(a: pd.DataFrame, b: pd.DataFrame, value: str = "score", confidence: float = 0.95) -> RelativeChange:
    """mean(a) / mean(b) - 1 over the same questions, with the interval of the log ratio (delta method).

    If every answer of a is wrong, the log is undefined: the upper end is then Wilson's for a, divided by mean(b). If
    the interval of mean(b) includes 0, no finite interval has the coverage (Fieller 1954): see `RelativeChange`.
    """
    rows, measure = pairs(_narrow(a, value), b, value), _measure(a, b)
    counts = rows["question"].nunique(), rows["image"].nunique(), rows["run"].nunique()
    mean_a, mean_b = float(rows["a"].mean()), float(rows["b"].mean())
    if mean_b == 0:
        return RelativeChange(np.nan, np.nan, np.nan, *counts, note="the score to compare with is 0")
    ratio, n = mean_a / mean_b, len(rows)
    # influence of each row on log(mean_a) and on -log(mean_b)
    of_a, of_b = (rows["a"] - mean_a) / max(mean_a, 1e-300) / n, (mean_b - rows["b"]) / mean_b / n
    if _includes_zero(rows, of_b * mean_b, mean_b, confidence):
        note = "the interval of the score to compare with includes 0"
        return RelativeChange(ratio - 1, -1.0, 1 / mean_b - 1, *counts, note)
    sizes = measure(rows, of_a, of_b)
    if mean_a == 0:
        top = wilson(0.0, sizes.n_images, special.ndtri((1 + confidence) / 2))[1]
        return RelativeChange(-1.0, -1.0, top / mean_b - 1, *counts)
    margin = sizes.margin(1 - confidence)
    low, high = (float(ratio * np.exp(m) - 1) for m in (-margin, margin))
    return RelativeChange(ratio - 1, low, high, *counts, spread=sizes)


def _includes_zero(rows: pd.DataFrame, influence: pd.Series, mean: float, confidence: float) -> bool:
    """Whether the symmetric interval of a mean, from each row's influence on it, includes 0."""
    sizes = spread(rows["image"].to_numpy(), rows["run"].to_numpy(), influence.to_numpy())
    return sizes.known and sizes.margin(1 - confidence) >= mean


def holm(p: pd.Series | dict) -> pd.DataFrame:
    """Holm's step-down p values (1979, Scand J Stat 6:65), in the given order; columns p, p_holm, family_size."""
    p = pd.Series(p, dtype=float)
    order = np.argsort(p.to_numpy())
    steps = np.maximum.accumulate(p.to_numpy()[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1)
    return pd.DataFrame({"p": p, "p_holm": adjusted, "family_size": len(p)}, index=p.index)

"""Draws of many means at once, for what is not a mean: robustness over the ladder, the worst of many.

Images are resampled with multinomial weights (all their questions, regimes and rungs together, so pairing
is kept). Three seeds are too few to resample: their deviations, shrunk to the part that is training noise and
not image noise, enter with t-distributed weights of S - 1 degrees of freedom, as in `medstudy.intervals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from medstudy.errors import DataError
from medstudy.intervals import coded


@dataclass(frozen=True)
class Draws:
    """Means of K cells and their B draws: labels [K], means [K], draws [B, K]."""

    labels: list[tuple]
    means: np.ndarray
    draws: np.ndarray
    n_questions: int
    n_images: int
    n_seeds: int

    def of(self, *label) -> int:
        """The index of the cell with this label."""
        return self.labels.index(label)


def draw_means(scores: pd.DataFrame, by: Sequence[str], value: str = "score", n: int = 2000,
               seed: int = 0) -> Draws:
    """The mean of every cell of `by`, and n draws of all of them together.

    Every cell must have been answered for the same images, by the same number of seeds.
    """
    rows = coded(scores, value)
    image, run = (np.unique(rows[c], return_inverse=True)[1] for c in ("image", "run"))
    cells = rows.groupby(list(by), sort=True, observed=True)
    cell, labels = cells.ngroup().to_numpy(), [key if isinstance(key, tuple) else (key,) for key in cells.size().index]
    shape = (image.max() + 1, run.max() + 1, len(labels))
    where = np.ravel_multi_index((image, run, cell), shape)
    sums = np.bincount(where, rows["value"], np.prod(shape)).reshape(shape)
    counts = np.bincount(where, minlength=np.prod(shape)).reshape(shape).astype(float)
    if not counts.sum(axis=0).all():
        raise DataError(f"draws need every cell of {list(by)} answered by every seed; "
                        f"{int((counts.sum(axis=0) == 0).sum())} of {shape[1] * shape[2]} have no answer")
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(shape[0], np.full(shape[0], 1 / shape[0]), size=n).astype(float)
    totals, sizes = weights @ sums.sum(axis=1), weights @ counts.sum(axis=1)
    means = sums.sum(axis=(0, 1)) / counts.sum(axis=(0, 1))
    images = np.divide(totals, sizes, out=np.tile(means, (n, 1)), where=sizes > 0)
    draws = np.clip(images + _seed_noise(sums, counts, means, n, rng), 0, 1)
    return Draws(labels, means, draws, int(rows["question"].nunique()), shape[0], shape[1])


def _seed_noise(sums, counts, means, n: int, rng) -> np.ndarray:
    """[n, K] draws of the training noise in the means of K cells; 0 when there is one seed."""
    n_images, n_seeds, _ = sums.shape
    if n_seeds < 2 or n_images < 2:
        return np.zeros((n, len(means)))
    deviation = sums.sum(axis=0) / counts.sum(axis=0) - means  # [S, K]
    table = (sums - means * counts) / counts.mean(axis=(0, 1))  # [I, S, K]
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean(axis=(0, 1))
    noise = (rest**2).sum(axis=(0, 1)) / ((n_images - 1) * (n_seeds - 1)) / n_images
    seen = deviation.var(axis=0, ddof=1)
    share = np.sqrt(np.clip(1 - np.divide(noise, seen, out=np.ones_like(seen), where=seen > 0), 0, 1))
    weights = rng.normal(size=(n, n_seeds)) / np.sqrt(n_seeds * (n_seeds - 1))
    weights /= np.sqrt(rng.chisquare(n_seeds - 1, size=(n, 1)) / (n_seeds - 1))
    return weights @ (share * deviation)


def simultaneous(estimates: np.ndarray, draws: np.ndarray,
                 level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends [K] that hold for all K estimates together, by the largest studentised deviation.

    The smallest (or largest) of the lower and of the upper ends is then an interval for the smallest
    (largest) of the true values: what is needed when the worst of many is picked after seeing them.
    """
    size = np.maximum(draws.std(axis=0, ddof=1), 1e-12)
    width = np.quantile(np.abs((draws - estimates) / size).max(axis=1), level) * size
    return estimates - width, estimates + width


def bias_corrected(estimate: float, draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Efron's bias-corrected percentile interval (https://doi.org/10.2307/2289144), NaN draws left out."""
    draws = draws[~np.isnan(draws)]
    if np.isnan(estimate) or not len(draws):
        return float("nan"), float("nan")
    below = np.clip(((draws < estimate).mean() + (draws <= estimate).mean()) / 2, 1e-3, 1 - 1e-3)
    shift = 2 * stats.norm.ppf(below)
    ends = stats.norm.cdf(shift + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(draws, ends)
    return float(min(low, estimate)), float(max(high, estimate))


# Robustness over the resolution ladder, as in Res-Bench (https://arxiv.org/abs/2510.16926)

def spearman(curves: np.ndarray) -> np.ndarray:
    """[..., R] scores by ascending resolution -> rank correlation with resolution; NaN for a flat curve."""
    ranks = stats.rankdata(curves, axis=-1)
    rungs = np.arange(1, curves.shape[-1] + 1)
    ranks, rungs = ranks - ranks.mean(axis=-1, keepdims=True), rungs - rungs.mean()
    size = np.sqrt((ranks**2).sum(axis=-1) * (rungs**2).sum())
    return np.divide((ranks * rungs).sum(axis=-1), size, out=np.full(size.shape, np.nan), where=size > 0)


def ace(curves: np.ndarray) -> np.ndarray:
    """Absolute continuous error: the sum of |s(i+1) - s(i)| along the ladder, [..., R] -> [...]."""
    return np.abs(np.diff(curves, axis=-1)).sum(axis=-1)


def rce(curves: np.ndarray) -> np.ndarray:
    """Relative continuous error: ACE over the ladder's mean score, 0 where that is 0."""
    mean = curves.mean(axis=-1)
    return np.divide(ace(curves), mean, out=np.zeros_like(mean), where=mean > 0)


def robustness(scores: pd.DataFrame, by: Sequence[str] = ("regime",), value: str = "score",
               level: float = 0.95, n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Spearman's rho, ACE and RCE of each cell's curve over the inference ladder, with intervals.

    Pass the ladder only (control "none"); rungs are ordered by `budget_pixels`. ACE adds up noise as if it
    were change, hence the bias-corrected interval. Columns: by, measure, estimate, low, high and the counts.
    """
    out = []
    for key, part in scores.groupby(list(by), sort=True, observed=True):
        drawn = draw_means(part, ["budget_pixels"], value, n, seed)
        for name, measure in (("spearman", spearman), ("ace", ace), ("rce", rce)):
            estimate = float(measure(drawn.means[None])[0])
            low, high = bias_corrected(estimate, measure(drawn.draws), level)
            out.append(dict(zip(by, key, strict=True)) | dict(
                measure=name, estimate=estimate, low=low, high=high, n_questions=drawn.n_questions,
                n_images=drawn.n_images, n_seeds=drawn.n_seeds))
    return pd.DataFrame(out)

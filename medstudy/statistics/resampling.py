"""Joint draws of many means, for statistics that are not means: robustness over the ladder.

A cluster bootstrap (Davison and Hinkley 1997, section 3.8): images are resampled with multinomial weights, all their
questions, regimes and rungs together, so pairing is kept. Departure: three seeds are too few to resample. Their
deviations, shrunk to the part that is training noise and not image noise, enter with t-distributed weights of S - 1
degrees of freedom, as in `intervals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from medstudy.errors import DataError
from medstudy.statistics.intervals import coded


@dataclass(frozen=True)
class Draws:
    """Means of K cells and B joint draws of them: labels [K], means [K], draws [B, K]."""

    labels: list[tuple]
    means: np.ndarray
    draws: np.ndarray
    n_questions: int
    n_images: int
    n_seeds: int

    def of(self, *label: object) -> int:
        """The index of the cell with this label."""
        return self.labels.index(label)


def draw_means(scores: pd.DataFrame, by: Sequence[str], value: str = "score", n: int = 2000, seed: int = 0) -> Draws:
    """The mean of every cell of `by`, and n joint draws of all of them.

    Every cell must hold answers of every seed. Raises DataError otherwise.
    """
    rows = coded(scores, value)
    image, run = (np.unique(rows[c], return_inverse=True)[1] for c in ("image", "run"))
    cells = rows.groupby(list(by), sort=True, observed=True)
    cell, labels = cells.ngroup().to_numpy(), [key if isinstance(key, tuple) else (key,) for key in cells.size().index]
    # sums and counts of the scores in each image x seed x cell
    shape = (image.max() + 1, run.max() + 1, len(labels))
    where = np.ravel_multi_index((image, run, cell), shape)
    sums = np.bincount(where, rows["value"], np.prod(shape)).reshape(shape)
    counts = np.bincount(where, minlength=np.prod(shape)).reshape(shape).astype(float)
    if not counts.sum(axis=0).all():
        raise DataError(
            f"Draws need an answer of every seed in every cell of {list(by)}, but "
            f"{int((counts.sum(axis=0) == 0).sum())} of {shape[1] * shape[2]} have none."
        )
    # resample images: each draw weighs them, then takes the mean of each cell
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(shape[0], np.full(shape[0], 1 / shape[0]), size=n).astype(float)
    totals, sizes = weights @ sums.sum(axis=1), weights @ counts.sum(axis=1)
    means = sums.sum(axis=(0, 1)) / counts.sum(axis=(0, 1))
    # a draw that leaves a cell without images keeps its mean
    images = np.divide(totals, sizes, out=np.tile(means, (n, 1)), where=sizes > 0)
    draws = np.clip(images + _seed_noise(sums, counts, means, n, rng), 0, 1)
    return Draws(labels, means, draws, int(rows["question"].nunique()), shape[0], shape[1])


def _seed_noise(
    sums: np.ndarray, counts: np.ndarray, means: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """[n, K] draws of the training noise in the means of K cells, from sums and counts [I, S, K]; 0 with one seed."""
    n_images, n_seeds, _ = sums.shape
    if n_seeds < 2 or n_images < 2:
        return np.zeros((n, len(means)))
    # deviation of each seed from the mean, and the noise in it that comes from images
    deviation = sums.sum(axis=0) / counts.sum(axis=0) - means  # [S, K]
    table = (sums - means * counts) / counts.mean(axis=(0, 1))  # [I, S, K]
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean(axis=(0, 1))
    noise = (rest**2).sum(axis=(0, 1)) / ((n_images - 1) * (n_seeds - 1)) / n_images
    # the part of the observed variance that is training noise
    observed = deviation.var(axis=0, ddof=1)
    share = np.sqrt(np.clip(1 - np.divide(noise, observed, out=np.ones_like(observed), where=observed > 0), 0, 1))
    # t-distributed weights: normal ones over the square root of a chi-squared one
    weights = rng.normal(size=(n, n_seeds)) / np.sqrt(n_seeds * (n_seeds - 1))
    weights /= np.sqrt(rng.chisquare(n_seeds - 1, size=(n, 1)) / (n_seeds - 1))
    return weights @ (share * deviation)


def bias_corrected(estimate: float, draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Efron's bias-corrected percentile interval (1987, https://doi.org/10.2307/2289144).

    Departures: no acceleration constant, NaN draws are left out, and the interval always holds the estimate.
    """
    draws = draws[~np.isnan(draws)]
    if np.isnan(estimate) or not len(draws):
        return float("nan"), float("nan")
    below = np.clip(((draws < estimate).mean() + (draws <= estimate).mean()) / 2, 1e-3, 1 - 1e-3)
    shift = 2 * stats.norm.ppf(below)
    ends = stats.norm.cdf(shift + stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(draws, ends)
    return float(min(low, estimate)), float(max(high, estimate))

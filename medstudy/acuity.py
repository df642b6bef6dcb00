"""Acuity: accuracy against the size of the detail that decides the answer, and the size at its midpoint.

The curve is psi(d) = g + (1 - g)(1 - l) logistic(k (log2 d - log2 d0)), with d the detail in native pixels, g
the chance of guessing right (fixed, of each question), l the lapse: the share of informed answers lost
however large the detail. The threshold d0 is where psi stands half-way between guessing and its ceiling
(Wichmann and Hill 2001, https://doi.org/10.3758/BF03194544). The likelihood stands on a grid,
one row an image and seed, so a bootstrap over images and seeds is one matrix product; fractional scores count
as shares of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from medstudy.errors import DataError
from medstudy.intervals import coded

SLOPES = np.geomspace(0.5, 8, 7)  # logits an octave at the midpoint
LAPSES = np.array([0, 0.03, 0.08, 0.15, 0.25, 0.35, 0.5])
STEPS_AN_OCTAVE = 12
MARGIN_OCTAVES = 1.0  # how far beyond the sizes shown the grid looks, to notice that it has to
MIN_SIZES, MIN_IMAGES = 4, 10


@dataclass(frozen=True)
class Acuity:
    """A fitted curve; when not `estimable`, threshold, low and high are NaN and `why` says what was missing.

    low is 0, or high infinite, when more resamples than the interval's tail put the threshold beyond the
    smallest or largest detail shown. `chance` is the mean over questions.
    """

    threshold_px: float
    low: float
    high: float
    slope: float
    lapse: float
    chance: float
    estimable: bool
    why: str
    n_questions: int
    n_images: int
    n_seeds: int

    def predict(self, detail_px) -> np.ndarray:
        """Accuracy at these sizes (native pixels), at the mean chance; NaN when not estimable."""
        x = np.log2(np.asarray(detail_px, float))
        return _psi(x, self.chance, np.log2(self.threshold_px), self.slope, self.lapse)


def _psi(x, chance, x0, slope, lapse):
    return chance + (1 - chance) * (1 - lapse) / (1 + np.exp(-slope * (x - x0)))


def acuity(scores: pd.DataFrame, value: str = "score", level: float = 0.95, n: int = 400,
           seed: int = 0) -> Acuity:
    """The curve of one regime and inference policy over its fine questions (needs detail_px, chance)."""
    fine = scores[scores["detail_px"].notna()]
    if fine.empty:
        raise DataError("acuity needs fine questions (with a detail_px); every row is a coarse control")
    if fine["chance"].isna().any():
        raise DataError("acuity needs every question's chance of a right guess; choices need options")
    rows = coded(fine, value)
    x = _rounded(np.log2(rows["detail_px"].to_numpy(float)))
    counts = rows["question"].nunique(), rows["image"].nunique(), rows["run"].nunique()
    if len(np.unique(x)) < MIN_SIZES or counts[1] < MIN_IMAGES:
        return _failed(rows, counts, f"needs {MIN_SIZES} sizes and {MIN_IMAGES} images; has "
                       f"{len(np.unique(x))} and {counts[1]}")
    grid, likelihood = _likelihood(rows, x)
    best = grid[likelihood.sum(axis=(0, 1)).argmax()]
    x0, slope, lapse = _polish(rows, x, best)
    inside = (x.min(), x.max())
    if not inside[0] < x0 < inside[1]:
        side = "below the smallest" if x0 <= inside[0] else "above the largest"
        return _failed(rows, counts, f"the midpoint lies {side} detail shown "
                       f"({2 ** inside[0]:.1f} to {2 ** inside[1]:.1f} px)")
    drawn = grid[_bootstrap(likelihood, n, seed), 0]
    beyond = (drawn <= inside[0]).mean() + (drawn >= inside[1]).mean()
    if beyond > 0.25:
        return _failed(rows, counts, f"{beyond:.0%} of resamples put the midpoint beyond the details shown")
    low, high = _ends(drawn, x0, inside, level)
    return Acuity(float(2**x0), low, high, float(slope), float(lapse), float(rows["chance"].mean()), True, "",
                  *counts)


def acuity_table(scores: pd.DataFrame, by: Sequence[str], value: str = "score", level: float = 0.95,
                 n: int = 400, seed: int = 0) -> pd.DataFrame:
    """`acuity` of every cell of `by`, one row a cell, coarse questions left out."""
    cells = scores[scores["detail_px"].notna()].groupby(list(by), sort=True, observed=True)
    return pd.DataFrame([dict(zip(by, key, strict=True)) | asdict(acuity(part, value, level, n, seed))
                         for key, part in cells])


def _rounded(x: np.ndarray) -> np.ndarray:
    """Sizes in octaves, rounded to a 32nd of one (2 %) where there are very many."""
    return x if len(np.unique(x)) <= 64 else np.round(x * 32) / 32


def _likelihood(rows: pd.DataFrame, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters [G, 3] (x0, slope, lapse) and the log-likelihood of every image and seed [I, S, G]."""
    centres = np.arange(x.min() - MARGIN_OCTAVES, x.max() + MARGIN_OCTAVES + 1e-9, 1 / STEPS_AN_OCTAVE)
    grid = np.stack(np.meshgrid(centres, SLOPES, LAPSES, indexing="ij"), axis=-1).reshape(-1, 3)
    kinds, kind = np.unique(np.stack([x, rows["chance"]], axis=1), axis=0, return_inverse=True)
    psi = _psi(kinds[:, :1], kinds[:, 1:], *grid.T[:, None])
    psi = np.clip(psi, 1e-3, 1 - 1e-3)  # [sizes x chances, G]; no single slip is worth more than 7 nats
    image, run = (np.unique(rows[c], return_inverse=True)[1] for c in ("image", "run"))
    shape = (image.max() + 1, run.max() + 1, len(kinds))
    where = np.ravel_multi_index((image, run, kind.ravel()), shape)
    right = np.bincount(where, rows["value"], np.prod(shape)).reshape(shape)
    wrong = np.bincount(where, 1 - rows["value"], np.prod(shape)).reshape(shape)
    return grid, right @ np.log(psi) + wrong @ np.log(1 - psi)


def _polish(rows: pd.DataFrame, x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The maximum near the best grid point: x0, slope, lapse."""
    chance, value = rows["chance"].to_numpy(), rows["value"].to_numpy()

    def loss(p):
        psi = np.clip(_psi(x, chance, *p), 1e-3, 1 - 1e-3)
        return -(value * np.log(psi) + (1 - value) * np.log(1 - psi)).mean()
    bounds = [(start[0] - 0.25, start[0] + 0.25), (SLOPES[0], SLOPES[-1]), (LAPSES[0], LAPSES[-1])]
    return optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds).x


def _bootstrap(likelihood: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The best grid point [n] of each resample of images and, S - 1 of S at a time, of seeds."""
    n_images, n_seeds, n_grid = likelihood.shape
    rng = np.random.default_rng(seed)
    images = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n)
    seeds = np.ones((n, 1))
    if n_seeds > 1:
        seeds = rng.multinomial(n_seeds - 1, np.full(n_seeds, 1 / n_seeds), size=n) * n_seeds / (n_seeds - 1)
    weights = (images[:, :, None] * seeds[:, None, :]).reshape(n, -1).astype(np.float32)
    return (weights @ likelihood.reshape(-1, n_grid).astype(np.float32)).argmax(axis=1)


def _ends(drawn: np.ndarray, x0: float, inside: tuple[float, float], level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return (0.0 if low <= inside[0] else float(2 ** min(low, x0)),
            float("inf") if high >= inside[1] else float(2 ** max(high, x0)))


def _failed(rows: pd.DataFrame, counts: tuple[int, int, int], why: str) -> Acuity:
    unknown = [float("nan")] * 5
    return Acuity(*unknown, float(rows["chance"].mean()), False, f"not estimable: {why}", *counts)

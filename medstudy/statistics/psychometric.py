"""Psychometric fits: accuracy against the size of the deciding detail, and the threshold at the curve's midpoint.

The curve is psi(d) = g + (1 - g)(1 - l) logistic(k (log2 d - log2 d0)): d is the detail's size in native pixels, g the
chance of guessing right (known for each question), l the lapse rate, the share of informed answers lost however large
the detail is. At the threshold d0, psi is half-way between chance and its ceiling.

After Wichmann and Hill 2001 (https://doi.org/10.3758/BF03194544). Departures: the lapse rate may reach 0.5 and has no
prior; the bootstrap resamples images and seeds, not binomial counts of each size; fractional scores count as fractions
of an answer. The likelihood is evaluated on a grid of parameters and depends only on the counts of right and wrong
answers of each size and chance, so the whole bootstrap is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import optimize, sparse

from medstudy.errors import DataError
from medstudy.statistics.intervals import QUESTION, Spread, coded

SLOPES = np.geomspace(0.5, 8, 7)  # logits per octave at the midpoint
LAPSES = np.array([0, 0.03, 0.08, 0.15, 0.25, 0.35, 0.5])
STEPS_AN_OCTAVE = 12
MARGIN_OCTAVES = 1.0  # the grid reaches this far beyond the sizes shown, to detect thresholds outside them
MIN_SIZES, MIN_IMAGES = 4, 10


@dataclass(frozen=True)
class Acuity:
    """A fitted curve. If it is not `estimable`, threshold, low and high are NaN and `why` gives the reason.

    low is 0 (high is infinite) if the interval reaches beyond the smallest (largest) detail shown. `chance` is the
    mean over questions.
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

    def predict(self, detail_px: float | np.ndarray) -> np.ndarray:
        """Accuracy at these sizes (native pixels) and the mean chance; NaN if not estimable."""
        x = np.log2(np.asarray(detail_px, float))
        return _psi(x, self.chance, np.log2(self.threshold_px), self.slope, self.lapse)


def _psi(
    x: np.ndarray, chance: float | np.ndarray, x0: float | np.ndarray, slope: float | np.ndarray,
    lapse: float | np.ndarray,
) -> np.ndarray:
    return chance + (1 - chance) * (1 - lapse) / (1 + np.exp(-slope * (x - x0)))


def acuity(scores: pd.DataFrame, value: str = "score", confidence: float = 0.95, n: int = 400, seed: int = 0) -> Acuity:
    """The curve of one regime at one inference policy over its fine questions (needs detail_px and chance)."""
    fine = scores[scores["detail_px"].notna()]
    if fine.empty:
        raise DataError("Acuity needs fine questions, which have a detail_px, but no row has one.")
    if fine["chance"].isna().any():
        raise DataError("Acuity needs the chance of guessing each question right; choices need their options.")
    rows = coded(fine, value)
    x = _rounded(np.log2(rows["detail_px"].to_numpy(float)))
    counts = rows["question"].nunique(), rows["image"].nunique(), rows["run"].nunique()
    if len(np.unique(x)) < MIN_SIZES or counts[1] < MIN_IMAGES:
        return _failed(rows, counts, f"needs {MIN_SIZES} sizes and {MIN_IMAGES} images; has "
                       f"{len(np.unique(x))} and {counts[1]}")
    # fit: the best grid point, then the maximum near it
    counted = _counted(rows, x)
    best = counted.best(np.ones((1, counted.n_images)), np.ones((1, counted.n_seeds)))[0]
    x0, slope, lapse = _polish(rows, x, best)
    inside = (x.min(), x.max())
    if not inside[0] < x0 < inside[1]:
        side = "below the smallest" if x0 <= inside[0] else "above the largest"
        return _failed(rows, counts, f"the midpoint lies {side} detail shown "
                       f"({2 ** inside[0]:.1f} to {2 ** inside[1]:.1f} px)")
    # interval: quantiles of the thresholds of all resamples
    drawn = _bootstrap(counted, n, seed)[:, 0]
    beyond = (drawn <= inside[0]).mean() + (drawn >= inside[1]).mean()
    if beyond > 0.25:
        return _failed(rows, counts, f"{beyond:.0%} of resamples put the midpoint beyond the details shown")
    low, high = _ends(drawn, x0, inside, confidence)
    return Acuity(float(2**x0), low, high, float(slope), float(lapse), float(rows["chance"].mean()), True, "",
                  *counts)


def acuity_table(
    scores: pd.DataFrame, by: Sequence[str], value: str = "score", confidence: float = 0.95, n: int = 400, seed: int = 0
) -> pd.DataFrame:
    """`acuity` of the fine questions of every cell of `by`, one row per cell."""
    cells = scores[scores["detail_px"].notna()].groupby(list(by), sort=True, observed=True)
    return pd.DataFrame([
        dict(zip(by, key, strict=True)) | asdict(acuity(part, value, confidence, n, seed)) for key, part in cells
    ])


@dataclass(frozen=True)
class AcuityGain:
    """By how many octaves the threshold of a is below that of b; NaN, and `why`, if one of them is not estimable.

    low, high: percentiles of the bootstrap, where both thresholds are fitted to the same resamples of images and seeds.
    `spread` has the bootstrap's variance, all of it by image, for planning.
    """

    estimate: float
    low: float
    high: float
    why: str
    n_questions: int
    n_images: int
    n_seeds: int
    spread: Spread


def acuity_gain(
    a: pd.DataFrame, b: pd.DataFrame, value: str = "score", confidence: float = 0.95, n: int = 400, seed: int = 0
) -> AcuityGain:
    """log2 of b's threshold over a's, of answers to the same fine questions: above 0 where a sees smaller details."""
    fits = [acuity(rows, value, confidence, n, seed) for rows in (a, b)]
    counts = fits[0].n_questions, fits[0].n_images, fits[0].n_seeds
    if failed := [fit.why for fit in fits if not fit.estimable]:
        return AcuityGain(*[float("nan")] * 3, failed[0], *counts, Spread(0.0, 0.0, *counts[1:]))
    if any((fit.n_questions, fit.n_images, fit.n_seeds) != counts for fit in fits):
        raise DataError("Two thresholds are compared over the same questions, but the conditions have different ones.")
    gain = float(np.log2(fits[1].threshold_px / fits[0].threshold_px))
    # The same order of images and seeds in both, so that the same numbers draw the same resamples of both
    drawn = [_thresholds(rows.sort_values([*QUESTION, "seed"]), value, n, seed) for rows in (a, b)]
    gains = drawn[1] - drawn[0]
    low, high = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2])
    spread = Spread(float(gains.var(ddof=1)), 0.0, *counts[1:])
    return AcuityGain(gain, min(float(low), gain), max(float(high), gain), "", *counts, spread)


def _thresholds(rows: pd.DataFrame, value: str, n: int, seed: int) -> np.ndarray:
    """The thresholds [n] of the resamples, in octaves."""
    rows = coded(rows[rows["detail_px"].notna()], value)
    return _bootstrap(_counted(rows, _rounded(np.log2(rows["detail_px"].to_numpy(float)))), n, seed)[:, 0]


def _rounded(x: np.ndarray) -> np.ndarray:
    """Sizes in octaves; more than 64 distinct ones are rounded to 1/32 octave (2 %)."""
    return x if len(np.unique(x)) <= 64 else np.round(x * 32) / 32


@dataclass(frozen=True)
class _Counts:
    """Right and wrong answers [I x S, K] of every image and seed to the K kinds of question (size, chance)."""

    kinds: np.ndarray  # [K, 2]
    right: sparse.csr_array
    wrong: sparse.csr_array
    n_images: int
    n_seeds: int

    def best(self, images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """x0, slope, lapse [n, 3] of the most likely grid point, given weights of images [n, I] and seeds [n, S]."""
        weights = (images[:, :, None] * seeds[:, None, :]).reshape(len(images), -1)
        grid, right, wrong = _logarithms(self.kinds.tobytes())
        return grid[((weights @ self.right) @ right + (weights @ self.wrong) @ wrong).argmax(axis=1)]


def _counted(rows: pd.DataFrame, x: np.ndarray) -> _Counts:
    """The answers of `rows` counted by image, seed and kind of question; x: the rows' sizes in octaves."""
    kinds, kind = np.unique(np.stack([x, rows["chance"]], axis=1), axis=0, return_inverse=True)
    image, run = (np.unique(rows[c], return_inverse=True)[1] for c in ("image", "run"))
    n_images, n_seeds = image.max() + 1, run.max() + 1
    where, shape = (image * n_seeds + run, kind.ravel()), (n_images * n_seeds, len(kinds))
    value = rows["value"].to_numpy()
    right, wrong = (sparse.csr_array((part, where), shape=shape) for part in (value, 1 - value))
    return _Counts(kinds, right, wrong, n_images, n_seeds)


@lru_cache(maxsize=2)
def _logarithms(kinds: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid [G, 3] of x0, slope, lapse, and log psi and log(1 - psi) [K, G] on it: the same for every regime."""
    kinds = np.frombuffer(kinds).reshape(-1, 2)
    x = kinds[:, 0]
    centres = np.arange(x.min() - MARGIN_OCTAVES, x.max() + MARGIN_OCTAVES + 1e-9, 1 / STEPS_AN_OCTAVE)
    grid = np.stack(np.meshgrid(centres, SLOPES, LAPSES, indexing="ij"), axis=-1).reshape(-1, 3)
    # clipped, so that one answer changes the log-likelihood by at most 7 nats
    psi = np.clip(_psi(kinds[:, :1], kinds[:, 1:], *grid.T[:, None]), 1e-3, 1 - 1e-3)
    return grid, np.log(psi), np.log(1 - psi)


def _polish(rows: pd.DataFrame, x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The maximum of the likelihood near the best grid point: x0, slope, lapse."""
    chance, value = rows["chance"].to_numpy(), rows["value"].to_numpy()

    def loss(parameters: np.ndarray) -> float:
        psi = np.clip(_psi(x, chance, *parameters), 1e-3, 1 - 1e-3)
        return -(value * np.log(psi) + (1 - value) * np.log(1 - psi)).mean()

    bounds = [(start[0] - 0.25, start[0] + 0.25), (SLOPES[0], SLOPES[-1]), (LAPSES[0], LAPSES[-1])]
    return optimize.minimize(loss, start, method="L-BFGS-B", bounds=bounds).x


def _bootstrap(counted: _Counts, n: int, seed: int) -> np.ndarray:
    """The best grid point [n, 3] of each resample of images and of seeds (S - 1 of S, rescaled: Rao and Wu 1988)."""
    n_images, n_seeds = counted.n_images, counted.n_seeds
    rng = np.random.default_rng(seed)
    images = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n).astype(float)
    seeds = np.ones((n, 1))
    if n_seeds > 1:
        seeds = rng.multinomial(n_seeds - 1, np.full(n_seeds, 1 / n_seeds), size=n) * n_seeds / (n_seeds - 1)
    return counted.best(images, seeds)


def _ends(drawn: np.ndarray, x0: float, inside: tuple[float, float], confidence: float) -> tuple[float, float]:
    """Ends of the interval in pixels; 0 or infinite where they lie beyond the sizes shown."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return (0.0 if low <= inside[0] else float(2 ** min(low, x0)),
            float("inf") if high >= inside[1] else float(2 ** max(high, x0)))


def _failed(rows: pd.DataFrame, counts: tuple[int, int, int], why: str) -> Acuity:
    unknown = [float("nan")] * 5
    return Acuity(*unknown, float(rows["chance"].mean()), False, f"not estimable: {why}", *counts)

"""Robustness over the ladder: rank agreement and calibration-style errors of many means at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from medstudy.statistics.resampling import bias_corrected, draw_means


def spearman(curves: np.ndarray) -> np.ndarray:
    """Rank correlation of scores [..., R] with their rung, in ascending resolution: [..., R] -> [...]; NaN if flat."""
    ranks = stats.rankdata(curves, axis=-1)
    rungs = np.arange(1, curves.shape[-1] + 1)
    ranks, rungs = ranks - ranks.mean(axis=-1, keepdims=True), rungs - rungs.mean()
    size = np.sqrt((ranks**2).sum(axis=-1) * (rungs**2).sum())
    return np.divide((ranks * rungs).sum(axis=-1), size, out=np.full(size.shape, np.nan), where=size > 0)


def ace(curves: np.ndarray) -> np.ndarray:
    """Absolute continuous error of Res-Bench (arXiv 2510.16926): sum of |s(i+1) - s(i)|, [..., R] -> [...]."""
    return np.abs(np.diff(curves, axis=-1)).sum(axis=-1)


def rce(curves: np.ndarray) -> np.ndarray:
    """Relative continuous error of Res-Bench: ACE divided by the ladder's mean score; 0 if that is 0."""
    mean = curves.mean(axis=-1)
    return np.divide(ace(curves), mean, out=np.zeros_like(mean), where=mean > 0)


def robustness(
    scores: pd.DataFrame, by: Sequence[str] = ("regime",), value: str = "score", confidence: float = 0.95,
    n: int = 2000, seed: int = 0,
) -> pd.DataFrame:
    """Spearman's rho, ACE and RCE of each cell's curve over the inference ladder, after Res-Bench (arXiv 2510.16926).

    Departure: each has an interval, which the paper does not give. It is bias-corrected because ACE and RCE add up
    noise as if it were change. Pass rows without controls; rungs are ordered by `budget_pixels`. Columns: those of
    `by`, measure, estimate, low, high, n_questions, n_images, n_seeds.
    """
    rows = []
    for key, part in scores.groupby(list(by), sort=True, observed=True):
        drawn = draw_means(part, ["budget_pixels"], value, n, seed)
        for name, measure in (("spearman", spearman), ("ace", ace), ("rce", rce)):
            estimate = float(measure(drawn.means[None])[0])
            low, high = bias_corrected(estimate, measure(drawn.draws), confidence)
            counts = {"n_questions": drawn.n_questions, "n_images": drawn.n_images, "n_seeds": drawn.n_seeds}
            cell = dict(zip(by, key, strict=True))
            rows.append(cell | {"measure": name, "estimate": estimate, "low": low, "high": high} | counts)
    return pd.DataFrame(rows)

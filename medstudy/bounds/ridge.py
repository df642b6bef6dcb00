"""The linear reader: ridge regression on the classes, in closed form, with its strength chosen on the val split.

A one-versus-rest least-squares classifier (Hastie, Tibshirani and Friedman 2009, section 4.2; regularised as in section
3.4.1) of centred indicators of the classes. It is chosen over logistic regression because its whole path of
regularisation costs one eigendecomposition of an n x n matrix, n the number of training images: a second at n = 2,000,
however long the vectors are, and it has no iterations to stop.

Each feature is standardised on the training images, and each block of features is divided by the square root of its
length: a block of 5,000 numbers a vector has no more say than one of 200.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONSTANT = 1e-6  # a feature with a smaller deviation, relative to its size, is left out


@dataclass(frozen=True)
class Scaling:
    """Means, deviations and weights [d] of features, from training images alone."""

    mean: np.ndarray
    deviation: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, blocks: Sequence[np.ndarray]) -> Scaling:
        """blocks: arrays [images, length] of the training images."""
        mean = np.concatenate([block.mean(0) for block in blocks])
        deviation = np.concatenate([block.std(0) for block in blocks])
        varies = deviation > CONSTANT * (1 + np.abs(mean))
        weights, start = [], 0
        for block in blocks:
            kept = varies[start : start + block.shape[1]]
            weights.append(kept / np.sqrt(max(1, kept.sum()) * len(blocks)))
            start += block.shape[1]
        return cls(mean, np.where(varies, deviation, 1.0), np.concatenate(weights))

    def __call__(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """[images, d]: the expected squared length of a training image's vector is 1."""
        return (np.concatenate(blocks, axis=1) - self.mean) / self.deviation * self.weight


@dataclass(frozen=True)
class Readout:
    """A fitted reader. classes: [c] texts; weights: [d, c]; prior: [c] shares of the classes in training."""

    classes: np.ndarray
    prior: np.ndarray
    weights: np.ndarray
    penalty: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """[m, d] scaled -> [m, c] scores of the classes; they add up to 1 and may be negative."""
        return x @ self.weights + self.prior


def fit(
    train: np.ndarray, answers: np.ndarray, val: np.ndarray, val_answers: np.ndarray, penalties: Sequence[float]
) -> Readout:
    """The reader with the smallest squared error on the val split; ties go to the larger penalty.

    train: [n, d] scaled, answers: [n]. Without val rows the error on training rows left out one by one decides.
    """
    classes = np.unique(answers)
    targets = (answers[:, None] == classes).astype(float)
    prior = targets.mean(0)
    values, vectors = np.linalg.eigh(train @ train.T)
    values, rotated = np.clip(values, 0, None), vectors.T @ (targets - prior)
    best: tuple[float, Readout] | None = None
    for penalty in sorted(penalties, reverse=True):
        readout = Readout(classes, prior, train.T @ (vectors / (values + penalty) @ rotated), penalty)
        if len(val):
            error = float(np.square(readout.scores(val) - (val_answers[:, None] == classes)).sum())
        else:
            error = _left_out(values, vectors, penalty, targets - prior)
        if best is None or error < best[0]:
            best = (error, readout)
    return best[1]


def _left_out(values: np.ndarray, vectors: np.ndarray, penalty: float, targets: np.ndarray) -> float:
    """The squared error of each training row when it alone is left out: residual / (1 - leverage)."""
    shrunk = values / (values + penalty)
    residual = targets - vectors * shrunk @ (vectors.T @ targets)
    leverage = np.square(vectors) @ shrunk + 1 / len(targets)
    return float(np.square(residual / np.maximum(1 - leverage, 1e-6)[:, None]).sum())

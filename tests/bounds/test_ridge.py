"""The linear reader: exact, its penalty chosen on val, blocks of equal weight, invariant to units."""

import numpy as np
import pytest

from medstudy.bounds import ridge

RNG = np.random.default_rng(0)


def test_it_solves_the_ridge_equations():
    x, answers = RNG.normal(size=(30, 7)), np.array(["a", "b", "c"] * 10, dtype=object)
    x -= x.mean(0)
    readout = ridge.fit(x, answers, x[:0], answers[:0], [0.5])
    targets = (answers[:, None] == readout.classes) - readout.prior
    weights = np.linalg.solve(x.T @ x + 0.5 * np.eye(7), x.T @ targets)
    assert np.allclose(readout.weights, weights) and np.allclose(readout.scores(x).sum(1), 1)


def test_left_out_errors_are_those_of_fits_without_the_row():
    x, answers = RNG.normal(size=(12, 3)), np.array(["a", "b"] * 6, dtype=object)
    x -= x.mean(0)
    targets = (answers[:, None] == np.array(["a", "b"])).astype(float)
    values, vectors = np.linalg.eigh(x @ x.T)
    fast = ridge._left_out(np.clip(values, 0, None), vectors, 0.3, targets - targets.mean(0))
    slow = 0.0
    for row in range(12):
        rest = np.delete(np.arange(12), row)
        centre, mean = x[rest].mean(0), targets[rest].mean(0)
        part = x[rest] - centre
        weights = np.linalg.solve(part.T @ part + 0.3 * np.eye(3), part.T @ (targets[rest] - mean))
        slow += np.square((x[row] - centre) @ weights + mean - targets[row]).sum()
    assert fast == pytest.approx(slow, rel=1e-6)


def test_val_chooses_the_penalty():
    """Pure noise wants the largest penalty, a clean signal the smallest."""
    x, val = RNG.normal(size=(60, 40)), RNG.normal(size=(60, 40))
    noise, other = (np.array(list("ab"))[RNG.integers(0, 2, 60)].astype(object) for _ in range(2))
    assert ridge.fit(x, noise, val, other, (1e-4, 1e4)).penalty == 1e4
    clean, clean_val = (np.where(part[:, 0] > 0, "a", "b").astype(object) for part in (x, val))
    assert ridge.fit(x, clean, val, clean_val, (10.0, 1e6)).penalty == 10.0


def test_units_and_the_length_of_a_block_do_not_count():
    short, long = RNG.normal(size=(50, 2)), RNG.normal(size=(50, 400))
    scaling = ridge.Scaling.of([short, long])
    scaled = scaling([short, long])
    assert np.square(scaled[:, :2]).sum(1).mean() == pytest.approx(0.5)
    assert np.square(scaled[:, 2:]).sum(1).mean() == pytest.approx(0.5)
    other = [1000 * short + 7, long]
    assert np.allclose(ridge.Scaling.of(other)(other), scaled)


def test_a_constant_feature_has_no_effect():
    constant = np.full((20, 1), 3.0)
    scaling = ridge.Scaling.of([np.concatenate([constant, RNG.normal(size=(20, 1))], axis=1)])
    assert scaling([np.array([[1e9, 0.0]])])[0, 0] == 0

"""Marks by intervals: what is seen, what falls, and that luck and frequent answers earn none."""

import numpy as np
import pandas as pd
import pytest

from medstudy.bounds import marks
from medstudy.bounds.results import FINE, NOT_FINE, UNSEEN


def answers(n: int, seed: int = 0, guess: float = 0.5, **right: float) -> pd.DataFrame:
    """A task of n images; right: tower_native=0.9 …, the share of right answers of a reader at a rung."""
    rng = np.random.default_rng(seed)
    shared = {"dataset": "d", "task": "t", "level": "fine", "question_id": "q", "seed": 0, "chance": 0.5}
    parts = []
    for name, share in {"guess_": guess, **right}.items():
        reader, rung = name.split("_")
        images = [f"i{number}" for number in range(n)]
        score = (rng.permutation(n) < share * n).astype(float)
        parts.append(pd.DataFrame({"image_id": images, "group": images, "reader": reader, "inference": rung,
                                   "regime": rung, "score": score} | shared))
    return pd.concat(parts, ignore_index=True)


def mark(**given) -> pd.Series:
    return marks.marks(answers(**given), "native", "low").iloc[0]


def test_each_mark():
    assert mark(n=100, tower_native=0.5, tower_low=0.5, pixels_native=0.55, pixels_low=0.5)["mark"] == UNSEEN
    flat = mark(n=100, tower_native=0.6, tower_low=0.5, pixels_native=0.9, pixels_low=0.9)
    assert flat["mark"] == NOT_FINE and flat["fall_low"] < 0 < flat["fall_high"]
    fine = mark(n=100, tower_native=0.6, tower_low=0.5, pixels_native=0.95, pixels_low=0.6)
    assert fine["mark"] == FINE and fine["bound"] == "pixels" and fine["fall"] == pytest.approx(0.35)
    assert (fine["native"], fine["low"]) == ("native", "low")


def test_a_reader_must_beat_every_reader_at_low():
    """The tower's own fall is large, but plain pixels still read the task at low."""
    found = mark(n=100, tower_native=0.95, tower_low=0.5, pixels_native=0.6, pixels_low=0.93)
    assert found["visible"] and not found["fine"] and found["fall"] == pytest.approx(0.02)


def test_a_frequent_answer_is_not_sight():
    found = mark(n=100, guess=0.85, tower_native=0.85, tower_low=0.5, pixels_native=0.8, pixels_low=0.5)
    assert found["mark"] == UNSEEN


def test_few_images_show_nothing():
    assert mark(n=6, tower_native=0.8, tower_low=0.5, pixels_native=0.8, pixels_low=0.5)["mark"] == UNSEEN


def test_without_anything_to_see_marks_are_as_rare_as_the_confidence_says():
    """200 tasks of pure guessing: at most 5 % may be marked; one half of the rule alone would mark twice as many."""
    rng, marked = np.random.default_rng(1), 0
    for seed in range(200):
        shares = dict(zip(("tower_native", "tower_low", "pixels_native", "pixels_low"), rng.binomial(60, 0.5, 4) / 60,
                          strict=True))
        marked += mark(n=60, seed=seed, guess=rng.binomial(60, 0.5) / 60, **shares)["visible"]
    assert marked <= 10


def test_no_tasks_no_marks():
    assert marks.marks(answers(n=4)[:0], "native", "low").empty

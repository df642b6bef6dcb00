"""The phantom's geometry: off by default, reproducible, balanced; its details vanish with resolution."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from medstudy.data import formats
from medstudy.datasets import phantom
from tests.datasets.test_phantom import asked_hash, difference, fingerprint, rms
from tests.support import chain

# Of image 3 of the train split at seed 0; no block is within 0.07 grey values of the edge of a level.
IMAGE = "972fcb29ce19053ab447eb7431f41c612f8b662cdca8091642e20d209ab2cb08"
QUESTIONS = "16513b534c1914bd0631f560c7e4922153a4f00b410c6349dbc2725c44ac6a47"
OPPOSITES = {  # question -> (its size, one answer, the other)
    "longer": ("longer_px", {"longer": "blue"}, {"longer": "red"}),
    "angle": ("lean_px", {"acute": True}, {"acute": False}),
    "on": ("gap_px", {"on": True}, {"on": False}),
    "marks": ("apart_px", {"marks": 1}, {"marks": 2}),
}


@pytest.fixture(scope="module")
def plans():
    return [phantom.plan(3, "train", "geometry", i)[0] for i in range(700)]


def test_it_is_drawn_only_if_it_is_named():
    assert "geometry" not in phantom.Params().families and tuple(phantom.MORE)[:4] == tuple(phantom.FAMILIES)
    named = phantom.Params(train=2, families=("geometry", "cytology"))
    geometry, cytology = phantom.load(named, "train")
    assert geometry.family == "geometry" and geometry.modality == "drawing"
    assert cytology.image.tobytes() == phantom.example(0, "train", "cytology", 0).image.tobytes()


def test_a_golden_image():
    example = phantom.example(0, "train", "geometry", 3, letters=True)
    assert (fingerprint(example.image), asked_hash(example)) == (IMAGE, QUESTIONS)


def test_no_prior_and_no_size_answers_a_question(plans):
    answers, sizes = defaultdict(Counter), defaultdict(lambda: defaultdict(list))
    for question in formats.asked(question for scene in plans for question in scene.questions()):
        answers[question.id][question.answer] += 1
        sizes[question.id][question.answer].append(question.detail_px)
    assert set(answers) == {*OPPOSITES, "colour", "where"}
    for name, tally in answers.items():
        assert max(tally.values()) < 1.15 * tally.total() / len(tally), name
        details = [size for group in sizes[name].values() for size in group]
        assert (None in details) == (name not in OPPOSITES)
        if name in OPPOSITES:
            assert 1.5 <= min(details) <= 3 < 12 <= max(details) <= 20
            assert stats.ks_2samp(*sizes[name].values()).pvalue > 1e-3, name


@pytest.mark.parametrize("name", OPPOSITES)
def test_a_fine_answer_is_visible_at_native_size_and_is_lost_by_its_size(plans, name):
    size, one, two = OPPOSITES[name]
    small, large = (replace(plans[0], **{size: px}) for px in (2.0, 12.0))
    native, low = difference(replace(small, **one), replace(small, **two), 56)
    large_native, large_low, middle = difference(replace(large, **one), replace(large, **two), 56, 224)
    assert np.abs(native).max() > 15  # of 255
    assert rms(low) < 0.6 * rms(native) and rms(middle) > 0.6 * rms(large_native)
    assert rms(low) / rms(native) < 0.75 * rms(large_low) / rms(large_native)


def test_the_ink_of_one_mark_is_that_of_two(plans):
    (change,) = difference(replace(plans[0], marks=1, apart_px=4.0), replace(plans[0], marks=2, apart_px=4.0))
    assert abs(change.sum()) < 0.15 * np.abs(change).sum()


def test_from_a_plan_to_figures(tiny_model, tmp_path):
    named = phantom.Params(train=2, val=1, test=2, families=("geometry",))
    done = chain.run(named, tiny_model, tmp_path)
    assert len(done.scores) == 4 * 12 and set(done.scores["level"]) == {"fine", "coarse"}
    assert all(not one.missing for one in done.drawn)

"""Comparisons: coverage by simulation, pairing, known ratios, Holm's correction by hand."""

import numpy as np
import pandas as pd
import pytest

from medstudy import statistics as st
from medstudy.errors import DataError
from medstudy.statistics import intervals
from tests.support.simulated_scores import at, frame, index_arrays, simulate


def test_differences_cover_and_keep_their_error_rate():
    rng, n, images = np.random.default_rng(2), 1000, 100
    image, seed, _ = index_arrays(images)
    covered = false_alarms = 0
    for _ in range(n):
        a, truth_a = simulate(rng, images, mean=0.9)
        b, truth_b = simulate(rng, images, mean=0.5)
        gain = (a.astype(float) - b).ravel()
        spread = st.spread(image, seed, (gain - gain.mean()) / gain.size)
        covered += abs(gain.mean() - truth_a + truth_b) <= spread.margin(0.05)
        false_alarms += spread.p_value(gain.mean() - truth_a + truth_b) < 0.05
    assert 0.93 <= covered / n <= 0.97
    assert false_alarms == n - covered


def test_ratios_cover():
    rng, n, hits = np.random.default_rng(2), 60, 0
    for _ in range(n):
        (a, truth_a), (b, truth_b) = simulate(rng, 100, mean=0.9), simulate(rng, 100, mean=0.5)
        change = st.relative_change(frame(a), frame(b))
        hits += change.low <= truth_a / truth_b - 1 <= change.high
    assert 0.90 <= hits / n <= 0.99


def test_pairing_cancels_effects_that_conditions_share(scores):
    native, low = at(scores, "native", "native"), at(scores, "native", "fixed-224")
    difference = st.paired_difference(native, low)
    separate = [st.mean_interval(x) for x in (native, low)]
    assert difference.estimate == pytest.approx(separate[0].estimate - separate[1].estimate)
    unpaired = np.sqrt(sum(((i.high - i.low) / 2) ** 2 for i in separate))
    assert (difference.high - difference.low) / 2 < unpaired
    back = st.paired_difference(low, native)
    assert (back.estimate, back.low, back.high, back.effect) == pytest.approx(
        (-difference.estimate, -difference.high, -difference.low, -difference.effect))
    assert back.p == pytest.approx(difference.p)


def test_p_and_interval_agree(scores):
    native, mixed = at(scores, "native", "native"), at(scores, "mixed", "native")
    p = st.paired_difference(native, mixed).p
    edge = st.paired_difference(native, mixed, confidence=1 - p)
    assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-6)


def test_two_regimes_are_two_sets_of_trainings():
    """Their training noise adds up, with more degrees of freedom; that of one regime at two rungs cancels."""
    rng = np.random.default_rng(8)
    sides = [frame(simulate(rng, 400, seed_sd=0.3)[0]) for _ in range(2)]
    a, b = (side.assign(regime=name) for side, name in zip(sides, ("native", "mixed"), strict=True))
    apart, together = st.paired_difference(a, b), st.paired_difference(a, b.assign(regime="native"))
    alone = [st.spread(*(side[c].to_numpy() for c in ("image_id", "seed")),
                       ((side["score"] - side["score"].mean()) / len(side)).to_numpy()) for side in sides]
    v_a, v_b = (spread.v_seed for spread in alone)
    assert min(v_a, v_b) > 0 and apart.spread.v_seed == pytest.approx(v_a + v_b)
    assert apart.spread.seed_df == pytest.approx(2 * (v_a + v_b) ** 2 / (v_a**2 + v_b**2))
    assert 2 <= apart.spread.seed_df <= 4 and together.spread.seed_df == 0
    assert apart.spread.v_image == together.spread.v_image and apart.estimate == together.estimate
    both = [np.ones((40, 2, 3)) * [0, 0.5, 1], np.ones((40, 2, 3)) * [0, 0.5, 1]]
    a, b = (frame(values).assign(regime=name) for values, name in zip(both, ("native", "mixed"), strict=True))
    assert st.paired_difference(a, b).high > 0.9 and st.paired_difference(a, b.assign(regime="native")).high < 0.1


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_differences_of_regimes_cover_with_three_seeds(share):
    """The training noise is that of both regimes, or nearly all of it that of one."""
    rng, n, images, hits = np.random.default_rng(5), 800, 120, 0
    image, seed, _ = index_arrays(images)
    for _ in range(n):
        a, truth_a = simulate(rng, images, mean=0.9, seed_sd=0.2 * np.sqrt(2 * share))
        b, truth_b = simulate(rng, images, mean=0.5, seed_sd=0.2 * np.sqrt(2 * (1 - share)))
        a, b = a.ravel().astype(float), b.ravel().astype(float)
        sizes = intervals.two_regimes(image, seed, (a - a.mean()) / a.size, (b.mean() - b) / b.size)
        hits += abs(a.mean() - b.mean() - truth_a + truth_b) <= sizes.margin(0.05)
    assert 0.93 <= hits / n <= 0.97


def test_rows_in_another_order_give_the_same_pairs(scores):
    native, low = at(scores, "native", "native"), at(scores, "fixed-84", "fixed-84")
    mixed_up = low.sample(frac=1, random_state=1)
    one, other = st.paired_difference(native, mixed_up), st.paired_difference(native, low)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))
    pd.testing.assert_frame_equal(st.differences(native, mixed_up, ["task"]), st.differences(native, low, ["task"]))


def test_equal_conditions_differ_by_0_with_an_interval():
    same = frame(np.ones((50, 2, 3)))
    difference = st.paired_difference(same, same)
    assert (difference.estimate, difference.p) == (0, 1) and difference.low < 0 < difference.high
    total = st.paired_difference(same, same.assign(score=0.0))
    assert total.estimate == pytest.approx(1)
    assert 0 < total.low < total.high <= 1 and total.p < 0.001


def test_a_single_base_model_is_compared_with_every_seed(scores):
    native, base = at(scores, "native", "native"), at(scores, "fixed-84", "native")
    base = base[base["seed"] == 1].assign(seed=99)
    assert st.paired_difference(native, base).n_seeds == 3
    assert st.paired_difference(base, native).n_seeds == 3


@pytest.mark.parametrize("spoil, message", [
    (lambda a: a[a["question_id"] != "nodule"], "same questions"),
    (lambda a: pd.concat([a, a]), "has several"),
    (lambda a: a.assign(seed=a["seed"] + 100), "share a training seed"),
])
def test_conditions_that_do_not_match_are_refused(scores, spoil, message):
    native = at(scores, "native", "native")
    with pytest.raises(DataError, match=message):
        st.paired_difference(spoil(native), at(scores, "mixed", "native"))


def test_macro_gives_tasks_equal_weight(scores):
    native, low = at(scores, "native", "native"), at(scores, "fixed-84", "fixed-84")
    tasks = st.differences(native, low, ["task"])
    assert st.paired_difference(native, low, macro="task").estimate == pytest.approx(tasks["estimate"].mean())
    assert (tasks["family_size"] == len(tasks)).all() and (tasks["p_holm"] >= tasks["p"]).all()


def test_contrast_is_the_difference_of_two_differences(scores):
    native, low = at(scores, "native", "native"), at(scores, "fixed-84", "fixed-84")
    difference = st.contrast(native, low, "level", "fine", "coarse")
    by_level = st.differences(native, low, ["level"]).set_index("level")["estimate"]
    assert difference.estimate == pytest.approx(by_level["fine"] - by_level["coarse"])


def test_relative_change_of_known_ratios_and_of_zeros():
    half = frame(np.tile([1.0, 0.0], (40, 1))[:, :, None].repeat(3, axis=2))
    ones = frame(np.ones((40, 2, 3)))
    assert st.relative_change(half, ones).estimate == -0.5
    assert np.isnan(st.relative_change(ones, ones.assign(score=0.0)).estimate)
    assert "0" in st.relative_change(ones, ones.assign(score=0.0)).note
    lost = st.relative_change(ones.assign(score=0.0), ones)
    assert (lost.estimate, lost.low) == (-1, -1) and lost.high > -1


def test_a_ratio_to_a_score_that_may_be_0_is_bounded_and_says_so():
    right = np.zeros((40, 2, 3))
    right[0, 0, :2] = 1
    rare = st.relative_change(frame(np.ones((40, 2, 3))), frame(right))
    assert (rare.low, rare.high) == (-1, pytest.approx(rare.estimate)) and "includes 0" in rare.note
    assert st.relative_change(frame(right), frame(np.ones((40, 2, 3)))).note == ""


def test_holm_by_hand():
    table = st.holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert table["p_holm"].tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert table["family_size"].tolist() == [3, 3, 3]

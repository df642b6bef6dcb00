"""Intervals of means: coverage by simulation, agreement with known formulas, invariants."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medstudy import statistics as st
from medstudy.errors import DataError
from medstudy.statistics import intervals
from tests.support.simulated_scores import at, frame, index_arrays, simulate


@pytest.mark.parametrize("images, seeds, seed_sd", [(100, 3, 0.0), (120, 3, 0.1), (150, 3, 0.2)])
def test_mean_intervals_have_their_coverage_and_intervals_over_questions_do_not(images, seeds, seed_sd):
    rng, n = np.random.default_rng(1), 1200
    image, seed, question = index_arrays(images, seeds=seeds)
    hits, naive_hits, correlation = 0, 0, []
    for _ in range(n):
        values, truth = simulate(rng, images, seeds=seeds, seed_sd=seed_sd)
        interval = intervals._mean_interval(image, seed, question, values.ravel().astype(float), 0.95)
        hits += interval.low <= truth <= interval.high
        half = 1.96 * np.sqrt(interval.estimate * (1 - interval.estimate) / values.size)
        naive_hits += abs(interval.estimate - truth) <= half
        correlation.append(np.corrcoef(values[:, 0, 0], values[:, 1, 0])[0, 1])
    assert 0.93 <= hits / n <= 0.97
    assert naive_hits / n < 0.85
    assert 0.1 < np.mean(correlation) < 0.3


def test_variances_are_those_of_a_two_way_analysis_of_variance():
    rng = np.random.default_rng(4)
    table = rng.normal(size=(7, 4)) + rng.normal(size=(7, 1)) + 3 * rng.normal(size=(1, 4))
    image, seed = (index.ravel() for index in np.indices(table.shape))
    spread = st.spread(image, seed, (table - table.mean()).ravel() / table.size)
    ms_image = 4 * table.mean(axis=1).var(ddof=1)
    ms_seed = 7 * table.mean(axis=0).var(ddof=1)
    rest = table - table.mean(axis=1)[:, None] - table.mean(axis=0) + table.mean()
    ms_rest = (rest**2).sum() / (6 * 3)
    assert spread.v_image == pytest.approx(ms_image / 28)
    assert spread.v_seed == pytest.approx((ms_seed - ms_rest) / 28)


def test_with_one_seed_the_interval_is_that_of_a_cluster_mean():
    values = np.random.default_rng(5).random((50, 4, 1))
    interval = st.mean_interval(frame(values))
    half = stats.t.ppf(0.975, 49) * values.mean(axis=(1, 2)).std(ddof=1) / np.sqrt(50)
    assert interval.n_seeds == 1
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.02)


@pytest.mark.parametrize("answer, images", [(1.0, 40), (0.0, 40), (1.0, 1), (0.5, 40)])
def test_cells_without_variance_have_an_interval(answer, images):
    interval = st.mean_interval(frame(np.full((images, 3, 2), answer)))
    assert 0 <= interval.low <= answer <= interval.high <= 1
    assert interval.high - interval.low > 0.05


def test_if_all_answers_are_right_wilson_counts_images():
    interval = st.mean_interval(frame(np.ones((20, 30, 3))))
    assert interval.low == pytest.approx(20 / (20 + stats.norm.ppf(0.975) ** 2))


def test_seed_noise_widens_intervals_and_copied_questions_do_not_shrink_them():
    rng = np.random.default_rng(6)
    values, _ = simulate(rng, 80, seed_sd=0.0)
    width = lambda v: (lambda i: i.high - i.low)(st.mean_interval(frame(v)))  # noqa: E731
    assert width(np.repeat(values, 4, axis=1)) == pytest.approx(width(values), rel=1e-6)
    noisy = values.copy()
    noisy[:, :, 0] |= rng.random(noisy.shape[:2]) < 0.5
    assert width(noisy) > 1.5 * width(values)


def test_images_of_a_group_count_once():
    values = np.repeat(simulate(np.random.default_rng(7), 30, seeds=1)[0], 4, axis=0)
    copies = frame(values)
    grouped = copies.assign(group=(copies["image_id"].astype(int) // 4).astype(str))
    counted, copied = st.mean_interval(grouped), st.mean_interval(copies)
    assert counted.n_images == 30
    assert counted.high - counted.low > 1.8 * (copied.high - copied.low)


def test_with_equal_weights_a_macro_interval_is_that_of_the_mean():
    rows = frame(simulate(np.random.default_rng(0), 40, questions=4)[0])
    interval, plain = intervals.macro_interval(rows, "question_id"), st.mean_interval(rows)
    assert interval.estimate == pytest.approx(plain.estimate) and interval.n_images == 40
    assert interval.high - interval.low == pytest.approx(plain.high - plain.low, rel=0.3)


def test_a_macro_interval_covers_a_mean_with_rare_kinds():
    """Nine of ten rows are right with chance 0.9, one of ten with 0.3: the macro mean is 0.6."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        kind = np.arange(400) % 10 == 0
        rows = frame((rng.random(400) < np.where(kind, 0.3, 0.9)).reshape(400, 1, 1)).assign(kind=kind)
        interval = intervals.macro_interval(rows, "kind")
        covered += interval.low <= 0.6 <= interval.high
    assert 0.91 <= covered / 200 <= 0.985 and interval.high - interval.low < 0.2
    assert interval.high - interval.low > 1.5 * (lambda i: i.high - i.low)(st.mean_interval(rows))


def test_summarise_agrees_with_single_cells_in_any_row_order(scores):
    table = st.summarise(scores.sample(frac=1, random_state=0), ["regime", "inference", "control"])
    cell = table[(table["regime"] == "mixed") & (table["inference"] == "native")].iloc[0]
    interval = st.mean_interval(at(scores, "mixed", "native"))
    assert cell[["estimate", "low", "high"]].tolist() == pytest.approx([interval.estimate, interval.low, interval.high])
    assert list(table) == ["regime", "inference", "control", "estimate", "low", "high", "n_questions",
                           "n_images", "n_seeds"]
    assert (cell["n_images"], cell["n_seeds"]) == (60, 3)
    assert cell["n_questions"] == at(scores, "mixed", "native")["question_id"].size / 3


def test_summarise_skips_rows_without_the_metric(scores):
    table = st.summarise(scores, ["kind"], value="localization_recall")
    assert table["kind"].tolist() == ["description"]


def test_a_hundred_thousand_rows_take_less_than_two_seconds(scores):
    many = pd.concat([scores.assign(image_id=scores["image_id"] + f"/{k}", group=scores["group"] + f"/{k}")
                      for k in range(9)], ignore_index=True)
    assert len(many) > 100_000
    start = time.process_time()
    st.summarise(many, ["regime", "inference", "control", "level"])
    assert time.process_time() - start < 2


@pytest.mark.parametrize("change, message", [
    (lambda s: s.drop(columns="group"), "group"),
    (lambda s: s.assign(score=s["score"] * 100), r"\[0, 1\]"),
    (lambda s: s.assign(score=np.nan), "needs a row"),
])
def test_unusable_scores_are_explained(scores, change, message):
    with pytest.raises(DataError, match=message):
        st.mean_interval(change(scores))

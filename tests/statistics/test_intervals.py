"""Coverage by simulation, agreement with known formulas, and what must hold whatever the data."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medstudy import statistics as st
from medstudy.errors import DataError
from medstudy.scoring import score as scoring_score
from medstudy.statistics import intervals
from tests.support.synthetic import Effects, predictions


@pytest.fixture(scope="module")
def scores():
    return scoring_score.score(predictions(n_images=60))


def at(scores, regime, inference):
    where = (scores["regime"] == regime) & (scores["inference"] == inference) & (scores["control"] == "none")
    return scores[where]


def frame(values: np.ndarray) -> pd.DataFrame:
    """Scores [images, questions, seeds] as rows."""
    image, question, seed = (a.ravel() for a in np.indices(values.shape))
    return pd.DataFrame({"dataset": "d", "image_id": image.astype(str), "group": image.astype(str),
                         "seed": seed, "question_id": question.astype(str),
                         "score": values.ravel().astype(float)})


def simulate(rng, images, questions=5, seeds=3, seed_sd=0.1, mean=0.6):
    """Right or wrong [images, questions, seeds]: a probit with image, question, seed, image x seed effects.

    Two questions of an image correlate by about 0.2; the seeds' scores spread by about 3 points.
    """
    latent = (mean + rng.normal(0, 0.6, (images, 1, 1)) + rng.normal(0, 0.6, (images, questions, 1))
              + rng.normal(0, 0.2, (images, 1, seeds)) + rng.normal(0, seed_sd, (1, 1, seeds)))
    spread = np.sqrt(1 + 0.6**2 + 0.6**2 + 0.2**2 + seed_sd**2)
    return rng.random(latent.shape) < stats.norm.cdf(latent), stats.norm.cdf(mean / spread)


def index_arrays(images, questions=5, seeds=3):
    image, question, seed = (a.ravel() for a in np.indices((images, questions, seeds)))
    return image, seed, question


# Coverage

@pytest.mark.parametrize("images, seeds, seed_sd", [(100, 3, 0.0), (120, 3, 0.1), (150, 3, 0.2)])
def test_mean_intervals_cover_at_their_level_and_per_question_ones_do_not(images, seeds, seed_sd):
    rng, n = np.random.default_rng(1), 1200
    image, seed, question = index_arrays(images, seeds=seeds)
    hits, naive_hits, correlation = 0, 0, []
    for _ in range(n):
        values, truth = simulate(rng, images, seeds=seeds, seed_sd=seed_sd)
        found = intervals._mean_interval(image, seed, question, values.ravel().astype(float), 0.95)
        hits += found.low <= truth <= found.high
        half = 1.96 * np.sqrt(found.estimate * (1 - found.estimate) / values.size)
        naive_hits += abs(found.estimate - truth) <= half
        correlation.append(np.corrcoef(values[:, 0, 0], values[:, 1, 0])[0, 1])
    assert 0.93 <= hits / n <= 0.97
    assert naive_hits / n < 0.85
    assert 0.1 < np.mean(correlation) < 0.3


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
        found = st.relative_change(frame(a), frame(b))
        hits += found.low <= truth_a / truth_b - 1 <= found.high
    assert 0.90 <= hits / n <= 0.99


def test_the_worst_of_many_is_not_found_where_there_is_none():
    rng, n, cells = np.random.default_rng(3), 60, 6
    found = 0
    for _ in range(n):
        parts = [frame(simulate(rng, 60, seed_sd=0.1)[0]).assign(cell=k) for k in range(cells)]
        drawn = st.draw_means(pd.concat(parts), ["cell"], n=300)
        changes, draws = drawn.means[1:] - drawn.means[0], drawn.draws[:, 1:] - drawn.draws[:, :1]
        found += st.simultaneous(changes, draws)[1].min() < 0
    assert found / n <= 0.08


# Means

def test_variances_are_those_of_a_two_way_analysis_of_variance():
    rng = np.random.default_rng(4)
    table = rng.normal(size=(7, 4)) + rng.normal(size=(7, 1)) + 3 * rng.normal(size=(1, 4))
    image, seed = (a.ravel() for a in np.indices(table.shape))
    found = st.spread(image, seed, (table - table.mean()).ravel() / table.size)
    ms_image = 4 * table.mean(axis=1).var(ddof=1)
    ms_seed = 7 * table.mean(axis=0).var(ddof=1)
    rest = table - table.mean(axis=1)[:, None] - table.mean(axis=0) + table.mean()
    ms_rest = (rest**2).sum() / (6 * 3)
    assert found.v_image == pytest.approx(ms_image / 28)
    assert found.v_seed == pytest.approx((ms_seed - ms_rest) / 28)


def test_one_seed_gives_the_interval_over_images_of_a_cluster_mean():
    values = np.random.default_rng(5).random((50, 4, 1))
    found = st.mean_interval(frame(values))
    half = stats.t.ppf(0.975, 49) * values.mean(axis=(1, 2)).std(ddof=1) / np.sqrt(50)
    assert found.n_seeds == 1
    assert found.high - found.low == pytest.approx(2 * half, rel=0.02)


@pytest.mark.parametrize("answer, images", [(1.0, 40), (0.0, 40), (1.0, 1), (0.5, 40)])
def test_cells_without_variance_have_an_interval(answer, images):
    found = st.mean_interval(frame(np.full((images, 3, 2), answer)))
    assert 0 <= found.low <= answer <= found.high <= 1
    assert found.high - found.low > 0.05


def test_all_right_is_wilson_over_images_not_questions():
    found = st.mean_interval(frame(np.ones((20, 30, 3))))
    assert found.low == pytest.approx(20 / (20 + stats.norm.ppf(0.975) ** 2))


def test_intervals_widen_with_seed_noise_and_do_not_shrink_with_copies_of_questions():
    rng = np.random.default_rng(6)
    values, _ = simulate(rng, 80, seed_sd=0.0)
    width = lambda v: (lambda i: i.high - i.low)(st.mean_interval(frame(v)))  # noqa: E731
    assert width(np.repeat(values, 4, axis=1)) == pytest.approx(width(values), rel=1e-6)
    noisy = values.copy()
    noisy[:, :, 0] |= rng.random(noisy.shape[:2]) < 0.5
    assert width(noisy) > 1.5 * width(values)


def test_images_of_one_group_count_once():
    values = np.repeat(simulate(np.random.default_rng(7), 30, seeds=1)[0], 4, axis=0)
    copies = frame(values)
    grouped = copies.assign(group=(copies["image_id"].astype(int) // 4).astype(str))
    counted, copied = st.mean_interval(grouped), st.mean_interval(copies)
    assert counted.n_images == 30
    assert counted.high - counted.low > 1.8 * (copied.high - copied.low)


def test_a_macro_interval_is_that_of_the_mean_where_all_weigh_the_same():
    rows = frame(simulate(np.random.default_rng(0), 40, questions=4)[0])
    found, plain = intervals.macro_interval(rows, "question_id"), st.mean_interval(rows)
    assert found.estimate == pytest.approx(plain.estimate) and found.n_images == 40
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.3)


def test_a_macro_interval_covers_a_mean_that_rare_things_weigh_on():
    """Nine of ten rows are right with chance 0.9, one of ten with 0.3: the macro mean is 0.6."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        kind = np.arange(400) % 10 == 0
        rows = frame((rng.random(400) < np.where(kind, 0.3, 0.9)).reshape(400, 1, 1)).assign(kind=kind)
        found = intervals.macro_interval(rows, "kind")
        covered += found.low <= 0.6 <= found.high
    assert 0.91 <= covered / 200 <= 0.985 and found.high - found.low < 0.2
    assert found.high - found.low > 1.5 * (lambda i: i.high - i.low)(st.mean_interval(rows))


def test_summarise_agrees_with_single_cells_in_any_row_order(scores):
    table = st.summarise(scores.sample(frac=1, random_state=0), ["regime", "inference", "control"])
    one = table[(table["regime"] == "mixed") & (table["inference"] == "native")].iloc[0]
    found = st.mean_interval(at(scores, "mixed", "native"))
    assert one[["estimate", "low", "high"]].tolist() == pytest.approx([found.estimate, found.low, found.high])
    assert list(table) == ["regime", "inference", "control", "estimate", "low", "high", "n_questions",
                           "n_images", "n_seeds"]
    assert (one["n_images"], one["n_seeds"]) == (60, 3)
    assert one["n_questions"] == at(scores, "mixed", "native")["question_id"].size / 3


def test_summarise_leaves_out_rows_the_metric_does_not_apply_to(scores):
    table = st.summarise(scores, ["kind"], value="localization_recall")
    assert table["kind"].tolist() == ["description"]


def test_a_hundred_thousand_rows_take_less_than_a_second(scores):
    many = pd.concat([scores.assign(image_id=scores["image_id"] + f"/{k}", group=scores["group"] + f"/{k}")
                      for k in range(9)], ignore_index=True)
    assert len(many) > 100_000
    start = time.process_time()
    st.summarise(many, ["regime", "inference", "control", "level"])
    assert time.process_time() - start < 2


@pytest.mark.parametrize("change, message", [
    (lambda s: s.drop(columns="group"), "group"),
    (lambda s: s.assign(score=s["score"] * 100), r"\[0, 1\]"),
    (lambda s: s.assign(score=np.nan), "at least|needs a row"),
])
def test_unusable_scores_are_named(scores, change, message):
    with pytest.raises(DataError, match=message):
        st.mean_interval(change(scores))


# Two conditions

def test_pairing_cancels_what_conditions_share(scores):
    native, low = at(scores, "native", "native"), at(scores, "native", "fixed-224")
    found = st.paired_difference(native, low)
    apart = [st.mean_interval(x) for x in (native, low)]
    assert found.estimate == pytest.approx(apart[0].estimate - apart[1].estimate)
    unpaired = np.sqrt(sum(((i.high - i.low) / 2) ** 2 for i in apart))
    assert (found.high - found.low) / 2 < unpaired
    back = st.paired_difference(low, native)
    assert (back.estimate, back.low, back.high, back.effect) == pytest.approx(
        (-found.estimate, -found.high, -found.low, -found.effect))
    assert back.p == pytest.approx(found.p)


def test_p_and_interval_agree(scores):
    native, mixed = at(scores, "native", "native"), at(scores, "mixed", "native")
    p = st.paired_difference(native, mixed).p
    edge = st.paired_difference(native, mixed, level=1 - p)
    assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-6)


def test_equal_conditions_differ_by_nothing_with_a_width():
    same = frame(np.ones((50, 2, 3)))
    found = st.paired_difference(same, same)
    assert (found.estimate, found.p) == (0, 1) and found.low < 0 < found.high
    total = st.paired_difference(same, same.assign(score=0.0))
    assert total.estimate == pytest.approx(1)
    assert 0 < total.low < total.high <= 1 and total.p < 0.001


def test_a_single_base_model_is_held_against_every_seed(scores):
    native, base = at(scores, "native", "native"), at(scores, "fixed-84", "native")
    base = base[base["seed"] == 1].assign(seed=99)
    assert st.paired_difference(native, base).n_seeds == 3
    assert st.paired_difference(base, native).n_seeds == 3


@pytest.mark.parametrize("spoil, message", [
    (lambda a: a[a["question_id"] != "nodule"], "same questions"),
    (lambda a: pd.concat([a, a]), "has several"),
    (lambda a: a.assign(seed=a["seed"] + 100), "share a training seed"),
])
def test_conditions_that_do_not_match_stop(scores, spoil, message):
    native = at(scores, "native", "native")
    with pytest.raises(DataError, match=message):
        st.paired_difference(spoil(native), at(scores, "mixed", "native"))


def test_macro_weighs_tasks_the_same(scores):
    native, low = at(scores, "native", "native"), at(scores, "fixed-84", "fixed-84")
    tasks = st.differences(native, low, ["task"])
    assert st.paired_difference(native, low, macro="task").estimate == pytest.approx(tasks["estimate"].mean())
    assert (tasks["family_size"] == len(tasks)).all() and (tasks["p_holm"] >= tasks["p"]).all()


def test_contrast_is_the_difference_of_two_differences(scores):
    native, low = at(scores, "native", "native"), at(scores, "fixed-84", "fixed-84")
    found = st.contrast(native, low, "level", "fine", "coarse")
    by_level = st.differences(native, low, ["level"]).set_index("level")["estimate"]
    assert found.estimate == pytest.approx(by_level["fine"] - by_level["coarse"])


def test_relative_change_of_known_ratios_and_of_zeros():
    half = frame(np.tile([1.0, 0.0], (40, 1))[:, :, None].repeat(3, axis=2))
    ones = frame(np.ones((40, 2, 3)))
    assert st.relative_change(half, ones).estimate == -0.5
    assert np.isnan(st.relative_change(ones, ones.assign(score=0.0)).estimate)
    assert "0" in st.relative_change(ones, ones.assign(score=0.0)).note
    lost = st.relative_change(ones.assign(score=0.0), ones)
    assert (lost.estimate, lost.low) == (-1, -1) and lost.high > -1


def test_holm_by_hand():
    table = st.holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert table["p_holm"].tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert table["family_size"].tolist() == [3, 3, 3]


# Robustness

def test_res_bench_measures_by_hand():
    curves = np.array([[0.2, 0.4, 0.3, 0.7], [0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]])
    assert st.ace(curves) == pytest.approx([0.7, 0, 0])
    assert st.rce(curves) == pytest.approx([0.7 / 0.4, 0, 0])
    assert st.spearman(curves)[0] == pytest.approx(0.8)
    assert np.isnan(st.spearman(curves)[1:]).all()


@pytest.mark.parametrize("curve", np.random.default_rng(8).integers(0, 4, (10, 6)))
def test_spearman_is_scipys_with_ties(curve):
    expected = stats.spearmanr(np.arange(6), curve).statistic
    assert st.spearman(curve[None].astype(float))[0] == pytest.approx(expected)


def test_robustness_orders_rungs_by_budget_and_is_seeded(scores):
    ladder = scores[scores["control"] == "none"]
    table = st.robustness(ladder.sample(frac=1, random_state=1)).set_index(["regime", "measure"])
    curve = ladder[ladder["regime"] == "native"].groupby("budget_pixels")["score"].mean().to_numpy()
    assert table.loc[("native", "ace"), "estimate"] == pytest.approx(np.abs(np.diff(curve)).sum())
    assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()
    pd.testing.assert_frame_equal(st.robustness(ladder), st.robustness(ladder))
    assert not st.robustness(ladder, seed=1).equals(st.robustness(ladder))


def test_draws_spread_like_the_intervals():
    values = frame(simulate(np.random.default_rng(9), 120, seed_sd=0.3)[0]).assign(cell="one")
    drawn = st.draw_means(values, ["cell"], n=8000)
    low, high = np.quantile(drawn.draws[:, 0], [0.025, 0.975])
    found = st.mean_interval(values)
    assert high - low == pytest.approx(found.high - found.low, rel=0.2)


def test_draws_need_every_seed_in_every_cell(scores):
    rows = scores[(scores["regime"] != "mixed") | (scores["seed"] != 2)]
    with pytest.raises(DataError, match="every seed"):
        st.draw_means(rows, ["regime", "inference"])


# Acuity

def curve(threshold, rng, images=150, chance=0.5, lapse=0.05, sizes=(1, 64)):
    """One fine question an image, 3 seeds, with a known threshold in native pixels."""
    size = np.exp2(rng.uniform(*np.log2(sizes), images))
    psi = chance + (1 - chance) * (1 - lapse) / (1 + np.exp(-2 * np.log2(size / threshold)))
    right = rng.random((images, 1, 3)) < psi[:, None, None]
    rows = frame(right)
    return rows.assign(detail_px=size[rows["image_id"].astype(int)], chance=chance)


def test_acuity_covers_a_known_threshold():
    rng = np.random.default_rng(10)
    fits = [st.acuity(curve(8.0, rng, chance=0.25), n=200) for _ in range(16)]
    assert all(fit.estimable for fit in fits)
    assert np.mean([fit.low <= 8 <= fit.high for fit in fits]) >= 0.8
    assert np.median([fit.threshold_px for fit in fits]) == pytest.approx(8, rel=0.15)
    fit = fits[0]
    ceiling = 1 - (1 - fit.chance) * fit.lapse
    assert fit.predict(fit.threshold_px) == pytest.approx((fit.chance + ceiling) / 2)


@pytest.mark.parametrize("threshold, sizes, why", [
    (0.05, (4, 64), "below the smallest|resamples"),
    (2000.0, (4, 64), "above the largest|resamples"),
    (8.0, (4, 4.0001), "sizes"),
])
def test_acuity_says_when_the_data_cannot_tell(threshold, sizes, why):
    rows = curve(threshold, np.random.default_rng(11), sizes=sizes)
    if sizes[1] < 5:
        rows["detail_px"] = 4.0
    found = st.acuity(rows, n=200)
    assert not found.estimable and np.isnan(found.threshold_px)
    assert found.why.startswith("not estimable") and any(w in found.why for w in why.split("|"))
    assert np.isnan(found.predict([4.0])).all()


def test_acuity_finds_the_lower_threshold_of_the_sharper_regime():
    sharp = Effects(acuity_px={"native": 4.0, "fixed-84": 4.0}, mismatch_loss=0)
    rows = scoring_score.score(predictions(n_images=200, regimes=("native",), rungs=("fixed-84", "native"),
                                     controls=(), effects=sharp))
    table = st.acuity_table(rows, ["inference"], n=200).set_index("inference")
    assert table["estimable"].all()
    assert table.loc["native", "high"] < table.loc["fixed-84", "low"]


def test_acuity_refuses_coarse_questions_and_unknown_chance(scores):
    with pytest.raises(DataError, match="fine"):
        st.acuity(scores[scores["level"] == "coarse"])
    with pytest.raises(DataError, match="chance"):
        st.acuity(scores.assign(chance=np.nan))


# Strata

def test_strata_split_images_by_native_pixels(scores):
    strata = st.native_strata(scores)
    images = scores.assign(stratum=strata).groupby("image_id")["stratum"].first().value_counts()
    assert len(images) == 3 and images.min() >= 0.8 * images.max()
    fixed = st.native_strata(scores, edges=[224**2, 318**2])
    assert list(fixed.cat.categories) == ["up to 224² px", "224² to 318² px", "above 318² px"]
    small = scores["height"] * scores["width"] <= 224**2
    assert (fixed[small] == "up to 224² px").all() and not (fixed[~small] == "up to 224² px").any()

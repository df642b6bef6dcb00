"""Claims about one model as it is: known effects are found, no training is claimed, images alone are random."""

import numpy as np
import pandas as pd
import pytest

from medstudy import claims
from medstudy.claims.claim import NEEDS_TRAINING, ONE_MODEL
from medstudy.scoring import score as scoring_score
from medstudy.statistics import acuity, acuity_gain, images_for, paired_difference, spread
from tests.support.synthetic import Effects, predictions

TRAININGS = ["C1", "C1b", "C3", "C3b", "O4", "O5", "O8", "O9", "O10"]
STATED = {"own_rung": "native", "own_why": "model card: up to 200704 pixels"}


def one_model(n_images=160, seed=0, **effects):
    """Scores of a model as it is, which sees as a native one does."""
    rows = predictions(n_images, 1, ("native",), effects=Effects(**effects), seed=seed)
    return scoring_score.score(rows.assign(regime="base", mismatch=True))


@pytest.fixture(scope="module")
def scores():
    return one_model(mismatch_loss=0.1, image_sd=0.2)


def table_of(scores, **names):
    names = {"trained": False, "resamples": 200} | names
    return claims.claims_table(scores, **names).set_index("id", drop=False)


@pytest.fixture(scope="module")
def table(scores):
    return table_of(scores, **STATED)


def test_claims_that_compare_trainings_need_training_and_the_others_have_an_interval(table):
    assert table["id"].tolist()[-4:] == ["I1", "I2", "I3", "I4"]
    left = table[table["verdict"] == "not run"]
    assert left["id"].tolist() == TRAININGS
    assert (left["why"] == f"Not run: {NEEDS_TRAINING}.").all() and left["estimate"].isna().all()
    asked = table[table["verdict"] != "not run"]
    assert (asked["low"] < asked["estimate"]).all() and (asked["estimate"] < asked["high"]).all()
    assert asked["why"].str.contains(ONE_MODEL, regex=False).all() and not asked["why"].str.contains("1 seed").any()


def test_known_effects_are_found_with_one_seed(table):
    assert (table.loc[["O1", "O3", "O6", "O7", "I1", "I2", "I4"], "verdict"] == "supported").all()
    assert table.loc["C2", "high"] < -10
    stated = "which was trained at native (model card: up to 200704 pixels), evaluated at fixed-56"
    assert stated in table.loc["C2", "why"]
    assert "One training seed" not in " ".join(table["why"])


def test_the_interval_is_the_paired_one_over_images(scores, table):
    plain = scores[(scores["control"] == "none")]
    native, low = (plain[plain["inference"] == rung] for rung in ("native", "fixed-84"))
    gain = paired_difference(native, low)
    assert table.loc["I1", ["estimate", "low", "high"]].tolist() == pytest.approx(
        [100 * gain.estimate, 100 * gain.low, 100 * gain.high])
    both = native.merge(low, on=["image_id", "question_id"], suffixes=("", "_low"))
    change = both["score"] - both["score_low"]
    images = (change - change.mean()).groupby(both["image_id"]).sum() * both["image_id"].nunique() / len(both)
    error = images.std(ddof=1) / np.sqrt(len(images))
    assert gain.high - gain.estimate == pytest.approx(1.975 * error, rel=0.03)  # t with 159 degrees of freedom


def test_without_a_stated_resolution_there_is_no_mismatch(scores):
    row = table_of(scores, own_rung=None, own_why="its stamp: at most 280 × 280 pixels, and no rung has it").loc["C2"]
    assert row["verdict"] == "not run" and "no rung has it" in row["why"]


def test_a_model_that_ignores_the_image_has_no_verdict_but_on_that(scores):
    blind = scores["control"].isin(["blind", "shuffled"])
    key = ["image_id", "question_id"]
    native = scores[(scores["control"] == "none") & (scores["inference"] == "native")].set_index(key)["score"]
    same = scores.assign(score=np.where(blind, scores.set_index(key).index.map(native), scores["score"]))
    found = table_of(same, **STATED)
    asked = found[~found["id"].isin([*TRAININGS])]
    assert asked["verdict"].isin(["inconclusive", "not run"]).all() and asked.loc["O6", "verdict"] == "inconclusive"
    assert asked.loc["I1", "why"].count("No verdict: the model at native is not shown to beat itself") == 1
    assert "No verdict" not in asked.loc["O6", "why"] + asked.loc["I2", "why"]
    assert asked.loc["I1", "to_settle"].startswith("for O6, ")


def test_without_a_low_rung_the_claims_that_need_it_say_so(scores):
    found = table_of(scores, low=None, **STATED)
    assert "needs `low`, the rung that native is compared with" in found.loc["I1", "why"]
    assert found.loc[["I1", "O1", "O7", "I4"], "verdict"].eq("not run").all()
    assert found.loc[["O6", "I2"], "verdict"].eq("supported").all()


def test_an_absent_effect_is_not_found_and_images_alone_would_settle_it():
    """The low rung has one more wrong answer than native, and they are to other questions."""
    rows = one_model(40)
    native = rows[(rows["control"] == "none") & (rows["inference"] == "native")]
    low = native.assign(inference="fixed-84", score=native["score"].to_numpy()[::-1])
    low.iloc[int(np.flatnonzero(low["score"] == 1)[0]), low.columns.get_loc("score")] = 0
    found = table_of(pd.concat([native, low]), **STATED)
    assert found.loc["I1", "verdict"] == "inconclusive"
    assert found.loc["I1", "to_settle"].startswith("about ") and "seeds" not in found.loc["I1", "to_settle"]


def test_images_for_halves_the_interval_with_four_times_the_images():
    influence = np.random.default_rng(0).normal(size=400) / 400
    sizes = spread(np.arange(400), np.zeros(400), influence - influence.mean())
    one, half = images_for(sizes, 0.05), images_for(sizes, 0.025)
    assert 3.5 < half.images / one.images < 4.5 and one.seeds == 1 and str(one) == f"about {one.images:,} images"
    assert images_for(sizes, 0.0) is None and images_for(sizes, 1e-9) is None


def test_the_gain_of_acuity_is_paired(scores):
    fine = scores[(scores["control"] == "none") & scores["detail_px"].notna()]
    native, low = (fine[fine["inference"] == rung] for rung in ("native", "fixed-84"))
    gain = acuity_gain(native, low, n=200)
    fits = acuity(native, n=200), acuity(low, n=200)
    assert gain.estimate == pytest.approx(np.log2(fits[1].threshold_px / fits[0].threshold_px))
    nothing = acuity_gain(native, native.sample(frac=1, random_state=0), n=200)  # the same answers in another order
    assert (nothing.estimate, nothing.low, nothing.high) == pytest.approx((0, 0, 0), abs=1e-6)


def test_a_threshold_that_cannot_be_estimated_decides_nothing():
    row = table_of(one_model(8), **STATED).loc["I4"]
    assert row["verdict"] == "not run" and "not estimable" in row["why"]


def test_a_study_that_trains_has_none_of_these_claims(scores):
    assert not claims.claims_table(scores)["id"].str.startswith("I").any()

"""Acuity: known thresholds are found, and data that do not suffice are explained."""

import numpy as np
import pytest

from medstudy import statistics as st
from medstudy.errors import DataError
from medstudy.scoring import score
from tests.support.simulated_scores import frame
from tests.support.synthetic import Effects, predictions


def curve(threshold, rng, images=150, chance=0.5, lapse=0.05, sizes=(1, 64)):
    """One fine question per image, 3 seeds, with a known threshold in native pixels."""
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
def test_acuity_explains_when_data_do_not_suffice(threshold, sizes, why):
    rows = curve(threshold, np.random.default_rng(11), sizes=sizes)
    if sizes[1] < 5:
        rows["detail_px"] = 4.0
    fit = st.acuity(rows, n=200)
    assert not fit.estimable and np.isnan(fit.threshold_px)
    assert fit.why.startswith("not estimable") and any(w in fit.why for w in why.split("|"))
    assert np.isnan(fit.predict([4.0])).all()


def test_acuity_finds_the_lower_threshold_of_the_sharper_regime():
    sharp = Effects(acuity_px={"native": 4.0, "fixed-84": 4.0}, mismatch_loss=0)
    rows = score.score(predictions(n_images=200, regimes=("native",), rungs=("fixed-84", "native"),
                                   controls=(), effects=sharp))
    table = st.acuity_table(rows, ["inference"], n=200).set_index("inference")
    assert table["estimable"].all()
    assert table.loc["native", "high"] < table.loc["fixed-84", "low"]


def test_acuity_needs_fine_questions_and_their_chance(scores):
    with pytest.raises(DataError, match="fine"):
        st.acuity(scores[scores["level"] == "coarse"])
    with pytest.raises(DataError, match="chance"):
        st.acuity(scores.assign(chance=np.nan))

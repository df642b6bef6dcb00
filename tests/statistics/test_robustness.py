"""Res-Bench measures by hand, and over the ladder of a study."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medstudy import statistics as st


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

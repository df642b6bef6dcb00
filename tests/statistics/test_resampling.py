"""Joint draws of means vary as the intervals say."""

import numpy as np
import pytest

from medstudy import statistics as st
from medstudy.errors import DataError
from tests.support.simulated_scores import frame, simulate


def test_draws_vary_as_intervals_say():
    values = frame(simulate(np.random.default_rng(9), 120, seed_sd=0.3)[0]).assign(cell="one")
    drawn = st.draw_means(values, ["cell"], n=8000)
    low, high = np.quantile(drawn.draws[:, 0], [0.025, 0.975])
    interval = st.mean_interval(values)
    assert high - low == pytest.approx(interval.high - interval.low, rel=0.2)


def test_draws_need_every_seed_in_every_cell(scores):
    rows = scores[(scores["regime"] != "mixed") | (scores["seed"] != 2)]
    with pytest.raises(DataError, match="every seed"):
        st.draw_means(rows, ["regime", "inference"])

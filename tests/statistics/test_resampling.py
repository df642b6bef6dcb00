"""Joint draws of means vary as the intervals say, and the worst of many keeps its error rate."""

import numpy as np
import pandas as pd
import pytest

from medstudy import statistics as st
from medstudy.errors import DataError
from tests.support.simulated_scores import frame, simulate


def test_the_worst_of_equal_cells_is_rarely_significant():
    rng, n, cells = np.random.default_rng(3), 60, 6
    significant = 0
    for _ in range(n):
        parts = [frame(simulate(rng, 60, seed_sd=0.1)[0]).assign(cell=k) for k in range(cells)]
        drawn = st.draw_means(pd.concat(parts), ["cell"], n=300)
        changes, draws = drawn.means[1:] - drawn.means[0], drawn.draws[:, 1:] - drawn.draws[:, :1]
        significant += st.simultaneous(changes, draws)[1].min() < 0
    assert significant / n <= 0.08


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

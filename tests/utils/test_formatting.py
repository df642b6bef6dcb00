"""Durations and sizes are given in the unit that fits."""

import pytest

from medstudy.utils import formatting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (89.9, "89.9 s"), (90, "1.5 min"), (5399, "90.0 min"), (5400, "1.5 h"), (float("nan"), "")],
)
def test_a_duration_has_the_unit_that_fits(seconds, text):
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (4e12, "4 TB")]
)
def test_a_size_has_the_unit_that_fits(count, text):
    assert formatting.size(count) == text

"""Packing keeps its budget, loses nothing, and names what cannot fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medstudy import packing
from medstudy.errors import ResolutionError


@given(st.lists(st.integers(1, 100), max_size=60), st.integers(100, 250))
def test_every_sample_stands_in_one_group_within_the_budget(lengths, budget):
    groups = packing.fill(lengths, budget, [""] * len(lengths))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in group) for group in groups]
    assert all(total <= budget for total in sums)
    assert sum(total <= budget / 2 for total in sums) <= 1  # two half-empty passes would have been one
    assert groups == packing.fill(lengths, budget, [""] * len(lengths))


def first_fit(lengths: list[int], budget: int) -> list[list[int]]:
    """The definition: each, longest first, into the first group that has room."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        room = (group for group in groups if sum(lengths[i] for i in group) + lengths[index] <= budget)
        group = next(room, None)
        if group is None:
            groups.append(group := [])
        group.append(index)
    return groups


@given(st.lists(st.integers(1, 12), max_size=80), st.integers(12, 60))
def test_groups_are_those_of_first_fit(lengths, budget):
    assert packing.fill(lengths, budget, [""] * len(lengths)) == first_fit(lengths, budget)


def test_a_sample_that_fits_nowhere_is_named():
    with pytest.raises(ResolutionError, match="b takes 51.*tokens_per_pass") as error:
        packing.fill([3, 51, 50], 50, ["a", "b", "c"])
    assert "50 tokens" in str(error.value)


def test_nothing_is_packed_into_nothing():
    assert packing.fill([], 10, []) == []

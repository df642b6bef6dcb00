"""Packing stays within its budget, loses nothing, and names a sample that cannot fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medstudy import models
from medstudy.engine import batches, bin_packing
from medstudy.engine import flops as engine_flops
from medstudy.errors import ResolutionError
from medstudy.params import Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Native
from medstudy.resolution.sizes import Size

RANKS, STEPS, TOKENS_PER_PASS = 8, 20, 16384


@given(st.lists(st.integers(1, 100), max_size=60), st.integers(100, 250))
def test_every_sample_is_in_one_group_within_the_budget(lengths, budget):
    groups = bin_packing.fill(lengths, budget, [""] * len(lengths))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in group) for group in groups]
    assert all(total <= budget for total in sums)
    assert sum(total <= budget / 2 for total in sums) <= 1  # two half-empty passes would have been one
    assert groups == bin_packing.fill(lengths, budget, [""] * len(lengths))


def first_fit(lengths: list[int], budget: int) -> list[list[int]]:
    """The definition: longest first, each into the first group that has room."""
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
    assert bin_packing.fill(lengths, budget, [""] * len(lengths)) == first_fit(lengths, budget)


def test_a_sample_that_fits_nowhere_is_named():
    with pytest.raises(ResolutionError, match="b takes 51.*tokens_per_pass") as error:
        bin_packing.fill([3, 51, 50], 50, ["a", "b", "c"])
    assert "50 tokens" in str(error.value)


def test_no_samples_make_no_groups():
    assert bin_packing.fill([], 10, []) == []


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40), st.integers(1, 9))
def test_every_cost_is_in_one_share_and_none_is_empty_if_there_are_enough(costs, processes):
    shares = bin_packing.shares(costs, processes)
    assert len(shares) == processes and all(share == sorted(share) for share in shares)
    assert sorted(index for share in shares for index in share) == list(range(len(costs)))
    assert sum(map(bool, shares)) == min(processes, len(costs))
    sums = [sum(costs[index] for index in share) for share in shares]
    assert max(sums) - min(sums) <= max(costs)  # the method's guarantee


def test_no_costs_make_empty_shares():
    assert bin_packing.shares([], 3) == [[], [], []]


@pytest.fixture(scope="module")
def views():
    """Training FLOPs and row tokens per step of 64 images of 1 to 12 MP at native size with 10 questions each."""
    family, rng = models.sketch(Model(id="Qwen/Qwen2-VL-2B-Instruct", dtype="bfloat16")), np.random.default_rng(0)

    def work(pixels):
        high = int((0.75 * pixels) ** 0.5)
        tokens = plan(Native(max_pixels=2**31), Size(high, high * 4 // 3), family.geometry)[0].visual_tokens
        prefix, branches = tokens + 30, [20] * 10
        pairs = prefix * (prefix + 1) // 2 + sum(n * (n + 1) // 2 + n * prefix for n in branches)
        return engine_flops.RowWork((4 * tokens,), prefix + sum(branches), pairs, 20)

    works = [[work(pixels) for pixels in rng.uniform(1e6, 12e6, 8 * RANKS)] for _ in range(STEPS)]
    return [([engine_flops.training_flops(family.shape, item) for item in step], [item.tokens for item in step])
            for step in works]


def imbalance(flops, tokens, by=None):
    """FLOPs of a step's busiest process relative to the mean, minus 1; repeated passes without weight count too."""
    groups = batches.passes(tokens, TOKENS_PER_PASS, [""] * len(tokens), RANKS, by)
    most, shortest = max(map(len, groups)), flops[tokens.index(min(tokens))]
    sums = [sum(flops[i] for group in own for i in group) + shortest * (most - len(own)) for own in groups]
    return max(sums) / np.mean(sums) - 1


@pytest.mark.parametrize("images", [4, 8])
def test_processes_do_the_same_work_on_images_of_1_to_12_megapixels(views, images):
    """8 processes with 4 or 8 images each per step. With one each, shares could not be equal: costs differ 40-fold."""
    count = images * RANKS
    found = [imbalance(flops[:count], tokens[:count], flops[:count]) for flops, tokens in views]
    assert np.mean(found) <= 0.03
    by_tokens = [imbalance(flops[:count], tokens[:count]) for flops, tokens in views]
    assert np.mean(by_tokens) > 0.03  # attention of the tower is quadratic, so equal tokens are not equal work

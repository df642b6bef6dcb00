"""The size that settles: an interval of that size is short of the bound, and a smaller one is not."""

import numpy as np
import pytest
from scipy import stats

from medstudy.statistics import SampleSize, Spread, size_for


def half_width(images: int, seeds: int, spread: Spread) -> float:
    """Half the width of an interval in a study of another size, from the formula."""
    df = spread.seed_df * (seeds - 1) / (spread.n_seeds - 1)
    by_image = stats.t.ppf(0.975, images - 1) ** 2 * spread.v_image * spread.n_images / images
    return np.sqrt(by_image + stats.t.ppf(0.975, df) ** 2 * spread.v_seed * spread.n_seeds / seeds)


@pytest.mark.parametrize("distance", [0.02, 0.03, 0.05])
def test_a_study_of_this_size_is_narrow_enough_and_a_tenth_fewer_images_are_not(distance):
    spread = Spread(4e-4, 1e-4, 120, 3, seed_df=4.0)
    size = size_for(spread, distance)
    assert half_width(size.images, size.seeds, spread) <= distance
    if size.images > 120:
        assert half_width(int(0.88 * size.images), size.seeds, spread) > distance


def test_a_narrower_goal_and_more_power_need_more():
    spread = Spread(4e-4, 1e-5, 120, 3, seed_df=4.0)
    cost = [size.images * size.seeds for size in (size_for(spread, 0.03), size_for(spread, 0.02),
                                                  size_for(spread, 0.02, power=0.8))]
    assert cost == sorted(cost) and len(set(cost)) == 3


def test_no_size_is_smaller_than_the_study_and_what_it_has_may_do():
    assert size_for(Spread(1e-4, 0, 120, 3), 0.5) == SampleSize(120, 3)
    assert str(SampleSize(1200, 5)) == "about 1,200 images and 5 seeds"


@pytest.mark.parametrize("spread, distance", [
    (Spread(4e-4, 1e-4, 120, 3), 0.0), (Spread(4e-4, 0, 120, 1), 0.1), (Spread(4e-4, 1e-1, 120, 3), 0.001),
    (Spread(4e-4, 0, 120, 3), 1e-5), (Spread(4e-4, 1e-4, 120, 3), float("nan")),
])
def test_where_no_practical_size_would_do_there_is_none(spread, distance):
    assert size_for(spread, distance) is None

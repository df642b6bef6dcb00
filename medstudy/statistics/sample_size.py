"""How many images and seeds an interval needs to be narrow enough, from the variances that a study measured.

The variance by image falls as 1 / images, the variance by seed as 1 / seeds. This says how wide an interval would be in
a larger study, not what that study would find: the estimate is held where it is. It is no power "observed" after the
fact, which would follow from the p value and say nothing new (Hoenig and Heisey 2001, Am Stat 55:19).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from medstudy.statistics.intervals import Spread

MOST_IMAGES, MOST_SEEDS = 20_000, 10  # beyond these no size counts as practical


@dataclass(frozen=True)
class SampleSize:
    """Independent test images and training seeds of a study; one seed is that of a model that is not trained."""

    images: int
    seeds: int

    def __str__(self) -> str:
        return f"about {self.images:,} images" + (f" and {self.seeds} seeds" if self.seeds > 1 else "")


def size_for(sizes: Spread, distance: float, confidence: float = 0.95, power: float = 0.5) -> SampleSize | None:
    """The cheapest study whose interval is short of a bound at this distance.

    It has at least the images and seeds behind `sizes`. A seed costs its training, taken to be as dear as evaluating
    the images of `sizes`, and the evaluation of all images. power: in what share of such studies the interval misses
    the bound if the truth lies at this distance from it; 0.5: half the width of the interval equals the distance. None
    if no practical size will do, or if there is one seed, so that training noise is unknown.
    """
    if not distance > 0 or sizes.n_seeds < 2 or sizes.n_images < 2:
        return None
    half = distance / (1 + special.ndtri(power) / special.ndtri((1 + confidence) / 2))
    seeds = range(sizes.n_seeds, max(MOST_SEEDS, sizes.n_seeds) + 1)
    tried = [(_images(sizes, n, half, confidence), n) for n in seeds]
    found = [SampleSize(int(images), n) for images, n in tried if images <= MOST_IMAGES]
    return min(found, key=lambda size: size.seeds * (size.images + sizes.n_images), default=None)


def images_for(sizes: Spread, distance: float, confidence: float = 0.95, power: float = 0.5) -> SampleSize | None:
    """`size_for` of an interval for one model: images alone vary. None if no practical number will do."""
    if not distance > 0 or sizes.n_images < 2:
        return None
    half = distance / (1 + special.ndtri(power) / special.ndtri((1 + confidence) / 2))
    images = special.ndtri((1 + confidence) / 2) ** 2 * sizes.v_image * sizes.n_images / half**2 + 2
    needed = max(sizes.n_images, _rounded_up(images))
    return SampleSize(needed, 1) if needed <= MOST_IMAGES else None


def _images(sizes: Spread, seeds: int, half: float, confidence: float) -> float:
    """The images that make half the interval's width at most `half` with these seeds; infinite if none do."""
    df = (sizes.seed_df or sizes.n_seeds - 1) * (seeds - 1) / (sizes.n_seeds - 1)
    quantile = (1 + confidence) / 2
    left = half**2 - special.stdtrit(df, quantile) ** 2 * sizes.v_seed * sizes.n_seeds / seeds
    if left <= 0:
        return float("inf")
    # t instead of the normal quantile adds about two images
    images = special.ndtri(quantile) ** 2 * sizes.v_image * sizes.n_images / left + 2
    return max(sizes.n_images, _rounded_up(images))


def _rounded_up(images: float) -> int:
    """Up to two significant digits: it is a rough number."""
    step = 10 ** max(0, int(np.floor(np.log10(max(images, 1)))) - 1)
    return int(np.ceil(images / step) * step)

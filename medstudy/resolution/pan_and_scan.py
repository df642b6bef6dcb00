"""`pan_and_scan`: Gemma 3's own crops. The whole image, then crops of it side by side, each as an image of its own.

Crops are made of an image whose sides differ by at least `min_ratio`: as many as its longer side has shorter ones, 2 to
`max_crops`, along the longer side and without overlap, if each has at least `min_crop_size` pixels a side. The
defaults are those of Gemma 3's release. The arithmetic is that of transformers (Apache-2.0):
https://github.com/huggingface/transformers/blob/main/src/transformers/models/gemma3/image_processing_gemma3.py
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor
from typing import Annotated, Literal

from pydantic import Field

from medstudy.errors import ResolutionError
from medstudy.resolution.base import Policy, Whole, view_of
from medstudy.resolution.sizes import UNKNOWN, Box, Geometry, Known, Rounding, Size, View, steps

DEFAULTS = (256, 4, 1.2)


class PanAndScan(Policy):
    """The whole image and its crops, each reduced to at most `max_pixels`, as `native` does, and then to the one size.

    min_crop_size, max_crops, min_ratio: pan_and_scan_min_crop_size, _max_num_crops and _min_ratio_to_activate of the
    processor.
    """

    policy: Literal["pan_and_scan"] = "pan_and_scan"
    max_pixels: Whole
    min_crop_size: Whole = DEFAULTS[0]
    max_crops: Annotated[int, Field(ge=2, strict=True)] = DEFAULTS[1]
    min_ratio: Annotated[float, Field(ge=1, strict=True)] = DEFAULTS[2]
    rounding: Rounding = "exact"

    @property
    def label(self) -> str:
        own = (self.min_crop_size, self.max_crops, self.min_ratio)
        return "pan_and_scan" + "".join(f"-{value:g}" for value in own if own != DEFAULTS)

    @property
    def budget(self) -> int:
        return self.max_pixels

    @property
    def families(self) -> tuple[str, ...]:
        return ("gemma3",)

    @property
    def rounds(self) -> bool:
        return True

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        """See `Policy`. Raises ResolutionError for a family other than Gemma 3, which shows one size."""
        if geometry.most_units != 1:
            raise ResolutionError(
                f"Pan and scan is of Gemma 3, which shows one size, but this model family shows {geometry.sizes}. Use "
                "family gemma3, or drop the policy."
            )
        boxes = crops(size, self.min_crop_size, self.max_crops, self.min_ratio)
        parts = tuple(replace(self._shown(box.size, geometry), crop=box) for box in boxes)
        return replace(self._shown(size, geometry), crops=parts, source="pan_and_scan" if parts else "none")

    def _shown(self, size: Size, geometry: Geometry) -> View:
        return view_of(self.label, steps(size, self.max_pixels, geometry, self.rounding), geometry)


def crops(image: Size, least: int, most: int, ratio: float) -> list[Box]:
    """The crops of an image, from the upper left; [] if it is not elongated enough, or they would be too small."""
    long, short = max(image), min(image)
    if long / short < ratio:
        return []
    count = min(most, max(2, min(long // least, floor(long / short + 0.5))))
    side = ceil(long / count)
    if min(side, short) < least:
        return []
    starts = [place * side for place in range(count)]
    if image.width >= image.height:
        return [Box(0, start, image.height, min(side, image.width - start)) for start in starts]
    return [Box(start, 0, min(side, image.height - start), image.width) for start in starts]

"""`zoom`: an overview of the image, and a crop of it in as many visual tokens, in one prompt.

Both have half of the budget, so that the two together have about the visual tokens of `fixed` with the same `side` (in
a family of tiles, those of two images). The crop is a window around a box: the box enlarged by `context`, in the shape
of the overview, and with at least as many native pixels as the overview shows. So a small box is shown at its native
scale with what is around it, and nothing is enlarged that the overview does not enlarge. The window is in the image.

Where the box comes from (`box`):
- known: from the data: the deciding feature of each question (`medstudy.data.example.Question.box`);
- own: from the model's answer in a first turn over the overview (`medstudy.evaluation.own_box`);
- attention: from a first pass over the overview: where the model looks (`medstudy.evaluation.looking`).

A question without a box is shown the whole image with the whole budget, as by `fixed`; its rows say so.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Annotated, Literal

from pydantic import Field

from medstudy.resolution.base import LOOKING, SEVERAL, Policy, Whole, view_of
from medstudy.resolution.sizes import UNKNOWN, Box, Geometry, Known, Rounding, Size, View, steps


class Zoom(Policy):
    """An overview and a crop of at most side²/2 pixels each. context: the least of the crop's sides over the box's.

    rounding: see `medstudy.resolution.sizes`.
    """

    policy: Literal["zoom"] = "zoom"
    side: Whole
    box: Literal["known", "own", "attention"] = "known"
    context: Annotated[float, Field(ge=1, strict=True)] = 1.5
    rounding: Rounding = "exact"

    @property
    def label(self) -> str:
        return f"zoom-{self.side}" if self.box == "known" else f"zoom_{self.box}-{self.side}"

    @property
    def budget(self) -> int:
        return self.side**2

    @property
    def families(self) -> tuple[str, ...]:
        return LOOKING if self.box == "attention" else SEVERAL

    @property
    def trains(self) -> bool:
        return self.box == "known"

    @property
    def first_tokens(self) -> int:
        """About how many tokens the model writes in the pass in which it finds the boxes."""
        return 24 if self.box == "own" else 1

    @property
    def reads(self) -> tuple[str, ...]:
        return ("box",)

    @property
    def rounds(self) -> bool:
        return True

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        if known.box is None:
            return replace(self._shown(size, self.budget, geometry), source="none")
        overview = self.overview(size, geometry)
        crop = window(known.box, size, self.context, overview.detail)
        return replace(overview, crops=(replace(overview, crop=crop),), source=self.box)

    def overview(self, size: Size, geometry: Geometry) -> View:
        """The whole image in half of the budget."""
        return self._shown(size, self.budget // 2, geometry)

    def _shown(self, size: Size, budget: int, geometry: Geometry) -> View:
        return view_of(self.label, steps(size, budget, geometry, self.rounding), geometry)


def window(box: Box, image: Size, context: float, least: Size) -> Box:
    """The window around a box: `least` enlarged until it holds the box times `context`, and moved into the image."""
    factor = max(1.0, *(context * side / shown for side, shown in zip(box.size, least, strict=True)))
    height, width = (min(whole, ceil(shown * factor)) for shown, whole in zip(least, image, strict=True))
    top = min(max(0, box.top + (box.height - height) // 2), image.height - height)
    left = min(max(0, box.left + (box.width - width) // 2), image.width - width)
    return Box(top, left, height, width)

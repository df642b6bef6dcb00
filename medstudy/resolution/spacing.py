"""`spacing`: magnification in µm a pixel, apart from the field of view.

The image is reduced until a pixel has `um_per_px` µm; one that is coarser already stays as it is, since nothing is ever
enlarged. `field_um` cuts out a square of that side first, around the middle of the image or of the question's box, and
moved into the image; of a smaller image all is shown. Sides are then rounded to whole visual tokens as always, so rows
state the realised scale: `um_per_px / scale` µm a pixel were shown.

The size of a native pixel is `medstudy.data.example.Example.um_per_px`: from the mpp of a slide, PixelSpacing or
ImagerPixelSpacing of a DICOM file, or a column of the user's data. It is never guessed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Gt
from pydantic import Strict

from medstudy.errors import ResolutionError
from medstudy.resolution.base import Policy, Whole, view_of
from medstudy.resolution.sizes import UNKNOWN, Box, Geometry, Known, Rounding, Size, View, steps

Micrometres = Annotated[float, Gt(0), Strict()]


class Spacing(Policy):
    """At `um_per_px` µm a pixel; of the whole image, or of a square field of `field_um` µm a side.

    centre: of the field. max_pixels: an image that would need more at this spacing is an error, since a cap would
    change the spacing. rounding: see `medstudy.resolution.sizes`.
    """

    policy: Literal["spacing"] = "spacing"
    um_per_px: Micrometres
    max_pixels: Whole
    field_um: Micrometres | None = None
    centre: Literal["image", "box"] = "image"
    rounding: Rounding = "exact"

    @property
    def label(self) -> str:
        field = "" if self.field_um is None else f"-of-{self.field_um:g}um"
        return f"spacing-{self.um_per_px:g}um{field}{'-box' if self.centre == 'box' else ''}"

    @property
    def budget(self) -> int:
        return self.max_pixels

    @property
    def reads(self) -> tuple[str, ...]:
        return ("um_per_px", "box") if self.centre == "box" else ("um_per_px",)

    @property
    def rounds(self) -> bool:
        return True

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        """See `Policy`. Raises ResolutionError for an image of unknown spacing, or one that needs too many pixels."""
        if known.um_per_px is None:
            raise ResolutionError(
                f"{self.label} needs the size of a pixel, but an image of {size.height}x{size.width} states none. Give "
                "it in a column (`columns: {um_per_px: NAME}`), leave such images out, or drop the policy."
            )
        crop, source = self._field(size, known)
        shown = crop.size if crop else size
        if (shrink := self.um_per_px / known.um_per_px) > 1:
            shown = Size(*(max(1, round(side / shrink)) for side in shown))
        if shown.pixels > self.max_pixels:
            raise ResolutionError(
                f"{self.label} shows an image of {size.height}x{size.width} pixels of {known.um_per_px:g} µm in "
                f"{shown.height}x{shown.width}, above its max_pixels of {self.max_pixels}. Raise max_pixels, or take a "
                "smaller field_um or a larger um_per_px."
            )
        fitted = steps(shown, self.max_pixels, geometry, self.rounding)
        return replace(view_of(self.label, fitted, geometry), crop=crop, source=source)

    def _field(self, size: Size, known: Known) -> tuple[Box | None, str]:
        """The field in native pixels, and what it is centred on."""
        if self.field_um is None:
            return None, ""
        side = max(1, round(self.field_um / known.um_per_px))
        height, width = min(side, size.height), min(side, size.width)
        centred = known.box if self.centre == "box" and known.box else Box(0, 0, *size)
        top = min(max(0, centred.top + (centred.height - height) // 2), size.height - height)
        left = min(max(0, centred.left + (centred.width - width) // 2), size.width - width)
        return Box(top, left, height, width), "known" if centred is known.box else "centre"

"""What a reader may be told of a file (`Reading`), and what it can say of one (`Facts`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from medstudy.errors import ImageError

MAX_PIXELS = 100_000_000
WHITE = (255, 255, 255)
Window = tuple[float, float]
Colour = tuple[int, int, int]
Axis = Literal["axial", "coronal", "sagittal", 0, 1, 2]


@dataclass(frozen=True)
class Reading:
    """How files are read where a rule needs choosing; usable as it stands in a data set's strict params.

    An option that a kind of file has no use for is an error, so that none is ignored in silence.

    window: (low, high) in the file's own units, after DICOM's and NIfTI's rescale; outside it saturates.
    frame: page of a TIFF, frame of a DICOM or an animation, from 0; None is the first. With `channels`, a TIFF's
    frames are its planes of all channels (z or time).
    channels: of a TIFF with more samples than a photograph: one, shown as grey, or three, shown as red, green and
    blue; from 0, in the file's order.
    background: what shows through transparent pixels, RGB.

    axis, slice, volume: of a NIfTI volume. An axis by name is taken after the header's orientation; as a number it is
    that of the stored array, in which no orientation is needed. slice counts from 0 along it (from the feet, the back
    or the patient's left side), or is "middle"; it is needed where there is more than one. volume is the fourth index.

    region: (x, y, width, height) of a whole-slide image, in pixels of its full resolution; None is all of it.
    magnification or microns_per_pixel: at which it is shown, never above the scanned; with neither, as scanned.
    scanned_magnification, scanned_microns_per_pixel: the user's word, for files that do not say.

    max_pixels: height times width at most, checked before decoding.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    window: Window | None = None
    frame: int | None = None
    channels: tuple[int, ...] = ()
    background: Colour = WHITE
    axis: Axis = "axial"
    slice: int | Literal["middle"] | None = None
    volume: int | None = None
    region: tuple[int, int, int, int] | None = None
    magnification: float | None = None
    microns_per_pixel: float | None = None
    scanned_magnification: float | None = None
    scanned_microns_per_pixel: float | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        """Raises ImageError for options that cannot hold of any file."""
        if self.window is not None and not self.window[0] < self.window[1]:
            low, high = self.window
            raise ImageError(f"a window must be (low, high) with low < high, not ({low:g}, {high:g}): pass another")
        if len(self.channels) not in (0, 1, 3):
            raise ImageError(f"channels must be one (grey) or three (red, green, blue), not {self.channels}")
        if self.magnification is not None and self.microns_per_pixel is not None:
            raise ImageError("a slide is shown at a magnification or at microns_per_pixel: drop one of the two")
        positive = ("magnification", "microns_per_pixel", "scanned_magnification", "scanned_microns_per_pixel")
        for name in positive:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ImageError(f"{name} must be over 0, not {value:g}: pass another")


@dataclass(frozen=True)
class Facts:
    """What a file's header says, and the rule by which the file becomes RGB.

    kind: "JPEG", "TIFF", "DICOM", "NIfTI", "slide" … height, width: of what is read, upright, in pixels.
    samples: values a pixel, alpha included. bits: of one, used ones only. values: "unsigned", "signed", "float".
    frames: pages, frames, slices along the axis. orientation: 1 to 8 as in EXIF; 1 where it is upright or has none.
    alpha: whether pixels may be transparent. photometric: what the samples mean, in the file's own words.
    compression: how they are packed. rule: how they become RGB, in words, or "refused: " and why.
    notes: anything else that decides what is seen (voxel sides, scanned magnification, pages of other sizes).
    """

    kind: str
    height: int
    width: int
    samples: int
    bits: int
    values: str
    frames: int
    orientation: int
    alpha: bool
    photometric: str
    compression: str
    rule: str
    notes: tuple[str, ...] = ()

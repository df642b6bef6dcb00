"""Options for reading an image file (`ReadOptions`), and what a reader reports about one (`ImageFacts`)."""

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
class ReadOptions:
    """How image files are read; also part of a data set's strict params.

    An option that does not apply to a kind of file is an error, so that none is silently ignored.

    window: (low, high) in the file's own units, after the rescale of DICOM and NIfTI; values outside saturate.
    frame: page of a TIFF, or frame of a DICOM or an animation, from 0; None is the first. With `channels`, the frames
    of a TIFF are its planes of all channels (z or time).
    channels: of a TIFF with more samples than a photograph: one channel, shown as grey, or three, shown as red, green
    and blue; numbered from 0 in the file's order.
    background: RGB colour behind transparent pixels.

    axis, slice, volume: of a NIfTI volume. A named axis follows the header's orientation; a numbered one is that of the
    stored array and needs no orientation. slice counts from 0 along the axis (from the feet, the back or the patient's
    left side), or is "middle"; required if there is more than one. volume is the fourth index.

    region: (x, y, width, height) of a whole-slide image, in pixels of its full resolution; None is the whole slide.
    magnification or microns_per_pixel: scale at which it is shown, never finer than scanned; default: as scanned.
    scanned_magnification, scanned_microns_per_pixel: the scan's scale, for files that do not state it.

    max_pixels: limit on height times width, checked before decoding; not the `max_pixels` of a resolution policy.
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

    def __post_init__(self) -> None:
        """Raises ImageError for options that are invalid for every file."""
        if self.window is not None and not self.window[0] < self.window[1]:
            low, high = self.window
            raise ImageError(f"a window must be (low, high) with low < high, not ({low:g}, {high:g}): pass another")
        if len(self.channels) not in (0, 1, 3):
            raise ImageError(f"channels must be one (grey) or three (red, green, blue), not {self.channels}")
        if self.magnification is not None and self.microns_per_pixel is not None:
            raise ImageError("a slide takes a magnification or microns_per_pixel, but both are given: drop one")
        positive = ("magnification", "microns_per_pixel", "scanned_magnification", "scanned_microns_per_pixel")
        for name in positive:
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ImageError(f"{name} must be positive, not {value:g}: pass another")


@dataclass(frozen=True)
class ImageFacts:
    """What a file's header states, and the rule by which the file becomes RGB.

    kind: "JPEG", "TIFF", "DICOM", "NIfTI", "slide" … height, width: of what is read, upright, in pixels.
    samples: per pixel, alpha included. bits: used bits per sample. values: "unsigned", "signed", "float".
    frames: pages, frames, or slices along the axis. orientation: 1 to 8 as in EXIF; 1 if upright or not stated.
    alpha: whether pixels may be transparent. photometric: what the samples mean, in the file's own words.
    compression: of the pixel data. rule: how pixels become RGB, in words, or "refused: " and the reason.
    um_per_px: size of a pixel as it is read, in µm, if the file states it and pixels are square.
    notes: anything else that affects what is seen (voxel spacing, scanned magnification, pages of other sizes).
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
    um_per_px: float | None = None

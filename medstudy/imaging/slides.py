"""Whole-slide images, read by OpenSlide from their files: a region at a stated magnification.

The region lies in pixels of the full resolution. It is read from the least level that still has every pixel asked for,
and brought to the size asked for by the mean over areas (Pillow's BOX), which neither rings nor clips. A slide is never
enlarged, and a magnification counts against the objective's, or microns per pixel against the scanner's, that the file
states; where it states none, the user does. One is not computed from the other: 20 x is 0.5 µm on most scanners only.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlide
from PIL import Image

from medstudy.errors import ImageError
from medstudy.imaging.reading import Facts, Reading
from medstudy.imaging.samples import Layout, check_size, rule, to_rgb

NAME = "a slide"
ASKED = frozenset(
    {"region", "magnification", "microns_per_pixel", "scanned_magnification", "scanned_microns_per_pixel"}
)
OPTIONS = ASKED | {"window", "background"}
OWN = (".svs", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide")  # suffixes of slides alone
SHARED = (".tif", ".tiff")  # of slides and of other images: the file says which
UNEVEN = 0.01  # the least relative difference of microns across and down that is not rounding


@dataclass(frozen=True)
class Place:
    """What is read: a region at full resolution (x, y, width, height) and the (height, width) it is shown at."""

    region: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def shrink(self) -> float:
        return self.region[2] / self.size[1]


def is_slide(path: Path, asked: bool) -> bool:
    """Whether OpenSlide reads this file: one of a scanner's own formats, or any that it knows when `asked` to."""
    if not asked and path.suffix.lower() not in (*OWN, *SHARED) or not path.is_file():
        return False
    vendor = openslide.OpenSlide.detect_format(path)
    return vendor is not None and (asked or vendor not in ("generic-tiff", "dicom"))


def read(path: Path, reading: Reading) -> np.ndarray:
    """[h, w, 3] uint8. Raises ImageError, or OpenSlide's error for a damaged file."""
    with _opened(path) as slide:
        place = _place(slide, reading)
        check_size(*place.size, reading.max_pixels)
        level = slide.get_best_level_for_downsample(place.shrink + 1e-6)
        down = slide.level_downsamples[level]
        x, y, width, height = place.region
        stored = max(1, round(width / down)), max(1, round(height / down))
        check_size(stored[1], stored[0], reading.max_pixels)
        image = slide.read_region((x, y), level, stored)
        if image.size != place.size[::-1]:
            image = image.resize(place.size[::-1], Image.Resampling.BOX)
        values = np.asarray(image)
    return to_rgb(values[..., :3], Layout(colour=True, alpha=True), reading, values[..., 3])


def size(path: Path, reading: Reading) -> tuple[int, int]:
    """(height, width) of the region at its magnification, from the file's properties."""
    with _opened(path) as slide:
        return _place(slide, reading).size


def describe(path: Path, reading: Reading) -> Facts:
    """What the file's properties say."""
    with _opened(path) as slide:
        layout = Layout(colour=True, alpha=True)
        try:
            shown, words = _place(slide, reading).size, rule(layout, reading)
        except ImageError as error:
            shown, words = slide.dimensions[::-1], f"refused: {error}"
        power, microns = _power(slide, Reading()), _microns(slide, Reading())
        notes = (
            f"by {slide.properties[openslide.PROPERTY_NAME_VENDOR]}",
            f"scanned at {power:g} x" if power else "no magnification in the file",
            f"{microns:g} µm a pixel" if microns else "no µm a pixel in the file",
            f"{slide.level_count} levels, the full one {slide.dimensions[1]} x {slide.dimensions[0]}",
        )
        return Facts(
            kind="slide", height=shown[0], width=shown[1], samples=4, bits=8, values="unsigned", frames=1,
            orientation=1, alpha=True, photometric="RGBA", compression="", rule=words, notes=notes,
        )  # fmt: skip


@contextmanager
def _opened(path: Path):
    with OpenSlide(path) as slide:
        yield slide


def _place(slide: OpenSlide, reading: Reading) -> Place:
    """Raises ImageError for a region outside the slide, and for a magnification unknown or above the scanned."""
    width, height = slide.dimensions
    region = reading.region or (0, 0, width, height)
    x, y, across, down = region
    if min(x, y) < 0 or min(across, down) < 1 or x + across > width or y + down > height:
        raise ImageError(
            f"a region (x, y, width, height) must lie inside the slide's {width} x {height} pixels, {region} does not: "
            f"give it in pixels of the full resolution"
        )
    share = _share(slide, reading)
    return Place(region, (max(1, round(down * share)), max(1, round(across * share))))


def _share(slide: OpenSlide, reading: Reading) -> float:
    """How many pixels are shown for each of the full resolution, along a side: at most 1."""
    if reading.magnification is not None:
        scanned = _power(slide, reading)
        if scanned is None:
            raise ImageError(
                "a magnification needs that of the scan, but the file states none: pass scanned_magnification, or "
                "microns_per_pixel"
            )
        if reading.magnification > scanned:
            raise ImageError(
                f"a slide is not enlarged, but {reading.magnification:g} x is over the scanned {scanned:g} x: ask for "
                f"no more"
            )
        return reading.magnification / scanned
    if reading.microns_per_pixel is not None:
        scanned = _microns(slide, reading)
        if scanned is None:
            raise ImageError(
                "microns_per_pixel needs those of the scan, but the file states none, or others across than down: pass "
                "scanned_microns_per_pixel, or magnification"
            )
        if reading.microns_per_pixel < scanned:
            raise ImageError(
                f"a slide is not enlarged, but {reading.microns_per_pixel:g} µm a pixel is finer than the scanned "
                f"{scanned:g}: ask for more"
            )
        return scanned / reading.microns_per_pixel
    return 1.0


def _power(slide: OpenSlide, reading: Reading) -> float | None:
    """The objective's magnification: the user's word, else the file's."""
    return reading.scanned_magnification or _number(slide, openslide.PROPERTY_NAME_OBJECTIVE_POWER)


def _microns(slide: OpenSlide, reading: Reading) -> float | None:
    """Microns a pixel at full resolution: the user's word, else the file's where they are the same both ways."""
    if reading.scanned_microns_per_pixel:
        return reading.scanned_microns_per_pixel
    across, down = (_number(slide, name) for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y))
    if across is None or down is None or abs(across - down) > UNEVEN * across:
        return None
    return (across + down) / 2


def _number(slide: OpenSlide, name: str) -> float | None:
    """A property over 0; None where it is missing or no number."""
    try:
        return max(0.0, float(slide.properties.get(name, 0))) or None
    except ValueError:
        return None

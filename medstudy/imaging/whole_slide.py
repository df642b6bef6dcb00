"""Reads a region of a whole-slide image at a stated magnification, with OpenSlide.

The region is given in pixels of the full resolution. It is read from the smallest level that still has enough pixels,
then averaged over areas to the final size (Pillow's BOX), which neither rings nor clips. A slide is never enlarged. A
magnification is relative to the objective's and microns per pixel to the scanner's, as the file states; if it does not,
the user states them. Neither is computed from the other, because 20 x is 0.5 µm only on most scanners.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlide
from PIL import Image

from medstudy.errors import ImageError
from medstudy.imaging.read_options import ImageFacts, ReadOptions
from medstudy.imaging.to_rgb import Layout, check_size, rule, to_rgb

NAME = "a slide"
SCALES = frozenset({"magnification", "microns_per_pixel", "scanned_magnification", "scanned_microns_per_pixel"})
SLIDE_OPTIONS = SCALES | {"region"}
OPTIONS = SLIDE_OPTIONS | {"window", "background"}
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide")  # only slides have these
SHARED_SUFFIXES = (".tif", ".tiff")  # slides and other images have these: the content decides
UNEVEN = 0.01  # relative difference of horizontal and vertical microns that is more than rounding


@dataclass(frozen=True)
class SlideRegion:
    """A region (x, y, width, height) at full resolution, and the (height, width) at which it is shown."""

    region: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def shrink(self) -> float:
        return self.region[2] / self.size[1]


def is_slide(path: Path, forced: bool) -> bool:
    """Whether to read a file with OpenSlide: a scanner's own format, or with slide options (`forced`) any it knows."""
    if not forced and path.suffix.lower() not in (*SLIDE_SUFFIXES, *SHARED_SUFFIXES) or not path.is_file():
        return False
    vendor = openslide.OpenSlide.detect_format(path)
    return vendor is not None and (forced or vendor not in ("generic-tiff", "dicom"))


def read(path: Path, reading: ReadOptions) -> np.ndarray:
    """[h, w, 3] uint8. Raises ImageError, or OpenSlide's error for a damaged file."""
    with OpenSlide(path) as slide:
        selected = _selected_region(slide, reading)
        check_size(*selected.size, reading.max_pixels)
        # the smallest level that still has enough pixels, and the region's size there
        level = slide.get_best_level_for_downsample(selected.shrink + 1e-6)
        down = slide.level_downsamples[level]
        x, y, width, height = selected.region
        stored = max(1, round(width / down)), max(1, round(height / down))
        check_size(stored[1], stored[0], reading.max_pixels)
        image = slide.read_region((x, y), level, stored)
        if image.size != selected.size[::-1]:
            image = image.resize(selected.size[::-1], Image.Resampling.BOX)
        values = np.asarray(image)
    return to_rgb(values[..., :3], Layout(colour=True, alpha=True), reading, values[..., 3])


def size(path: Path, reading: ReadOptions) -> tuple[int, int]:
    """(height, width) of the region at its magnification, from the file's properties."""
    with OpenSlide(path) as slide:
        return _selected_region(slide, reading).size


def describe(path: Path, reading: ReadOptions) -> ImageFacts:
    """What the file's properties state."""
    with OpenSlide(path) as slide:
        layout = Layout(colour=True, alpha=True)
        scanned, own = _microns(slide, reading), None
        try:
            shown, words = _selected_region(slide, reading).size, rule(layout, reading)
            own = reading.microns_per_pixel or (scanned and scanned / _scale(slide, reading))
        except ImageError as error:
            shown, words = slide.dimensions[::-1], f"refused: {error}"
        magnification, microns = _magnification(slide, ReadOptions()), _microns(slide, ReadOptions())
        notes = (
            f"by {slide.properties[openslide.PROPERTY_NAME_VENDOR]}",
            f"scanned at {magnification:g} x" if magnification else "no magnification in the file",
            f"{microns:g} µm a pixel" if microns else "no µm a pixel in the file",
            f"{slide.level_count} levels, the full one {slide.dimensions[1]} x {slide.dimensions[0]}",
        )
        return ImageFacts(
            kind="slide", height=shown[0], width=shown[1], samples=4, bits=8, values="unsigned", frames=1,
            orientation=1, alpha=True, photometric="RGBA", compression="", rule=words, notes=notes,
            um_per_px=own,
        )


def _selected_region(slide: OpenSlide, reading: ReadOptions) -> SlideRegion:
    """The region and its size. Raises ImageError for a region outside the slide, or an unavailable magnification."""
    width, height = slide.dimensions
    region = reading.region or (0, 0, width, height)
    x, y, across, down = region
    if min(x, y) < 0 or min(across, down) < 1 or x + across > width or y + down > height:
        raise ImageError(
            f"a region (x, y, width, height) must be inside the slide's {width} x {height} pixels, not {region}: give "
            f"it in pixels of the full resolution"
        )
    scale = _scale(slide, reading)
    return SlideRegion(region, (max(1, round(down * scale)), max(1, round(across * scale))))


def _scale(slide: OpenSlide, reading: ReadOptions) -> float:
    """Side of the shown image relative to full resolution: at most 1. Raises ImageError."""
    if reading.magnification is not None:
        scanned = _magnification(slide, reading)
        if scanned is None:
            raise ImageError(
                "a magnification needs that of the scan, but the file states none: pass scanned_magnification, or "
                "microns_per_pixel"
            )
        if reading.magnification > scanned:
            raise ImageError(
                f"a slide is never enlarged, but {reading.magnification:g} x is over the scanned {scanned:g} x: pass "
                f"at most that"
            )
        return reading.magnification / scanned
    if reading.microns_per_pixel is not None:
        scanned = _microns(slide, reading)
        if scanned is None:
            raise ImageError(
                "microns_per_pixel needs that of the scan, but the file states none, or different ones for x and y: "
                "pass scanned_microns_per_pixel, or magnification"
            )
        if reading.microns_per_pixel < scanned:
            raise ImageError(
                f"a slide is never enlarged, but {reading.microns_per_pixel:g} µm per pixel is finer than the scanned "
                f"{scanned:g}: pass at least that"
            )
        return scanned / reading.microns_per_pixel
    return 1.0


def _magnification(slide: OpenSlide, reading: ReadOptions) -> float | None:
    """The objective's magnification, as the user states, else the file."""
    return reading.scanned_magnification or _number(slide, openslide.PROPERTY_NAME_OBJECTIVE_POWER)


def _microns(slide: OpenSlide, reading: ReadOptions) -> float | None:
    """Microns per pixel at full resolution, as the user states, else the file if x and y agree."""
    if reading.scanned_microns_per_pixel:
        return reading.scanned_microns_per_pixel
    across, down = (_number(slide, name) for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y))
    if across is None or down is None or abs(across - down) > UNEVEN * across:
        return None
    return (across + down) / 2


def _number(slide: OpenSlide, name: str) -> float | None:
    """A positive property; None if it is missing or not a number."""
    try:
        return max(0.0, float(slide.properties.get(name, 0))) or None
    except ValueError:
        return None

"""Reads any biomedical image file into an RGB uint8 image, by one stated rule for each kind of pixel.

- 8-bit grey, palette and colour values are kept; 1 to 7 bits are spread over 0 to 255. CMYK is converted without a
  colour profile; no profile is applied.
- Grey of more than 8 bits, signed and float values are mapped linearly to 0..255: from `window` if the caller gives
  one, else from the file's own window, else from the frame's minimum and maximum. So nothing is clipped or wrapped
  unless a window was asked for. A constant frame becomes black. Values that are not finite are an error.
- Colour of more than 8 bits is mapped from the full range of its bits, so that hues are preserved. If a 16-bit colour
  PNG or TIFF uses fewer bits, as cameras do, that is the smallest of 8, 10, 12 and 14 bits that holds the image.
- DICOM: rescale (modality LUT), then `window`, else the file's window or VOI LUT, else the frame's range; MONOCHROME1
  is inverted (`medstudy.imaging.dicom`). NIfTI: one slice, by orientation (`medstudy.imaging.nifti`). Slides: a region
  at a magnification (`medstudy.imaging.whole_slide`). TIFF: selected channels (`medstudy.imaging.tiff`).
- Transparent pixels are composited on `background`. The orientation tag is applied. All metadata is dropped.

`max_pixels` is checked against the header before any pixel is decoded. A truncated file is refused, and so is one whose
pixels contradict its header in size, number, bits or range. `medstudy.imaging.to_rgb` has the rules for pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from medstudy.errors import ImageError
from medstudy.imaging import common_formats, dicom, nifti, tiff, whole_slide
from medstudy.imaging.read_options import MAX_PIXELS, WHITE, ImageFacts, ReadOptions
from medstudy.imaging.to_rgb import to_uint8

__all__ = [
    "MAX_PIXELS", "WHITE", "ImageFacts", "ReadOptions", "describe", "read_array", "read_rgb", "read_size", "to_uint8",
]
# each: matches, read, size, describe, NAME, OPTIONS; the last takes the rest
READERS = (dicom, nifti, tiff, common_formats)
ALWAYS = frozenset({"background", "max_pixels"})  # valid for every file; no effect on opaque or small images
DEFAULT = ReadOptions()
Source = str | Path | bytes


def read_rgb(source: Source, reading: ReadOptions = DEFAULT, *, name: str | None = None, **options: Any) -> Image.Image:
    """`read_array` as a PIL image of mode RGB, without metadata."""
    return Image.fromarray(read_array(source, reading, name=name, **options))


def read_array(source: Source, reading: ReadOptions = DEFAULT, *, name: str | None = None,
               **options: Any) -> np.ndarray:
    """Read an image file, or its bytes, into [height, width, 3] uint8, by the rules above.

    options: fields of `ReadOptions`; they override `reading`. A slide must be given as a file, not as bytes. name: how
    errors refer to bytes. Raises ImageError naming the file.
    """
    with _named(source, name):
        reader, data, reading = _reader(source, reading, options)
        return reader.read(data, reading)


def read_size(source: Source, reading: ReadOptions = DEFAULT, *, name: str | None = None,
              **options: Any) -> tuple[int, int]:
    """(height, width) of what `read_array` returns, from the header alone. Raises ImageError naming the file."""
    with _named(source, name):
        reader, data, reading = _reader(source, reading, options)
        return reader.size(data, reading)


def describe(source: Source, reading: ReadOptions = DEFAULT, *, name: str | None = None, **options: Any) -> ImageFacts:
    """What the file's header states, and the rule by which it becomes RGB. Raises ImageError naming the file."""
    with _named(source, name):
        reader, data, reading = _reader(source, reading, options)
        return reader.describe(data, reading)


def _reader(source: Source, reading: ReadOptions,
            options: dict[str, Any]) -> tuple[ModuleType, bytes | Path, ReadOptions]:
    """The module that reads this source, its input, and the options. Raises ImageError for an unusable option."""
    reading = replace(reading, **options) if options else reading
    chosen = _chosen_options(reading)
    if not isinstance(source, bytes) and whole_slide.is_slide(Path(source), bool(chosen & whole_slide.SLIDE_OPTIONS)):
        reader, data = whole_slide, Path(source)
    else:
        data = _bytes_of(source)
        reader = next(reader for reader in READERS if reader.matches(data))
    if unusable := sorted(chosen - reader.OPTIONS - ALWAYS):
        raise ImageError(
            f"{reader.NAME} does not take {', '.join(unusable)}, only {', '.join(sorted(reader.OPTIONS))}: drop it (a "
            f"slide must be given by its path)"
        )
    return reader, data, reading


def _chosen_options(reading: ReadOptions) -> frozenset[str]:
    """The names of the options that differ from their defaults."""
    if reading is DEFAULT:
        return frozenset()
    names = [field.name for field in fields(ReadOptions)]
    return frozenset(name for name in names if getattr(reading, name) != getattr(DEFAULT, name))


@contextmanager
def _named(source: Source, name: str | None) -> Iterator[None]:
    """Turns whatever a decoder raises into an ImageError that names the file."""
    label = name or (f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source))
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{label}: {error}") from error
    except Exception as error:  # decoders raise anything at all on damaged files
        raise ImageError(f"{label}: cannot be decoded: damaged or of an unsupported kind ({error})") from error


def _bytes_of(source: Source) -> bytes:
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be opened ({error.strerror or error})") from error
    if not data:
        raise ImageError("is empty (0 bytes)")
    return data

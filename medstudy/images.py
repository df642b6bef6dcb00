"""Any biomedical image file to an RGB uint8 image, by one stated rule for each kind of pixel.

- 8-bit grey, palette and colour keep their values, 1 to 7 bits are spread over 0 to 255. CMYK is converted without a
  colour profile; no profile is applied.
- Grey of more bits, signed and float values are mapped linearly to 0..255 from `window` where the caller gives one,
  else from the file's own window, else from the frame's own minimum and maximum, so nothing is clipped or wrapped
  unless a window was asked for. A constant frame becomes black. Values that are not finite are an error. Colour of
  more bits is mapped from the whole range of its bits, so that hues stay. Where a PNG or TIFF of 16-bit colour uses
  fewer bits, as cameras do, these are the fewest of 8, 10, 12 and 14 that hold the image (`medstudy.imaging.samples`).
- DICOM: rescale (modality LUT), then `window`, else the file's own window or VOI LUT, else the frame's range.
  MONOCHROME1 is inverted (`medstudy.imaging.dicom`). NIfTI: a slice, by orientation (`medstudy.imaging.nifti`). Slides:
  a region at a magnification (`medstudy.imaging.slides`). TIFFs: chosen channels (`medstudy.imaging.tiff`).
- Transparent pixels are composited on `background`. The orientation tag is applied. All metadata is dropped.

Sizes are checked against `max_pixels` in the header, before any pixel is decoded. A file that was cut short is refused,
and so is one whose pixels contradict its header: in size, number, bits or range.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from medstudy.errors import ImageError
from medstudy.imaging import dicom, nifti, pillow, slides, tiff
from medstudy.imaging.reading import MAX_PIXELS, WHITE, Facts, Reading
from medstudy.imaging.samples import to_uint8

__all__ = ["MAX_PIXELS", "WHITE", "Facts", "Reading", "describe", "read_array", "read_rgb", "read_size", "to_uint8"]
READERS = (dicom, nifti, tiff, pillow)  # each: matches, read, size, describe, NAME, OPTIONS; the last takes the rest
ALWAYS = frozenset({"background", "max_pixels"})  # of no effect where nothing is transparent, or small
DEFAULT = Reading()
Source = str | Path | bytes


def read_rgb(source: Source, reading: Reading = DEFAULT, *, name: str | None = None, **options) -> Image.Image:
    """`read_array` as a PIL image of mode RGB, without metadata."""
    return Image.fromarray(read_array(source, reading, name=name, **options))


def read_array(source: Source, reading: Reading = DEFAULT, *, name: str | None = None, **options) -> np.ndarray:
    """Read an image file, or its bytes, into [height, width, 3] uint8, by the rules at the top here.

    Further options are fields of `Reading`, and go before it. A slide is read from its file, not from bytes. `name` is
    what errors call bytes. Raises ImageError naming the file.
    """
    with _named(source, name):
        reader, data, reading = _reader(source, reading, options)
        return reader.read(data, reading)


def read_size(source: Source, reading: Reading = DEFAULT, *, name: str | None = None, **options) -> tuple[int, int]:
    """(height, width) that `read_array` gives, from the header alone. Raises ImageError naming the file."""
    with _named(source, name):
        reader, data, reading = _reader(source, reading, options)
        return reader.size(data, reading)


def describe(source: Source, reading: Reading = DEFAULT, *, name: str | None = None, **options) -> Facts:
    """What the file's header says, and the rule by which it becomes RGB. Raises ImageError naming the file."""
    with _named(source, name):
        reader, data, reading = _reader(source, reading, options)
        return reader.describe(data, reading)


def _reader(source: Source, reading: Reading, options: dict) -> tuple[ModuleType, bytes | Path, Reading]:
    """Who reads this, from what, and how. Raises ImageError for an option that this kind of file has no use for."""
    reading = replace(reading, **options) if options else reading
    asked = _asked(reading)
    if not isinstance(source, bytes) and slides.is_slide(Path(source), bool(asked & slides.ASKED)):
        reader, data = slides, Path(source)
    else:
        data = _bytes_of(source)
        reader = next(reader for reader in READERS if reader.matches(data))
    if useless := sorted(asked - reader.OPTIONS - ALWAYS):
        raise ImageError(
            f"{', '.join(useless)} cannot be said of {reader.NAME}, which takes {', '.join(sorted(reader.OPTIONS))}: "
            f"drop it (a slide must be given by its path)"
        )
    return reader, data, reading


def _asked(reading: Reading) -> frozenset[str]:
    """The options that are not the default's."""
    if reading is DEFAULT:
        return frozenset()
    return frozenset(one.name for one in fields(Reading) if getattr(reading, one.name) != getattr(DEFAULT, one.name))


@contextmanager
def _named(source: Source, name: str | None) -> Iterator[None]:
    """Whatever a decoder raises, as an ImageError that names the file."""
    label = name or (f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source))
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{label}: {error}") from error
    except Exception as error:  # decoders raise anything at all on damaged files
        raise ImageError(f"{label}: cannot be decoded, damaged or of an unsupported kind ({error})") from error


def _bytes_of(source: Source) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be opened ({error.strerror or error})") from error
    if not data:
        raise ImageError("is empty (0 bytes)")
    return data

"""Reads JPEG, PNG, GIF, BMP, WebP, AVIF, JPEG 2000 and PNM with Pillow, or with imagecodecs if Pillow drops bits.

- imagecodecs decodes 16-bit colour PNGs and JPEG 2000s of more than 8 bits: Pillow keeps only the high byte of these,
  and shifts those under 16 bits.
- simplejpeg decodes intact RGB and grey JPEGs: the same pixels as Pillow's (by test) in a third of the time.
- A JPEG or PNG whose data end early is refused, even if an end marker hides it.
- `max_pixels` applies, not Pillow's own limit. Formats that start programs (EPS) or have no magic number (TGA) are not
  read.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from medstudy.errors import ImageError
from medstudy.imaging.png import MARK, check_palette, check_pixel_data, clear_grey, has_chunk, is_plain, slim
from medstudy.imaging.read_options import ImageFacts, ReadOptions
from medstudy.imaging.to_rgb import (
    ORIENTATION,
    SIDEWAYS,
    Layout,
    check_frame,
    check_size,
    cmyk,
    kind_of_values,
    rule,
    to_rgb,
    turned,
    upright,
)

NAME = "a picture"
OPTIONS = frozenset({"window", "frame", "background"})
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "JPEG2000", "PPM")
PNG_ORIENTED = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # chunks that may state an orientation
CUT_SHORT = "premature end of data segment"  # libjpeg: the data end before the picture does
NO_END = "Premature end of JPEG file"
FILLED = bytes(16)  # zeros at the end of a partly downloaded file, which libjpeg reads as pixels
JPEGS = ("JPEG", "MPO")  # MPO: several images in one file
PACKED = {"GIF": "LZW", "PNG": "deflate", "BMP": "as in BMP", "WEBP": "WebP", "AVIF": "AV1", "PPM": "none"}
SRGB_YCC = 18  # an enumerated colour space of JPEG 2000
Image.init()  # fills Pillow's registry of formats


def matches(data: bytes) -> bool:
    """Every file: this reader is tried last."""
    return True


def read(data: bytes, reading: ReadOptions) -> np.ndarray:
    """[h, w, 3] uint8, upright. Raises ImageError, or whatever the decoder raises."""
    data = _slim(data)
    image = open_header(data)
    check_size(image.height, image.width, reading.max_pixels)  # before anything is decoded
    frame = check_frame(reading.frame, getattr(image, "n_frames", 1))
    # the fast paths: intact JPEGs, then PNG and JPEG 2000 by imagecodecs
    if image.format in JPEGS and image.mode in ("L", "RGB") and frame == 0:
        pixels = _decode_jpeg(data)
        if pixels is not None:
            return turned(to_rgb(pixels, Layout(colour=True), reading), _orientation(image, data))
    bands = _deep_layout(image, data)
    if image.format == "PNG" and frame == 0 and is_plain(data):
        bands = _layout(image)  # libpng refuses data that end early, and is as fast as Pillow
    if bands is not None:
        return turned(_read_bands(bands, data, frame, reading), _orientation(image, data))
    # everything else by Pillow, after checks for what it would read wrongly
    if image.mode == "CMYK":
        _check_cmyk(image, data)
    if image.format == "PNG":
        check_pixel_data(data)
    if image.format == "PPM" and image.mode == "I" and reading.window is not None:
        raise ImageError("a 16-bit PNM takes no window, because Pillow rescales its values: save it as PNG or TIFF")
    image.seek(frame)
    image.load()
    if image.format == "PNG" and image.mode == "P":
        check_palette(data, image.getextrema()[1])
    if image.format == "PNG" and image.mode == "L" and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] = clear_grey(data, image.info["transparency"])
    image = ImageOps.exif_transpose(image)
    layout = _layout(image)
    if layout.alpha:
        values = np.asarray(image.convert("RGBA"))
        return to_rgb(values[..., :3], replace(layout, colour=True), reading, values[..., 3])
    if image.mode == "CMYK":
        return to_rgb(cmyk(np.asarray(image)), layout, reading)
    mode = "RGB" if layout.colour else "L" if image.mode == "1" else image.mode
    return to_rgb(np.array(image.convert(mode)), layout, reading)


def size(data: bytes, reading: ReadOptions) -> tuple[int, int]:
    """(height, width), upright, from the header; decodes a PNG only if its metadata may state an orientation."""
    data = _slim(data)
    image = open_header(data)
    return upright(image.height, image.width, _orientation(image, data))


def describe(data: bytes, reading: ReadOptions) -> ImageFacts:
    """What the header states."""
    profile = data[:8] == MARK and has_chunk(data, b"iCCP")
    data = _slim(data)
    image = open_header(data)
    layout = _deep_layout(image, data) or _layout(image)
    orientation = _orientation(image, data)
    height, width = upright(image.height, image.width, orientation)
    hidden_alpha = layout.alpha and image.mode in ("1", "L", "RGB", "P", "I;16")  # of a palette or a clear colour
    words = rule(layout, reading)
    if image.mode == "CMYK":
        words = "ink to red, green and blue, no profile" if "adobe" in image.info else "refused: no Adobe mark"
    frames = getattr(image, "n_frames", 1)
    notes = ("a colour profile, not applied",) if profile or image.info.get("icc_profile") else ()
    return ImageFacts(
        kind=image.format, height=height, width=width, samples=len(image.getbands()) + hidden_alpha,
        bits=layout.bits, values=layout.values, frames=frames, orientation=orientation, alpha=layout.alpha,
        photometric=image.mode, compression=_compression(image), rule=words, notes=notes,
    )


def open_header(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The opened image; its pixels are not decoded yet.

    Like `PIL.Image.open` for these formats, but without its pixel limit, which is a global of the process.
    """
    for name in formats:
        make, accepts = Image.OPEN[name]
        try:
            if accepts is None or accepts(data[:16]) is True:
                return make(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # another format, or damaged
        except Image.DecompressionBombError as error:  # raised by WebP itself
            raise ImageError(f"{name} is read only up to Pillow's own limit ({error}): save it as PNG") from error
    raise ImageError(
        f"cannot be decoded: files must be whole and one of {', '.join(FORMATS)} (JPEG of 8 bits), TIFF, DICOM "
        f"(DICM at byte 128), NIfTI or slide, but this begins with {data[:8]!r}: convert it or leave it out"
    )


def _slim(data: bytes) -> bytes:
    return slim(data) if data[:8] == MARK else data


def _orientation(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG" and not any(chunk in data for chunk in PNG_ORIENTED):
        return 1  # else Pillow would decode the whole image to look for one
    orientation = image.getexif().get(ORIENTATION, 1)
    return orientation if orientation in (2, 3, 4, *SIDEWAYS) else 1


def _layout(image: Image.Image) -> Layout:
    """The layout of what Pillow decodes without loss: 8 bits, except grey of modes I, I;16 and F."""
    if image.mode == "F":
        return Layout(colour=False, bits=32, values="float")
    if image.mode.startswith("I"):
        return Layout(colour=False, bits=16) if ";16" in image.mode else Layout(False, bits=32, values="signed")
    return Layout(colour=image.mode not in ("1", "L", "LA"), alpha=image.has_transparency_data)


def _compression(image: Image.Image) -> str:
    if image.format in JPEGS:
        return "JPEG, progressive" if image.info.get("progressive") else "JPEG"
    return "JPEG 2000" if image.format == "JPEG2000" else PACKED.get(image.format, image.format)


# --- JPEG


def _decode_jpeg(data: bytes) -> np.ndarray | None:
    """[h, w, 3] uint8 before orientation; None for any damage, which Pillow then tolerates or refuses."""
    try:
        return simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        _refuse_cut(error, (CUT_SHORT, NO_END) if data.endswith(FILLED) else (CUT_SHORT,))
        return None


def _check_cmyk(image: Image.Image, data: bytes) -> None:
    """Raises ImageError if full ink could be 0 or 255, or if the data end early."""
    if image.format == "JPEG" and "adobe" not in image.info:
        raise ImageError("a CMYK JPEG needs Adobe's mark, by which 0 is full ink, but this has none: save it as RGB")
    if image.format == "JPEG":
        check_jpeg_data(data, "CMYK")


def check_jpeg_data(data: bytes, colours: str = "GRAY") -> None:
    """Raises ImageError for a JPEG whose data end before its picture does, or that has no end marker."""
    try:
        simplejpeg.decode_jpeg(data, colours, strict=True)
    except ValueError as error:
        _refuse_cut(error, (CUT_SHORT, NO_END))


def _refuse_cut(error: ValueError, signs: tuple[str, ...] = (CUT_SHORT,)) -> None:
    if any(sign in str(error) for sign in signs):
        raise ImageError(
            f"cannot be decoded: the data of a JPEG must fill its picture, but they end early ({error}): fetch it "
            f"again, it is truncated or damaged"
        ) from error


# --- More than 8 bits


def _deep_layout(image: Image.Image, data: bytes) -> Layout | None:
    """The layout of a file that Pillow would cut to 8 bits or shift; None if Pillow keeps every bit."""
    if image.format == "PNG" and data[24] == 16:  # the bit depth in IHDR
        bands = {0: 1, 2: 3, 4: 2, 6: 4}[data[25]] + ("transparency" in image.info)
        return Layout(colour=bands > 2, bits=16, alpha=bands in (2, 4), bits_unknown=bands > 1)
    if image.format == "JPEG2000":
        start = data.index(b"\xff\x4f\xff\x51")  # SOC and SIZ, https://www.itu.int/rec/T-REC-T.800 A.5.1
        depth, bands = data[start + 42], int.from_bytes(data[start + 40 : start + 42], "big")
        if bands in (2, 4) and b"cdef" not in data[:start]:
            raise ImageError(f"a JPEG 2000 must name its {bands} samples (cdef box); this does not: save it as TIFF")
        if depth != 7:
            if bands > 2 and _colour_space(data) == SRGB_YCC:
                raise ImageError("a JPEG 2000 of luma and chroma must have 8 bits per sample: save it as RGB")
            signed = "signed" if depth & 128 else "unsigned"
            return Layout(colour=bands > 2, bits=(depth & 127) + 1, values=signed, alpha=bands in (2, 4))
    return None


def _colour_space(data: bytes) -> int | None:
    """The enumerated colour space of a JP2's first `colr` box; None for a bare codestream or a profile."""
    start = data.find(b"colr")
    return int.from_bytes(data[start + 7 : start + 11], "big") if start > 0 and data[start + 4] == 1 else None


def _read_bands(layout: Layout, data: bytes, frame: int, reading: ReadOptions) -> np.ndarray:
    if frame:
        raise ImageError("an animation of more than 8 bits is read only at frame 0: save its frames as files")
    values = (imagecodecs.png_decode if data[:4] == b"\x89PNG" else imagecodecs.jpeg2k_decode)(data)
    bands = values[..., None] if values.ndim == 2 else values
    wanted = (3 if layout.colour else 1) + layout.alpha
    if bands.shape[-1] != wanted or kind_of_values(bands.dtype) != layout.values:
        raise ImageError(f"{wanted} samples per pixel were expected, but there are {bands.shape[-1]}: save it as TIFF")
    main = bands[..., :3] if layout.colour else bands[..., 0]
    return to_rgb(main, layout, reading, bands[..., -1] if layout.alpha else None)

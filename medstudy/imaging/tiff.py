"""Reads TIFF, BigTIFF, OME-TIFF and ImageJ's TIFF with tifffile and imagecodecs; YCbCr with Pillow.

A page of grey, colour, palette or ink becomes RGB by the rules of `to_rgb`. Further samples, apart from alpha, are the
channels of a microscope. The user selects them (`ReadOptions.channels`): one as grey, or three as red, green and blue.
Each is scaled by itself, as grey, so that a weak stain is visible. Missing tiles are refused. Frames are the pages that
are not flagged as reduced copies or masks (`medstudy.imaging.tiff_planes`).

Samples of more than 8 bits are shown from SMinSampleValue to SMaxSampleValue if the page states these. They must then
be inside that range, as they must fit the SignificantBits of OME-XML.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from tifffile import TiffFile, TiffPage

from medstudy.errors import ImageError
from medstudy.imaging.common_formats import open_header
from medstudy.imaging.read_options import ImageFacts, ReadOptions, Window
from medstudy.imaging.tiff_planes import Planes
from medstudy.imaging.to_rgb import (
    UPRIGHT,
    Layout,
    check_frame,
    check_size,
    cmyk,
    kind_of_values,
    palette,
    rule,
    to_rgb,
    turned,
    upright,
    with_used_bits,
)

NAME = "a TIFF"
OPTIONS = frozenset({"window", "frame", "channels", "background"})
SAMPLES = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4, "YCBCR": 3}
ALPHA = ("ASSOCALPHA", "UNASSALPHA")
WORDS = (16, 32)  # bits of a word; a camera may use fewer
RANGE = ("SMinSampleValue", "SMaxSampleValue")


def matches(data: bytes) -> bool:
    """Whether it is a TIFF or BigTIFF, of either byte order."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read(data: bytes, reading: ReadOptions) -> np.ndarray:
    """[h, w, 3] uint8, upright. Raises ImageError, or whatever tifffile raises."""
    with _opened(data) as file:
        planes = Planes(file, data)
        # the page, or one per channel; nothing may be missing from the file
        pages = _pages(planes, reading)
        for page in pages:
            check_size(page.imagelength, page.imagewidth, reading.max_pixels)
            _check_whole(page, len(data))
        _check_chain(file, data)
        page = pages[0]
        if page.photometric.name == "YCBCR":  # tifffile does not convert YCbCr, Pillow does
            return _ycbcr(data, page.index, reading)
        layout = _layout(page, planes.significant, reading)
        stacked = planes.stack is not None
        if reading.channels:
            shown = _channels(pages, stacked, layout, reading)
        else:
            shown = _page(page, layout, planes.significant, reading)
        return turned(shown, _orientation(page))


def size(data: bytes, reading: ReadOptions) -> tuple[int, int]:
    """(height, width), upright, of the page that is read, from its header."""
    with _opened(data) as file:
        page = _pages(Planes(file, data), reading)[0]
        return upright(page.imagelength, page.imagewidth, _orientation(page))


def describe(data: bytes, reading: ReadOptions) -> ImageFacts:
    """What the headers of the file and of the selected page state."""
    with _opened(data) as file:
        planes = Planes(file, data)
        stack = planes.stack
        try:
            page = _pages(planes, reading)[0]
            layout = _layout(page, planes.significant, reading)
            words = rule(layout, reading)
            if reading.channels:
                words = f"channels {', '.join(map(str, reading.channels))}, each: {words}"
        except ImageError as error:
            page, layout, words = file.pages[0].aspage(), Layout(colour=False), f"refused: {error}"
        height, width = upright(page.imagelength, page.imagewidth, _orientation(page))
        return ImageFacts(
            kind="TIFF", height=height, width=width, samples=stack.channels if stack else page.samplesperpixel,
            bits=page.bitspersample, values=kind_of_values(page.dtype),
            frames=stack.frames if stack else len(planes.kept),
            orientation=_orientation(page), alpha=layout.alpha, photometric=page.photometric.name,
            compression=page.compression.name, rule=words, notes=tuple(_notes(planes)),
        )


def _notes(planes: Planes) -> list[str]:
    notes = []
    if len(sides := {(page if page.keyframe else page.aspage()).shape for page in planes.file.pages}) > 1:
        notes.append(f"pages of {len(sides)} sizes")
    if flagged := len(planes.file.pages) - len(planes.kept):
        notes.append(f"{flagged} pages are flagged as reduced copies or masks, and are no frames")
    return notes


def _opened(data: bytes) -> TiffFile:
    return TiffFile(io.BytesIO(data), _multifile=False)  # an OME-TIFF may name other files: do not open them


def _pages(planes: Planes, reading: ReadOptions) -> list[TiffPage]:
    """The page to read, or one page per channel if channels are pages. Raises ImageError."""
    stack = planes.stack
    if reading.frame is None or reading.channels:
        planes.check_declared()
    if stack is None or (not reading.channels and reading.frame is not None):
        page = planes.full(reading.frame)
        _check_channels(reading, page.samplesperpixel)
        return [page]
    if not reading.channels:
        raise ImageError(
            f"a TIFF of {stack.channels} channels needs a selection: pass channels=(i,) for one as grey, "
            f"channels=(r, g, b) for three as colours, or a page as frame"
        )
    frame = check_frame(reading.frame, stack.frames)
    _check_channels(reading, stack.channels)
    return [stack.page(frame, channel) for channel in reading.channels]


def _layout(page: TiffPage, significant: int | None, reading: ReadOptions) -> Layout:
    """What a page's samples are. Raises ImageError for a page that cannot become RGB without guessing."""
    kind, count = page.photometric.name, page.samplesperpixel
    if not isinstance(page.bitspersample, int):
        raise ImageError(f"samples of a TIFF must all have the same bits, not {page.bitspersample}: save it so")
    if page.imagedepth > 1:
        raise ImageError(f"a TIFF page must hold one plane, not {page.imagedepth}: save each as a page")
    values = kind_of_values(page.dtype)
    if reading.channels:
        return Layout(colour=False, bits=page.bitspersample, values=values)
    extra = [sample.name for sample in page.extrasamples]
    if kind not in SAMPLES:
        raise ImageError(f"TIFF photometric {kind} with {count} samples is not supported: save it as RGB or as grey")
    alpha = len(extra) == 1 and extra[0] in ALPHA
    if count != SAMPLES[kind] + alpha:
        raise ImageError(
            f"a TIFF page of {kind} has {SAMPLES[kind]} samples per pixel, and possibly alpha, but this has {count} "
            f"(extra: {', '.join(extra) or 'none named'}): pass channels=(i,) for one as grey or (r, g, b) for three "
            f"as colours, numbered from 0"
        )
    if kind in ("PALETTE", "SEPARATED", "YCBCR"):
        return Layout(colour=True, alpha=alpha)
    layout = Layout(
        colour=kind == "RGB", bits=page.bitspersample, values=values, alpha=alpha,
        premultiplied=alpha and extra[0] == "ASSOCALPHA", inverted=kind == "MINISWHITE", window=_range(page, alpha),
    )
    return _of_bits(layout, significant)


def _of_bits(layout: Layout, significant: int | None) -> Layout:
    """A layout of display values with the bits that OME states, else with `bits_unknown`: the samples decide."""
    if not (layout.colour or layout.alpha) or layout.values != "unsigned" or layout.bits not in WORDS:
        return layout
    return replace(layout, bits=significant) if significant else replace(layout, bits_unknown=True)


def _range(page: TiffPage, alpha: bool) -> Window | None:
    """(min, max) of samples of more than 8 bits, if the page states one pair for all of them."""
    low, high = ({float(value) for value in np.atleast_1d(page.tags.valueof(name, default=[]))} for name in RANGE)
    if page.bitspersample <= 8 or alpha or len(low) != 1 or len(high) != 1:
        return None
    window = low.pop(), high.pop()
    return window if window[0] < window[1] else None


def _page(page: TiffPage, layout: Layout, significant: int | None, reading: ReadOptions) -> np.ndarray:
    """A page as RGB by its photometric interpretation, before turning: [h, w, 3] uint8."""
    values, kind = _samples(page), page.photometric.name
    if reading.window is None:
        _check_range(values, layout, significant)
    main, extra = values[..., : SAMPLES[kind]], values[..., SAMPLES[kind] :]
    alpha = extra[..., 0] if layout.alpha else None
    if kind == "PALETTE":
        return to_rgb(palette(page.colormap)[:, main[..., 0]].transpose(1, 2, 0), layout, reading, alpha)
    if kind == "SEPARATED":
        ink = _of_bits(Layout(colour=True, bits=page.bitspersample, values=kind_of_values(page.dtype)), significant)
        ink = with_used_bits(ink, main)
        inks = [to_rgb(main[..., i : i + 1].repeat(3, -1), ink, ReadOptions())[..., 0] for i in range(4)]
        return to_rgb(cmyk(np.stack(inks, -1)), layout, reading, alpha)
    return to_rgb(main if layout.colour else main[..., 0], layout, reading, alpha)


def _check_range(values: np.ndarray, layout: Layout, significant: int | None) -> None:
    """Raises ImageError for samples outside the range that the page or its description states."""
    low, high = layout.window or (values.min(), values.max())
    if significant and layout.values == "unsigned":
        high = min(high, 2**significant - 1)
    if values.min() < low or values.max() > high:
        raise ImageError(
            f"samples must be in the range of SMinSampleValue, SMaxSampleValue and SignificantBits, {low:g} to "
            f"{high:g}, but are {values.min():g} to {values.max():g}: pass window=(low, high), or fix the tags"
        )


def _channels(pages: list[TiffPage], stacked: bool, layout: Layout, reading: ReadOptions) -> np.ndarray:
    """One channel as grey or three as red, green and blue, each scaled by itself: [h, w, 3] uint8."""
    if stacked:
        planes = [_samples(page)[..., 0] for page in pages]
    else:
        planes = [_samples(pages[0])[..., channel] for channel in reading.channels]
    shown = [to_rgb(plane, layout, reading)[..., 0] for plane in planes]
    return np.stack(shown if len(shown) == 3 else shown * 3, axis=-1)


def _samples(page: TiffPage) -> np.ndarray:
    """A page's samples, interleaved: [h, w, s]."""
    values = page.asarray()
    if values.ndim == 2:
        return values[..., None]
    return np.moveaxis(values, 0, -1) if page.axes == "SYX" else values


def _ycbcr(data: bytes, index: int, reading: ReadOptions) -> np.ndarray:
    image = open_header(data, formats=("TIFF",))
    image.seek(index)
    return to_rgb(np.array(image.convert("RGB")), Layout(colour=True), reading)


def _orientation(page: TiffPage) -> int:
    orientation = int(page.tags.valueof("Orientation", default=UPRIGHT))
    return orientation if 1 <= orientation <= 8 else UPRIGHT


def _check_channels(reading: ReadOptions, count: int) -> None:
    if not all(0 <= channel < count for channel in reading.channels):
        raise ImageError(f"channels must be in 0 to {count - 1}, not {reading.channels}: pass others")


def _check_chain(file: TiffFile, data: bytes) -> None:
    """Raises ImageError if a page points to a next one beyond the end of the file."""
    at, count = file.pages.next_page_offset, file.tiff.offsetsize
    if at is None or any(data[at : at + count]) or len(data) < at + count:
        raise ImageError("cannot be decoded: the next page of this TIFF is missing: fetch it again, it is truncated")


def _check_whole(page: TiffPage, length: int) -> None:
    """Raises ImageError if strips or tiles are missing, or end beyond the end of the file."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or 0 in page.databytecounts:
        raise ImageError("cannot be decoded: a strip or tile of a TIFF is empty: save it again")
    if max(ends) > length:
        raise ImageError(
            f"cannot be decoded: the pixels of the page end at byte {max(ends):,}, but the file at {length:,}: fetch "
            f"it again, it is truncated"
        )

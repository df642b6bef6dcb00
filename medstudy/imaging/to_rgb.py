"""Converts samples of any type to RGB uint8, by one rule for each kind; and checks that all readers share.

`display_range` picks the range that becomes black to white, the first of these that applies:
1. the window that the caller passes;
2. the window that the file states;
3. for display values (unsigned of at most 8 bits, colour, or with alpha): the full range of their bits, so that hues
   are preserved; for float colour 0 to 1;
4. for measurements (grey of more bits, signed, float): the frame's minimum to its maximum.
The mapping is linear; values outside a window saturate and never wrap. A constant frame is black.

Cameras store 10, 12 or 14 bits in 16-bit colour, and the file cannot always say so. Then the smallest of 8, 10, 12, 14
and 16 bits that holds every sample is taken (`with_used_bits`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps

from medstudy.errors import ImageError
from medstudy.imaging.read_options import Colour, ReadOptions, Window

ORIENTATION = 0x0112
UPRIGHT, SIDEWAYS = 1, (5, 6, 7, 8)  # EXIF and TIFF orientations; the sideways ones swap height and width
BYTE = (0.0, 255.0)
USUAL = (8, 10, 12, 14, 16)  # bits stored in words of 16 or 32


@dataclass(frozen=True)
class Layout:
    """What a pixel's samples are, from the header alone.

    colour: red, green, blue; else grey. bits: used bits per sample. values: "unsigned", "signed" or "float".
    alpha: there is an opacity sample of the same type; premultiplied: colours are already multiplied by it. inverted:
    zero is white. window: (low, high) as stated by the file. bits_unknown: `bits` is the word's size, because the file
    cannot say how many bits are used.
    """

    colour: bool
    bits: int = 8
    values: str = "unsigned"
    alpha: bool = False
    premultiplied: bool = False
    inverted: bool = False
    window: Window | None = None
    bits_unknown: bool = False

    @property
    def full_range(self) -> Window:
        """The range of a sample; for display values, black and white."""
        return (0.0, float(2**self.bits - 1)) if self.values == "unsigned" else (0.0, 1.0)

    @property
    def possible_bits(self) -> list[int]:
        """Numbers of bits that may be used, if they are unknown."""
        return sorted({*USUAL, self.bits})


def display_range(layout: Layout, window: Window | None) -> tuple[Window | None, str]:
    """The (low, high) that become 0 and 255, None for the frame's own range; and the rule in words."""
    display = layout.colour or layout.alpha
    if window is not None:
        return window, f"{window[0]:g} to {window[1]:g}, the window passed"
    if layout.window is not None:
        return layout.window, f"{layout.window[0]:g} to {layout.window[1]:g}, the file's own window"
    if layout.bits_unknown:
        bits = ", ".join(map(str, layout.possible_bits))
        return layout.full_range, f"0 to the maximum of the fewest bits that hold all samples: {bits}"
    if layout.values == "unsigned" and layout.bits == 8:
        return BYTE, "values unchanged"
    if layout.values == "unsigned" and (display or layout.bits < 8):
        return layout.full_range, f"0 to {layout.full_range[1]:.0f}, the full range of {layout.bits} bits"
    if layout.values == "float" and display:
        return layout.full_range, "0 to 1"
    if display:
        return None, "refused: signed colour needs a window"
    return None, "the frame's minimum to its maximum"


def rule(layout: Layout, reading: ReadOptions) -> str:
    """How pixels of this layout become RGB, in words."""
    words = [display_range(layout, reading.window)[1]]
    if layout.inverted:
        words.append("inverted, because zero is white")
    if layout.alpha:
        words.append(f"transparent pixels on {reading.background}")
    return "; ".join(words)


def to_rgb(values: np.ndarray, layout: Layout, reading: ReadOptions, alpha: np.ndarray | None = None) -> np.ndarray:
    """Samples [h, w] or [h, w, 3] of `layout` with opacity [h, w], as uint8 [h, w, 3]. Raises ImageError."""
    opaque = layout.full_range
    if reading.window is None:
        layout = with_used_bits(layout, values, alpha)
    window, _ = display_range(layout, reading.window)
    display = layout.colour or layout.alpha
    # refuse samples whose black and white cannot be known
    if display and window is None:
        raise ImageError("signed colour has no defined black and white: pass window=(low, high)")
    if display and layout.values == "float" and window == layout.full_range and not _within(values, window):
        raise ImageError(
            f"float colour must be in 0 to 1, but ranges from {values.min():g} to {values.max():g}: pass "
            f"window=(low, high)"
        )
    if layout.premultiplied and window != layout.full_range:
        raise ImageError("colour premultiplied by alpha takes no window: save the file without alpha")
    # window, invert, repeat grey three times, composite
    shown = values if values.dtype == np.uint8 and window == BYTE else to_uint8(values, window)
    shown = 255 - shown if layout.inverted else shown
    shown = shown if layout.colour else np.repeat(shown[..., None], 3, axis=-1)
    if alpha is None:
        return shown
    if alpha.max() <= layout.full_range[1]:
        opaque = layout.full_range
    return composite(shown, to_uint8(alpha, opaque), reading.background, layout.premultiplied)


def with_used_bits(layout: Layout, values: np.ndarray, alpha: np.ndarray | None = None) -> Layout:
    """The layout; if its bits are unknown, with the fewest usual bits that hold every sample.

    Of premultiplied colours, the opacity counts too.
    """
    if not layout.bits_unknown or layout.window is not None:
        return layout
    greatest = max(values.max(), alpha.max() if layout.premultiplied and alpha is not None else 0)
    return replace(layout, bits=next(bits for bits in layout.possible_bits if greatest < 2**bits), bits_unknown=False)


def to_uint8(values: np.ndarray, window: Window | None = None) -> np.ndarray:
    """Map a real array linearly to uint8, from `window` (values outside saturate), else from its min and max."""
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if not np.isfinite(values).all():
        raise ImageError("pixel values must be finite, but some are NaN or infinite: fill them before reading")
    low, high = window if window is not None else (float(values.min()), float(values.max()))
    if high < low or (window is not None and high == low):
        raise ImageError(f"a window must be (low, high) with low < high, not ({low:g}, {high:g})")
    scale = 255.0 / (high - low) if high > low else 0.0
    return np.rint((np.clip(values.astype(np.float64), low, high) - low) * scale).astype(np.uint8)


def composite(rgb: np.ndarray, alpha: np.ndarray, background: Colour, premultiplied: bool) -> np.ndarray:
    """`rgb` [h, w, 3] and `alpha` [h, w], both uint8, over a plain background, as uint8 [h, w, 3]."""
    opacity = alpha[..., None] / 255.0
    front = rgb.astype(np.float64) if premultiplied else rgb * opacity
    return np.rint(np.clip(front + np.asarray(background) * (1 - opacity), 0, 255)).astype(np.uint8)


def cmyk(values: np.ndarray) -> np.ndarray:
    """Ink [h, w, 4] uint8 (cyan, magenta, yellow, black; 255 is full ink) as RGB [h, w, 3]."""
    return np.array(Image.fromarray(values, mode="CMYK").convert("RGB"))


def palette(colours: np.ndarray) -> np.ndarray:
    """A colour table of 16-bit entries as uint8. Some writers store 8-bit values in it, which libtiff detects too."""
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [h, w, 3] turned upright, by the orientation tag of EXIF and TIFF."""
    if orientation == UPRIGHT:
        return pixels
    image = Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = int(orientation)
    return np.array(ImageOps.exif_transpose(image))


def upright(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(height, width) after `turned`."""
    return (width, height) if orientation in SIDEWAYS else (height, width)


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Raises ImageError for an image above the limit."""
    if height * width > max_pixels:
        raise ImageError(f"{height} x {width} pixels is over the limit of {max_pixels:,}: pass a larger max_pixels")


def check_frame(frame: int | None, count: int) -> int:
    """The frame's number, 0 by default. Raises ImageError for one that does not exist."""
    frame = frame or 0
    if not 0 <= frame < count:
        raise ImageError(f"frame {frame} does not exist, the file has {count} (numbered from 0)")
    return frame


def kind_of_values(dtype: np.dtype) -> str:
    """ "unsigned", "signed" or "float". Raises ImageError for types that are not real numbers."""
    kinds = {"b": "unsigned", "u": "unsigned", "i": "signed", "f": "float"}
    if dtype is None or dtype.kind not in kinds:
        raise ImageError(f"samples must be real numbers, not {dtype}: save the file with one number per sample")
    return kinds[dtype.kind]


def _within(values: np.ndarray, window: Window) -> bool:
    return not np.isfinite(values).all() or bool(values.min() >= window[0] and values.max() <= window[1])

"""DICOM grey values and their display: the rescale or modality LUT, the window or VOI LUT, and padding.

The rules are those of PS3.3: rescale and modality LUT C.11.1, windows and VOI LUTs C.11.2, padding C.7.5.1.1.2. A
rescale with slope 1 and intercept 0 counts as none. A missing slope is taken as 1 and a missing intercept as 0, with a
note. A window with a centre but no width, or the reverse, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue

from medstudy.errors import ImageError
from medstudy.imaging.read_options import Window
from medstudy.imaging.to_rgb import Layout

RESCALE = ("RescaleSlope", "RescaleIntercept")
WINDOW = ("WindowCenter", "WindowWidth")
PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
IDENTITY = (1.0, 0.0)
STEP = 1e-9  # relative width of a window of width 1, which is a threshold: black up to it, white beyond


@dataclass(frozen=True)
class Display:
    """How a file displays grey: "window" (low, high); "sigmoid" (centre, width); "lut"; or "" if not stated."""

    kind: str = ""
    values: Window = (0.0, 0.0)


def rescale(dataset: Dataset) -> tuple[float, float] | None:
    """(slope, intercept); None if the file has none, or has (1, 0), which changes nothing.

    A missing slope is 1, a missing intercept 0 (`fill_notes`). Raises ImageError if both are empty, for a slope of 0,
    and for a rescale together with a modality LUT.
    """
    if not any(name in dataset for name in RESCALE):
        return None
    stated = [_first(dataset, name) for name in RESCALE]
    if stated == [None, None]:
        raise ImageError("a rescale needs a slope and an intercept (PS3.3 C.11.1), but both are empty: fix the header")
    numbers = tuple(other if number is None else number for number, other in zip(stated, IDENTITY, strict=True))
    if numbers[0] == 0:
        raise ImageError("the slope of a rescale must not be 0 (PS3.3 C.11.1), but this is: fix the header")
    if dataset.get("ModalityLUTSequence"):
        raise ImageError("a file may have a rescale or a modality LUT (PS3.3 C.11.1), but this has both: remove one")
    return None if numbers == IDENTITY else numbers


def fill_notes(dataset: Dataset) -> list[str]:
    """Notes on the values that `rescale` fills in."""
    missing = [(name, other) for name, other in zip(RESCALE, IDENTITY, strict=True) if _first(dataset, name) is None]
    return [f"a rescale without {name}, taken as {other:g}" for name, other in missing] if len(missing) == 1 else []


def rescaled(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored values in the modality's units: through its LUT, or times the slope plus the intercept, as float64."""
    if lut := dataset.get("ModalityLUTSequence"):
        return looked_up(stored, lut[0], "modality LUT", signed=bool(dataset.get("PixelRepresentation")))
    if (numbers := rescale(dataset)) is None:
        return stored
    return stored.astype(np.float64) * numbers[0] + numbers[1]


def changes_values(dataset: Dataset) -> bool:
    """Whether `rescaled` changes the stored values."""
    return rescale(dataset) is not None or bool(dataset.get("ModalityLUTSequence"))


def declared_display(dataset: Dataset) -> Display:
    """How the file states that its values are displayed. Raises ImageError for an invalid window."""
    centre, width = (_first(dataset, name) for name in WINDOW)
    if centre is None and width is None:
        return Display("lut") if dataset.get("VOILUTSequence") else Display()
    if centre is None or width is None:
        raise ImageError(
            f"a window needs a centre and a width (PS3.3 C.11.2.1.2), but this file has {_or_none(centre)} and "
            f"{_or_none(width)}: pass window=(low, high)"
        )
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function not in FUNCTIONS:
        raise ImageError(f"a VOI LUT must be LINEAR, LINEAR_EXACT or SIGMOID, not {function}: pass window=(low, high)")
    linear = function == "LINEAR"
    if width < 1 if linear else width <= 0:
        least = "at least 1" if linear else "over 0"
        raise ImageError(f"a {function} window must be {least} wide (PS3.3 C.11.2), not {width:g}: pass window")
    if function == "SIGMOID":
        return Display("sigmoid", (centre, width))
    if function == "LINEAR_EXACT":
        return Display("window", (centre - width / 2, centre + width / 2))
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return Display("window", (low, high if width > 1 else high + STEP * max(1.0, abs(high))))


def looked_up(values: np.ndarray, item: Dataset, what: str, signed: bool | None = None) -> np.ndarray:
    """Values through a modality or VOI LUT, clipped to its ends.

    signed: how to interpret the LUT's first input value (None: as the file encodes it). Raises ImageError for a LUT
    whose length differs from what it states, and for entries beyond its bits.
    """
    count, first, bits = item.LUTDescriptor
    count = count or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        words = ">u2" if item.original_encoding[1] is False else "<u2"
        data = np.frombuffer(data, words if bits > 8 or len(data) >= 2 * count else np.uint8)
    table = np.atleast_1d(np.asarray(data)).astype(np.int64)
    if not count <= len(table) <= count + 1:  # it may have one entry of padding
        raise ImageError(f"a {what} must have the {count} entries that it states, not {len(table)}: fix the header")
    table = table[:count]
    if table.max() >= 2**bits:
        raise ImageError(f"a {what} of {bits} bits holds at most {2**bits - 1}, not {table.max()}: pass window")
    if signed is not None:
        first = _signed(first, 16, signed)
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)]


def without_padding(layout: Layout, values: np.ndarray, stored: np.ndarray, dataset: Dataset) -> Layout:
    """The layout with the range of all pixels except padding, which then saturates; unchanged if all are padding."""
    if not any(name in dataset for name in PADDING) or layout.values != "float" and layout.bits <= 8:
        return layout
    value, limit = (_first(dataset, name) for name in PADDING)
    if value is None or limit is None and PADDING[1] in dataset:
        raise ImageError("padding needs a value (PS3.3 C.7.5.1.1.2), but this has none: pass window=(low, high)")
    ends = [_padding(int(end), dataset) for end in (value, value if limit is None else limit)]
    kept = values[(stored < min(ends)) | (stored > max(ends))]
    if not kept.size or kept.min() == kept.max():
        return layout
    return replace(layout, window=(float(kept.min()), float(kept.max())))


def _padding(value: int, dataset: Dataset) -> int:
    """A padding value with the sign of the pixels, however it was encoded. Raises ImageError."""
    signed, stored = bool(dataset.PixelRepresentation), dataset.BitsStored
    low = -(2 ** (stored - 1)) if signed else 0
    high = low + 2**stored - 1
    read = _signed(value, stored if stored < 16 and 0 <= value < 2**stored else 16, signed)
    if not low <= read <= high:
        raise ImageError(
            f"padding must be a possible pixel value, {low} to {high} (PS3.3 C.7.5.1.1.2), not {value}: pass "
            f"window=(low, high)"
        )
    return read


def _signed(value: int, bits: int, signed: bool) -> int:
    """The same bits as a signed or an unsigned number."""
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


def _first(dataset: Dataset, name: str) -> float | None:
    """An element's number, or the first of several; None if missing or empty. Raises ImageError for anything else."""
    if name not in dataset:
        return None
    try:
        value = dataset[name].value
        if isinstance(value, MultiValue):
            if name in RESCALE:
                raise ImageError(f"{name} must be one number, not {list(value)}: fix the header")
            value = value[0] if value else None
        number = None if value is None or value == "" else float(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ImageError(f"{name} must be a number ({error}): fix the header") from error
    if number is not None and not isfinite(number):
        raise ImageError(f"{name} must be a finite number, not {number}: fix the header")
    return number


def _or_none(number: float | None) -> str:
    return "none" if number is None else f"{number:g}"

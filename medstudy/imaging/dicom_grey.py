"""From stored values of grey to what a DICOM file shows: modality LUT or rescale, then window, VOI LUT or range.

Each rule is PS3.3's: rescale and modality LUT C.11.1, windows and VOI LUTs C.11.2, padding C.7.5.1.1.2. A rescale by 1
and 0 is none, and 1 or 0 stands, with a note, for the one of the two that a file leaves out. Half a window is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue

from medstudy.errors import ImageError
from medstudy.imaging.reading import Window
from medstudy.imaging.samples import Layout

RESCALE = ("RescaleSlope", "RescaleIntercept")
WINDOW = ("WindowCenter", "WindowWidth")
PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
IDENTITY = (1.0, 0.0)
STEP = 1e-9  # share of a threshold, as a window of width 1 is: black up to it, white beyond


@dataclass(frozen=True)
class Shown:
    """How a file shows grey: "window" (low, high); "sigmoid" (centre, width); "lut"; or "" where it does not say."""

    by: str = ""
    numbers: Window = (0.0, 0.0)


def rescale(dataset: Dataset) -> tuple[float, float] | None:
    """(slope, intercept); None where there is none, or where it is 1 and 0, which changes nothing.

    Where one has no number, it is the one that changes nothing; `describe` notes it. Raises ImageError where both are
    empty, for a slope of 0, and for a rescale together with a modality LUT.
    """
    if not any(name in dataset for name in RESCALE):
        return None
    found = [_first(dataset, name) for name in RESCALE]
    if found == [None, None]:
        raise ImageError("a rescale needs a slope and an intercept (PS3.3 C.11.1), but both are empty: mend the header")
    numbers = tuple(other if number is None else number for number, other in zip(found, IDENTITY, strict=True))
    if numbers[0] == 0:
        raise ImageError("a rescale needs a slope that is not 0 (PS3.3 C.11.1), which this one is: mend the header")
    if dataset.get("ModalityLUTSequence"):
        raise ImageError("a file has a rescale or a modality LUT (PS3.3 C.11.1), but this has both: remove one")
    return None if numbers == IDENTITY else numbers


def fill_notes(dataset: Dataset) -> list[str]:
    """Notes on what `rescale` fills in."""
    missing = [(name, other) for name, other in zip(RESCALE, IDENTITY, strict=True) if _first(dataset, name) is None]
    return [f"a rescale without {name}, taken as {other:g}" for name, other in missing] if len(missing) == 1 else []


def rescaled(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Stored values as the modality's own: through its LUT, or times the slope plus the intercept, as float64."""
    if lut := dataset.get("ModalityLUTSequence"):
        return looked_up(stored, lut[0], "modality LUT", signed=bool(dataset.get("PixelRepresentation")))
    if (numbers := rescale(dataset)) is None:
        return stored
    return stored.astype(np.float64) * numbers[0] + numbers[1]


def changes_values(dataset: Dataset) -> bool:
    """Whether `rescaled` gives other values than those stored."""
    return rescale(dataset) is not None or bool(dataset.get("ModalityLUTSequence"))


def declared_display(dataset: Dataset) -> Shown:
    """What the file says of its display. Raises ImageError for a window that is none."""
    centre, width = (_first(dataset, name) for name in WINDOW)
    if centre is None and width is None:
        return Shown("lut") if dataset.get("VOILUTSequence") else Shown()
    if centre is None or width is None:
        raise ImageError(
            f"a window needs a centre and a width (PS3.3 C.11.2.1.2), but this file has {_or_none(centre)} and "
            f"{_or_none(width)}: pass window=(low, high)"
        )
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function not in FUNCTIONS:
        raise ImageError(f"a VOI LUT is LINEAR, LINEAR_EXACT or SIGMOID, not {function}; pass window=(low, high)")
    linear = function == "LINEAR"
    if width < 1 if linear else width <= 0:
        least = "1 wide at least" if linear else "over 0 wide"
        raise ImageError(f"a {function} window must be {least} (PS3.3 C.11.2), not {width:g}; pass window=(low, high)")
    if function == "SIGMOID":
        return Shown("sigmoid", (centre, width))
    if function == "LINEAR_EXACT":
        return Shown("window", (centre - width / 2, centre + width / 2))
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return Shown("window", (low, high if width > 1 else high + STEP * max(1.0, abs(high))))


def looked_up(values: np.ndarray, item: Dataset, what: str, signed: bool | None = None) -> np.ndarray:
    """Through a modality or VOI LUT, its ends for values beyond it.

    Its first input value has the sign of the values (`signed`; None: as the file writes it). Raises ImageError for a
    LUT of another length than it states, and for entries over its bits.
    """
    count, first, bits = item.LUTDescriptor
    count = count or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        words = ">u2" if item.original_encoding[1] is False else "<u2"
        data = np.frombuffer(data, words if bits > 8 or len(data) >= 2 * count else np.uint8)
    table = np.atleast_1d(np.asarray(data)).astype(np.int64)
    if not count <= len(table) <= count + 1:  # one of padding
        raise ImageError(f"a {what} must have the {count} entries that it states, not {len(table)}; mend the header")
    table = table[:count]
    if table.max() >= 2**bits:
        raise ImageError(f"a {what} of {bits} bits holds {2**bits - 1} at most, not {table.max()}; pass window")
    if signed is not None:
        first = _signed(first, 16, signed)
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)]


def without_padding(layout: Layout, values: np.ndarray, stored: np.ndarray, dataset: Dataset) -> Layout:
    """The range of the pixels that are no padding; padding then saturates. All of them where nothing else is."""
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
    """A padding value with the sign of the pixels, whichever its writer gave it. Raises ImageError."""
    signed, stored = bool(dataset.PixelRepresentation), dataset.BitsStored
    low = -(2 ** (stored - 1)) if signed else 0
    high = low + 2**stored - 1
    read = _signed(value, stored if stored < 16 and 0 <= value < 2**stored else 16, signed)
    if not low <= read <= high:
        raise ImageError(
            f"padding must be a value that pixels can have, {low} to {high} (PS3.3 C.7.5.1.1.2), not {value}: pass "
            f"window=(low, high)"
        )
    return read


def _signed(value: int, bits: int, signed: bool) -> int:
    """The same bits with a sign or without."""
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


def _first(dataset: Dataset, name: str) -> float | None:
    """The number, or the first of several; None where it is missing or empty. Raises ImageError for any other."""
    if name not in dataset:
        return None
    try:
        value = dataset[name].value
        if isinstance(value, MultiValue):
            if name in RESCALE:
                raise ImageError(f"{name} must be one number, not {list(value)}: mend the header")
            value = value[0] if value else None
        number = None if value is None or value == "" else float(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ImageError(f"{name} must be a number ({error}): mend the header") from error
    if number is not None and not isfinite(number):
        raise ImageError(f"{name} must be a finite number, not {number}: mend the header")
    return number


def _or_none(number: float | None) -> str:
    return "none" if number is None else f"{number:g}"

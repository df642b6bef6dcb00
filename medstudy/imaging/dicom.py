"""Reads DICOM with pydicom: decodes a frame, rescales it and applies its window.

Grey, in this order:
1. the stored values are decoded (`dicom_stored`);
2. the modality LUT or the rescale is applied (`dicom_window.rescaled`);
3. the display range is the window that the caller passes; else the file's first window by its function (LINEAR,
   LINEAR_EXACT or SIGMOID of PS3.3 C.11.2.1, `dicom_window.declared_display`); else its first VOI LUT, over the LUT's
   full range; else the frame's minimum to its maximum, without padding. Enhanced files state these per frame, in
   functional groups;
4. `to_rgb` maps that range to 0 to 255, and inverts MONOCHROME1.

Colour is decoded to RGB. Overlays and presentation states are not shown. Pixels that are not square stay as stored.
Tiles of a slide are refused here; `medstudy.imaging.whole_slide` reads them.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.pixels import apply_color_lut
from pydicom.uid import UID

from medstudy.errors import ImageError
from medstudy.imaging.dicom_stored import check_bits, frame_count, stored_values, transfer_syntax
from medstudy.imaging.dicom_window import (
    RESCALE,
    WINDOW,
    Display,
    changes_values,
    declared_display,
    fill_notes,
    looked_up,
    rescaled,
    without_padding,
)
from medstudy.imaging.read_options import ImageFacts, ReadOptions
from medstudy.imaging.to_rgb import Layout, check_frame, check_size, palette, rule, to_rgb

NAME = "a DICOM"
OPTIONS = frozenset({"window", "frame"})
GREY = ("MONOCHROME1", "MONOCHROME2")
INDEXED = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
MACROS = {  # functional groups, and the elements of a plain file that each replaces
    "PixelValueTransformationSequence": RESCALE,
    "FrameVOILUTSequence": (*WINDOW, "VOILUTFunction", "VOILUTSequence"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}
SIDES = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")  # (vertical, horizontal) in mm, or as a ratio

UNEVEN = 0.01  # relative difference of both sides of a pixel that is more than rounding


def matches(data: bytes) -> bool:
    """Whether DICM follows the preamble."""
    return data[128:132] == b"DICM"


def read(data: bytes, reading: ReadOptions) -> np.ndarray:
    """[h, w, 3] uint8. Raises ImageError, or whatever pydicom raises."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "End of file reached")  # pydicom drops all tags of a truncated file
        dataset = pydicom.dcmread(io.BytesIO(data))
    _check(dataset)
    check_size(dataset.Rows, dataset.Columns, reading.max_pixels)
    frame = check_frame(reading.frame, frame_count(dataset))
    kind = dataset.PhotometricInterpretation
    if kind not in GREY:
        stored = stored_values(dataset, frame)
        if kind == INDEXED:
            return to_rgb(_coloured(stored, dataset), Layout(colour=True), reading)
        return to_rgb(stored, _layout(dataset, Display()), reading)
    _apply_functional_groups(dataset, frame)
    # the display range, before any pixel is decoded: an invalid header stops here
    display = declared_display(dataset) if reading.window is None else Display()
    layout = _layout(dataset, display)
    # the values: decoded, rescaled, through the VOI LUT or the sigmoid if the file has one
    stored = stored_values(dataset, frame)
    values = rescaled(stored, dataset)
    if display.kind == "lut":
        values = looked_up(values, dataset.VOILUTSequence[0], "VOI LUT")
    elif display.kind == "sigmoid":
        centre, width = display.values
        with np.errstate(over="ignore"):  # far below the centre the result is 0
            values = 1 / (1 + np.exp(-4 * (values - centre) / width))
    elif not display.kind and reading.window is None:
        layout = without_padding(layout, values, stored, dataset)
    return to_rgb(values, layout, reading)


def size(data: bytes, reading: ReadOptions) -> tuple[int, int]:
    """(height, width) of a frame, from the header."""
    dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    _check(dataset)
    return int(dataset.Rows), int(dataset.Columns)


def describe(data: bytes, reading: ReadOptions) -> ImageFacts:
    """What the header states of the frame that is read."""
    dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    _check(dataset)
    frames = frame_count(dataset)
    _apply_functional_groups(dataset, check_frame(reading.frame, frames))
    signed = "signed" if dataset.get("PixelRepresentation") else "unsigned"
    return ImageFacts(
        kind="DICOM", height=int(dataset.Rows), width=int(dataset.Columns), samples=int(dataset.SamplesPerPixel),
        bits=int(dataset.get("BitsStored", 32)), values=signed if "BitsStored" in dataset else "float",
        frames=frames, orientation=1, alpha=False, photometric=dataset.PhotometricInterpretation,
        compression=UID(transfer_syntax(dataset)).name, rule=_rule(dataset, reading), notes=tuple(_notes(dataset)),
        um_per_px=_um_per_px(dataset),
    )


def _um_per_px(dataset: Dataset) -> float | None:
    """PixelSpacing, else ImagerPixelSpacing (of a projection, at the detector), in µm; None for uneven pixels."""
    sides = next((dataset[name].value for name in SIDES[:2] if dataset.get(name) is not None), None)
    if sides is None or len(sides) != 2:
        return None
    down, across = map(float, sides)
    return 500 * (down + across) if min(down, across) > 0 and abs(down - across) <= UNEVEN * down else None


def _rule(dataset: Dataset, reading: ReadOptions) -> str:
    """How the frame becomes RGB, in words; or "refused: " and the reason."""
    kind = dataset.PhotometricInterpretation
    if kind == INDEXED:
        return rule(Layout(colour=True), reading)
    try:
        display = declared_display(dataset) if kind in GREY and reading.window is None else Display()
        layout = _layout(dataset, display)
    except ImageError as error:
        return f"refused: {error}"
    by_file = {"lut": "the file's VOI LUT", "sigmoid": "the file's sigmoid window"}
    return by_file.get(display.kind) or rule(layout, reading)


def _notes(dataset: Dataset) -> list[str]:
    notes = []
    if dataset.PhotometricInterpretation in GREY:
        try:
            notes += ["rescaled before the window"] * changes_values(dataset) + fill_notes(dataset)
        except ImageError:
            pass  # `_rule` states the reason
    if "PixelPaddingValue" in dataset:
        notes.append(f"padding of {dataset.PixelPaddingValue}")
    sides = next((name for name in SIDES if dataset.get(name) is not None), None)
    if sides is not None and dataset[sides].value[0] != dataset[sides].value[1]:
        down, across = dataset[sides].value
        unit = " (a ratio)" if sides == "PixelAspectRatio" else " mm"
        notes.append(f"pixels of {down:g} x {across:g}{unit} are shown square")
    return notes


def _check(dataset: Dataset) -> None:
    """Raises ImageError for a file without an image, of an unsupported kind, or with the tiles of a slide."""
    if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
        raise ImageError("this DICOM file holds no image (no Rows or no PhotometricInterpretation): leave it out")
    kind = dataset.PhotometricInterpretation
    if kind not in (*GREY, *COLOUR, INDEXED):
        raise ImageError(f"a DICOM image must be grey, RGB, YBR or palette colour, not {kind}: convert it to RGB")
    if dataset.get("SamplesPerPixel") != (samples := 3 if kind in COLOUR else 1):
        raise ImageError(f"{kind} has {samples} samples per pixel, not {dataset.get('SamplesPerPixel')}: fix it")
    check_bits(dataset)
    whole = dataset.get("TotalPixelMatrixRows", 0), dataset.get("TotalPixelMatrixColumns", 0)
    if whole[0] > dataset.Rows or whole[1] > dataset.Columns:
        raise ImageError(
            "a DICOM frame must be an image, but the frames of this file are tiles of a slide: give its path with a "
            "region or a magnification to read it as a slide"
        )


def _apply_functional_groups(dataset: Dataset, frame: int) -> None:
    """Copy what an enhanced file's functional groups state for one frame to where a plain file states it.

    Raises ImageError if they have no item for the frame.
    """
    shared, own = (dataset.get(name) for name in GROUPS)
    if own and frame >= len(own):
        raise ImageError(
            f"PerFrameFunctionalGroupsSequence must have an item for each frame (PS3.3 C.7.6.16), but has {len(own)}, "
            f"none for frame {frame}: fix the header"
        )
    for group in [*(shared or [])[:1], *(own or [])[frame : frame + 1]]:
        for name, elements in MACROS.items():
            for item in (group.get(name) or [])[:1]:
                for element in elements:
                    if element in dataset:
                        del dataset[element]
                dataset.update({element.tag: element for element in item})


def _layout(dataset: Dataset, display: Display) -> Layout:
    """The layout of the values after the modality LUT, with the display range that the file states."""
    kind, floats = dataset.PhotometricInterpretation, "BitsStored" not in dataset
    if kind in COLOUR:
        signed = "signed" if dataset.get("PixelRepresentation") else "unsigned"
        return Layout(colour=True, bits=dataset.BitsStored, values=signed)
    measured = changes_values(dataset) or floats or dataset.get("PixelRepresentation") or display.kind
    window = display.values if display.kind == "window" else None
    if display.kind == "sigmoid":
        window = (0.0, 1.0)
    if display.kind == "lut":
        window = (0.0, float(2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1))
    values, bits = ("float", 64) if measured else ("unsigned", dataset.BitsStored)
    return Layout(colour=False, bits=bits, values=values, inverted=kind == "MONOCHROME1", window=window)


def _coloured(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Indices through the palette, clipped to its ends: [h, w, 3] uint8. Raises ImageError without a palette."""
    if any(f"{band}PaletteColorLookupTableDescriptor" not in dataset for band in ("Red", "Green", "Blue")):
        raise ImageError("PALETTE COLOR needs three lookup tables (PS3.3 C.7.6.3.1.5), but some are missing: fix it")
    count, first, _ = dataset.RedPaletteColorLookupTableDescriptor
    inside = np.clip(stored, first, first + (count or 2**16) - 1)
    return palette(apply_color_lut(inside, dataset)[..., :3])

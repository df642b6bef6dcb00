"""DICOM, read by pydicom: stored values, rescaled, then shown as the file or the user says.

Grey: the modality LUT or rescale; then the window asked for, else the file's first window by its function (LINEAR,
LINEAR_EXACT or SIGMOID of PS3.3 C.11.2.1), else its first VOI LUT over the whole range of that LUT, else the frame's
least to its greatest value, padding left out. An enhanced file says these for each frame, in its functional groups.
MONOCHROME1 is inverted, last. Colour is decoded to RGB. Overlays and presentation states are not shown, and pixels that
are not square stay as they are stored. The tiles of a slide are no images: `medstudy.imaging.slides` reads those.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from pydicom.uid import UID

from medstudy.errors import ImageError
from medstudy.imaging import codecs
from medstudy.imaging.reading import Facts, Reading, Window
from medstudy.imaging.samples import Layout, check_frame, check_size, palette, rule, to_rgb

NAME = "a DICOM"
OPTIONS = frozenset({"window", "frame"})
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")  # rescale; window


@dataclass(frozen=True)
class Shown:
    """How a file shows grey: "window" (low, high); "sigmoid" (centre, width); "lut"; or "" where it does not say."""

    by: str = ""
    numbers: Window = (0.0, 0.0)


def matches(data: bytes) -> bool:
    """DICM after the preamble."""
    return data[128:132] == b"DICM"


def read(data: bytes, reading: Reading) -> np.ndarray:
    """[h, w, 3] uint8. Raises ImageError, or whatever pydicom raises."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "End of file reached")  # pydicom warns of frames cut short, and drops all tags
        dataset = pydicom.dcmread(io.BytesIO(data))
    _check(dataset)
    check_size(dataset.Rows, dataset.Columns, reading.max_pixels)
    frame = check_frame(reading.frame, _frames(dataset))
    stored = pixel_array(dataset, index=frame, decoding_plugin=codecs.plugin(_syntax(dataset)))  # YBR comes back as RGB
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        return to_rgb(_coloured(stored, dataset), Layout(colour=True), reading)
    if kind in COLOUR:
        return to_rgb(stored, _layout(dataset, Shown()), reading)
    _of_frame(dataset, frame)
    shown = _shown(dataset) if reading.window is None else Shown()
    values = np.asarray(apply_modality_lut(stored, dataset))
    layout = _layout(dataset, shown)
    if shown.by == "lut":
        values = _looked_up(values, dataset.VOILUTSequence[0])
    elif shown.by == "sigmoid":
        centre, width = shown.numbers
        values = 1 / (1 + np.exp(-4 * (values - centre) / width))
    elif not shown.by and reading.window is None and "PixelPaddingValue" in dataset:
        layout = _without_padding(layout, values, stored, dataset)
    return to_rgb(values, layout, reading)


def size(data: bytes, reading: Reading) -> tuple[int, int]:
    """(height, width) of a frame, from the header."""
    dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    _check(dataset)
    return int(dataset.Rows), int(dataset.Columns)


def describe(data: bytes, reading: Reading) -> Facts:
    """What the header says, of the frame that is read."""
    dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    _check(dataset)
    _of_frame(dataset, check_frame(reading.frame, _frames(dataset)))
    shown, kind = _shown(dataset), dataset.PhotometricInterpretation
    layout = Layout(colour=True) if kind == "PALETTE COLOR" else _layout(dataset, shown)
    words = rule(layout, reading)
    if reading.window is None and kind in GREY and shown.by in ("lut", "sigmoid"):
        words = {"lut": "the file's VOI LUT", "sigmoid": "the file's sigmoid window"}[shown.by]
    notes = []
    if "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset:
        notes.append("rescaled before the window")
    if "PixelPaddingValue" in dataset:
        notes.append(f"padding of {dataset.PixelPaddingValue}")
    if (spacing := dataset.get("PixelSpacing")) is not None and spacing[0] != spacing[1]:
        notes.append(f"pixels of {spacing[0]:g} x {spacing[1]:g} mm are shown square")
    signed = "signed" if dataset.get("PixelRepresentation") else "unsigned"
    return Facts(
        kind="DICOM", height=int(dataset.Rows), width=int(dataset.Columns), samples=int(dataset.SamplesPerPixel),
        bits=int(dataset.get("BitsStored", 32)), values=signed if "BitsStored" in dataset else "float",
        frames=_frames(dataset), orientation=1, alpha=False, photometric=kind, compression=UID(_syntax(dataset)).name,
        rule=words, notes=tuple(notes),
    )  # fmt: skip


def _check(dataset: Dataset) -> None:
    """Raises ImageError for a file without an image, of a kind that is not read, or of a slide's tiles."""
    if "Rows" not in dataset or "PhotometricInterpretation" not in dataset:
        raise ImageError("this DICOM file holds no image (no Rows or no PhotometricInterpretation): leave it out")
    kind = dataset.PhotometricInterpretation
    if kind not in (*GREY, *COLOUR, "PALETTE COLOR"):
        raise ImageError(f"a DICOM image must be grey, RGB, YBR or of a palette, not {kind}: convert it to RGB")
    whole = dataset.get("TotalPixelMatrixRows", 0), dataset.get("TotalPixelMatrixColumns", 0)
    if whole[0] > dataset.Rows or whole[1] > dataset.Columns:
        raise ImageError(
            "a DICOM frame must be an image, but those of this file are the tiles of a slide: give its path with a "
            "region or a magnification, and it is read as a slide"
        )


def _syntax(dataset: Dataset) -> str:
    return dataset.file_meta.get("TransferSyntaxUID", "")


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _of_frame(dataset: Dataset, frame: int) -> None:
    """Lift what an enhanced file's functional groups say of one frame to where a plain file says it."""
    shared, own = (dataset.get(name) for name in GROUPS)
    for group in [*(shared or [])[:1], *(own or [])[frame : frame + 1]]:
        for name in MACROS:
            for item in (group.get(name) or [])[:1]:
                dataset.update({element.tag: element for element in item})


def _layout(dataset: Dataset, shown: Shown) -> Layout:
    """The layout after the modality LUT, and the range that becomes black to white by the file's own word."""
    kind, floats = dataset.PhotometricInterpretation, "BitsStored" not in dataset
    if kind in COLOUR:
        signed = "signed" if dataset.get("PixelRepresentation") else "unsigned"
        return Layout(colour=True, bits=dataset.BitsStored, values=signed)
    rescaled = "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset
    measured = floats or rescaled or dataset.get("PixelRepresentation") or shown.by
    window = shown.numbers if shown.by == "window" else None
    if shown.by == "sigmoid":
        window = (0.0, 1.0)
    if shown.by == "lut":
        window = (0.0, float(2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1))
    values, bits = ("float", 64) if measured else ("unsigned", dataset.BitsStored)
    return Layout(colour=False, bits=bits, values=values, inverted=kind == "MONOCHROME1", window=window)


def _shown(dataset: Dataset) -> Shown:
    """What the file says of its display. Raises ImageError for a window that is none."""
    centre, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centre is None or width is None:
        return Shown("lut") if dataset.get("VOILUTSequence") else Shown()
    centre, width = (float(np.atleast_1d(value)[0]) for value in (centre, width))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ImageError(f"a VOI LUT is LINEAR, LINEAR_EXACT or SIGMOID, not {function}; pass window=(low, high)")
    if width <= (function == "LINEAR"):
        raise ImageError(f"the file's window width must be over 1, not {width:g}; pass window=(low, high)")
    if function == "SIGMOID":
        return Shown("sigmoid", (centre, width))
    if function == "LINEAR_EXACT":
        return Shown("window", (centre - width / 2, centre + width / 2))
    return Shown("window", (centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2))


def _looked_up(values: np.ndarray, item: Dataset) -> np.ndarray:
    """Through a VOI LUT, its ends for values beyond it. (pydicom's indices wrap in a LUT of 8-bit entries.)"""
    count, first, bits = item.LUTDescriptor
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * (count or 2**16) else np.uint8)
    table = np.asarray(data).astype(np.int64)[: count or 2**16] & (2**bits - 1)
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)]


def _coloured(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Indices through the palette, its ends for indices beyond it: [h, w, 3] uint8."""
    count, first, _ = dataset.RedPaletteColorLookupTableDescriptor
    inside = np.clip(stored, first, first + (count or 2**16) - 1)
    return palette(apply_color_lut(inside, dataset)[..., :3])


def _without_padding(layout: Layout, values: np.ndarray, stored: np.ndarray, dataset: Dataset) -> Layout:
    """The range of the pixels that are no padding; padding then saturates. All of them where nothing else is."""
    ends = int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))
    kept = values[(stored < min(ends)) | (stored > max(ends))]
    if layout.values != "float" and layout.bits <= 8 or not kept.size or kept.min() == kept.max():
        return layout
    return replace(layout, window=(float(kept.min()), float(kept.max())))

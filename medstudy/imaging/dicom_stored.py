"""The stored values of a DICOM frame: decoded, cut to the header's bits, and checked against the header.

Native and RLE words hold a value in BitsStored bits that end at HighBit; the other bits are ignored, for example
overlays in older files (PS3.5 8.1.1). A compressed frame states its own size, samples and bits. These must agree with
the header: the frame decides how it is decoded, the header what the values mean (PS3.5 8.2). Other files are refused.
"""

from __future__ import annotations

import io
from math import ceil

import numpy as np
from pydicom import Dataset, uid
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
from pydicom.pixels import pixel_array

from medstudy.errors import ImageError
from medstudy.imaging.codestream import SOC_SIZ, Codestream, parse
from medstudy.imaging.dicom_codecs import DECODE, check_frame_data, plugin

CONVERTED = ("RGB", "YBR_FULL", "YBR_FULL_422")  # as they are, or converted to RGB by pydicom
TRANSFORMED = ("YBR_RCT", "YBR_ICT")  # RGB after JPEG 2000's own component transform
LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K)
STARTS = (b"\xff\xd8\xff", SOC_SIZ, b"\0\0\0\x0cjP  ")  # of JPEG, JPEG 2000 and JP2
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
OVERLAYS = range(0x6000, 0x6020, 2)  # groups of elements
BIT_POSITION = 0x0102  # element of such a group: above 0 for an overlay stored in bits of the pixels
RAW = {"correct_unused_bits": False, "apply_j2k_sign_correction": False, "apply_jls_sign_correction": False}


def transfer_syntax(dataset: Dataset) -> str:
    """The transfer syntax; "" if the file states none."""
    return dataset.file_meta.get("TransferSyntaxUID", "")


def frame_count(dataset: Dataset) -> int:
    """The number of frames that the header states."""
    return int(dataset.get("NumberOfFrames") or 1)


def check_bits(dataset: Dataset) -> None:
    """Raises ImageError if the header's numbers of bits contradict each other."""
    if "BitsStored" not in dataset:
        return  # float pixels
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if allocated != 1 and (allocated % 8 or not 8 <= allocated <= 64):
        raise ImageError(f"BitsAllocated must be 1 or a multiple of 8 (PS3.5 8.1.1), not {allocated}: fix the header")
    high = dataset.get("HighBit", stored - 1)
    if not 1 <= stored <= allocated:
        raise ImageError(f"BitsStored must be 1 to BitsAllocated, {allocated}, not {stored}: fix the header")
    if not stored - 1 <= high < allocated:
        raise ImageError(f"{stored} bits must end at a HighBit of {stored - 1} to {allocated - 1}, not {high}: fix it")
    kind = dataset.PhotometricInterpretation
    if kind.startswith("YBR") and (allocated, stored) != (8, 8):
        raise ImageError(f"{kind} must have 8 bits per sample, not {stored} of {allocated}: convert it to RGB")


def stored_values(dataset: Dataset, frame: int) -> np.ndarray:
    """[h, w], or [h, w, 3] RGB for colour. Raises ImageError, or whatever pydicom raises."""
    if not any(name in dataset for name in PIXELS):
        raise ImageError("this DICOM file describes an image but holds no pixels: fetch it again, or leave it out")
    if "PixelData" not in dataset:
        if "BitsStored" in dataset:
            raise ImageError("float pixels have no BitsStored, but this header states one: fix the header")
        return pixel_array(dataset, index=frame)
    for needed in ("BitsStored", "PixelRepresentation"):
        if needed not in dataset:
            raise ImageError(f"pixels need a {needed} (PS3.3 C.7.6.3), but the header states none: fix it")
    # the number of frames, and what a compressed frame states itself, must agree with the header
    name = uid.UID(transfer_syntax(dataset))
    encapsulated = name.is_encapsulated
    (_check_fragments if encapsulated else _check_length)(dataset)
    stream = None if not encapsulated or name == uid.RLELossless else _parsed(dataset, frame)
    # decode without pydicom's corrections: each check here sees the values as they are stored
    options = RAW | {"photometric_interpretation": _space(dataset, stream)}
    if stream is not None:
        options["planar_configuration"] = 0  # decoders return interleaved samples, whatever the header states
    values = pixel_array(dataset, index=frame, decoding_plugin=plugin(name), **options)
    if dataset.BitsAllocated == 1:
        return values
    if stream is not None and stream.bits < dataset.BitsStored:
        return _narrow(values, stream, dataset)
    # only the bits that the header states
    cut = _cut(values, dataset)
    _check_unused(values, cut, dataset)
    if name in LOSSY and stream.bits > dataset.BitsStored and not np.array_equal(cut, values):
        raise ImageError(
            f"lossy values of {stream.bits} bits must fit BitsStored, {dataset.BitsStored}, but some do not: fix the "
            f"header"
        )
    return cut


def _parsed(dataset: Dataset, frame: int) -> Codestream:
    """The frame's own header. Raises ImageError if it contradicts the file's, and for a truncated JPEG."""
    offsets = [dataset.get(f"ExtendedOffsetTable{part}") for part in ("", "Lengths")]
    offsets = offsets if all(offsets) else None
    data = get_frame(dataset.PixelData, frame, number_of_frames=frame_count(dataset), extended_offsets=offsets)
    stream = parse(data)
    if transfer_syntax(dataset) in DECODE:
        check_frame_data(data, stream, transfer_syntax(dataset))
    for word, states, holds in (
        ("Rows", dataset.Rows, stream.height),
        ("Columns", dataset.Columns, stream.width),
        ("SamplesPerPixel", dataset.SamplesPerPixel, stream.samples),
    ):
        if states != holds:
            raise ImageError(f"{word} is {states} in the header, but {holds} in the compressed frame: fix the header")
    high = dataset.get("HighBit", dataset.BitsStored - 1)
    if stream.bits > dataset.BitsAllocated or stream.bits <= high != dataset.BitsStored - 1:
        raise ImageError(
            f"the compressed frame has {stream.bits} bits, but the header states BitsAllocated {dataset.BitsAllocated} "
            f"and HighBit {high}: fix the header"
        )
    return stream


def _space(dataset: Dataset, stream: Codestream | None) -> str:
    """The photometric interpretation to decode by. Raises ImageError if frame and header disagree about colours."""
    kind = dataset.PhotometricInterpretation
    if dataset.SamplesPerPixel == 1:
        return kind
    if transfer_syntax(dataset) in uid.JPEG2000TransferSyntaxes:
        if kind != "RGB" and stream.mixed != (kind in TRANSFORMED):
            has = "a" if stream.mixed else "no"
            raise ImageError(f"the header states {kind}, but the JPEG 2000 has {has} component transform: fix it")
        return kind
    if stream is not None and stream.space:
        return "RGB" if stream.space == "RGB" else "YBR_FULL"
    if kind not in CONVERTED:
        raise ImageError(f"pixels of this transfer syntax cannot be {kind}: convert them to RGB")
    return kind


def _cut(words: np.ndarray, dataset: Dataset) -> np.ndarray:
    """The BitsStored bits that end at HighBit, with the sign that PixelRepresentation states."""
    width, stored = words.dtype.itemsize * 8, dataset.BitsStored
    high = dataset.get("HighBit", stored - 1)
    if stored == width:
        return words
    return np.right_shift(np.left_shift(words, width - 1 - high), width - stored)


def _check_unused(words: np.ndarray, cut: np.ndarray, dataset: Dataset) -> None:
    """Raises ImageError if the bits above HighBit take so many values that they must belong to the pixels.

    Allowed are overlays that the header places there, and what writers leave: a sign, a mark on a few pixels, or one
    overlay.
    """
    high = dataset.get("HighBit", dataset.BitsStored - 1)
    above = words.dtype.itemsize * 8 - 1 - high
    if above < 2 or any(dataset.get((group, BIT_POSITION)) for group in OVERLAYS):
        return
    unsigned = words.astype(f"u{words.dtype.itemsize}", copy=False)
    upper = np.unique((unsigned if high >= dataset.BitsStored else unsigned[words != cut]) >> (high + 1))
    values = np.union1d(upper, [0])
    counted = len(values) > 2 and values[-1] == len(values) - 1  # 0, 1, 2 …: numbers that continue above the bits
    if len(upper) > above + 1 or counted:
        raise ImageError(
            f"BitsStored and HighBit state {dataset.BitsStored} bits up to bit {high}, but the {above} above it hold "
            f"{len(upper)} values (PS3.5 8.1.1): fix the header, or clear these bits"
        )


def _narrow(values: np.ndarray, stream: Codestream, dataset: Dataset) -> np.ndarray:
    """Values of fewer bits than BitsStored, unchanged. Raises ImageError if their sign is lost."""
    if stream.signed != bool(dataset.PixelRepresentation):
        raise ImageError(
            f"signed values need all {dataset.BitsStored} bits of BitsStored, but the compressed frame has "
            f"{stream.bits}: fix the header"
        )
    return values


def _check_length(dataset: Dataset) -> None:
    """Raises ImageError if further frames, or rows that are not zero, follow those that the header states."""
    count = frame_count(dataset)
    samples = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * count
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        samples = samples * 2 // 3
    expected = ceil(samples * dataset.BitsAllocated / 8)
    rest = dataset.PixelData[expected:]
    row = max(2, ceil(dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated / 8))
    if len(rest) >= max(2, expected // count) or len(rest) >= row and any(rest):
        raise ImageError(
            f"{count} frames of {dataset.Rows} x {dataset.Columns} must have {expected:,} bytes, "
            f"but this file has {len(dataset.PixelData):,}: fix Rows, Columns, BitsAllocated or NumberOfFrames"
        )


def _check_fragments(dataset: Dataset) -> None:
    """Raises ImageError if more frames begin than the header states."""
    stream = io.BytesIO(dataset.PixelData)
    parse_basic_offsets(stream)
    rle = transfer_syntax(dataset) == uid.RLELossless  # each frame is one fragment
    begin = sum(rle or fragment.startswith(STARTS) for fragment in generate_fragments(stream))
    if begin > (count := frame_count(dataset)):
        raise ImageError(f"NumberOfFrames is {count} in the header, but the file has {begin} frames: fix the header")

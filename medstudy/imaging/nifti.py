"""Reads one slice of one volume of NIfTI-1 or -2, plain or gzipped, with nibabel.

A slice along a named axis (axial, coronal, sagittal) follows the header's orientation and is shown as in DICOM viewers:
the patient's right is on the left of axial and coronal slices, the front on the left of sagittal ones; the front is at
the top of axial slices, the head at the top of the others. Slices are numbered from the feet, the back and the
patient's left, along the axes of nibabel's closest canonical orientation: x to the right, y to the front, z to the
head. An oblique volume is sliced along its nearest axes. Nothing is resampled, not even voxels that are not cubes. A
slice along a numbered axis (0, 1, 2) is one of the stored array; of the other two axes, the first runs to the right and
the second down.

Grey is scaled by `to_rgb`, after the header's slope and intercept. A display range in the header (cal_min below
cal_max, both finite) is the file's own window. Colour takes no slope.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, replace

import nibabel
import numpy as np

from medstudy.errors import ImageError
from medstudy.imaging.read_options import ImageFacts, ReadOptions
from medstudy.imaging.to_rgb import UPRIGHT, Layout, check_size, kind_of_values, rule, to_rgb

NAME = "a NIfTI volume"
OPTIONS = frozenset({"window", "axis", "slice", "volume"})
GZIP = b"\x1f\x8b"
HEADER = 540  # bytes of a NIfTI-2 header; NIfTI-1 has 348
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
COLOUR = (("R", "G", "B"), ("R", "G", "B", "A"))


def matches(data: bytes) -> bool:
    """Whether it has NIfTI's magic, gzipped or not; includes the header of a pair, which `read` refuses."""
    head = _head(data)
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:7] in (b"n+2", b"ni2")


@dataclass(frozen=True)
class VolumeSlice:
    """A slice: its index in the stored array, and how that plane becomes [height, width]."""

    index: tuple
    size: tuple[int, int]
    transposed: bool
    flipped: tuple[bool, bool]

    def shown(self, plane: np.ndarray) -> np.ndarray:
        """The stored plane as rows and columns."""
        plane = plane.T if self.transposed else plane
        return np.ascontiguousarray(plane[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)])


def read(data: bytes, reading: ReadOptions) -> np.ndarray:
    """[h, w, 3] uint8. Raises ImageError, or whatever nibabel raises."""
    header = _header(data)
    selected = _selected_slice(header, reading)
    check_size(*selected.size, reading.max_pixels)
    layout = _layout(header)
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    stored = kind.from_bytes(_whole(data, header)).dataobj.reshape(_shape(header))
    plane = selected.shown(np.asarray(stored[selected.index]))
    if not layout.colour:
        return to_rgb(plane, layout, reading)
    bands = [plane[name] for name in plane.dtype.names]
    return to_rgb(np.stack(bands[:3], axis=-1), layout, reading, bands[3] if layout.alpha else None)


def size(data: bytes, reading: ReadOptions) -> tuple[int, int]:
    """(height, width) of the slice, from the header."""
    return _selected_slice(_header(data), reading).size


def describe(data: bytes, reading: ReadOptions) -> ImageFacts:
    """What the header states; if no slice is selected yet, about the middle one."""
    header = _header(data)
    shape, layout = _shape(header), _layout(header)
    words, notes = rule(layout, reading), []
    try:
        selected = _selected_slice(header, reading)
    except ImageError as error:
        words = f"refused: {error}"
        axis = reading.axis if _oriented(header) else 2
        selected = _selected_slice(header, replace(reading, slice="middle", volume=0, axis=axis))
    if _oriented(header):
        axes = "".join(nibabel.aff2axcodes(header.get_best_affine()))
        notes.append(f"stored as {axes}")
    else:
        notes.append("no orientation in the header")
    lengths = (header.get_data_shape(), header.get_zooms()[:3])
    sides, spacing = (" x ".join(f"{length:g}" for length in axes) for axes in lengths)
    notes.append(f"{sides} voxels of {spacing} mm")
    spread = next((number for number, at in enumerate(selected.index[:3]) if isinstance(at, int)), 2)
    return ImageFacts(
        kind="NIfTI", height=selected.size[0], width=selected.size[1], samples=3 + layout.alpha if layout.colour else 1,
        bits=layout.bits, values=layout.values, frames=shape[spread], orientation=UPRIGHT, alpha=layout.alpha,
        photometric="RGB" if layout.colour else "grey", compression="gzip" if data[:2] == GZIP else "none",
        rule=words, notes=tuple(notes),
    )


def _head(data: bytes) -> bytes:
    """The first bytes, unzipped if need be; empty for a damaged gzip file."""
    if data[:2] != GZIP:
        return data[:HEADER]
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(data)).read(HEADER)
    except (OSError, EOFError, zlib.error):
        return b""


def _header(data: bytes) -> nibabel.Nifti1Header:
    """The parsed header. Raises ImageError for a pair of files, or for a header that nibabel cannot use."""
    head = _head(data)
    second = head[4:6] in (b"n+", b"ni")
    if b"ni" in (head[4:6], head[344:346]):
        raise ImageError("NIfTI must be one file, but this is the header of a pair (.hdr and .img): save it as .nii")
    kind, length = (nibabel.Nifti2Header, HEADER) if second else (nibabel.Nifti1Header, 348)
    header, raw = kind(head[:length]), kind(head[:length], check=False)  # nibabel's check corrects bitpix silently
    if int(raw["bitpix"]) != (bits := header.get_data_dtype().itemsize * 8):
        raise ImageError(f"a voxel of this datatype has {bits} bits, but its bitpix is {raw['bitpix']}: fix it")
    return header


def _shape(header: nibabel.Nifti1Header) -> tuple[int, int, int, int]:
    """(x, y, z, volumes), 1 for a missing axis. Raises ImageError for more than four axes."""
    shape = header.get_data_shape()
    if len(shape) < 2 or any(side != 1 for side in shape[4:]) or min(shape) < 1:
        raise ImageError(f"NIfTI must have 2 to 4 axes, not the shape {shape}: save each volume as a file")
    return (*shape[:4], *(1,) * (4 - len(shape)))


def _oriented(header: nibabel.Nifti1Header) -> bool:
    return bool(header["qform_code"] > 0 or header["sform_code"] > 0)


def _selected_slice(header: nibabel.Nifti1Header, reading: ReadOptions) -> VolumeSlice:
    """The selected slice. Raises ImageError if it does not exist or none is selected."""
    shape = _shape(header)
    volume = reading.volume or 0
    if reading.volume is None and shape[3] > 1:
        raise ImageError(f"a file of {shape[3]} volumes needs a selection: pass volume, from 0")
    if not 0 <= volume < shape[3]:
        raise ImageError(f"volume {volume} does not exist, the file has {shape[3]} (numbered from 0)")
    if isinstance(reading.axis, int):
        return _along_stored_axis(shape, reading.axis, _slice_number(reading, shape[reading.axis]), volume)
    if not _oriented(header):
        raise ImageError(
            f"{reading.axis} needs an orientation, but the header states none (qform and sform codes 0): pass axis=0, "
            f"1 or 2, those of the stored array"
        )
    turns = nibabel.io_orientation(header.get_best_affine())  # per stored axis: its canonical axis and direction
    if np.isnan(turns).any():
        raise ImageError("the header's affine must have three independent axes: pass axis=0, 1 or 2")
    wanted = AXES[reading.axis]
    canonical = [int(axis) for axis in turns[:, 0]]
    along = canonical.index(wanted)
    # the slice, counted from the canonical end of its axis
    number = _slice_number(reading, shape[along])
    index = _index(along, number if turns[along, 1] > 0 else shape[along] - 1 - number, volume, shape)
    # the plane: which stored axis is rows, and whether each is flipped
    first, second = (axis for axis in range(3) if axis != along)
    transposed = canonical[first] < canonical[second]  # rows are the higher canonical axis
    rows, columns = (second, first) if transposed else (first, second)
    return VolumeSlice(index, (shape[rows], shape[columns]), transposed, (turns[rows, 1] > 0, turns[columns, 1] > 0))


def _along_stored_axis(shape: tuple[int, ...], axis: int, number: int, volume: int) -> VolumeSlice:
    first, second = (other for other in range(3) if other != axis)
    return VolumeSlice(_index(axis, number, volume, shape), (shape[second], shape[first]), True, (False, False))


def _index(axis: int, number: int, volume: int, shape: tuple[int, ...]) -> tuple:
    whole = [slice(None)] * 3
    whole[axis] = int(number)
    return (*whole, volume)


def _slice_number(reading: ReadOptions, count: int) -> int:
    """The selected slice's number. Raises ImageError."""
    if reading.slice is None and count > 1:
        raise ImageError(f"a volume of {count} slices ({reading.axis}) needs a selection: pass slice, or 'middle'")
    number = count // 2 if reading.slice == "middle" else reading.slice or 0
    if not 0 <= number < count:
        raise ImageError(f"slice {number} does not exist, the volume has {count} (numbered from 0)")
    return number


def _layout(header: nibabel.Nifti1Header) -> Layout:
    """What a voxel is, after slope and intercept. Raises ImageError for anything but a number or a colour."""
    dtype = header.get_data_dtype()
    scaled = header.get_slope_inter() not in ((None, None), (1.0, 0.0))
    if dtype.names:
        if scaled:
            raise ImageError("colour takes no slope and intercept, but this header states them: set scl_slope to 0")
        if dtype.names not in COLOUR:
            raise ImageError(f"NIfTI colour must be RGB or RGBA, not {dtype.names}: save it as one of these")
        return Layout(colour=True, alpha=len(dtype.names) == 4)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    window = (low, high) if low < high and np.isfinite((low, high)).all() else None
    values = "float" if scaled else kind_of_values(dtype)
    return Layout(colour=False, bits=dtype.itemsize * 8, values=values, window=window)


def _whole(data: bytes, header: nibabel.Nifti1Header) -> bytes:
    """The file, unzipped and as long as its header states; trailing zeros are dropped.

    Raises ImageError, or gzip's own error for a truncated file.
    """
    shape, voxel = header.get_data_shape(), header.get_data_dtype().itemsize
    length = int(header.get_data_offset()) + int(np.prod(shape)) * voxel
    slice_ = int(np.prod(shape[:2])) * voxel
    if data[:2] == GZIP:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            data = packed.read(length)
            rest = packed.read(slice_ + 1)  # also reads the checksum
    else:
        rest = data[length : length + slice_]
    if len(data) < length:
        raise ImageError(f"NIfTI with this header has {length:,} bytes, but this has {len(data):,}: fetch it again")
    if len(rest) >= slice_ and any(rest):
        raise ImageError(f"NIfTI with this header has {length:,} bytes, but further slices follow: fix its dim")
    return data

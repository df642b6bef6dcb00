"""The five volumes of `organs` as grey slices with label maps at native in-plane resolution. Nothing is resampled."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pydicom

from medstudy.datasets.organs import archives
from medstudy.errors import DataError
from medstudy.imaging import read_array, to_uint8

REFERENCE = "tests/reference_files/"
# class of a question -> labels of TotalSegmentator's task "total"; labels of one class are joined
ORGANS = {
    "liver": (5,), "spleen": (1,), "stomach": (6,), "aorta": (52,), "inferior vena cava": (63,), "vertebra": (32, 33),
    "spinal cord": (79,), "back muscle": (86, 87), "rib": tuple(range(92, 116)), "costal cartilage": (117,),
}
TYPES = {"short": "<i2", "int": "<i4"}  # of NRRD samples


@dataclass(frozen=True)
class About:
    """A volume: one patient. files: its images, then its labels. window: values that are shown as 0 and 255.

    splits: the slices of each split; empty for a tumour, of which all slices are in one split. read: makes the volume
    from the files of the archive.
    """

    name: str
    package: str
    files: tuple[str, str]
    window: tuple[float, float]
    modality: str
    anatomy: str
    splits: dict[str, tuple[int, ...]]
    read: Callable[[About, dict[str, bytes]], Volume]


@dataclass(frozen=True)
class Volume:
    """grey: uint8 [slices, height, width]. labels: uint8, the same; a class's number from 1 on in its list, or 0."""

    about: About
    grey: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)


def read_series(about: About, files: dict[str, bytes]) -> Volume:
    """A CT series in DICOM, from the feet up, with a NIfTI label map of the same grid."""
    slices = [data for name, data in files.items() if name.startswith(about.files[0])]
    slices.sort(key=lambda data: float(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
                                       .ImagePositionPatient[2]))
    grey = np.stack([read_array(data, window=about.window, name=about.name)[..., 0] for data in slices])
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(files[about.files[1]]))
    upright = nibabel.as_closest_canonical(image)  # axes to the right, the front and the head
    stored = np.asanyarray(upright.dataobj).astype(np.uint8)[::-1, ::-1].transpose(2, 1, 0)  # to left, back and head
    labels = np.zeros_like(stored)
    for code, numbers in enumerate(ORGANS.values(), start=1):
        labels[np.isin(stored, numbers)] = code
    return checked(about, grey, labels)


def read_pair(about: About, files: dict[str, bytes]) -> Volume:
    """An image and its tumour's mask, both in NRRD."""
    values, mask = (nrrd(files[name], name) for name in about.files)
    grey = np.stack([to_uint8(plane, about.window) for plane in values])
    return checked(about, grey, (mask > 0).astype(np.uint8))


def checked(about: About, grey: np.ndarray, labels: np.ndarray) -> Volume:
    """The volume. Raises DataError if its labels are of another grid."""
    if grey.shape != labels.shape:
        raise DataError(f"Labels have the shape of their image, but {about.name} has {labels.shape} and {grey.shape}.")
    return Volume(about, grey, labels)


def nrrd(data: bytes, name: str) -> np.ndarray:
    """The array [z, y, x] of a 3-D NRRD file of little-endian whole numbers, gzipped, its header attached.

    http://teem.sourceforge.net/nrrd/format.html; the first axis of the file runs fastest. Raises DataError.
    """
    head, _, body = data.partition(b"\n\n")
    lines = dict(re.findall(r"^([a-z ]+): (.*?)\r?$", head.decode("ascii", "replace"), re.MULTILINE))
    known = {"type": TYPES, "dimension": ("3",), "endian": ("little",), "encoding": ("gzip",)}
    for key, values in known.items():
        if not head.startswith(b"NRRD") or lines.get(key) not in values:
            raise DataError(f"{name} must be an NRRD file with {key} {' or '.join(values)}, got {lines.get(key)!r}.")
    shape = tuple(map(int, lines["sizes"].split()))[::-1]
    try:
        return np.frombuffer(gzip.decompress(body), TYPES[lines["type"]]).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{name} must hold {shape} samples, but cannot be read ({error}).") from None


def _tumour(name: str, window: tuple[float, float], modality: str, anatomy: str, split: str) -> About:
    files = (f"data/{name}_image.nrrd", f"data/{name}_label.nrrd")
    return About(name, "pyradiomics", files, window, modality, anatomy, {split: ()}, read_pair)


CT, MRI = "computed tomography", "magnetic resonance imaging"
LUNG = (-1350.0, 150.0)  # Hounsfield units: the usual window of the lung
VOLUMES = {
    about.name: about for about in (
        About("abdomen", "totalsegmentator",
              (f"{REFERENCE}example_ct_dicom/", f"{REFERENCE}example_seg_dicom.nii.gz"), (-160.0, 240.0), CT, "abdomen",
              {"train": (0, 1, 2, 3, 4, 5), "val": (9, 10), "test": (14, 15, 16, 17, 18, 19)}, read_series),
        _tumour("lung2", LUNG, CT, "lung", "train"),
        _tumour("brain1", (0.0, 1700.0), MRI, "brain", "train"),
        _tumour("lung1", LUNG, CT, "lung", "test"),
        _tumour("brain2", (0.0, 1050.0), MRI, "brain", "test"),
    )
}


@cache
def read_all(folder: Path) -> dict[str, Volume]:
    """All volumes, read once per process (about 60 MB). Raises DataError, ImageError."""
    read = {}
    for package in archives.ARCHIVES:
        own = [about for about in VOLUMES.values() if about.package == package]
        files = archives.files(folder, package, [name for about in own for name in about.files])
        read |= {about.name: about.read(about, files) for about in own}
    return {name: read[name] for name in VOLUMES}

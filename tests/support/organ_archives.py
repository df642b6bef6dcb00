"""Small source archives in the layout of those that `organs` reads: an abdominal CT with a label map, four tumours.

In the CT every organ is a block of its own grey value, so that a crop's centre shows which organ it is. A tumour is a
bright block in a dark volume.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medstudy.datasets.organs import archives, volumes
from tests.support import image_files

SIDE, SLICES = 200, 20
STEP = 25  # Hounsfield units from one organ to the next
FIRST = [numbers[0] for numbers in volumes.ORGANS.values()]  # one of each organ's labels in TotalSegmentator's order
TUMOURS = {"lung2": (9, 11), "brain1": (8, 10), "lung1": (7, 8), "brain2": (10, 11)}  # first slice, end


def write(folder: Path, patch: pytest.MonkeyPatch, **changed: bytes) -> None:
    """Both archives in a folder, with their hashes made known; `changed` replaces files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {}
    for package, members in {"totalsegmentator": abdomen(), "pyradiomics": tumours()}.items():
        archive = archives.ARCHIVES[package]
        members |= {name: data for name, data in changed.items() if name in members}
        data = packed(archive.file.removesuffix(".tar.gz"), members)
        (folder / archive.file).write_bytes(data)
        known[package] = replace(archive, sha256=hashlib.sha256(data).hexdigest())
    patch.setattr(archives, "ARCHIVES", known)
    volumes.read_all.cache_clear()


def packed(top: str, members: dict[str, bytes]) -> bytes:
    """A .tar.gz whose files lie in one top folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def organ_map() -> np.ndarray:
    """uint8 [h, w]: where each organ of a slice is, 1 + its place in ORGANS: two columns of five blocks."""
    codes = np.zeros((SIDE, SIDE), np.uint8)
    for i in range(len(FIRST)):
        top, left = 72 + 11 * (i % 5), 40 + 61 * (i // 5)
        codes[top : top + 10, left : left + 60] = i + 1
    return codes


def abdomen() -> dict[str, bytes]:
    """The CT's slices, last slice first as files, and its label map as TotalSegmentator stores it (L, A, S)."""
    codes, files = organ_map(), {}
    for z in range(SLICES):
        values = (-160 + STEP * codes.astype(int) + z + 1024)[None]
        files[f"{volumes.REFERENCE}example_ct_dicom/{SLICES - z:02d}"] = image_files.dicom(
            values, RescaleSlope=1, RescaleIntercept=-1024, ImagePositionPatient=[0, 0, 2.0 * z],
        )
    numbers = np.array([0, *FIRST], np.uint8)[codes]
    stored = np.repeat(numbers[::-1].T[:, :, None], SLICES, axis=2)  # columns to the left, rows to the front
    image = nibabel.Nifti1Image(stored, np.diag([-1.0, 1.0, 2.0, 1.0]))
    files[f"{volumes.REFERENCE}example_seg_dicom.nii.gz"] = gzip.compress(image.to_bytes(), 1)
    return files


def tumours() -> dict[str, bytes]:
    """Each volume and its mask in NRRD."""
    files = {}
    for name, (first, end) in TUMOURS.items():
        mask = np.zeros((SLICES, SIDE, SIDE), np.int32)
        mask[first:end, 60:72, 90:110] = 1
        files[f"data/{name}_image.nrrd"] = nrrd((-1000 + 2500 * mask).astype(np.int16))
        files[f"data/{name}_label.nrrd"] = nrrd(mask)
    return files


def nrrd(array: np.ndarray, **lines: str) -> bytes:
    """NRRD bytes of an array [z, y, x]; `lines` replaces lines of the header."""
    kind = {"int16": "short", "int32": "int"}[array.dtype.name]
    header = {"type": kind, "dimension": "3", "space": "left-posterior-superior",
              "sizes": " ".join(map(str, array.shape[::-1])), "endian": "little", "encoding": "gzip"} | lines
    text = "NRRD0004\n# a comment\n" + "".join(f"{name}: {value}\n" for name, value in header.items()) + "\n"
    return text.encode() + gzip.compress(array.tobytes(), 1)

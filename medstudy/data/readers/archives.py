"""Sources published as files: tables of text, with images in the same folder or in zip archives."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from medstudy import paths
from medstudy.data.encoded_image import Picture
from medstudy.data.readers import files
from medstudy.errors import DataError


def root(path: str, holds: str, names: Sequence[str] = (), revision: str | None = None) -> Path:
    """The folder of a data set: `path` itself, or a download of these files if `path` is a hub id.

    holds: what the folder contains, for errors. names: patterns of the files to download; none for a data set that must
    be downloaded by hand, as some licences require. Raises DataError.
    """
    if (folder := paths.resolve(path)).is_dir():
        return folder
    if not names:
        raise DataError(f"This data set is a folder with {holds}, but {path!r} is not a folder. Download and name it.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, repo_type="dataset", revision=revision, allow_patterns=list(names)))
    except Exception as error:  # the hub raises many kinds: network, licence, name
        raise DataError(
            f"A data set is a hub id, or a folder with {holds}, but {path!r} is not a folder and cannot be fetched: "
            f"{error}. Without a network, download {', '.join(names)} elsewhere and give the folder as `path`."
        ) from error


def table(file: Path, needed: Mapping[str, str], separator: str = ",", columns: Sequence[str] | None = None,
          at_once: int = 1024) -> Iterator[dict]:
    """The rows of a .csv or .tsv, every cell as text ("" for an empty one), `at_once` of them in memory.

    needed: name -> meaning of the required columns. columns: those to read; None: all. Raises DataError.
    """
    try:
        text = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
        with file.open(encoding="utf-8-sig", newline="") as lines:  # pandas would rename repeated columns
            files.unrepeated_columns(next(csv.reader(lines, delimiter=separator), []), str(file))
        chunks = pd.read_csv(file, sep=separator, usecols=columns, chunksize=at_once, **text)
        for chunk in chunks:
            files.need(dict.fromkeys(chunk.columns), needed, str(file))
            yield from chunk.to_dict("records")
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise DataError(f"{file} must be a table in UTF-8, but is not: {error}. Fetch it again.") from error


class Images:
    """The image files of a data set by the names in its rows: unpacked under `folder`, or in zip archives there.

    below: folders that a name may be relative to; the first that has the file counts.
    """

    def __init__(self, folder: Path, archives: Sequence[str] = (), below: Sequence[str] = ("",)) -> None:
        self.folder, self.below = folder, below
        self.archives = [_opened(folder / name) for name in archives if (folder / name).is_file()]

    def __call__(self, name: str) -> Picture:
        """The image, not decoded. Raises DataError if its name is absolute, outside the folder, or missing."""
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise DataError(f"Images must be in the folder {self.folder}, but a row has {name!r}. Use relative paths.")
        for place in (str(PurePosixPath(base) / inside) for base in self.below):
            for archive in self.archives:
                if place in archive.NameToInfo:
                    return Picture(_unpacked(archive, place), place)
            if (self.folder / place).is_file():
                return Picture(files.below(self.folder, place).read_bytes(), place)
        archives = ", ".join(str(archive.filename) for archive in self.archives)
        places = f"{self.folder}{f' or {archives}' if archives else ''}"
        raise DataError(f"A row names the image {name!r}, which is not in {places}. Copy it there.")


def _opened(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} must be a zip archive, but is not ({error}). Fetch it again.") from error


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{name} in {archive.filename} cannot be unpacked ({error}). Fetch it again.") from error

"""Rows in the hub's format, read by `load_dataset` from the hub or from a folder with a repository's files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants

from medstudy import paths
from medstudy.data.encoded_image import Picture
from medstudy.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

COMMIT = re.compile(r"(?<=/)[0-9a-f]{40}(?=/)")  # in the path of a table in the cache of `datasets`


def rows(path: str, split: str, columns: Mapping[str, str], *, config: str | None = None, revision: str | None = None,
         images: tuple[str, ...] = ("image",), only: Collection[str] | None = None) -> Iterator[dict]:
    """The rows of a split, images not decoded ({"bytes", "path"}), in the source's order.

    columns: name -> meaning of the required columns. only: those to read; None is all that the source has. images:
    columns with an image or a list of images. Raises DataError.
    """
    import datasets

    where, table = _where(path, config, split), _table(path, config, split, revision)
    names = table.column_names or list(next(iter(table), {}))
    if missing := [name for name in columns if name not in names]:
        wanted = "; ".join(f"{name}: {columns[name]}" for name in missing)
        raise DataError(
            f"{where} must have the columns {', '.join(columns)}, but it has {', '.join(names)}. Missing: "
            f"{wanted}. The source has changed, or the path names another data set: pin a revision that has them."
        )
    if only is not None:
        table = table.select_columns(list(only))
    for name in images:
        if name in names and (only is None or name in only):
            listed = isinstance((table.features or {}).get(name), datasets.List)
            undecoded = datasets.Image(decode=False)
            table = table.cast_column(name, datasets.List(undecoded) if listed else undecoded)
    yield from each(table, where)


def _table(path: str, config: str | None, split: str, revision: str | None) -> Dataset | IterableDataset:
    """A split; a folder is streamed with a fresh cache. Raises DataError.

    The cache of `datasets` knows a folder by its last name only. With it, a folder could get the rows of another, or,
    if streamed, its features (such as the names of classes).
    """
    import datasets

    folder = paths.resolve(path)
    try:
        if not folder.is_dir():
            return _of_revision(datasets.load_dataset(path, config, split=split, revision=revision), revision)
        with TemporaryDirectory() as cache:
            return datasets.load_dataset(str(folder), config, split=split, streaming=True, cache_dir=cache)
    except Exception as error:  # `datasets` raises many kinds: network, format, name
        raise DataError(
            f"A data set is a hub id or a folder with the hub's files, but {_where(path, config, split)} cannot be "
            f"loaded: {error}. Correct the id, the config or the split; without a network, download it elsewhere and "
            "give its folder as `path`."
        ) from error


def _of_revision(table: Dataset, revision: str | None) -> Dataset:
    """The table. Raises ValueError if it has another commit: offline, `datasets` takes the newest that it has."""
    for file in table.cache_files:
        commits = COMMIT.findall(file["filename"])
        if commits and COMMIT.search(f"/{revision}/") and revision not in commits:
            raise ValueError(f"revision {revision} is not here, only {commits[-1]}; fetch it with a network")
    return table


def _where(path: str, config: str | None, split: str) -> str:
    """The name of a split in errors."""
    return f"{split} of {path}{f' ({config})' if config else ''}"


def commit(path: str, revision: str | None) -> str:
    """The commit of a hub's repository that `revision` names (None: the newest), or "a folder" or "a file".

    Offline, the commit that was fetched; "unknown" if nothing states it.
    """
    if (here := paths.resolve(path)).exists():
        return "a folder" if here.is_dir() else "a file"
    try:
        return HfApi().dataset_info(path, revision=revision).sha
    except Exception:  # the client raises many kinds offline; a given commit is the answer
        if revision:
            return revision
        known = Path(constants.HF_HUB_CACHE) / f"datasets--{path.replace('/', '--')}" / "refs" / "main"
        return known.read_text(encoding="utf-8").strip() if known.is_file() else "unknown"


def picture(value: dict | bytes | None, name: str) -> Picture:
    """An undecoded image in the hub's format. name: for errors. Raises DataError if it has no bytes."""
    if isinstance(value, bytes):
        return Picture(value, name)
    if value and value.get("bytes"):
        return Picture(value["bytes"], name)
    raise DataError(f"{name} must have an image, but its row has none. Remove the row, or fix the source.")


def stream(path: str, split: str, *, config: str | None = None, revision: str | None = None) -> IterableDataset:
    """A split's rows one after another, undecoded, from a folder or after a download. Raises DataError."""
    table = _table(path, config, split, revision)
    rows = table.to_iterable_dataset() if hasattr(table, "to_iterable_dataset") else table
    return rows.decode(False) if rows.features else rows


def each(rows: Iterable[dict], where: str) -> Iterator[dict]:
    """The rows of a stream. Raises DataError for whatever `datasets` raises meanwhile, for example a damaged file."""
    try:
        yield from rows
    except Exception as error:
        raise DataError(f"All rows of {where} must be readable, but: {error}. Write the file again.") from error

"""Rows in the hub's format, by `load_dataset`: from the hub, or from a folder that holds a repository's files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, constants

from medstudy import paths
from medstudy.errors import DataError
from medstudy.pictures import Picture

COMMIT = re.compile(r"(?<=/)[0-9a-f]{40}(?=/)")  # in the path of a table that `datasets` keeps


def rows(path: str, split: str, columns: Mapping[str, str], *, config: str | None = None, revision: str | None = None,
         images: tuple[str, ...] = ("image",), only: Collection[str] | None = None) -> Iterator[dict]:  # fmt: skip
    """The rows of a split, images not decoded ({"bytes", "path"}), in the source's order.

    columns: name -> what it is, for the error that says which are missing. only: of them, those to read; None is all
    that the source has. images: the columns of an image, or of a list of them. Raises DataError.
    """
    import datasets

    where, table = _where(path, config, split), _table(path, config, split, revision)
    names = table.column_names or list(next(iter(table), {}))
    if missing := [name for name in columns if name not in names]:
        wanted = "; ".join(f"{name}: {columns[name]}" for name in missing)
        raise DataError(
            f"{where} must have the columns {', '.join(columns)}, but it has {', '.join(names)}. Missing: "
            f"{wanted}. The source has changed, or the path is of another data set: pin a revision that has them."
        )
    if only is not None:
        table = table.select_columns(list(only))
    for name in images:
        if name in names and (only is None or name in only):
            listed = isinstance((table.features or {}).get(name), datasets.List)
            undecoded = datasets.Image(decode=False)
            table = table.cast_column(name, datasets.List(undecoded) if listed else undecoded)
    yield from each(table, where)


def _table(path: str, config: str | None, split: str, revision: str | None):
    """A folder is streamed past the cache of `datasets`, which knows one by its last name alone and confuses them.

    It would give one the rows, and even streamed the features (as the names of classes), of another. Raises DataError.
    """
    import datasets

    folder = paths.resolve(path)
    try:
        if not folder.is_dir():
            return _of_revision(datasets.load_dataset(path, config, split=split, revision=revision), revision)
        with TemporaryDirectory() as cache:
            return datasets.load_dataset(str(folder), config, split=split, streaming=True, cache_dir=cache)
    except Exception as error:  # datasets raises anything at all: of the network, of a format, of a name
        raise DataError(
            f"A data set is a hub id or a folder with the hub's files, but {_where(path, config, split)} cannot be "
            f"loaded: {error}. Mend the id, the config or the split; without a network, download it elsewhere and give "
            "its folder as `path`."
        ) from error


def _of_revision(table, revision: str | None):
    """The table. Raises ValueError where it is of another commit: offline, `datasets` takes the newest that it has."""
    for file in table.cache_files:
        commits = COMMIT.findall(file["filename"])
        if commits and COMMIT.search(f"/{revision}/") and revision not in commits:
            raise ValueError(f"revision {revision} is not here, only {commits[-1]}; fetch it with a network")
    return table


def _where(path: str, config: str | None, split: str) -> str:
    """How errors name a split."""
    return f"{split} of {path}{f' ({config})' if config else ''}"


def commit(path: str, revision: str | None) -> str:
    """The commit of a hub's repository that `revision` names, None the newest; "a folder"; offline of what was fetched.

    "unknown" where nothing says it.
    """
    if (here := paths.resolve(path)).exists():
        return "a folder" if here.is_dir() else "a file"
    try:
        return HfApi().dataset_info(path, revision=revision).sha
    except Exception:  # the hub's client raises many things without a network, and a commit given is its own answer
        if revision:
            return revision
        known = Path(constants.HF_HUB_CACHE) / f"datasets--{path.replace('/', '--')}" / "refs" / "main"
        return known.read_text(encoding="utf-8").strip() if known.is_file() else "unknown"


def picture(value: dict | bytes | None, name: str) -> Picture:
    """An undecoded image of the hub's format, `name` for errors. Raises DataError for one that has no bytes."""
    if isinstance(value, bytes):
        return Picture(value, name)
    if value and value.get("bytes"):
        return Picture(value["bytes"], name)
    raise DataError(f"{name} must have an image, but its row has none. Remove the row, or mend the source.")


def stream(path: str, split: str, *, config: str | None = None, revision: str | None = None):
    """A split's rows, one after the other, nothing in them decoded (a `datasets.IterableDataset`). Raises DataError.

    A hub's data set is downloaded first.
    """
    found = _table(path, config, split, revision)
    rows = found.to_iterable_dataset() if hasattr(found, "to_iterable_dataset") else found
    return rows.decode(False) if rows.features else rows


def each(rows, where: str) -> Iterator[dict]:
    """The rows of a stream. Raises DataError for what `datasets` raises on the way, as of a damaged file."""
    try:
        yield from rows
    except Exception as error:
        raise DataError(f"The rows of {where} must all be readable, but: {error}. Write it again.") from error

"""The rows of a table of the user's own: .jsonl, .json, .parquet, .csv or .tsv, each with where it stands."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from medstudy.errors import DataError
from medstudy.sources import files

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
DELIMITERS = ",;\t"


def rows(file: Path) -> Iterator[tuple[str, dict]]:
    """("train.csv row 3", {column: value}) of every row, numbered from 1 as data rows. Raises DataError."""
    if file.suffix not in SUFFIXES:
        raise DataError(f"A table is a file of {', '.join(SUFFIXES)}, but {file.name} is none. Save it as one of them.")
    made = {".parquet": _parquet, ".csv": _csv, ".tsv": _csv}.get(file.suffix, files.jsonl)(file)
    for number, row in enumerate(made, 1):
        where = f"{file.name} row {number}"
        if not isinstance(row, dict):
            raise DataError(f"A row must be an object of column: value, but {where} is {type(row).__name__}.")
        yield where, row


def _csv(file: Path) -> Iterator[dict]:
    """Cells as text, never as what a parser takes them for: an answer may be "NA", "None" or "1e5"."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            delimiter = max(DELIMITERS, key=lines.readline().count)
            lines.seek(0)
            yield from csv.DictReader(lines, delimiter=delimiter)  # cells beyond the head: under None
    except (OSError, csv.Error) as error:
        raise DataError(f"{file.name} cannot be read as a table: {error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"A table is in UTF-8, but {file.name} is not ({error}). Save it as UTF-8.") from error


def _parquet(file: Path) -> Iterator[dict]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(1024):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{file.name} cannot be read as parquet: {error}. Write it again.") from error

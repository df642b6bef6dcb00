"""The rows of a table of the user's own: .jsonl, .json, .parquet, .csv or .tsv, each with where it stands."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from medstudy.data.readers import files
from medstudy.errors import DataError

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
            rows = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
            head = files.unrepeated_columns(next(rows, []), file.name)
            for cells in filter(None, rows):
                yield _named(head, cells)
    except csv.Error as error:
        raise DataError(
            f"{file.name} cannot be read as a table: {error}, in the row that ends in line {rows.line_num}. Write a "
            'cell with quotes as "a ""b"" c".'
        ) from error
    except OSError as error:
        raise DataError(f"{file.name} cannot be read as a table: {error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"A table is in UTF-8, but {file.name} is not ({error}). Save it as UTF-8.") from error


def _named(head: list[str], cells: list[str]) -> dict:
    """{column: cell}; under None the cells beyond the head, those that are missing, and what no name tells apart."""
    row: dict = dict.fromkeys(head) | dict(zip(head, cells, strict=False))
    unnamed = [cell for name, cell in zip(head, cells, strict=False) if not name.strip() and cell.strip()]
    if len(cells) != len(head):
        row[None] = f"{len(cells)} cells for {len(head)} columns"
    elif len(unnamed) > 1:
        row[None] = f"{len(unnamed)} cells in columns without a name"
    return row


def _parquet(file: Path) -> Iterator[dict]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            _different_fields(table.schema_arrow, file.name)
            for batch in table.iter_batches(1024):
                yield from _as_written(batch).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{file.name} cannot be read as parquet: {error}. Write it again.") from error


def _as_written(batch):
    """A batch whose columns of 16 and 32 bits hold 0.1 where these bits do, and not 0.10000000149011612."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if field.type in (pa.float16(), pa.float32()):
            shortest = [float(str(one)) for one in batch.column(place).to_numpy(zero_copy_only=False)]  # NaN for null
            batch = batch.set_column(place, field.name, pa.array(shortest, pa.float64()))
    return batch


def _different_fields(fields: Iterable, where: str) -> None:
    """Raise DataError for a name that stands twice in a schema, or in a struct or a list of structs of it."""
    fields = list(fields)
    files.unrepeated_columns([field.name for field in fields], where)
    for field in fields:
        kind = field.type
        while hasattr(kind, "value_type"):
            kind = kind.value_type
        if hasattr(kind, "fields"):
            _different_fields(kind.fields, f"{field.name} of {where}")

"""The rows of the user's table, .jsonl, .json, .parquet, .csv or .tsv, each with its place for errors."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medstudy.data.readers import files
from medstudy.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
DELIMITERS = ",;\t"


def rows(file: Path) -> Iterator[tuple[str, dict]]:
    """("train.csv row 3", {column: value}) of every row; data rows count from 1. Raises DataError."""
    if file.suffix not in SUFFIXES:
        raise DataError(f"A table must be a file of {', '.join(SUFFIXES)}, got {file.name}. Save it as one of them.")
    reader = {".parquet": _parquet, ".csv": _csv, ".tsv": _csv}.get(file.suffix, files.jsonl)
    for number, row in enumerate(reader(file), 1):
        where = f"{file.name} row {number}"
        if not isinstance(row, dict):
            raise DataError(f"A row must be an object of column: value, but {where} is {type(row).__name__}. Fix it.")
        yield where, row


def _csv(file: Path) -> Iterator[dict]:
    """Cells as text, never converted: an answer may be "NA", "None" or "1e5"."""
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
        raise DataError(f"A table must be in UTF-8, but {file.name} is not ({error}). Save it as UTF-8.") from error


def _named(head: list[str], cells: list[str]) -> dict:
    """{column: cell}; under None what is wrong: too many or too few cells, or several in columns without a name."""
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
            _refuse_repeated(table.schema_arrow, file.name)
            for batch in table.iter_batches(1024):
                yield from _shortest_floats(batch).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{file.name} cannot be read as parquet: {error}. Write it again.") from error


def _shortest_floats(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose 16- and 32-bit floats are the shortest numbers they stand for: 0.1, not 0.10000000149011612."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if field.type in (pa.float16(), pa.float32()):
            column = batch.column(place).to_numpy(zero_copy_only=False)  # NaN for null
            shortest = [float(str(number)) for number in column]
            batch = batch.set_column(place, field.name, pa.array(shortest, pa.float64()))
    return batch


def _refuse_repeated(fields: Iterable[pa.Field], where: str) -> None:
    """Raise DataError for a repeated name in a schema, or in a struct or a list of structs of it."""
    fields = list(fields)
    files.unrepeated_columns([field.name for field in fields], where)
    for field in fields:
        kind = field.type
        while hasattr(kind, "value_type"):
            kind = kind.value_type
        if hasattr(kind, "fields"):
            _refuse_repeated(kind.fields, f"{field.name} of {where}")

"""Read large tables of several runs with little memory: only the columns needed, texts as categoricals."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute, types
from pyarrow import parquet as pq

FREE = ("raw_text",)  # texts that rarely repeat: no categoricals


def read(files: Iterable[Path], columns: Collection[str]) -> pd.DataFrame:
    """The rows of all files, in the order of the files, with those of `columns` that exist.

    Texts other than `FREE` become categoricals with categories in alphabetical order, so that they sort as texts do.
    All empty lists are the same array.
    """
    tables = [_table(file, columns) for file in files]
    whole = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    return pd.DataFrame({name: _column(whole[name]) for name in whole.column_names})


def _table(file: Path, columns: Collection[str]) -> pa.Table:
    schema = pq.read_schema(file)
    kept = [name for name in schema.names if name in columns]
    texts = [name for name in kept if _is_text(schema.field(name).type) and name not in FREE]
    return pq.read_table(file, columns=kept, read_dictionary=texts).replace_schema_metadata(None)


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _column(values: pa.ChunkedArray) -> pd.Series:
    if types.is_dictionary(values.type):
        column = values.to_pandas()
        return column.cat.reorder_categories(column.cat.categories.sort_values())
    if types.is_list(values.type) or types.is_large_list(values.type):
        return _lists(values)
    return values.to_pandas()


def _lists(values: pa.ChunkedArray) -> pd.Series:
    """Lists as arrays; as most of a million lists are empty, all empty ones share one array."""
    full = compute.fill_null(compute.greater(compute.list_value_length(values), 0), False)
    lists = np.full(len(values), None, dtype=object)
    lists[:] = [np.empty(0, dtype=object)] * len(values)
    lists[full.to_numpy()] = values.filter(full).to_pandas().to_numpy()
    return pd.Series(lists)

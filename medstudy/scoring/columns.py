"""Columns of scores: a function of one answer, applied to every row of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd


def texts(column: pd.Series) -> pd.Series:
    """A column as texts, missing values as ""."""
    return column.astype(object).where(column.notna(), "").astype(str)


def mapped(function: Callable, *columns: Sequence | pd.Series) -> np.ndarray:
    """`function` of every row of the columns, computed once for each distinct row, because answers repeat."""
    rows = list(zip(*columns, strict=True))
    table = {row: function(*row) for row in set(rows)}
    return np.array([table[row] for row in rows], dtype=float)


def frame(rows: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """A table with the index of `rows`, its columns as floats; a single number fills its column."""
    return pd.DataFrame({name: np.asarray(values, dtype=float) if np.ndim(values) else values
                         for name, values in columns.items()}, index=rows.index)

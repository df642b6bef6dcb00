"""Cells of a table: text, numbers and JSON; and the error that describes one bad row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from medstudy.data.readers.files import unrepeated
from medstudy.errors import DataError


class RowError(DataError):
    """One row cannot be used. problem: the reason in two or three words, for a table; the message states it in full."""

    def __init__(self, problem: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem


def value(row: Mapping, name: str | None) -> Any:
    """A row's entry by its column; "a.b" is entry b of column a. None if there is none."""
    if name is None or name in row:
        return row.get(name)
    head, _, rest = name.partition(".")
    inner = row.get(head)
    return value(inner, rest) if rest and isinstance(inner, Mapping) else None


def text(cell: Any) -> str:
    """A cell as stripped text; "" for null and NaN, and a whole number without a decimal point. Raises RowError."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool) or not isinstance(cell, (str, int, float)):
        raise RowError("not a text", f"A cell must hold text or a number, got {cell!r:.60}. Write it as text.")
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip()


def filled(cell: Any) -> bool:
    """Whether a cell is not empty: null, NaN and blank text are."""
    return cell is not None and cell == cell and not (isinstance(cell, str) and not cell.strip())


def unpacked(cell: Any, brackets: tuple[str, ...] = ("[", "{")) -> Any:
    """The JSON of a text that begins with a bracket; any other cell unchanged. Raises RowError for invalid JSON."""
    if not isinstance(cell, str) or not cell.lstrip().startswith(brackets):
        return cell
    try:
        return json.loads(cell, object_pairs_hook=unrepeated)
    except (ValueError, RecursionError) as error:
        raise RowError("not a list", f"A cell in brackets must be JSON, got {cell!r:.60} ({error}). Fix it.") from error

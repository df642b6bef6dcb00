"""What a cell of the user's own table holds: text, numbers, JSON; and the error that names its row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from medstudy.data.readers.files import unrepeated
from medstudy.errors import DataError


class RowError(DataError):
    """What is wrong with one row: `problem` in two or three words, for a table, and the message in full."""

    def __init__(self, problem: str, message: str):
        super().__init__(message)
        self.problem = problem


def value(row: Mapping, name: str | None):
    """An entry of a row by its column, nested ones as "a.b"; None where there is none."""
    if name is None or name in row:
        return row.get(name)
    head, _, rest = name.partition(".")
    inner = row.get(head)
    return value(inner, rest) if rest and isinstance(inner, Mapping) else None


def text(content) -> str:
    """A cell as text, stripped; "" for null and NaN, and a whole number without a point. Raises RowError."""
    if content is None or (isinstance(content, float) and math.isnan(content)):
        return ""
    if isinstance(content, bool) or not isinstance(content, (str, int, float)):
        raise RowError("not a text", f"A cell must hold text or a number, got {content!r:.60}. Write it as text.")
    return str(int(content) if isinstance(content, float) and content.is_integer() else content).strip()


def filled(cell) -> bool:
    """Whether a cell holds anything; null, NaN and blank text do not."""
    return cell is not None and cell == cell and not (isinstance(cell, str) and not cell.strip())


def parsed(content: str) -> list | dict:
    """The JSON of a cell that begins with a bracket. Raises RowError for another text, or for a repeated key."""
    try:
        return json.loads(content, object_pairs_hook=unrepeated)
    except (ValueError, RecursionError) as error:
        raise RowError("not a list", f"A cell in brackets is JSON, got {content!r:.60} ({error}).") from error

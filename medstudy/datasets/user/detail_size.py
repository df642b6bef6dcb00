"""The size of the feature that decides a question, as the user's own table states it, in native pixels of its image."""

from __future__ import annotations

import math
from collections.abc import Mapping

from medstudy.data.readers.cells import RowError, filled, parsed, text, value

Box = tuple[float, float, float, float]  # x0, y0, x1, y1: pixels from the left and from the top


def read(row: Mapping, detail: str | None, box: str | tuple[str, ...] | None) -> tuple[float | None, Box | None]:
    """(detail_px, box) of a row; of a box the shorter side is the detail. (None, None): a coarse question.

    Raises RowError for what is no positive number, a box whose corners are not in order, and a row that has both.
    """
    cell = value(row, detail)
    stated = _positive(cell) if filled(cell) else None
    found = _box(row, box)
    if stated is not None and found:
        raise RowError("two sizes", f"A row states a detail or a box, but this one has {cell!r} and {found}.")
    if found:
        return min(found[2] - found[0], found[3] - found[1]), found
    return stated, None


def check(detail: float | None, box: Box | None, height: int, width: int) -> None:
    """Raise RowError for a box that is not inside an image, or a detail that is larger than its longer side."""
    if box and (box[2] > width or box[3] > height):
        raise RowError("box outside", f"A box lies in its image, but {box} is not in {width} x {height} (x, y) pixels.")
    if detail is not None and detail > max(height, width):
        raise RowError(
            "detail", f"A detail is a part of its image, but {detail:g} pixels do not fit into {width} x {height}."
        )


def _box(row: Mapping, names: str | tuple[str, ...] | None) -> Box | None:
    cells = [value(row, name) for name in names] if isinstance(names, tuple) else value(row, names)
    if isinstance(cells, str) and cells.strip():
        cells = parsed(cells) if cells.lstrip()[:1] in ("[", "{") else cells
    cells = list(cells) if isinstance(cells, tuple) else cells
    if not filled(cells) or (isinstance(cells, list) and not any(map(filled, cells))):
        return None
    if not isinstance(cells, list) or len(cells) != 4:
        raise RowError("box", f"A box is four numbers [x0, y0, x1, y1], got {cells!r:.60}. Write one box, or none.")
    x0, y0, x1, y1 = (_number(cell, "box") for cell in cells)
    if min(x0, y0) < 0:
        raise RowError("box outside", f"A box lies in its image, from 0, got {[x0, y0, x1, y1]}.")
    if x0 >= x1 or y0 >= y1:
        raise RowError("box", f"A box is [x0, y0, x1, y1] with x0 < x1 and y0 < y1, got {[x0, y0, x1, y1]}. Mend it.")
    return x0, y0, x1, y1


def _positive(cell) -> float:
    number = _number(cell, "detail")
    if number <= 0:
        raise RowError("detail", f"A detail is a size above 0 in pixels, got {cell!r}. Leave it empty for none.")
    return number


def _number(cell, what: str) -> float:
    try:
        number = float(text(cell))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RowError(what, f"A {what} is a number of pixels, got {cell!r:.40}. Write a number, or leave it empty.")
    return number

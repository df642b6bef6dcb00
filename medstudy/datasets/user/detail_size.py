"""The size of the feature that decides a question, as the user's table states it, in native pixels of its image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medstudy.data.readers.cells import RowError, filled, text, unpacked, value

Box = tuple[float, float, float, float]  # x0, y0, x1, y1: pixels from the left and from the top


def read(row: Mapping, detail: str | None, box: str | tuple[str, ...] | None) -> tuple[float | None, Box | None]:
    """(detail_px, box) of a row; the shorter side of a box is the detail. (None, None): a coarse question.

    Raises RowError for a detail that is not a positive number, for corners that are not in order, and for both at once.
    """
    cell = value(row, detail)
    stated = _number(cell, "detail") if filled(cell) else None
    if stated is not None and stated <= 0:
        raise RowError("detail", f"A detail must be above 0 pixels, got {cell!r}. Leave it empty if there is none.")
    corners = _box(row, box)
    if stated is not None and corners:
        raise RowError("two sizes", f"A row may have a detail or a box, but this has {cell!r} and {corners}. Drop one.")
    if corners:
        return min(corners[2] - corners[0], corners[3] - corners[1]), corners
    return stated, None


def spacing(cell: Any) -> float | None:
    """The size of a pixel in µm, None for an empty cell. Raises RowError unless it is a positive number."""
    if not filled(cell):
        return None
    if (size := _number(cell, "um_per_px")) <= 0:
        raise RowError("um_per_px", f"A pixel must be larger than 0 µm, got {cell!r}. Correct it, or leave it empty.")
    return size


def check(detail: float | None, box: Box | None, height: int, width: int) -> None:
    """Raise RowError for a box that is not inside an image, or a detail larger than its longer side."""
    if box and (box[2] > width or box[3] > height):
        raise RowError("box outside", f"A box must be inside its image, {width} x {height} (x, y), not {box}. Fix it.")
    if detail is not None and detail > max(height, width):
        raise RowError("detail", f"A detail must fit into its image, {width} x {height}, but is {detail:g} px. Fix it.")


def _box(row: Mapping, names: str | tuple[str, ...] | None) -> Box | None:
    cells = [value(row, name) for name in names] if isinstance(names, tuple) else unpacked(value(row, names))
    cells = list(cells) if isinstance(cells, tuple) else cells
    if not filled(cells) or (isinstance(cells, list) and not any(map(filled, cells))):
        return None
    if not isinstance(cells, list) or len(cells) != 4:
        raise RowError("box", f"A box must be four numbers [x0, y0, x1, y1], got {cells!r:.60}. Write one or none.")
    x0, y0, x1, y1 = (_number(cell, "box") for cell in cells)
    if min(x0, y0) < 0:
        raise RowError("box outside", f"A box must be inside its image, from 0, got {[x0, y0, x1, y1]}. Fix it.")
    if x0 >= x1 or y0 >= y1:
        raise RowError("box", f"A box [x0, y0, x1, y1] must have x0 < x1 and y0 < y1, got {[x0, y0, x1, y1]}. Fix it.")
    return x0, y0, x1, y1


def _number(cell: Any, role: str) -> float:
    try:
        number = float(text(cell))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RowError(role, f"A {role} must be a number of pixels, got {cell!r:.40}. Write one, or leave it empty.")
    return number

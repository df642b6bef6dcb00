"""Scores of answers that count, point or draw boxes, as columns; the rules are in `medstudy.data.located_scores`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medstudy.data import located_scores, places
from medstudy.errors import DataError
from medstudy.resolution.frames import Frame
from medstudy.resolution.sizes import Size
from medstudy.scoring.columns import frame, mapped, texts

METRICS = ("count_error", "within_one", "within_ten_pct", "point_hit", "point_f1", "iou", "box_f1")
NEEDED = ("height", "width", "shown_height", "shown_width", "coordinates", "frame")  # of a point or box


def count(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts: `strict` is 1 within 10 % of the reference."""
    each = mapped(located_scores.count, rows["raw_text"], rows["answer"])
    return frame(rows, strict=each[:, 0], count_error=each[:, 1], within_one=each[:, 2], within_ten_pct=each[:, 3],
                 unread=each[:, 4], chance=0.0)


def point(rows: pd.DataFrame) -> pd.DataFrame:
    """Points: `strict` is their F1."""
    each = _placed(located_scores.point, rows)
    return frame(rows, strict=each[:, 0], point_f1=each[:, 0], point_hit=each[:, 1], unread=each[:, 2], chance=0.0)


def box(rows: pd.DataFrame) -> pd.DataFrame:
    """Boxes: `strict` is their F1 at an IoU of 0.5."""
    each = _placed(located_scores.box, rows)
    return frame(rows, strict=each[:, 0], box_f1=each[:, 0], iou=each[:, 1], unread=each[:, 2], chance=0.0)


def average_precision(rows: pd.DataFrame) -> float:
    """AP at an IoU of 0.5 of all boxes of these rows of predictions or scores; NaN without any."""
    rows = rows[rows["kind"] == "box"]
    images = []
    for text, answer, convention, place in zip(*_columns(rows), strict=True):
        given = located_scores.boxes(text, convention, _frame(place)) or ()
        images.append((given, places.reference(answer, "box").items))
    return located_scores.average_precision(images)


def _placed(score: object, rows: pd.DataFrame) -> np.ndarray:
    def one(text: str, answer: str, convention: str, place: tuple[float, ...]) -> located_scores.Place:
        return score(text, answer, convention, _frame(place))

    return mapped(one, *_columns(rows))


def _columns(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series, list[tuple[float, ...]]]:
    """Answers, references, conventions, and (height, width, shown height, shown width, left, top, width, height)."""
    if missing := [name for name in NEEDED if name not in rows]:
        raise DataError(
            f"Points and boxes are read in the coordinates of what was shown, so predictions need the columns "
            f"{', '.join(NEEDED)}, but lack {', '.join(missing)}. Add them, or leave these questions out."
        )
    sizes = zip(*(rows[name] for name in NEEDED[:4]), strict=True)
    framed = [(*size, *_rectangle(value)) for size, value in zip(sizes, rows["frame"], strict=True)]
    return texts(rows["raw_text"]), texts(rows["answer"]), texts(rows["coordinates"]), framed


def _rectangle(value: Sequence[float] | None) -> tuple[float, ...]:
    """left, top, width, height of the image in what was shown; all 0 if nothing was."""
    return tuple(map(float, value)) if np.ndim(value) and len(value) == 4 else (0.0, 0.0, 0.0, 0.0)


def _frame(place: tuple[float, ...]) -> Frame:
    height, width, shown_height, shown_width, *rectangle = place
    return Frame(Size(int(height), int(width)), Size(int(shown_height), int(shown_width)), *rectangle)

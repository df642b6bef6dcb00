"""Scores of one answer that counts, points or draws a box: an answer and its reference in, numbers out.

The rules were fixed before any result was read. Each kind has one main score in [0, 1], the first number:

    count   within 10 % of the reference, so exact below 10
    point   F1 of the points, matched one to one within a radius (of one point: a hit or not)
    box     F1 of the boxes, matched one to one at an IoU of at least 0.5 (of one box: the accuracy at 0.5 of RefCOCO)

Matching is optimal (scipy's `linear_sum_assignment`), so the order of an answer does not matter. An answer that cannot
be read scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from medstudy.data import counts, places
from medstudy.data.coordinates import CONVENTIONS
from medstudy.data.final_answer import final
from medstudy.data.standard_scores import precision_recall_f1
from medstudy.resolution.frames import Frame
from medstudy.resolution.sizes import Size

RADIUS = 0.05  # of a point, as a share of the side of a square with the image's area
OVERLAP = 0.5  # IoU from which a box counts as found
SHARE = 0.1  # a count may be wrong by this share of the reference
NAN = float("nan")


class Count(NamedTuple):
    """score, and the absolute error (NaN of an answer that is not read), whether within 1 and within 10 %; unread."""

    score: float
    error: float
    within_one: float
    within_ten_pct: float
    unread: float


def count(prediction: str, answer: str) -> Count:
    """Scores of an answer that counts. Raises DataError for a reference that is not a whole number."""
    true, given = counts.reference(answer), counts.read(final(prediction).text)
    if given is None:
        return Count(0.0, NAN, 0.0, 0.0, 1.0)
    error = abs(given - true)
    near = float(error <= SHARE * true)
    return Count(near, float(error), float(error <= 1), near, 0.0)


class Place(NamedTuple):
    """score; the share of the reference's points or boxes that were found, or the mean IoU; unread."""

    score: float
    found: float
    unread: float


def point(prediction: str, answer: str, convention: str, frame: Frame) -> Place:
    """F1 and recall of the points of an answer. Raises DataError for a reference that is none."""
    true, given = places.reference(answer, "point"), _given("point", prediction, convention, frame)
    if given is None:
        return Place(0.0, 0.0, 1.0)
    radius = true.radius or radius_of(frame.native)
    if not true.items or not given:
        both_none = float(not true.items and not given)
        return Place(both_none, both_none, 0.0)
    apart = np.linalg.norm(np.array(given)[:, None] - np.array(true.items), axis=2)
    found = matched((apart <= radius).astype(float))
    return Place(precision_recall_f1(found, len(given), len(true.items))[2], found / len(true.items), 0.0)


def radius_of(native: Size) -> float:
    """How far from a point an answer may lie, in native pixels, if the reference states nothing."""
    return RADIUS * sqrt(native.pixels)


def box(prediction: str, answer: str, convention: str, frame: Frame) -> Place:
    """F1 at an IoU of 0.5, and the mean IoU of the reference's boxes. Raises DataError for a reference that is none."""
    true, given = places.reference(answer, "box").items, boxes(prediction, convention, frame)
    if given is None:
        return Place(0.0, 0.0, 1.0)
    if not true or not given:
        both_none = float(not true and not given)
        return Place(both_none, both_none, 0.0)
    overlaps = np.array([[iou(one, other) for other in true] for one in given])
    found = matched((overlaps >= OVERLAP).astype(float))
    rows, columns = linear_sum_assignment(-overlaps)
    mean = float(overlaps[rows, columns].sum()) / len(true)
    return Place(precision_recall_f1(found, len(given), len(true))[2], mean, 0.0)


def boxes(prediction: str, convention: str, frame: Frame) -> tuple[tuple[float, ...], ...] | None:
    """The boxes of an answer in native pixels; None if it cannot be read."""
    return _given("box", prediction, convention, frame)


def _given(kind: str, prediction: str, convention: str, frame: Frame) -> tuple[tuple[float, ...], ...] | None:
    if convention not in CONVENTIONS:
        return None
    return CONVENTIONS[convention].read(kind, final(prediction).text, frame)


def matched(allowed: np.ndarray) -> int:
    """The most pairs that can be matched one to one. allowed [given, true]: 1 where two may be a pair, else 0."""
    rows, columns = linear_sum_assignment(-allowed)
    return int(allowed[rows, columns].sum())


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1); a box without area has none."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def average_precision(images: Sequence[tuple[Sequence, Sequence]], overlap: float = OVERLAP) -> float:
    """AP of a set of images, each (boxes of the answer, boxes of the reference), at one IoU; NaN without references.

    A text has no confidences. The place of a box in its answer stands for them: the first boxes of all images come
    first, then all second ones, and boxes of one place are one step of the curve, so that no order of images is
    preferred. A box is right if it is matched, greedily in that order, to a reference that is still free. The area is
    under the precision that is made to fall (PASCAL VOC since 2010, all points).
    """
    total = sum(len(true) for _, true in images)
    if not total:
        return NAN
    right, wrong, curve = 0, 0, []
    free = [list(true) for _, true in images]
    for place in range(max(len(given) for given, _ in images)):
        for index, (given, _) in enumerate(images):
            if place < len(given):
                best = max(free[index], key=lambda other: iou(given[place], other), default=None)  # noqa: B023
                if best is not None and iou(given[place], best) >= overlap:
                    free[index].remove(best)
                    right += 1
                else:
                    wrong += 1
        curve.append((right / total, right / (right + wrong)))
    recalls = [0.0, *(recall for recall, _ in curve)]
    precisions = [max(precision for _, precision in curve[step:]) for step in range(len(curve))]
    steps = zip(recalls, recalls[1:], precisions, strict=False)
    return float(sum((after - before) * precision for before, after, precision in steps))

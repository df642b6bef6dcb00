"""Points and boxes in texts: references in native pixels, and the shapes in which models write them.

A reference is JSON: [[x, y], …] for points, [[x0, y0, x1, y1], …] for boxes, in native pixels from the upper left
corner of the image; a single one may stand without the outer brackets. {"points": [[x, y]], "radius": 12} states how
far from a point an answer may lie, in native pixels.

`SHAPES` lists what is read in a model's answer; the first shape with anything in it counts. What the numbers mean is
said by `medstudy.data.coordinates`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from medstudy.data.example import Question
from medstudy.errors import DataError

KINDS = {"point": 2, "box": 4}  # how many numbers one has
Item = tuple[float, ...]


class Reference(NamedTuple):
    """Points or boxes in native pixels; the radius of points, None for the usual one."""

    items: tuple[Item, ...]
    radius: float | None = None


def reference(text: str, kind: str) -> Reference:
    """The points or boxes of a reference. Raises DataError naming what arrived."""
    count = KINDS[kind]
    form = "[x, y]" if kind == "point" else "[x0, y0, x1, y1]"
    wrong = DataError(
        f"The reference of a {kind} is a JSON list of {form} in native pixels, as [{form}], got {text!r:.80}. Write it "
        "so."
    )
    try:
        content = json.loads(text)
    except ValueError:
        raise wrong from None
    radius = None
    if isinstance(content, dict) and kind == "point" and set(content) <= {"points", "radius"} and "points" in content:
        content, radius = content["points"], content.get("radius")
        if radius is not None and not (_number(radius) and radius > 0):
            raise wrong
    if not isinstance(content, list):
        raise wrong
    items = [content] if content and all(map(_number, content)) else content
    if not all(isinstance(item, list) and len(item) == count and all(map(_number, item)) for item in items):
        raise wrong
    if kind == "box" and any(item[0] >= item[2] or item[1] >= item[3] for item in items):
        raise DataError(f"A box [x0, y0, x1, y1] must have x0 < x1 and y0 < y1, got {text!r:.80}. Correct it.")
    return Reference(tuple(tuple(map(float, item)) for item in items), radius)


def check_question(question: Question, height: int, width: int) -> None:
    """Raise DataError for a point or box that lies outside its image; nothing for questions of other kinds."""
    if question.kind not in KINDS:
        return
    for item in reference(question.answer, question.kind).items:
        if min(item) < 0 or max(item[::2]) > width or max(item[1::2]) > height:
            raise DataError(
                f"A {question.kind} must lie in its image, {width} x {height} (x, y), but the reference "
                f"{question.answer!r:.80} of {question.id!r} does not. Write it in native pixels."
            )


def written(items: Iterator[Item] | list[Item], radius: float | None = None) -> str:
    """Points or boxes as the text of a reference, to a tenth of a pixel."""
    listed = [[round(float(number), 1) for number in item] for item in items]
    return json.dumps(listed if radius is None else {"points": listed, "radius": radius})


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# Shapes in answers

_N = r"\s*(-?\d+(?:\.\d+)?)\s*"
_PAIRS = re.compile(rf"\({_N},{_N}\)\s*,\s*\({_N},{_N}\)")
_QUADRUPLE = re.compile(rf"[\[(]{_N},{_N},{_N},{_N}[\])]")
_PAIR = re.compile(rf"[\[(]{_N},{_N}[\])]")
_LOC = re.compile(r"<loc(\d{4})>")
_LOCS = re.compile(r"(?:<loc\d{4}>\s*)+")
_TAG = re.compile(r"<points?\s[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\b([xy])(\d*)\s*=\s*[\"']?(-?\d+(?:\.\d+)?)")
_OBJECT = re.compile(r"\{[^{}]*\}")
_KEYS = {"box": ("bbox_2d", "bbox", "box_2d", "box", "bounding_box"), "point": ("point_2d", "point", "coordinates")}
_AXES = {"box": (("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax")),
         "point": (("x", "y"),)}
NONE = re.compile(r"\A\W*(?:\[\s*\]|none|nothing|no|n/a|无|没有|there (?:is|are) (?:none|no\b[\w\s]*))\W*\Z",
                  re.IGNORECASE)


def read(text: str, kind: str, y_first: bool = False) -> tuple[Item, ...] | None:
    """The numbers of the points or boxes in an answer, in the order that is usual for its model; None if it has none.

    An answer that says that there are none, as "[]", has an empty tuple. y_first: whether y is written before x; where
    a shape names the axes, as {"x": 1, "y": 2} does, the numbers are put into that order.
    """
    for shape, named in SHAPES[kind]:
        if items := tuple(dict.fromkeys(shape(text))):
            return tuple(map(_swapped, items)) if named and y_first else items
    return () if NONE.match(text) else None


def _swapped(item: Item) -> Item:
    """x and y of each pair in the other order."""
    return tuple(number for pair in zip(item[1::2], item[::2], strict=True) for number in pair)


def _objects(text: str) -> Iterator[dict]:
    """The JSON objects in a text, those in lists and blocks of code too."""
    for match in _OBJECT.finditer(text):
        try:
            yield json.loads(match[0])
        except ValueError:
            continue


def _json(kind: str) -> Callable[[str], Iterator[Item]]:
    """{"bbox_2d": [1, 2, 3, 4]}."""

    def shape(text: str) -> Iterator[Item]:
        for content in _objects(text):
            value = next((content[key] for key in _KEYS[kind] if key in content), None)
            items = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
            yield from (tuple(map(float, item)) for item in items
                        if isinstance(item, list) and len(item) == KINDS[kind] and all(map(_number, item)))

    return shape


def _named(kind: str) -> Callable[[str], Iterator[Item]]:
    """{"x": 1, "y": 2}, {"x1": 1, "y1": 2, "x2": 3, "y2": 4}."""

    def shape(text: str) -> Iterator[Item]:
        for content in _objects(text):
            names = next((names for names in _AXES[kind] if all(_number(content.get(name)) for name in names)), ())
            if names:
                yield tuple(float(content[name]) for name in names)

    return shape


def _tokens(kind: str) -> Callable[[str], Iterator[Item]]:
    """<loc0010><loc0020>…, as PaliGemma writes them: as many tokens in a run as a point or box has numbers."""

    def shape(text: str) -> Iterator[Item]:
        for run in _LOCS.findall(text):
            numbers = list(map(float, _LOC.findall(run)))
            if len(numbers) == KINDS[kind]:
                yield tuple(numbers)

    return shape


def _tags(text: str) -> Iterator[Item]:
    """<point x="1" y="2" alt="a cell"> and <points x1="1" y1="2" x2="3" y2="4">, as Molmo writes them."""
    for tag in _TAG.findall(text):
        found: dict[str, dict[str, float]] = {}
        for axis, number, value in _ATTRIBUTE.findall(tag):
            found.setdefault(number, {})[axis] = float(value)
        yield from ((each["x"], each["y"]) for each in found.values() if len(each) == 2)


def _matches(pattern: re.Pattern) -> Callable[[str], Iterator[Item]]:
    def shape(text: str) -> Iterator[Item]:
        yield from (tuple(map(float, numbers)) for numbers in pattern.findall(text))

    return shape


def _alone(text: str) -> Iterator[Item]:
    """(1, 2), [1, 2]; not the corners of a box that is marked as one."""
    if "<|box_start|>" not in text:
        yield from _matches(_PAIR)(text)


Shape = tuple[Callable[[str], Iterator[Item]], bool]  # the bool: whether it names its axes
SHAPES: dict[str, tuple[Shape, ...]] = {
    "box": ((_json("box"), False), (_named("box"), True), (_tokens("box"), False), (_matches(_PAIRS), False),
            (_matches(_QUADRUPLE), False)),
    "point": ((_json("point"), False), (_named("point"), True), (_tokens("point"), False), (_tags, True),
              (_alone, False)),
}

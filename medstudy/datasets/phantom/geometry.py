"""Geometry: figures as in Geoperception (arXiv 2412.08737), with colours in place of letters. Off by default.

Not medical. Each quadrant has a figure: two lines side by side, an angle, a circle with a point, a line with marks.
Fine: which line is longer, whether the angle is acute, whether the point is on the circle, how many marks there are.
Each is decided by a distance in pixels: how far one line ends beyond the other, an arm leans, the point is from the
circle, marks are apart. Coarse: the circle's colour and place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from medstudy.data import formats
from medstudy.data.example import Question
from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.drawing import QUADRANTS, Array
from medstudy.datasets.phantom.locate import Marks

PAPER = 236.0  # grey value
INKS = {"black": (30, 30, 30), "blue": (30, 60, 200), "green": (20, 130, 50), "red": (205, 40, 40)}
WIDTH, DOT = 1.8, 5.0  # px: of a line, of a point


@dataclass(frozen=True)
class Figure:
    """What a sheet shows. Sizes in native pixels; each is drawn whether or not it decides."""

    shape: tuple[int, int]
    places: tuple[str, str, str, str]  # of the lines, the angle, the circle, the marks
    longer: str  # "blue" | "red"
    longer_px: float
    acute: bool
    lean_px: float
    on: bool
    gap_px: float
    marks: int  # 1 | 2
    apart_px: float
    colour: str  # the circle's
    modality: str = "drawing"
    anatomy: str = "none"

    def questions(self) -> tuple[Question, ...]:
        worded, marks = formats.worded, ("one", "two")
        return (
            worded("longer", "Which line is longer?", self.longer, ("blue", "red"), "line comparison", self.longer_px),
            worded("angle", "Which kind of angle is shown?", "acute" if self.acute else "obtuse", ("acute", "obtuse"),
                   "angle classification", self.lean_px),
            Question.closed("on", "Is the point on the circle?", self.on, "point on circle", self.gap_px),
            worded("marks", "How many marks does the green line have?", marks[self.marks - 1], marks, "marks",
                   self.apart_px),
            worded("colour", "What colour is the circle?", self.colour, tuple(INKS), "circle colour"),
            worded("where", "Where is the circle?", self.places[2], QUADRANTS, "circle location"),
        )

    def render(self, rng: Generator, marks: Marks | None = None) -> Array:  # nothing here is counted or pointed at
        return draw(self, rng)


def plan(rng: Generator) -> Figure:
    """Draw what a sheet shows: every answer is equally likely and independent of all sizes."""
    flip = lambda: bool(rng.random() < 0.5)  # noqa: E731
    return Figure(
        shape=drawing.sides(rng, 308, 448, (0.8, 1.25)),
        places=tuple(QUADRANTS[place] for place in rng.permutation(4)),
        longer=drawing.choose(rng, ("blue", "red")), longer_px=drawing.log_uniform(rng, 2, 20),
        acute=flip(), lean_px=drawing.log_uniform(rng, 2, 20),
        on=flip(), gap_px=drawing.log_uniform(rng, 2, 16),
        marks=1 + flip(), apart_px=drawing.log_uniform(rng, 2, 14),
        colour=drawing.choose(rng, tuple(INKS)),
    )


def draw(figure: Figure, rng: Generator) -> Array:
    """The sheet, uint8 [h, w, 3]: thin coloured ink on paper with a little grain."""
    sheet = np.full((*figure.shape, 3), PAPER, np.float32)
    for part, place in zip((_lines, _angle, _circle, _marks), figure.places, strict=True):
        y, x = _centre(figure.shape, place)
        for ink, cover in part(figure, y, x, drawing.aside(rng)):
            sheet += np.clip(cover, 0, 1)[..., None] * (np.array(INKS[ink], np.float32) - sheet)
    return drawing.to_rgb(sheet, rng, 2.0)


def _centre(shape: tuple[int, int], quadrant: str) -> tuple[float, float]:
    row, column = quadrant.split()
    return shape[0] * (0.26 if row == "upper" else 0.74), shape[1] * (0.26 if column == "left" else 0.74)


def _stroke(shape: tuple[int, int], *ends: tuple[float, float]) -> Array:
    """Straight lines from each (y, x) to the next."""
    runs = []
    for (y0, x0), (y1, x1) in zip(ends[:-1], ends[1:], strict=True):
        count = int(np.hypot(y1 - y0, x1 - x0)) + 1
        runs.append(np.linspace((y0, x0), (y1, x1), count, endpoint=False))
    y, x = np.concatenate(runs).T
    return drawing.lines(shape, y, x, WIDTH)


def _lines(figure: Figure, y: float, x: float, rng: Generator) -> list[tuple[str, Array]]:
    """Two parallel lines that begin side by side, one above the other in random order."""
    reach, start = rng.uniform(36, 44), x - rng.uniform(30, 38)
    step = rng.choice((-9.0, 9.0))
    ends = {ink: reach + start + 34 + figure.longer_px * (ink == figure.longer) for ink in ("blue", "red")}
    return [(ink, _stroke(figure.shape, (y + side * step, start), (y + side * step, end)))
            for side, (ink, end) in zip((-1, 1), ends.items(), strict=True)]


def _angle(figure: Figure, y: float, x: float, rng: Generator) -> list[tuple[str, Array]]:
    """A level arm, and one whose end leans from the upright by `lean_px`: towards the level arm if acute."""
    length, right = rng.uniform(52, 60), rng.choice((-1.0, 1.0))
    lean = right * figure.lean_px * (1 if figure.acute else -1)
    base, corner = y + length / 2, x - right * length / 2
    ends = (base, corner + right * length), (base, corner), (base - length, corner + lean)
    return [("black", _stroke(figure.shape, *ends))]


def _circle(figure: Figure, y: float, x: float, rng: Generator) -> list[tuple[str, Array]]:
    """A circle, and a black point: on it, or inside with `gap_px` of paper in between."""
    radius, turn = rng.uniform(32, 40), rng.uniform(0, 2 * np.pi)
    around = np.linspace(0, 2 * np.pi, int(2 * np.pi * radius), endpoint=False)
    line = drawing.lines(figure.shape, y + radius * np.sin(around), x + radius * np.cos(around), WIDTH)
    far = radius - (0 if figure.on else figure.gap_px + (DOT + WIDTH) / 2)
    point = drawing.spots(np.zeros(figure.shape, np.float32), np.array([y + far * np.sin(turn)]),
                          np.array([x + far * np.cos(turn)]), DOT)
    return [(figure.colour, line), ("black", point)]


def _marks(figure: Figure, y: float, x: float, rng: Generator) -> list[tuple[str, Array]]:
    """A level line with two upright marks, `apart_px` of paper in between, or one that is as wide as both together."""
    at, half = x + rng.uniform(-12, 12), (WIDTH + figure.apart_px * (figure.marks == 2)) / 2
    marks = sum(_stroke(figure.shape, (y - 9, at + side * half), (y + 9, at + side * half)) for side in (-1, 1))
    return [("green", _stroke(figure.shape, (y, x - 40), (y, x + 40))), ("green", marks)]

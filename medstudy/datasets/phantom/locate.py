"""Questions of the phantom that count, point and draw boxes: a condition of its own, asked if the params say `locate`.

Their references are the places where a feature was drawn, in native pixels, so resolution should matter most here: a
model that can name a finding at a low resolution may not be able to find or count it. Drawing notes the places in
`Marks`; that uses no random numbers, so the images are the same. From the same marks come the boxes of the details that
decide the other questions (`boxed`), which `boxes` adds to them. Like all other questions these have the size of the
feature as `detail_px`; the mass of a mammogram is large and a coarse control.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medstudy.data import known, places
from medstudy.data.example import Question


@dataclass
class Marks:
    """Where features were drawn: name -> [n, 3] x, y and diameter in native pixels, of those centred in the image.

    details: for the id of a question, x0, y0, x1, y1 of the detail that decides it, whether or not it is present.
    """

    shape: tuple[int, int]
    found: dict[str, np.ndarray] = field(default_factory=dict)
    details: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)

    def decides(self, questions: Sequence[str], y: float, x: float, reach: float) -> None:
        """Note a detail that reaches `reach` pixels from its centre, in place of an earlier one of these questions."""
        corners = float(x) - reach, float(y) - reach, float(x) + reach, float(y) + reach
        self.details |= dict.fromkeys(questions, corners)

    def note(self, name: str, y: np.ndarray | float, x: np.ndarray | float, diameter: np.ndarray | float) -> None:
        """Add features, by the indices of the pixels at their centres."""
        y, x, diameter = np.broadcast_arrays(*map(np.atleast_1d, (y, x, diameter)))
        new = np.stack([x + 0.5, y + 0.5, diameter], 1).astype(float)
        height, width = self.shape
        inside = (new[:, 0] > 0) & (new[:, 0] < width) & (new[:, 1] > 0) & (new[:, 1] < height)
        self.found[name] = np.concatenate([self.found.get(name, np.empty((0, 3))), new[inside]])

    def points(self, name: str) -> str:
        """The centres, as a reference."""
        return places.written([(x, y) for x, y, _ in self.found[name]])

    def box(self, name: str) -> str:
        """The box around all of them, cut at the border, as a reference."""
        x, y, diameter = self.found[name].T
        height, width = self.shape
        corners = (max(0, (x - diameter / 2).min()), max(0, (y - diameter / 2).min()),
                   min(width, (x + diameter / 2).max()), min(height, (y + diameter / 2).max()))
        return places.written([corners])


@dataclass(frozen=True)
class Feature:
    """What is asked about a feature: the text of each kind of question, and whether the feature is coarse."""

    texts: dict[str, str]
    coarse: bool = False


FEATURES = {
    "nodule": Feature({
        "count": "How many nodules are in the lungs?", "point": "Point to the center of each nodule in the lungs.",
        "box": "Draw a box around the group of nodules.",
    }),
    "calcification": Feature({"box": "Draw a box around the cluster of microcalcifications."}),
    "mass": Feature({"box": "Draw a box around the mass, without its spicules."}, coarse=True),
    "mitosis": Feature({
        "count": "How many mitotic figures are there?", "point": "Point to the center of each mitotic figure.",
    }),
    "nucleus": Feature({"count": "How many cell nuclei have their center in the image?"}),
    "cell": Feature({
        "count": "How many squamous cells are there?", "point": "Point to the center of the nucleus of each cell.",
        "box": "Draw a box around the nucleus.",
    }),
}


def boxed(questions: Sequence[Question], marks: Marks) -> tuple[Question, ...]:
    """The questions with the boxes of their details; those by letter have the box of those in words."""
    names = (question.id.removesuffix(f"_{question.format}") for question in questions)
    return tuple(
        replace(question, box=known.inside(marks.details[name], *marks.shape)) if name in marks.details else question
        for question, name in zip(questions, names, strict=True)
    )


def questions(marks: Marks) -> Iterator[Question]:
    """The questions about the features of one image. A box around one nucleus is asked for only where there is one."""
    for name, rows in marks.found.items():
        if not len(rows):
            continue
        feature = FEATURES[name]
        detail = None if feature.coarse else round(float(np.median(rows[:, 2])), 2)
        answers = {"count": str(len(rows)), "point": marks.points(name), "box": marks.box(name)}
        for kind, text in feature.texts.items():
            if kind != "box" or name != "cell" or len(rows) == 1:
                yield Question(f"{name}_{kind}", text, answers[kind], kind, f"{name} {kind}", detail_px=detail)

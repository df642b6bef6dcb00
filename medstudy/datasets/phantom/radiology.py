"""Radiology: chest films (lungs, ribs, heart on anatomical noise) and mammograms (parenchyma with 1/f^3 noise).

Fine: nodules, interstitial mesh; microcalcifications, spiculated margins. Coarse: heart, effusion; side, density.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from medstudy.datasets.phantom import chest, mammogram, noise
from medstudy.records import Question

QUADRANTS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class Chest:
    """What one chest film shows. Sizes in native pixels; each is drawn whether or not the feature is present."""

    shape: tuple[int, int]
    nodules: bool
    nodule_px: float
    quadrant: str
    mesh: bool
    mesh_px: float
    enlarged: bool
    effusion: str  # "left" | "right" (of the image) | "" when there is none
    modality: str = "x-ray"
    anatomy: str = "chest"

    def questions(self) -> tuple[Question, ...]:
        asked = [
            _closed("nodule", "Is there a nodule in the lung?", self.nodules, self.nodule_px),
            _closed("mesh", "Is there a reticular pattern in the lungs?", self.mesh, self.mesh_px, "reticulation"),
            _closed("heart", "Is the heart enlarged?", self.enlarged),
            _closed("effusion", "Is there a pleural effusion?", bool(self.effusion)),
            Question("region", "What part of the body is shown?", "chest", "open", "body part"),
        ]
        if self.nodules:
            where = ("nodule_where", "Where is the nodule?", self.quadrant, "open", "nodule location")
            asked.insert(1, Question(*where, detail_px=self.nodule_px))
        return tuple(asked)

    def render(self, rng: Generator) -> noise.Array:
        return chest.draw(self, rng)


@dataclass(frozen=True)
class Mammogram:
    """What one mammogram shows. Sizes in native pixels; each is drawn whether or not the feature is present."""

    shape: tuple[int, int]
    calcifications: bool
    calcification_px: float
    quadrant: str
    spiculated: bool
    spicule_px: float
    mass_quadrant: str
    points: str  # "left" | "right"
    dense: bool
    modality: str = "x-ray"
    anatomy: str = "breast"

    def questions(self) -> tuple[Question, ...]:
        asked = [
            _closed(
                "calc",
                "Are there microcalcifications?",
                self.calcifications,
                self.calcification_px,
                "calcification",
            ),
            _closed(
                "margin",
                "Is the margin of the mass spiculated?",
                self.spiculated,
                self.spicule_px,
                "mass margin",
            ),
            Question("side", "Which side does the breast point to?", self.points, "open", "side"),
            _closed("density", "Is the breast dense?", self.dense, task="breast density"),
            Question("region", "What part of the body is shown?", "breast", "open", "body part"),
        ]
        if self.calcifications:
            where = (
                "calc_where",
                "Where are the microcalcifications?",
                self.quadrant,
                "open",
                "calcification location",
            )
            asked.insert(1, Question(*where, detail_px=self.calcification_px))
        return tuple(asked)

    def render(self, rng: Generator) -> noise.Array:
        return mammogram.draw(self, rng)


def _closed(name: str, text: str, present: bool, detail: float | None = None, task: str = "") -> Question:
    return Question(name, text, "yes" if present else "no", "closed", task or name, detail_px=detail)


def plan(rng: Generator) -> Chest | Mammogram:
    """Decide what an image shows; every answer is a fair draw and independent of every size."""
    flip = lambda: bool(rng.random() < 0.5)  # noqa: E731
    if flip():
        return Chest(
            shape=noise.sides(rng, 308, 448, (0.8, 1.25)),
            nodules=flip(),
            nodule_px=noise.log_uniform(rng, 2, 24),
            quadrant=noise.choose(rng, QUADRANTS),
            mesh=flip(),
            mesh_px=noise.log_uniform(rng, 2, 16),
            enlarged=flip(),
            effusion=noise.choose(rng, ("left", "right", "", "")),
        )
    shape = noise.sides(rng, 308, 448, (0.7, 0.95))
    calcification, mass = rng.permutation(4)[:2]
    return Mammogram(
        shape=shape,
        calcifications=flip(),
        calcification_px=noise.log_uniform(rng, 2, 18),
        quadrant=QUADRANTS[calcification],
        spiculated=flip(),
        spicule_px=noise.log_uniform(rng, 2, 10),
        mass_quadrant=QUADRANTS[mass],
        points=noise.choose(rng, ("left", "right")),
        dense=flip(),
    )

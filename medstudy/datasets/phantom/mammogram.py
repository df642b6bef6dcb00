"""Draws a mammogram: breast outline, parenchyma with 1/f^3 noise, a mass, microcalcifications."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from medstudy.data import formats
from medstudy.data.example import Question
from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.drawing import Array, cover, step
from medstudy.datasets.phantom.locate import Marks

HAZE = 3.0  # an absent small feature leaves its sum, this much wider, so brightness reveals nothing


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
        closed, grain, spicule = Question.closed, self.calcification_px, self.spicule_px
        where = formats.worded("calc_where", "Where are the microcalcifications?", self.quadrant, drawing.QUADRANTS,
                               "calcification location", grain)
        return (
            closed("calc", "Are there microcalcifications?", self.calcifications, "calcification", grain),
            *([where] if self.calcifications else []),
            closed("margin", "Is the margin of the mass spiculated?", self.spiculated, "mass margin", spicule),
            formats.worded("side", "Which side does the breast point to?", self.points, ("left", "right"), "side"),
            closed("density", "Is the breast dense?", self.dense, "breast density"),
            Question("region", "What part of the body is shown?", "breast", "open", "body part"),
        )

    def render(self, rng: Generator, marks: Marks | None = None) -> Array:
        return draw(self, rng, marks)


def draw(scene: Mammogram, rng: Generator, marks: Marks | None = None) -> Array:
    """One view of a breast, uint8 [h, w, 3]; drawn pointing right, then mirrored with its quadrants."""
    height, width = scene.shape
    mirror = scene.points == "left"
    y, x = (g.astype(np.float32) for g in np.ogrid[:height, :width])
    v, u = y / height, x / width  # u: 0 at the chest wall
    depth, middle = rng.uniform(0.84, 0.92), rng.uniform(0.5, 0.56)
    profile = np.sqrt(np.clip(1 - (np.abs(v - middle) / 0.50) ** 2.3, 0, 1)) * depth
    profile = profile + 0.025 * np.exp(-(((v - middle) / 0.022) ** 2))  # nipple
    inside = (profile - u + 0.006 * drawing.smooth_noise(rng, scene.shape, 30)) * width  # pixels from the skin
    breast = cover(-inside, 2.5)
    thickness = 1 - np.exp(-np.clip(inside, 0, None) / (0.07 * width))
    film = 8 + breast * (16 + 52 * thickness)
    film += breast * (14 * np.exp(-(((inside - 3) / 2.2) ** 2)))  # skin line
    film += breast * thickness * _parenchyma(scene, u, v, middle, depth, rng)
    pectoral = step(0.34 * (1 - v / 0.55) - u, 0.02)
    film += breast * pectoral * np.maximum(150 - film, 0) * 0.8
    room = breast * thickness * (1 - pectoral) * (inside > 28)
    film += _mass(scene, room, mirror, rng, marks) + _calcifications(scene, room, mirror, drawing.aside(rng), marks)
    return drawing.to_rgb(film[:, ::-1] if mirror else film, rng, 2.0)


def _parenchyma(scene: Mammogram, u: Array, v: Array, middle: float, depth: float, rng: Generator) -> Array:
    """Glandular tissue behind the nipple, broken up by 1/f^3 noise, and ligaments that run through the fat."""
    rough = drawing.power_noise(rng, scene.shape, 3)
    cone = 1.15 - np.hypot((u - 0.50 * depth) / (0.44 * depth), (v - middle) / 0.34)
    gland = step(cone + 0.30 * rough - (0.05 if scene.dense else 0.35), 0.75)
    strings = drawing.fibre_noise(rng, scene.shape, 4, 18, rng.normal(0, 0.3))
    ridges = drawing.warp(np.exp(-((strings / 0.6) ** 2)), 14 * rough, 14 * drawing.smooth_noise(rng, scene.shape, 40))
    texture = 6 * rough + (5 + 9 * gland) * (ridges - 0.45)
    return (80 if scene.dense else 34) * gland + texture


def _flip(quadrant: str, mirror: bool) -> str:
    """The quadrant before the image is mirrored."""
    row, column = quadrant.split()
    return f"{row} {'left' if (column == 'left') != mirror else 'right'}"


def _seen(scene: Mammogram, x: float, mirror: bool) -> float:
    """A place in the image that is drawn, where it is seen."""
    return scene.shape[1] - 1 - x if mirror else x


def _noted(
    marks: Marks | None, name: str, y: Array | float, x: Array | float, size: Array | float, mirror: bool
) -> None:
    """Note features at their places in the image, which may be mirrored."""
    if marks:
        marks.note(name, y, marks.shape[1] - 1 - x if mirror else x, size)


def _mass(scene: Mammogram, room: Array, mirror: bool, rng: Generator, marks: Marks | None) -> Array:
    """A round mass with spicules of uneven length, or with a halo of the same sum."""
    radius, d = rng.uniform(13, 20), scene.spicule_px
    y, x = drawing.place(rng, room, 8, _flip(scene.mass_quadrant, mirror), radius + 10)
    _noted(marks, "mass", y, x, 2 * radius, mirror)
    if marks:
        marks.decides(("margin",), y, _seen(scene, x, mirror), 2.4 * radius)
    stamps = drawing.Stamps(np.array([y]), np.array([x]), 2.4 * radius + 4)
    outline = radius, radius * rng.uniform(0.85, 1), rng.uniform(0, np.pi), drawing.lumpy(rng, 1, radius, 0.05)
    core = step(-stamps.ellipse(*outline), 4)
    r, theta = np.hypot(stamps.dy, stamps.dx), np.arctan2(stamps.dy, stamps.dx)
    n = max(7, int(2 * np.pi * radius * 1.2 / (2.4 * d)))
    phase = (theta * n + 0.9 * np.sin(theta * 3 + rng.uniform(0, 6)) + rng.uniform(0, 6)) / (2 * np.pi)
    reach = radius * rng.uniform(1.7, 2.4, n)[np.round(phase).astype(int) % n]
    across = np.abs(phase - np.round(phase)) * 2 * np.pi * r / n  # pixels from the axis of the nearest spicule
    spicules = 0.85 * cover(across - d / 2 * np.clip((reach - r) / (reach - radius), 0, 1)) * (r < reach)
    around = spicules * (core < 0.5)
    if not scene.spiculated:
        halo = np.exp(-np.clip(r - radius, 0, None) / (0.35 * radius)) * (core < 0.5)
        around = halo * (around.sum() / halo.sum())
    return 46 * stamps.paste(np.zeros(scene.shape, np.float32), np.maximum(core, around))


def _calcifications(scene: Mammogram, room: Array, mirror: bool, rng: Generator, marks: Marks | None) -> Array:
    """A cluster of angular grains of one size; absent, the same sum as a haze."""
    d = scene.calcification_px
    n, spread = int(rng.integers(7, 13)), 5 + 1.9 * d
    y, x = drawing.place(rng, room, 6, _flip(scene.quadrant, mirror), spread + 8)
    if marks:
        marks.decides(("calc", "calc_where"), y, _seen(scene, x, mirror), spread + d)
    angle, r = rng.uniform(0, 2 * np.pi, n), spread * np.sqrt((np.arange(n) + 0.5) / n)
    y, x, size = y + r * np.sin(angle), x + r * np.cos(angle), d * rng.uniform(0.85, 1.2, n)
    weight = (60 + 50 / d) * rng.uniform(0.8, 1.1, n)
    layer = np.zeros(scene.shape, np.float32)
    if not scene.calcifications:
        return drawing.spots(layer, y, x, size, weight, HAZE)
    _noted(marks, "calcification", y, x, size, mirror)
    stamps = drawing.Stamps(y, x, 0.9 * d)
    slim, waves = rng.uniform(1, 1.25, n), drawing.lumpy(rng, n, size / 2, 0.16, (2, 3))
    grains = cover(stamps.ellipse(size / 2 * slim, size / 2 / slim, rng.uniform(0, np.pi, n), waves), 1.3)
    return stamps.paste(layer, weight[:, None, None].astype(np.float32) * grains, np.maximum)

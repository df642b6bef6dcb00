"""Draws a frontal chest film: lungs, ribs, heart and vessels on anatomical noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from medstudy.data import formats
from medstudy.data.example import Question
from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.drawing import Array, step
from medstudy.datasets.phantom.locate import Marks

HAZE = 3.0  # an absent small feature leaves its sum, this much wider, so brightness reveals nothing


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
        closed, nodule, mesh = Question.closed, self.nodule_px, self.mesh_px
        where = formats.worded("nodule_where", "Where is the nodule?", self.quadrant, drawing.QUADRANTS,
                               "nodule location", nodule)
        return (
            closed("nodule", "Is there a nodule in the lung?", self.nodules, "nodule", nodule),
            *([where] if self.nodules else []),
            closed("mesh", "Is there a reticular pattern in the lungs?", self.mesh, "reticulation", mesh),
            closed("heart", "Is the heart enlarged?", self.enlarged, "heart"),
            closed("effusion", "Is there a pleural effusion?", bool(self.effusion), "effusion"),
            Question("region", "What part of the body is shown?", "chest", "open", "body part"),
        )

    def render(self, rng: Generator, marks: Marks | None = None) -> Array:
        return draw(self, rng, marks)


def draw(scene: Chest, rng: Generator, marks: Marks | None = None) -> Array:
    """A frontal chest film, uint8 [h, w, 3]."""
    height, width = scene.shape
    y, x = (g.astype(np.float32) for g in np.ogrid[:height, :width])
    tilt = rng.normal(0, 0.02)
    v = y / height
    u = (x - width / 2) / (width / 2) + tilt * (v - 0.5)
    sway = drawing.smooth_noise(rng, scene.shape, 40) * 0.012
    u, v = u + sway, v + 0.5 * sway
    lungs, dome, outer = _lungs(u, v)
    body = step(0.93 - 0.55 * step(0.14 - v, 0.10) - np.abs(u) + 0.1 * v, 0.05)
    film = 12 + body * (138 + 30 * step(v - dome, 0.03)) - 92 * lungs
    film += 34 * step(0.13 + 0.05 * v - np.abs(u - 0.01), 0.05) * body  # mediastinum and spine
    film -= 30 * step(0.035 - np.abs(u + 0.01), 0.02) * step(0.34 - v, 0.06)  # trachea
    film += 7 * np.sin(2 * np.pi * v * 17) * step(0.07 - np.abs(u), 0.03)  # vertebrae
    film += _ribs(u, v, outer) * body + _clavicles(u, v)
    heart = _heart(scene.enlarged, u, v, rng)
    vessels = _vessels(scene.shape, rng)
    film += (1 - heart) * lungs * (34 * vessels)
    film += heart * np.maximum(178 - film, 0) * 0.85
    fluid = _effusion(scene.effusion, u, v, dome)
    film += 0.85 * fluid * np.maximum(172 - film, 0) * step(outer + 0.03 - np.abs(u), 0.03)
    film += 9 * drawing.power_noise(rng, scene.shape, 3) * body
    room = lungs * (1 - heart) * (1 - fluid) * (np.abs(u) > 0.22)
    film += _mesh(scene, drawing.aside(rng)) * room
    film += _nodules(scene, room, rng, marks)
    return drawing.to_rgb(film, rng, 2.2)


def _lungs(u: Array, v: Array) -> tuple[Array, Array, Array]:
    """Soft lung mask, height of the diaphragm and half-width of the thorax, from normalised coordinates."""
    t = np.clip((v - 0.07) / 0.55, 0, 1)
    outer = 0.20 + 0.64 * np.sqrt(1 - (1 - t) ** 2)
    inner = 0.15 + 0.06 * np.exp(-(((v - 0.42) / 0.12) ** 2))
    dome = 0.76 + 0.30 * (np.abs(u) - 0.42) ** 2 + 0.03 * np.sign(u) * np.minimum(np.abs(u) * 4, 1)
    half = np.abs(u)
    mask = step(outer - half, 0.03) * step(half - inner, 0.03) * step(v - 0.08, 0.03) * step(dome - v, 0.012)
    return mask, dome, outer


def _ribs(u: Array, v: Array, outer: Array) -> Array:
    """Posterior ribs that slope outwards and anterior ribs that slope down: cylinders, brighter at their edges."""
    half = np.abs(u)
    cage = step(outer + 0.05 - half, 0.03) * step(0.86 - v, 0.06) * step(v - 0.06, 0.03)
    posterior = _stripes((v - 0.10 * np.sin(np.pi * np.minimum(half, 1)) + 0.26 * half**3) / 0.082, 0.44)
    anterior = _stripes((v - 0.42 * half + 0.05) / 0.096, 0.50)
    return cage * (15 * posterior * step(half - 0.08, 0.04) + 9 * anterior * step(half - 0.34, 0.1))


def _stripes(phase: Array, share: float) -> Array:
    distance = np.abs(phase - np.round(phase)) * 2  # 0 on the axis of a rib, 1 between two
    return step(share - distance, 0.07) * (0.6 + 0.4 * (distance / share) ** 2)


def _clavicles(u: Array, v: Array) -> Array:
    half = np.abs(u)
    axis = 0.175 - 0.07 * half + 0.02 * np.sin(half * 5)
    return 24 * step(0.014 - np.abs(v - axis), 0.006) * step(half - 0.08, 0.03) * step(0.80 - half, 0.05)


def _heart(enlarged: bool, u: Array, v: Array, rng: Generator) -> Array:
    """Soft mask; half its width is 42-48 % of the half thorax when normal, 60-68 % when enlarged."""
    reach = rng.uniform(0.60, 0.68) if enlarged else rng.uniform(0.42, 0.48)
    half_width, centre = 0.84 * reach, 0.10 + 0.12 * (reach - 0.42)
    d = np.hypot((u - centre + 0.25 * (v - 0.62)) / half_width, (v - 0.63) / (0.17 + 0.1 * (reach - 0.42)))
    knob = np.hypot((u - 0.15) / 0.09, (v - 0.34) / 0.055)
    return np.maximum(step(1 - d, 0.07), 0.7 * step(1 - knob, 0.2))


def _effusion(side: str, u: Array, v: Array, dome: Array) -> Array:
    """Fluid at one base with a meniscus that rises along the chest wall."""
    if not side:
        return np.zeros(np.broadcast_shapes(u.shape, v.shape), np.float32)
    outward = u if side == "right" else -u
    level = dome - 0.13 - 0.16 * np.clip(outward, 0, 1) ** 3
    return step(v - level, 0.03) * step(outward - 0.05, 0.05)


def _vessels(shape: tuple[int, int], rng: Generator) -> Array:
    """Lung markings: branches that leave the two hila and thin out, in three calibres, and fuzzy hila."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for count, reach, calibre, weight in ((7, 0.16, 5.5, 0.8), (16, 0.25, 3.2, 0.7), (34, 0.34, 1.8, 0.6)):
        side = np.repeat([-1, 1], count)
        n, steps = 2 * count, int(reach * width)
        start_y = (0.45 + rng.normal(0, 0.03, n)) * height
        start_x = width / 2 + side * (0.11 + rng.normal(0, 0.015, n)) * width
        angle = rng.uniform(-1.3, 1.35, n)
        angle = np.where(side > 0, angle, np.pi - angle)
        py, px = drawing.strands(rng, start_y, start_x, angle, steps, 0.012)
        fade = weight * np.linspace(1, 0.35, steps) * np.ones((n, 1))
        total += drawing.lines(shape, py, px, calibre, fade.ravel())
    side = np.array([-1, 1])
    hila = drawing.blurred_points(shape, np.full(2, 0.45 * height), width / 2 + side * 0.11 * width, 0.028 * width)
    return np.minimum(total, 1.6) + 1.1 * hila / hila.max()


def _mesh(scene: Chest, rng: Generator) -> Array:
    """Interstitial reticulation: bright septa around cells of twice mesh_px, with zero mean, so blur erases it."""
    if not scene.mesh:
        return np.float32(0)
    field = drawing.grain_noise(rng, scene.shape, scene.mesh_px)
    septa = np.exp(-((field / 0.5) ** 2))
    return 30 * (septa - drawing.blur(septa, scene.mesh_px))


def _nodules(scene: Chest, room: Array, rng: Generator, marks: Marks | None) -> Array:
    """Two to four nodules close together; the smaller the denser, as calcified granulomas are."""
    d, n = scene.nodule_px, int(rng.integers(2, 5))
    y, x = drawing.place(rng, room, d, scene.quadrant, 10 + d)
    ring = 2 * np.pi * (np.arange(n) + rng.random()) / n
    apart = (6 + 0.9 * d) * rng.uniform(0.9, 1.3, n)
    if marks:
        marks.decides(("nodule", "nodule_where"), y, x, apart.max() + d / 2)
    layer = np.zeros(scene.shape, np.float32)
    contrast = 42 + 60 / d
    haze = 0.0 if scene.nodules else HAZE
    y, x = y + apart * np.sin(ring), x + apart * np.cos(ring)
    if marks and scene.nodules:
        marks.note("nodule", y, x, d)
    return contrast * drawing.spots(layer, y, x, d, haze=haze)

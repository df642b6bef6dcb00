"""Draws a stained section: amounts of each dye, layer by layer, then the light they let through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from medstudy.data.example import LETTERS, Question
from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.drawing import Array, cover, step
from medstudy.datasets.phantom.locate import Marks

# Optical densities (red, green, blue) of the dyes, after Ruifrok and Johnston 2001, and of red blood cells.
# Adjusted to look like the sections in scikit-image and napari.
HEMATOXYLIN = np.array([0.60, 0.76, 0.36], np.float32)
COUNTERSTAIN = np.array([0.74, 0.60, 0.33], np.float32)  # hematoxylin when combined with DAB
EOSIN = np.array([0.06, 0.80, 0.46], np.float32)
DAB = np.array([0.33, 0.55, 0.88], np.float32)
BLOOD = np.array([0.10, 0.86, 0.80], np.float32)


@dataclass
class Layers:
    """Optical density of each dye, [h, w], built up and then turned into colour."""

    hematoxylin: Array
    eosin: Array
    dab: Array
    blood: Array
    clear: Array  # 1 where there is no tissue: lumen, fat


ARCHITECTURE = {  # name -> anatomy tag
    "Glands": "colon",
    "Solid sheets": "liver",
    "Spindle cell bundles": "soft tissue",
    "Lymphoid tissue": "lymph node",
}


@dataclass(frozen=True)
class Section:
    """What one section shows. Sizes in native pixels; each is drawn whether or not the feature is present."""

    shape: tuple[int, int]
    nucleus_px: float  # diameter
    mitosis: str
    plate_px: float  # thickness of a chromosome plate, and of the gap between two
    chromatin: str
    grain_px: float
    architecture: str
    change: str
    stain: str
    orders: tuple[tuple[str, ...], ...]  # the options of each question, shuffled
    modality: str = "histology"

    @property
    def anatomy(self) -> str:
        return ARCHITECTURE[self.architecture]

    def questions(self) -> tuple[Question, ...]:
        rows = (
            ("mitosis", "Which phase do the mitotic figures show?", self.mitosis, self.plate_px),
            ("chromatin", "What is the chromatin pattern of the nuclei?", self.chromatin, self.grain_px),
            ("architecture", "How is the tissue organized?", self.architecture, None),
            ("change", "Which of these is present in the tissue?", self.change, None),
            ("stain", "Which stain was used?", self.stain, None),
        )
        return tuple(
            Question(name, text, LETTERS[order.index(answer)], "choice", name, options=order, detail_px=detail)
            for (name, text, answer, detail), order in zip(rows, self.orders, strict=True)
        )

    def render(self, rng: Generator, marks: Marks | None = None) -> Array:
        return draw(self, rng, marks)


def draw(scene: Section, rng: Generator, marks: Marks | None = None) -> Array:
    """A stained section, uint8 [h, w, 3]."""
    layers = _stroma(scene, rng)
    centres, angles, slim = TISSUES[scene.architecture](scene, layers, rng)
    hidden = CHANGES[scene.change](scene, layers, drawing.aside(rng))
    near = _at(drawing.blur(hidden, 0.35 * scene.nucleus_px), centres)
    shown = near < 0.2
    mitotic = _pick(scene, centres, near < 0.01, rng)
    apart = np.linalg.norm(centres[:, None] - centres[mitotic], axis=2).min(1, initial=np.inf)
    shown &= apart > 1.05 * scene.nucleus_px
    _nuclei(scene, layers, centres[shown], angles[shown], slim[shown], rng)
    _figures(scene, layers, centres[mitotic], rng)
    if marks and len(mitotic):  # all figures show the same phase
        marks.decides(("mitosis",), *centres[mitotic][0], 0.78 * scene.nucleus_px)
    if marks and scene.mitosis != "No mitosis":
        marks.note("mitosis", *centres[mitotic].T, scene.plate_px)
    return _develop(scene, layers, rng)


def _at(field: Array, points: Array) -> Array:
    """The field at points [n, 2], those outside moved to the border."""
    y, x = np.clip(points.astype(int), 0, np.array(field.shape) - 1).T
    return field[y, x]


def _pick(scene: Section, centres: Array, free: Array, rng: Generator) -> Array:
    """Indices of the two to four cells, away from the border, that are the mitotic figures."""
    margin = 1.2 * scene.nucleus_px
    inner = ((centres > margin) & (centres < np.array(scene.shape) - margin)).all(1)
    return rng.permutation(np.flatnonzero(inner & free))[: int(rng.integers(2, 5))]


def _stroma(scene: Section, rng: Generator) -> Layers:
    """Wavy collagen bundles with clefts between them."""
    shape = scene.shape
    bundles = drawing.fibre_noise(rng, shape, 6, 40, rng.uniform(0, np.pi))
    bend = drawing.smooth_noise(rng, shape, 30) * 12
    bundles = drawing.warp(bundles, bend, -bend)
    rough = drawing.power_noise(rng, shape, 1.6)
    clefts = np.exp(-((bundles / 0.16) ** 2)) * step(drawing.smooth_noise(rng, shape, 25), 0.6)
    eosin = 0.50 + 0.07 * rough + 0.09 * np.tanh(bundles)
    return Layers(0.06 + 0.02 * rough, eosin, 0.06 + 0.03 * rough, np.zeros(shape, np.float32), 0.85 * clefts)


# Each change is painted over the tissue and returns where it hides the nuclei.


def _neither(scene: Section, layers: Layers, rng: Generator) -> Array:
    return np.zeros(scene.shape, np.float32)


def _fat(scene: Section, layers: Layers, rng: Generator) -> Array:
    """Five to eight round vacuoles of a sixth to a quarter of the image."""
    hidden, rim = np.zeros((2, *scene.shape), np.float32)
    small = min(scene.shape)
    at = drawing.scatter(rng, scene.shape, 0.30 * small, margin=-8)[: int(rng.integers(5, 9))]
    stamps = drawing.Stamps(*at.T, 0.17 * small)
    radius = rng.uniform(0.085, 0.135, len(at)) * small
    waves = drawing.lumpy(rng, len(at), radius, 0.03)
    distance = stamps.ellipse(radius, radius * rng.uniform(0.85, 1, len(at)), rng.uniform(0, 3, len(at)), waves)
    stamps.paste(hidden, cover(distance, 2), np.maximum)
    stamps.paste(rim, np.exp(-(((distance - 1.5) / 1.5) ** 2)), np.maximum)
    layers.clear[:] = np.maximum(layers.clear * (1 - rim), 0.97 * hidden)
    layers.eosin += 0.35 * rim
    return hidden


def _hemorrhage(scene: Section, layers: Layers, rng: Generator) -> Array:
    """A pool of packed red cells about two thirds of the image wide, with a ragged edge."""
    y, x = np.ogrid[: scene.shape[0], : scene.shape[1]]
    middle = np.array(scene.shape) * rng.uniform(0.32, 0.68, 2)
    far = np.hypot((y - middle[0]) / 0.30, (x - middle[1]) / 0.30) / min(scene.shape)
    pool = step(1 - far.astype(np.float32) + 0.16 * drawing.power_noise(rng, scene.shape, 3), 0.06)
    cells = drawing.scatter(rng, scene.shape, 7.5)
    red = drawing.spots(np.zeros(scene.shape, np.float32), *cells.T, rng.uniform(6, 8, len(cells)))
    for layer in (layers.hematoxylin, layers.eosin, layers.dab, layers.clear):
        layer *= 1 - 0.9 * pool
    layers.blood += pool * (0.10 + 0.55 * np.minimum(red, 1.2))
    return pool


CHANGES = {"Hemorrhage": _hemorrhage, "Fat vacuoles": _fat, "Neither": _neither}

# Each tissue paints cytoplasm and lumina, and returns its nuclei.
Nuclei = tuple[Array, Array, Array]  # centres [n, 2], angles [n], elongations [n]


def _sheet(scene: Section, layers: Layers, rng: Generator) -> Nuclei:
    """Polygonal cells side by side, with membranes."""
    d = scene.nucleus_px
    centres = drawing.scatter(rng, scene.shape, 1.75 * d, margin=d)
    membrane = drawing.borders(centres, scene.shape, 0.07 * d + 1)
    layers.clear *= 0
    layers.eosin += 0.05 - 0.16 * np.clip(membrane, 0, 1)
    layers.hematoxylin += 0.16 * (1 - membrane)
    layers.dab += 0.30 + 0.75 * membrane
    return centres, rng.uniform(0, np.pi, len(centres)), rng.uniform(1.0, 1.35, len(centres))


def _glands(scene: Section, layers: Layers, rng: Generator) -> Nuclei:
    """Round glands of columnar cells around a lumen, with stroma in between."""
    d = scene.nucleus_px
    radius = max(rng.uniform(2.7, 3.3) * d, 50)
    middles = drawing.scatter(rng, scene.shape, 2.2 * radius, margin=0.6 * radius)
    n = len(middles)
    stamps = drawing.Stamps(*middles.T, 1.3 * radius)
    a, b = radius * rng.uniform(0.85, 1.05, (2, n))
    distance = stamps.ellipse(a, b, np.zeros(n), drawing.lumpy(rng, n, radius, 0.05))
    tall = np.minimum(1.9 * d, 0.68 * radius)
    gland, lumen, edge = (
        stamps.paste(np.zeros(scene.shape, np.float32), cover(distance + inset, width), np.maximum)
        for inset, width in ((0, 2), (tall, 3), (tall - 3, 3))
    )
    layers.clear *= 1 - gland
    layers.clear[:] = np.maximum(layers.clear, 0.93 * lumen)
    layers.eosin += gland * (0.02 + 0.15 * (edge - lumen))
    layers.hematoxylin += 0.20 * gland
    layers.dab += 0.80 * gland
    rings = [_ring(rng, *row, d) for row in zip(middles, a, b, strict=True)]
    between = drawing.scatter(rng, scene.shape, 1.9 * d, margin=d)
    between = between[_at(drawing.blur(gland, 0.25 * d), between) < 0.1]
    centres = np.concatenate([ring[0] for ring in rings] + [between])
    angles = np.concatenate([ring[1] for ring in rings] + [rng.uniform(0, np.pi, len(between))])
    slim = rng.uniform(1.3, 1.8, len(centres))
    slim[len(centres) - len(between) :] *= 1.6
    return centres, angles, slim


def _ring(rng: Generator, middle: Array, a: float, b: float, d: float) -> tuple[Array, Array]:
    """Nuclei along the base of one gland, with their long axes towards the lumen: centres and angles."""
    n = int(2 * np.pi * (0.5 * (a + b) - 0.8 * d) / (0.84 * d))
    theta = 2 * np.pi * (np.arange(n) + rng.uniform(-0.2, 0.2, n)) / n
    inward = (0.72 + rng.uniform(-0.1, 0.28, n)) * d
    y, x = (b - inward) * np.sin(theta), (a - inward) * np.cos(theta)
    return middle + np.stack([y, x], 1), np.arctan2(y, x) + rng.normal(0, 0.12, n)


def _spindle(scene: Section, layers: Layers, rng: Generator) -> Nuclei:
    """Long nuclei that stream together through a fibrillar matrix."""
    d = scene.nucleus_px
    centres = drawing.scatter(rng, scene.shape, 1.45 * d, margin=d)
    base, swirl = rng.uniform(0, np.pi), drawing.smooth_noise(rng, scene.shape, 60) * 0.4
    fibres = drawing.fibre_noise(rng, scene.shape, 3, 30, base)
    bend = drawing.smooth_noise(rng, scene.shape, 60) * 12
    fibres = drawing.warp(fibres, bend, bend)
    layers.clear *= 0.25
    layers.eosin += 0.09 * fibres
    layers.hematoxylin += 0.07
    layers.dab += 0.65 + 0.22 * fibres
    angles = base + _at(swirl, centres) + rng.normal(0, 0.15, len(centres))
    return centres, angles, rng.uniform(2.2, 3.6, len(centres))


def _lymphoid(scene: Section, layers: Layers, rng: Generator) -> Nuclei:
    """Round nuclei packed close, with scant cytoplasm."""
    d = scene.nucleus_px
    centres = drawing.scatter(rng, scene.shape, 1.14 * d, margin=d)
    layers.clear *= 0.3
    layers.eosin *= 0.6
    layers.hematoxylin += 0.10
    layers.dab += 0.85 * drawing.borders(centres, scene.shape, 0.08 * d + 1)
    return centres, rng.uniform(0, np.pi, len(centres)), rng.uniform(1.0, 1.2, len(centres))


TISSUES = {
    "Glands": _glands,
    "Solid sheets": _sheet,
    "Spindle cell bundles": _spindle,
    "Lymphoid tissue": _lymphoid,
}


def _nuclei(scene: Section, layers: Layers, centres: Array, angles: Array, slim: Array, rng: Generator) -> None:
    """Interphase nuclei: outline and chromatin. The mean density of a nucleus is the same for every pattern."""
    n = len(centres)
    radius = scene.nucleus_px / 2 * rng.uniform(0.85, 1.12, n)
    a, b = radius * np.sqrt(slim), radius / np.sqrt(slim)
    stamps = drawing.Stamps(*centres.T, float(1.15 * a.max()))
    distance = stamps.ellipse(a, b, angles, drawing.lumpy(rng, n, radius, 0.06, (2, 3)))
    inside = cover(distance, 1.6)
    tone = rng.uniform(0.75, 1.2, (n, 1, 1)).astype(np.float32)
    texture = _vesicular(inside, distance, scene.grain_px) if scene.chromatin == "Vesicular" else 1
    density = stamps.paste(np.zeros(scene.shape, np.float32), tone * inside * texture, np.maximum)
    covered = stamps.paste(np.zeros(scene.shape, np.float32), inside, np.maximum)
    density *= 1 + 0.10 * drawing.power_noise(rng, scene.shape, 2)
    grains = drawing.aside(rng)
    if scene.chromatin == "Stippled":
        density *= 1 + 0.62 * np.tanh(1.3 * drawing.grain_noise(grains, scene.shape, scene.grain_px))
    layers.clear *= 1 - covered
    layers.hematoxylin += 0.80 * density - 0.5 * covered * layers.hematoxylin
    layers.eosin *= 1 - 0.55 * covered
    layers.dab *= 1 - 0.85 * covered


def _vesicular(inside: Array, distance: Array, rim: float) -> Array:
    """A dark membrane `rim` thick and a pale zone inside it, scaled to a mean of 1 over each nucleus."""
    dark, pale = (np.clip(1 - np.abs(distance / rim + at), 0, 1) for at in (0.5, 1.6))
    profile = 1 + 1.3 * dark - 0.95 * pale
    mean = (profile * inside).sum((1, 2), keepdims=True) / inside.sum((1, 2), keepdims=True)
    return profile / mean


def _figures(scene: Section, layers: Layers, centres: Array, rng: Generator) -> None:
    """Condensed chromosomes in a cleared cell, all with the same ink.

    One plate twice plate_px thick, two plates plate_px thick and as far apart, or the body of a dead nucleus, as long
    as the plates and as wide as two: no feature larger than a plate distinguishes them.
    """
    n, d, reach = len(centres), scene.plate_px, 0.78 * scene.nucleus_px
    stamps = drawing.Stamps(*centres.T, reach + 4)
    angle = rng.uniform(0, np.pi, (n, 1, 1)).astype(np.float32)
    across = np.cos(angle) * stamps.dx + np.sin(angle) * stamps.dy
    along = np.cos(angle) * stamps.dy - np.sin(angle) * stamps.dx
    far, half = np.hypot(across, along), max(0.40 * scene.nucleus_px, 1.5 * d)
    across = across + (0.25 * d) * np.sin(along / half * 2 + rng.uniform(0, 6, (n, 1, 1)))
    tips = np.abs(along) - half * rng.uniform(0.9, 1.1, (n, 1, 1))
    outline = FIGURES[scene.mitosis](np.abs(across), along, tips, d, half)
    ragged = drawing.ndimage.gaussian_filter(rng.normal(0, 1, outline.shape), (0, 1, 1)) * 3.5  # unit deviation
    ink = cover(outline + 0.16 * d * ragged, 1.4)
    ink *= 4 * d * half / ink.sum((1, 2), keepdims=True)
    cleared = stamps.paste(np.zeros(scene.shape, np.float32), step(reach - far, 3), np.maximum)
    layers.hematoxylin *= 1 - 0.7 * cleared
    layers.clear *= 1 - cleared
    layers.eosin += cleared * (0.30 - 0.7 * layers.eosin)
    layers.dab *= 1 - 0.5 * cleared
    layers.hematoxylin += 1.7 * stamps.paste(np.zeros(scene.shape, np.float32), ink, np.maximum)


FIGURES = {  # signed distance to the outline, from the coordinates across and along a plate and to its tips
    "Metaphase": lambda across, along, tips, d, half: np.maximum(across - d, tips),
    "Anaphase": lambda across, along, tips, d, half: np.maximum(np.abs(across - d) - d / 2, tips),
    "No mitosis": lambda across, along, tips, d, half: (np.hypot(across / (1.6 * d), along / half) - 1) * 1.6 * d,
}


def _develop(scene: Section, layers: Layers, rng: Generator) -> Array:
    """Beer-Lambert: dyes to transmitted light, through the optics, with sensor noise."""
    amounts = np.stack([layers.hematoxylin, layers.eosin, layers.dab, layers.blood], -1)
    routine = scene.stain == "Hematoxylin and eosin"
    dyes = np.stack([HEMATOXYLIN if routine else COUNTERSTAIN, EOSIN, DAB, BLOOD])
    dyes *= np.array([[1.25], [0.8], [0.0], [1.0]] if routine else [[0.95], [0.06], [1.0], [1.0]], np.float32)
    dyes *= (rng.uniform(0.88, 1.12, (4, 1)) * (1 + rng.normal(0, 0.05, (4, 3)))).astype(np.float32)
    density = np.maximum(amounts, 0) @ dyes * (1 - layers.clear)[..., None]
    light = np.array([243, 241, 244], np.float32) * np.exp(-drawing.blur(density, (drawing.PSF, drawing.PSF, 0)))
    return drawing.to_rgb(light, rng, 2.0)

"""Cytology: Papanicolaou-stained squamous cells in a small crop.

Fine: the class (the outline of the nucleus decides within a nucleus-to-cytoplasm ratio), nucleolus, halo, bacteria.
Coarse: single cell or cluster, colour of the cytoplasm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from medstudy.data import formats
from medstudy.data.example import Question
from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.drawing import Array, cover, step
from medstudy.datasets.phantom.locate import Marks

CLASSES = {  # class -> (range of nuclear / cell diameter, is the nuclear outline irregular)
    "NILM": ((0.24, 0.36), False),
    "LSIL": ((0.28, 0.40), True),
    "HSIL": ((0.58, 0.70), False),
    "SCC": ((0.58, 0.70), True),
}
COLOURS = {  # light that the cytoplasm transmits, of 255
    "pink": (226, 160, 182),
    "blue": (150, 186, 208),
    "orange": (232, 172, 112),
}
STAINED = ((96, 72, 124), (70, 36, 88), (88, 92, 140))  # nucleus, nucleolus, bacteria
JAGS = ((1.0, 0.8), (0.72, 0.6), (1.22, 0.5), (0.88, 0.5), (1.45, 0.25))  # (relative wave number, amplitude)
HAZE = 3.0  # absent bacteria leave their sum as mucus, this much wider


@dataclass(frozen=True)
class Smear:
    """What one crop shows. Sizes in native pixels; each is drawn whether or not the feature is present."""

    shape: tuple[int, int]
    label: str
    cell_px: float  # radius of a cell
    nucleus_px: float  # radius of its nucleus
    outline_px: float  # half a wavelength of the irregular nuclear outline
    nucleolus: bool
    nucleolus_px: float
    bacteria: bool
    bacteria_px: float  # thickness of a rod
    cluster: bool
    colour: str
    modality: str = "cytology"
    anatomy: str = "cervix"

    def questions(self) -> tuple[Question, ...]:
        closed = Question.closed
        return (
            formats.worded("class", "What is the class of this cell?", self.label, CLASSES, "cell class",
                           self.outline_px),
            closed("nucleolus", "Is there a nucleolus in the nucleus?", self.nucleolus, "nucleolus", self.nucleolus_px),
            closed("bacteria", "Are there bacteria in the background?", self.bacteria, "bacteria", self.bacteria_px),
            closed("cluster", "Is there more than one cell?", self.cluster, "cluster"),
            Question("colour", "What color is the cytoplasm?", self.colour, "open", "cytoplasm color"),
        )

    def render(self, rng: Generator, marks: Marks | None = None) -> Array:
        return draw(self, rng, marks)


def plan(rng: Generator) -> Smear:
    """Draw what a crop shows: every answer is equally likely, and no size reveals an answer."""
    shape = drawing.sides(rng, 140, 280, (0.85, 1.18))
    label = drawing.choose(rng, tuple(CLASSES))
    cluster = bool(rng.random() < 0.5)
    cell = min(shape) * rng.uniform(*((0.21, 0.24) if cluster else (0.36, 0.43)))
    nucleus = cell * rng.uniform(*CLASSES[label][0])
    return Smear(
        shape=shape,
        label=label,
        cell_px=round(float(cell), 2),
        nucleus_px=round(float(nucleus), 2),
        outline_px=drawing.log_uniform(rng, 2, min(16, 0.75 * nucleus)),
        nucleolus=bool(rng.random() < 0.5),
        nucleolus_px=drawing.log_uniform(rng, 2, min(16, 0.6 * nucleus)),
        bacteria=bool(rng.random() < 0.5),
        bacteria_px=drawing.log_uniform(rng, 2, 12),
        cluster=cluster,
        colour=drawing.choose(rng, tuple(COLOURS)),
    )


@dataclass
class Layers:
    """Amount of each dye [h, w]: they add up as cells lie on each other."""

    cytoplasm: Array
    nucleus: Array
    nucleolus: Array
    bacteria: Array


def draw(scene: Smear, rng: Generator, marks: Marks | None = None) -> Array:
    """A Papanicolaou smear, uint8 [h, w, 3]."""
    layers = Layers(*np.zeros((3, *scene.shape), np.float32), _bacteria(scene, rng))
    for y, x in _centres(scene, min(scene.shape), rng):
        _cell(scene, layers, y, x, rng, marks)
    layers.cytoplasm *= 1 + 0.16 * drawing.power_noise(rng, scene.shape, 2.8)
    layers.bacteria *= np.clip(1 - layers.nucleus, 0, 1)
    layers.nucleus *= 0.95 + 0.085 * drawing.power_noise(rng, scene.shape, 1.2)
    return _develop(scene, layers, rng)


def _develop(scene: Smear, layers: Layers, rng: Generator) -> Array:
    """Beer-Lambert: dyes to transmitted light, through the optics, with sensor noise."""
    colours = np.array([COLOURS[scene.colour], *STAINED], np.float32)
    colours[0] += rng.normal(0, 6, 3)
    amounts = np.stack([layers.cytoplasm, layers.nucleus, layers.nucleolus, layers.bacteria], -1)
    density = amounts @ -np.log(colours / 240)
    density += 0.012 * drawing.power_noise(rng, scene.shape, 2.5)[..., None]
    light = np.array([238, 236, 228], np.float32) * np.exp(-drawing.blur(density, (drawing.PSF, drawing.PSF, 0)))
    return drawing.to_rgb(light, rng, 1.8)


def _centres(scene: Smear, small: int, rng: Generator) -> Array:
    """Centres [n, 2] of one large cell, or of three to five smaller ones that overlap."""
    middle = np.array(scene.shape) / 2 + rng.normal(0, 0.03, 2) * small
    if not scene.cluster:
        return middle[None]
    n = int(rng.integers(3, 6))
    turn = 2 * np.pi * (np.arange(n) + rng.uniform(-0.12, 0.12, n)) / n + rng.uniform(0, 6)
    apart = small * rng.uniform(0.24, 0.28, n)
    return middle + np.stack([apart * np.sin(turn), apart * np.cos(turn)], 1)


def _cell(scene: Smear, layers: Layers, y: float, x: float, rng: Generator, marks: Marks | None) -> None:
    """One cell over the layers below: cytoplasm with a denser rim, nucleus with its membrane, nucleolus."""
    radius, nuclear = scene.cell_px * rng.uniform(0.92, 1.05), scene.nucleus_px * rng.uniform(0.95, 1.05)
    stamps = drawing.Stamps(np.array([y]), np.array([x]), 1.35 * radius)
    slim = rng.uniform(1.0, 1.2)
    outline = (radius * slim, radius / slim, rng.uniform(0, np.pi), drawing.lumpy(rng, 1, radius, 0.07))
    inner = stamps.ellipse(*outline)
    rim = np.exp(np.minimum(inner, 0) / (0.12 * radius))
    stamps.paste(layers.cytoplasm, step(-inner, 1.5) * (0.75 + 0.25 * rim))
    y, x = np.array([[y], [x]]) + rng.normal(0, 0.12, (2, 1)) * (radius - nuclear)
    stamps = drawing.Stamps(y, x, 1.5 * nuclear + 3)
    if marks:
        marks.note("cell", y, x, 2 * nuclear)
        marks.decides(("class", "nucleolus"), y[0], x[0], 1.5 * nuclear)  # of the topmost cell
    waves = drawing.lumpy(rng, 1, nuclear, 0.03)
    jagged = drawing.aside(rng)
    if CLASSES[scene.label][1]:
        waves += _jagged(scene.outline_px, nuclear, jagged)
    inner = stamps.ellipse(nuclear * 1.06, nuclear / 1.06, rng.uniform(0, np.pi), waves)
    membrane = np.exp(-(((inner + 1.5) / 1.5) ** 2))
    stamps.paste(layers.nucleus, cover(inner, 1.6) * (0.85 + 0.3 * membrane))
    layers.nucleolus += _nucleolus(scene, y, x, nuclear, rng)


def _jagged(size: float, radius: float, rng: Generator) -> tuple:
    """Uneven lobes of about `size` around the outline; they average to nothing, so blur erases them."""
    middle = max(4, round(np.pi * radius / size))
    reach = min(0.5 * size, 0.20 * radius)
    return tuple((max(3, round(middle * k)), reach * w, rng.uniform(0, 2 * np.pi, 1)) for k, w in JAGS)


def _nucleolus(scene: Smear, y: Array, x: Array, radius: float, rng: Generator) -> Array:
    """One or two dark spots in the nucleus; absent, their sum as a haze within it."""
    n = int(rng.integers(1, 3))
    turn, r = rng.uniform(0, 2 * np.pi) + np.pi * np.arange(n), 0.35 * radius * rng.uniform(0.6, 1.2, n)
    haze = 0.0 if scene.nucleolus else 2.0
    layer = np.zeros(scene.shape, np.float32)
    return 1.2 * drawing.spots(layer, y + r * np.sin(turn), x + r * np.cos(turn), scene.nucleolus_px, haze=haze)


def _bacteria(scene: Smear, rng: Generator) -> Array:
    """Rods, three times as long as thick, scattered over the slide; absent, the same amount as smears of mucus."""
    d = scene.bacteria_px
    n = int(np.clip(0.05 * scene.shape[0] * scene.shape[1] / (3 * d * d), 10, 90))
    y, x = rng.uniform(0, scene.shape[0], n), rng.uniform(0, scene.shape[1], n)
    py, px = drawing.strands(rng, y, x, rng.uniform(0, 2 * np.pi, n), max(4, int(2.2 * d)), 0.02)
    rods = np.clip(1.9 * drawing.lines(scene.shape, py, px, d) - 0.45, 0, 1)
    return 0.85 * (rods if scene.bacteria else drawing.blur(rods, HAZE * d / 2))

"""Draws a field of cultured cells: shapes of the cell lines, and a pattern for each localization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from medstudy.data.example import Question
from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.drawing import Array, cover, step
from medstudy.datasets.phantom.locate import Marks

LEVEL, BRIGHTEST = 0.27, 4.0  # the protein's mean in its compartments, of full scale; the brightest spot, of the mean
NUCLEAR = ("nucleoplasm", "nucleoli")
CYTOPLASMIC = ("cytosol", "mitochondria", "vesicles", "plasma membrane", "centrosome", "microtubules")


@dataclass(frozen=True)
class Line:
    """Shape of a cell line: mean radius of a spread cell and of its nucleus in pixels, and their elongation."""

    cell: float
    nucleus: float
    slim: float
    ragged: float  # relative waviness of the outline


LINES = {
    "U-2 OS": Line(cell=62, nucleus=24, slim=1.25, ragged=0.16),
    "A-431": Line(cell=44, nucleus=23, slim=1.1, ragged=0.05),
    "HEK 293": Line(cell=29, nucleus=16, slim=1.15, ragged=0.12),
    "U-251 MG": Line(cell=50, nucleus=20, slim=2.4, ragged=0.10),
}


@dataclass
class Cells:
    """The cells of a field: centres and nuclei [n], masks [h, w] and depth below the membrane in pixels."""

    y: Array
    x: Array
    angle: Array
    body: Array
    nucleus: Array
    depth: Array
    poles: tuple[Array, Array]  # y, x of the centrosomes


@dataclass(frozen=True)
class Field:
    """What one field of view shows. `sizes` holds every localization's feature size, present or not."""

    shape: tuple[int, int]
    line: str
    crowded: bool
    localizations: tuple[str, ...]
    sizes: dict[str, float]
    queried: tuple[str, str]  # the localizations of the two closed questions
    modality: str = "fluorescence"
    anatomy: str = "cultured cells"

    @property
    def compartment(self) -> str:
        inner, outer = (any(name in group for name in self.localizations) for group in (NUCLEAR, CYTOPLASMIC))
        return "both" if inner and outer else "nucleus" if inner else "cytoplasm"

    def questions(self) -> tuple[Question, ...]:
        where = " and ".join(f"the {name}" for name in self.localizations)
        described = Question(
            "describe",
            "Describe the cell line and subcellular localizations shown in this image.",
            f"The cell line is {self.line}. The protein localizes to {where}.",
            "description",
            "localization",
            detail_px=min(self.sizes[name] for name in self.localizations),
            cell_line=self.line,
            localizations=self.localizations,
        )
        closed = tuple(
            Question.closed(f"in_{name.replace(' ', '_')}", f"Is the protein found in the {name}?",
                            name in self.localizations, "compartment found", self.sizes[name])
            for name in self.queried
        )
        coarse = (
            Question("compartment", "Is the protein in the nucleus, in the cytoplasm or in both?", self.compartment,
                     "class", "compartment", ("nucleus", "cytoplasm", "both")),
            Question.closed("crowded", "Are the cells crowded?", self.crowded, "crowding"),
        )
        return described, *closed, *coarse

    def render(self, rng: Generator, marks: Marks | None = None) -> Array:
        return draw(self, rng, marks)


def draw(scene: Field, rng: Generator, marks: Marks | None = None) -> Array:
    """A three-channel fluorescence field, uint8 [h, w, 3]."""
    cells = _cells(scene, rng)
    if marks:
        marks.note("nucleus", cells.y, cells.x, scene.sizes["nucleoplasm"])
    tubes = _microtubules(scene, cells, rng)
    mesh = drawing.lines(scene.shape, *tubes, 1.6)
    blue = cells.nucleus * (0.75 + 0.16 * drawing.power_noise(rng, scene.shape, 1.5))
    red = cells.body * (0.10 + 0.34 * np.minimum(mesh, 1.8)) * (1 - 0.7 * cells.nucleus)
    green = (0.03 * cells.body + _protein(scene, cells, rng, tubes)) * rng.uniform(0.8, 1.2)
    image = drawing.blur(np.stack([red, green, blue], -1), (drawing.PSF, drawing.PSF, 0))
    image = np.maximum(image, 0) * np.array([150, 255, 190], np.float32)
    image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.sqrt(3 + 0.22 * image)
    return drawing.to_rgb(image + 5, rng, 0.0)


def _protein(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    """The protein [h, w]. Within each compartment its mean is the same for every pattern.

    If a pattern is so sparse that it would saturate the camera, the excess is spread evenly.
    """
    total = np.zeros(scene.shape, np.float32)
    for group, room in ((NUCLEAR, cells.nucleus), (CYTOPLASMIC, _outside(cells) * _thickness(scene, cells))):
        within = [name for name in scene.localizations if name in group]
        for name in within:
            pattern = room * PATTERNS[name](scene, cells, drawing.aside(rng), tubes)
            pattern = pattern * (room.sum() / pattern.sum())
            sparse = min(1, BRIGHTEST / float(pattern.max()))
            total += LEVEL / len(within) * (sparse * pattern + (1 - sparse) * room)
    return total


def _thickness(scene: Field, cells: Cells) -> Array:
    """A spread cell is thicker near its middle; its mean is about 1."""
    middle = 0.3 * LINES[scene.line].cell
    return 0.6 + 0.7 * step(cells.depth - middle, middle)


def _cells(scene: Field, rng: Generator) -> Cells:
    line = LINES[scene.line]
    spacing = line.cell * (1.55 if scene.crowded else 2.7)
    at = drawing.scatter(rng, scene.shape, spacing, 0.25 * line.cell, 0.24 if scene.crowded else 0.32)
    n, (y, x) = len(at), at.T
    angle = rng.uniform(0, np.pi, n)
    if line.slim > 2:
        angle = rng.uniform(0, np.pi) + rng.normal(0, 0.3, n)
    own, second = _nearest(scene, y, x, angle, rng)
    depth = line.cell * np.minimum(1 - own, 0.5 * (second - own))
    off = rng.normal(0, 0.08, (2, n)) * line.cell
    ny, nx = y + off[0], x + off[1]
    slim = min(line.slim, 1.6)
    stamps = drawing.Stamps(ny, nx, 1.5 * line.nucleus)
    size = line.nucleus * rng.uniform(0.9, 1.1, n)
    waves = drawing.lumpy(rng, n, size, 0.03)
    distance = stamps.ellipse(size * np.sqrt(slim), size / np.sqrt(slim), angle, waves)
    nucleus = stamps.paste(np.zeros(scene.shape, np.float32), cover(distance, 1.6), np.maximum)
    toward = rng.uniform(0, 2 * np.pi, n)
    poles = ny + 1.25 * line.nucleus * np.sin(toward) / np.sqrt(slim), nx + 1.25 * line.nucleus * np.cos(toward)
    body = np.maximum(cover(-depth, 2.0), nucleus)
    return Cells(ny, nx, angle, body, nucleus, depth, poles)


def _nearest(scene: Field, y: Array, x: Array, angle: Array, rng: Generator) -> tuple[Array, Array]:
    """Relative distance (1 at the rim of a free cell) to the nearest and the second cell, found at a third."""
    line = LINES[scene.line]
    rows, columns = (n // 3 + 2 for n in scene.shape)
    gy, gx = (g.astype(np.float32) * 3 for g in np.ogrid[:rows, :columns])
    sway = drawing.smooth_noise(rng, (rows, columns), 6) * line.ragged * line.cell
    y, x, c, s = (v.astype(np.float32)[:, None, None] for v in (y, x, np.cos(angle), np.sin(angle)))
    dy, dx = gy + sway - y, gx - sway - x
    a, b = (np.float32(line.cell * f) for f in (line.slim**0.5, line.slim**-0.5))
    far = ((c * dx + s * dy) / a) ** 2 + ((c * dy - s * dx) / b) ** 2
    two = np.sqrt(np.partition(far, 1, axis=0)[:2])
    return tuple(drawing.enlarge(field, scene.shape, 3) for field in two)


def _microtubules(scene: Field, cells: Cells, rng: Generator) -> tuple[Array, Array]:
    """Filaments (y, x), each [n, steps], that leave the centrosome of each cell and bend along it."""
    line, each = LINES[scene.line], 40
    steps = int(1.15 * line.cell * np.sqrt(line.slim))
    y, x = (np.repeat(p, each) for p in cells.poles)
    return drawing.strands(rng, y, x, rng.uniform(0, 2 * np.pi, len(y)), steps, 0.04)


# ------------------------------------------- patterns: relative amount of protein [h, w] within its compartment


def _nucleoplasm(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    return (1 - 0.85 * _nucleolar(scene, cells, rng)) * (1 + 0.12 * drawing.power_noise(rng, scene.shape, 1.5))


def _nucleoli(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    return 0.04 + _nucleolar(scene, cells, rng)


def _nucleolar(scene: Field, cells: Cells, rng: Generator) -> Array:
    """Round nucleoli; the smaller they are, the more there are."""
    d, line = scene.sizes["nucleoli"], LINES[scene.line]
    each = int(np.clip(0.20 * (2 * line.nucleus / d) ** 2, 2, 10))
    turn, r = rng.uniform(0, 2 * np.pi, len(cells.y) * each), 0.68 * np.sqrt(rng.random(len(cells.y) * each))
    y = np.repeat(cells.y, each) + line.nucleus * r * np.sin(turn)
    x = np.repeat(cells.x, each) + line.nucleus * r * np.cos(turn)
    return np.minimum(drawing.spots(np.zeros(scene.shape, np.float32), y, x, d * rng.uniform(0.8, 1.2, len(y))), 1)


def _cytosol(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    return 1 + 0.1 * drawing.power_noise(rng, scene.shape, 2)


def _mitochondria(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    """Short worms around the nucleus."""
    line, width = LINES[scene.line], scene.sizes["mitochondria"]
    each = int(np.clip(2.6 * line.cell / width, 8, 60))
    y, x = _around(rng, cells, line, each)
    py, px = drawing.strands(rng, y, x, rng.uniform(0, 2 * np.pi, len(y)), int(4.5 * width) + 6, 0.35 / width)
    return 0.05 + np.minimum(drawing.lines(scene.shape, py, px, width), 1.2)


def _vesicles(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    """Round dots in the cytoplasm; the smaller they are, the more there are."""
    line, d = LINES[scene.line], scene.sizes["vesicles"]
    y, x = _around(rng, cells, line, int(np.clip(0.16 * (2 * line.cell / d) ** 2, 8, 250)))
    sigma = max(d / 2.355, drawing.PSF)
    dots = drawing.blur(drawing.splat(scene.shape, y, x, rng.uniform(0.5, 1.2, len(y))), sigma)
    return 0.05 + np.minimum(dots * np.float32(2 * np.pi * sigma**2), 1.2)


def _membrane(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    width = scene.sizes["plasma membrane"]
    band = cover(np.abs(cells.depth - width / 2) - width / 2, 1.2)
    return 0.05 + band * (0.85 + 0.12 * drawing.grain_noise(rng, scene.shape, 5))


def _centrosome(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    return 0.001 + drawing.spots(np.zeros(scene.shape, np.float32), *cells.poles, scene.sizes["centrosome"])


def _filaments(scene: Field, cells: Cells, rng: Generator, tubes: tuple) -> Array:
    return 0.05 + np.minimum(drawing.lines(scene.shape, *tubes, scene.sizes["microtubules"]), 1.5)


def _around(rng: Generator, cells: Cells, line: Line, each: int) -> tuple[Array, Array]:
    """Points in the cytoplasm: in a ring around each nucleus, stretched like the cell."""
    n = len(cells.y) * each
    turn, reach = rng.uniform(0, 2 * np.pi, n), 0.95 * line.cell - line.nucleus
    r = 1.05 * line.nucleus + rng.random(n) ** 0.8 * reach
    u, v = r * np.cos(turn) * np.sqrt(line.slim), r * np.sin(turn) / np.sqrt(line.slim)
    c, s = np.repeat(np.cos(cells.angle), each), np.repeat(np.sin(cells.angle), each)
    return np.repeat(cells.y, each) + s * u + c * v, np.repeat(cells.x, each) + c * u - s * v


def _outside(cells: Cells) -> Array:
    """The cytoplasm, with a thin layer above and below the nucleus."""
    return cells.body * (1 - 0.88 * cells.nucleus)


PATTERNS = {
    "nucleoplasm": _nucleoplasm,
    "nucleoli": _nucleoli,
    "cytosol": _cytosol,
    "mitochondria": _mitochondria,
    "vesicles": _vesicles,
    "plasma membrane": _membrane,
    "centrosome": _centrosome,
    "microtubules": _filaments,
}

"""Fields of small marks: general images in which only fine detail differs, and what stands in each patch of them.

A field is a ground with soft noise, textured regions, large shapes with a smooth, wavy or spiky outline, and many small
marks of 2 to 20 px. The first stage of pre-training (`medstudy.pretraining.vision`) draws them on canvases of any size.
Nothing in them is biomedical.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from numpy.random import Generator
from PIL import Image

from medstudy.datasets.shapes.marks import MARKS, cover
from medstudy.datasets.shapes.render import FIELDS
from medstudy.datasets.shapes.words import DIRECTIONS, SIDES, TEXTURES

PATCH = 14  # px: a patch of the vision tower, in which there is one mark at most
NUMBERS = 6  # of a mark: its place in the patch (y, x), log size, twice its angle (cos, sin), and contrast
GROUNDS = (*TEXTURES, "net")  # the texture of a region
OUTLINES = ("smooth", "wavy", "spiky")  # of a large shape
NONE = -1  # no label: the place says nothing
DIAMETERS = (2.0, 20.0)  # px, of marks
REGIONS, LARGE = 4, 3  # at most
GRAY = 0.5  # share of fields without colours


@dataclass(frozen=True)
class Field:
    """pixels [H, W, 3] uint8, and for each patch [H / 14, W / 14] (the last has NUMBERS more) what stands in it.

    marks: index in MARKS, len(MARKS) if there is none; numbers of the mark, float32; grounds: index in GROUNDS, NONE at
    the edge of a region; outlines: index in OUTLINES where the outline of a large shape runs, else len(OUTLINES).
    """

    pixels: np.ndarray
    marks: np.ndarray
    numbers: np.ndarray
    grounds: np.ndarray
    outlines: np.ndarray


def field(rng: Generator, height: int, width: int) -> Field:
    """A random field of height × width px, multiples of PATCH."""
    gray = rng.random() < GRAY
    shape = (height // PATCH, width // PATCH)
    base, hue = rng.uniform(25, 230, 3), rng.normal(0, 1, 3)
    if gray:
        base, hue = np.full(3, base[0]), np.ones(3)
    # [3, H, W], which is faster to draw on than [H, W, 3]
    pixels = np.float32(base)[:, None, None] + _noise(rng, height, width) * _tint(hue)
    grounds = np.full(shape, GROUNDS.index("smooth"), np.int8)
    outlines = np.full(shape, len(OUTLINES), np.int8)
    _texture(rng, pixels, grounds, None, hue)
    for _ in range(rng.integers(0, REGIONS)):
        _region(rng, pixels, grounds, gray, hue)
    for _ in range(rng.integers(0, LARGE)):
        _large(rng, pixels, outlines, gray)
    marks, numbers = _marks(rng, pixels, gray)
    pixels += rng.standard_normal((height, width), np.float32) * float(rng.choice((0.5, 2.0, 5.0)))
    pixels = np.clip(pixels + np.float32(0.5), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return Field(np.ascontiguousarray(pixels), marks, numbers, grounds, outlines)


def _tint(hue: np.ndarray) -> np.ndarray:
    return np.float32(0.6 + 0.4 * np.clip(hue, -1, 1))[:, None, None]


def _noise(rng: Generator, height: int, width: int) -> np.ndarray:
    """[H, W] float32: up to three octaves of smooth noise, 4 to 60 px wide, of a random strength."""
    total = np.zeros((height, width), np.float32)
    for cell in np.exp(rng.uniform(np.log(4), np.log(60), rng.integers(0, 4))):
        grain = rng.standard_normal((int(height / cell) + 2, int(width / cell) + 2), np.float32)
        grown = Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(grown) * float(rng.uniform(2, 9))
    return total


def _net(height: int, width: int, rng: Generator) -> np.ndarray:
    """Thin lines that cross, bent by smooth noise; zero mean."""
    step, sway = float(rng.uniform(5, 16)), _noise(rng, height, width) * float(rng.uniform(0.01, 0.06))
    rows, columns = (np.arange(side, dtype=np.float32) * (np.pi / step) for side in (height, width))
    lines = np.minimum(np.abs(np.sin(rows[:, None] + sway)), np.abs(np.sin(columns + sway)))
    pattern = np.exp(-((lines * (step / np.pi / float(rng.uniform(0.6, 1.3)))) ** 2))
    return 2 * (pattern - pattern.mean())


def _pattern(rng: Generator, name: str, height: int, width: int) -> np.ndarray:
    """[H, W] float32, a texture of about unit amplitude."""
    if name == "net":
        return _net(height, width, rng)
    direction = rng.choice(SIDES if name == "gradient" else DIRECTIONS)
    return FIELDS[name](SimpleNamespace(height=height, width=width, direction=direction), rng)


def _texture(rng: Generator, pixels: np.ndarray, grounds: np.ndarray, mask: np.ndarray | None, hue: np.ndarray) -> None:
    """Add a texture where `mask` [H, W] in 0..1 says, None: everywhere; label the patches that it fills."""
    name = GROUNDS[rng.integers(len(GROUNDS))] if rng.random() < 0.7 else "smooth"
    label = GROUNDS.index(name)
    if name != "smooth":
        added = np.float32(_pattern(rng, name, *pixels.shape[1:]) * rng.uniform(5, 28))
        pixels += (added if mask is None else added * mask) * _tint(hue)
    if mask is None:
        grounds[:] = label
        return
    share = _blocks(mask).mean((1, 3))
    grounds[share > 0.95] = label
    grounds[(share > 0.05) & (share <= 0.95)] = NONE


def _blocks(plane: np.ndarray) -> np.ndarray:
    """[H, W] -> [H / PATCH, PATCH, W / PATCH, PATCH]."""
    height, width = plane.shape
    return plane.reshape(height // PATCH, PATCH, width // PATCH, PATCH)


@dataclass(frozen=True)
class _Ellipse:
    """A window of whole patches around a random ellipse: rows and columns in patches, and in it the distance to the
    centre in radii, and the axes along and across."""

    rows: slice
    columns: slice
    far: np.ndarray
    along: np.ndarray
    across: np.ndarray
    radius: float

    @classmethod
    def draw(cls, rng: Generator, height: int, width: int, low: float, high: float, margin: float) -> _Ellipse:
        """Its radius is low to high of the shorter side; the window reaches to `margin` radii."""
        radius = float(rng.uniform(low, high)) * min(height, width)
        y, x, turn, slim = (float(rng.uniform(*span)) for span in ((0, height), (0, width), (0, np.pi), (0.6, 1)))
        rows, columns = (slice(max(int((at - margin * radius) // PATCH), 0),
                               min(int((at + margin * radius) // PATCH) + 1, side // PATCH))
                         for at, side in ((y, height), (x, width)))
        dy = np.arange(rows.start * PATCH, rows.stop * PATCH, dtype=np.float32)[:, None] - y
        dx = np.arange(columns.start * PATCH, columns.stop * PATCH, dtype=np.float32)[None] - x
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / slim
        return cls(rows, columns, np.hypot(along, across) / radius, along, across, radius)

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """The window of an image [3, H, W], a view."""
        (a, b), (c, d) = ((part.start * PATCH, part.stop * PATCH) for part in (self.rows, self.columns))
        return image[:, a:b, c:d]

    def mask(self, edge: np.ndarray | float, soft: float) -> np.ndarray:
        """1 inside the outline, which is `edge` radii from the centre, 0 outside; it falls over `soft` px."""
        return np.clip((edge - self.far) * (self.radius / soft) + 0.5, 0, 1)


def _region(rng: Generator, pixels: np.ndarray, grounds: np.ndarray, gray: bool, hue: np.ndarray) -> None:
    """A soft-edged ellipse of another colour and texture."""
    ellipse = _Ellipse.draw(rng, *pixels.shape[1:], 0.15, 0.5, 1.2)
    mask, part = ellipse.mask(1.0, float(rng.choice((1.0, 4.0, 12.0)))), ellipse.pixels(pixels)
    part += mask * _shade(rng, gray, 8, 70)[:, None, None]
    _texture(rng, part, grounds[ellipse.rows, ellipse.columns], mask, hue)


def _large(rng: Generator, pixels: np.ndarray, outlines: np.ndarray, gray: bool) -> None:
    """A shape of 10 px and more whose outline is smooth, wavy or spiky."""
    ellipse = _Ellipse.draw(rng, *pixels.shape[1:], 0.08, 0.3, 1.8)
    kind, edge = int(rng.integers(len(OUTLINES))), 1.0
    if OUTLINES[kind] != "smooth":
        angle = np.arctan2(ellipse.across, ellipse.along)
    if OUTLINES[kind] == "wavy":
        edge = 1 + float(rng.uniform(0.07, 0.2)) * np.sin(angle * int(rng.integers(3, 9)) + float(rng.uniform(0, 6)))
    elif OUTLINES[kind] == "spiky":
        bent = 0.8 * np.sin(3 * angle + float(rng.uniform(0, 6)))
        spikes = 0.5 + 0.5 * np.cos(angle * int(rng.integers(8, 22)) + bent)
        edge = 0.85 + float(rng.uniform(0.3, 0.9)) * spikes ** float(rng.choice((2.0, 4.0)))
    mask, part = ellipse.mask(edge, float(rng.choice((1.0, 2.0, 5.0)))), ellipse.pixels(pixels)
    part += mask * _shade(rng, gray, 15, 90)[:, None, None]
    blocks = _blocks(mask)
    outlines[ellipse.rows, ellipse.columns][blocks.max((1, 3)) - blocks.min((1, 3)) > 0.5] = kind


def _shade(rng: Generator, gray: bool, low: float, high: float) -> np.ndarray:
    """[3] float32: a change of colour of low to high gray levels, brighter or darker."""
    strength = np.exp(rng.uniform(np.log(low), np.log(high))) * rng.choice((-1, 1))
    return np.float32(strength * (np.ones(3) if gray else np.clip(rng.normal(0.8, 0.5, 3), -0.5, 1.5)))


def _marks(rng: Generator, pixels: np.ndarray, gray: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw the marks, in place; return their kinds and numbers by patch.

    A field has marks of one to four kinds, of similar size, colour and direction or of any.
    """
    rows, columns = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
    kinds, numbers = np.full((rows, columns), len(MARKS), np.int8), np.zeros((rows, columns, NUMBERS), np.float32)
    count = int(rows * columns * rng.choice((0.0, 0.02, 0.08, 0.2, 0.35))) + int(rng.integers(0, 3))
    if not count:
        return kinds, numbers
    places = rng.permutation(rows * columns)[:count]
    count = len(places)
    y, x = (places // columns + rng.random(count)) * PATCH, (places % columns + rng.random(count)) * PATCH
    pool = rng.permutation(len(MARKS))[: rng.integers(1, 5)]
    kind, low, high = pool[rng.integers(0, len(pool), count)], *np.log(DIAMETERS)
    middle, spread = rng.uniform(low, high), rng.choice((0.1, 0.5))
    size = np.exp(np.clip(rng.normal(middle, spread, count), low, high))
    angle = rng.uniform(0, np.pi) + rng.choice((0.1, 3.0)) * rng.uniform(-0.5, 0.5, count)
    shade = _shade(rng, gray, 10 + 20 / np.exp(middle), 140) * rng.uniform(0.8, 1.2, (count, 1)).astype(np.float32)
    if rng.random() < 0.3:
        shade *= rng.choice((-1, 1), (count, 1)).astype(np.float32)
    _stamp(pixels, y, x, cover(kind, y, x, size, angle, float(rng.choice((1.0, 2.0)))), shade)
    kinds[places // columns, places % columns] = kind
    told = (y / PATCH % 1 * 2 - 1, x / PATCH % 1 * 2 - 1, np.log2(size / 6), np.cos(2 * angle), np.sin(2 * angle),
            shade.mean(1) / 50)
    numbers[places // columns, places % columns] = np.stack(told, 1)
    return kinds, numbers


def _stamp(pixels: np.ndarray, y: np.ndarray, x: np.ndarray, stamps: np.ndarray, shade: np.ndarray) -> None:
    """Add stamps [n, S, S] times shade [n, 3] around each (y, x), in place."""
    height, width, reach = *pixels.shape[1:], stamps.shape[1] // 2
    at = zip(y.astype(int).tolist(), x.astype(int).tolist(), strict=True)
    for stamp, colour, (row, column) in zip(stamps, shade[:, :, None, None], at, strict=True):
        top, left, bottom, right = row - reach, column - reach, row + reach + 1, column + reach + 1
        up, before = max(-top, 0), max(-left, 0)
        part = stamp[up : height - top, before : width - left]
        pixels[:, top + up : bottom, left + before : right] += part * colour

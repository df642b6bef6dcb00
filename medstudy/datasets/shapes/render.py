"""Pixels of a scene of the general corpus: texture, shapes at twice the size, then dots and noise."""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from medstudy.datasets.shapes.scene import Item, Scene

SCALE = 2  # shapes are drawn at twice the size and averaged down


def render(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB image of its height and width."""
    field = FIELDS[scene.texture](scene, rng) * scene.amplitude
    ground = np.clip(np.float32(scene.base) + field[..., None], 0, 255).astype(np.uint8)
    canvas = Image.fromarray(ground).resize((scene.width * SCALE, scene.height * SCALE), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas, "RGBA")
    for item in scene.items:
        _shape(pen, item)
    for *ends, thickness in scene.lines:
        pen.line([SCALE * end for end in ends], fill=scene.marks.rgb, width=round(SCALE * thickness))
    if scene.word:
        _text(pen, scene, rng)
    image = canvas.reduce(SCALE)
    if scene.blur and scene.items:
        image = image.filter(ImageFilter.GaussianBlur(scene.blur))
    return Image.fromarray(_finish(np.asarray(image, np.float32), scene, rng))


def _finish(pixels: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Dots added, a trace of sensor noise, and rounding to uint8; `pixels` [H, W, 3]."""
    pixels = pixels + rng.standard_normal(pixels.shape[:2], np.float32)[..., None] * rng.uniform(0.0, 1.0)
    for dot in scene.dots:
        _disc(pixels, dot.x, dot.y, dot.diameter / 2, scene.marks.rgb)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def _disc(pixels: np.ndarray, x: float, y: float, radius: float, rgb: tuple[int, int, int]) -> None:
    """Blend a disc into `pixels` in place; at its edge by the share of each pixel that it covers."""
    reach = int(radius + 2)
    top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
    patch = pixels[top : int(y) + reach + 1, left : int(x) + reach + 1]
    rows, columns = np.ogrid[top : top + patch.shape[0], left : left + patch.shape[1]]
    cover = np.clip(radius + 0.5 - np.hypot(columns + 0.5 - x, rows + 0.5 - y), 0, 1)[..., None]
    patch += cover * (np.float32(rgb) - patch)


def _shape(pen: ImageDraw.ImageDraw, item: Item) -> None:
    x, y, r = SCALE * item.x, SCALE * item.y, SCALE * item.radius
    fill = (*item.rgb, round(255 * item.alpha))
    box = (x - r, y - r * item.aspect, x + r, y + r * item.aspect)
    if item.shape == "ring":
        pen.ellipse(box, outline=fill, width=max(round(r / 4), 3))
    elif item.shape in OUTLINES:
        pen.polygon([(x + r * u, y + r * v) for u, v in OUTLINES[item.shape]], fill=fill)
    else:
        pen.ellipse(box, fill=fill)


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    radii = [1.1 if k % 2 == 0 else inner for k in range(2 * points)]
    return [(q * sin(pi * k / points), -q * cos(pi * k / points)) for k, q in enumerate(radii)]


_ARM = [(0.3, 1.0), (0.3, 0.3), (1.0, 0.3)]
OUTLINES = {  # corners in radii about the centre
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0.0, -1.05), (1.0, 0.75), (-1.0, 0.75)],
    "star": _star(5, 0.45),
    "cross": [
        *_ARM, *((u, -v) for u, v in reversed(_ARM)), *((-u, -v) for u, v in _ARM),
        *((-u, v) for u, v in reversed(_ARM)),
    ],
}

_font = lru_cache(maxsize=64)(ImageFont.load_default)


def _text(pen: ImageDraw.ImageDraw, scene: Scene, rng: np.random.Generator) -> None:
    """The word at a random position where it fits, 10 to 30 px high if the width allows."""
    text = scene.word.upper() if scene.capitals else scene.word
    limit = min(1.3 * scene.width * SCALE / len(text), 0.8 * scene.height * SCALE, 60)
    font = _font(int(rng.uniform(min(20, limit), limit)) // 2 * 2)
    left, top, right, bottom = pen.textbbox((0, 0), text, font)
    x = rng.uniform(0.04, 0.96) * max(scene.width * SCALE - (right - left), 0)
    y = rng.uniform(0.04, 0.96) * max(scene.height * SCALE - (bottom - top), 0)
    pen.text((x - left, y - top), text, scene.marks.rgb, font)


def _grid(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    return np.ogrid[0 : scene.height, 0 : scene.width]


def _smooth(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((scene.height, scene.width), np.float32)


def _gradient(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    rows, columns = _grid(scene)
    ramps = {"right": columns / scene.width, "left": 1 - columns / scene.width,
             "bottom": rows / scene.height, "top": 1 - rows / scene.height}
    ramp = np.broadcast_to(ramps[scene.direction], (scene.height, scene.width))
    return (3.0 * ramp - 1.5).astype(np.float32)


def _fine(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((scene.height, scene.width), np.float32)


def _blotches(scene: Scene, rng: np.random.Generator, cell: float) -> np.ndarray:
    """Noise of unit spread whose grains are about `cell` px wide."""
    shape = (int(scene.height / cell) + 2, int(scene.width / cell) + 2)
    noise = Image.fromarray(rng.standard_normal(shape, np.float32))
    return np.asarray(noise.resize((scene.width, scene.height), Image.Resampling.BICUBIC))


def _coarse(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return 1.3 * _blotches(scene, rng, rng.uniform(3.5, 6.0))


def _clouds(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Three octaves whose strength falls with frequency, as in natural scenes."""
    return _blotches(scene, rng, 36) + 0.7 * _blotches(scene, rng, 18) + 0.4 * _blotches(scene, rng, 9)


def _stripes(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    rows, columns = _grid(scene)
    across = {"horizontal": rows + 0 * columns, "vertical": columns + 0 * rows,
              "diagonal": (columns + rng.choice((-1, 1)) * rows) * 0.71}[scene.direction]
    wave = np.sin(2 * pi * (across / rng.uniform(6, 18) + rng.random()))
    return np.clip(rng.choice((1.2, 6.0)) * wave, -1, 1).astype(np.float32)


def _lattice(scene: Scene, rng: np.random.Generator, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = _grid(scene)
    step, shift = rng.uniform(low, high), rng.random()
    return np.sin(2 * pi * (rows / step + shift)), np.sin(2 * pi * (columns / step + shift))


def _dotted(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    down, along = _lattice(scene, rng, 9, 18)
    return np.clip(4 * (down + along - 0.9), -1, 1).astype(np.float32) * rng.choice((-1, 1))


def _checks(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    down, along = _lattice(scene, rng, 12, 28)
    return np.clip(8 * down * along, -1, 1).astype(np.float32)


FIELDS = {
    "smooth": _smooth, "gradient": _gradient, "fine grain": _fine, "coarse grain": _coarse,
    "clouds": _clouds, "stripes": _stripes, "dots": _dotted, "checks": _checks,
}

"""The kinds of small marks of `medstudy.datasets.shapes.fine`, each the signed distance to its outline in radii."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (along, across) in radii -> distance, negative inside


def _bar(u: np.ndarray, v: np.ndarray, half: float = 0.32) -> np.ndarray:
    return np.maximum(np.abs(u) - 1, np.abs(v) - half)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.72 - 0.3 * np.cos(5 * np.arctan2(v, u))


def _dots(*centres: tuple[float, float]) -> Distance:
    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.minimum.reduce([np.hypot(u - a, v - b) for a, b in centres]) - 0.36

    return distance


MARKS: dict[str, Distance] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.9,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.75) - 0.22,
    "ellipse": lambda u, v: (np.hypot(u, v / 0.55) - 1) * 0.7,
    "bar": _bar,
    "two bars": lambda u, v: _bar(u, np.abs(v) - 0.6, 0.25),
    "cross": lambda u, v: np.minimum(_bar(u, v, 0.25), _bar(v, u, 0.25)),
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.85,
    "triangle": lambda u, v: np.maximum(v - 0.6, np.abs(u) * 0.85 - v * 0.5 - 0.5),
    "star": _star,
    "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.95, 0.8 - np.hypot(u - 0.45, v)),
    "two dots": _dots((-0.6, 0.0), (0.6, 0.0)),
    "three dots": _dots((-0.6, 0.4), (0.6, 0.4), (0.0, -0.65)),
}
DISTANCES = tuple(MARKS.values())


def cover(kind: np.ndarray, y: np.ndarray, x: np.ndarray, size: np.ndarray, angle: np.ndarray, soft: float
          ) -> np.ndarray:
    """[n, S, S] float32: how much of each pixel around (y, x) a mark covers; soft: px over which its edge rises.

    kind [n]: index in MARKS; size [n]: diameter, px; angle [n]: radians. S is odd, and fits the largest mark.
    """
    reach = int(size.max() / 2 * 1.1 + soft) + 1
    near = np.arange(-reach, reach + 1, dtype=np.float32) + 0.5
    dy, dx = (near[None] - np.float32(part % 1)[:, None] for part in (y, x))
    dy, dx = dy[:, :, None], dx[:, None, :]
    cos, sin, radius = (np.float32(part)[:, None, None] for part in (np.cos(angle), np.sin(angle), size / 2))
    along, across = (dx * cos + dy * sin) / radius, (dy * cos - dx * sin) / radius
    distance = np.empty(along.shape, np.float32)
    for each in np.unique(kind):
        chosen = kind == each
        distance[chosen] = DISTANCES[each](along[chosen], across[chosen])
    return np.clip(0.5 - distance * radius / soft, 0, 1)

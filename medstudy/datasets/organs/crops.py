"""Crops of the volumes of `organs` at native scale, and questions on them that are measured from the label maps.

`detail_px` is as in atlas: of the organ at the centre, the diameter of the widest disc of that organ there; of a
tumour, its equivalent diameter in the slice. The same crop asks the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from medstudy.data import formats
from medstudy.data.example import Question
from medstudy.datasets.atlas.measure import diameter, rng_of
from medstudy.datasets.organs.volumes import ORGANS, Volume

LOW, HIGH = 140, 448  # pixels of a side
DEPTHS = (1.5, 3.0, 6.0, 12.0)  # pixels from the centre to the organ's edge, at least; each as often where it exists
PART = 400  # an organ counts as visible from this many pixels
NAMES = tuple(ORGANS)
WHICH = "Which of these is at the exact centre of the image?"


@dataclass(frozen=True)
class Crop:
    """box: top, left, bottom, right in the slice `z` of the volume."""

    id: str
    volume: Volume
    z: int
    box: tuple[int, int, int, int]
    questions: tuple[Question, ...]

    @property
    def pixels(self) -> np.ndarray:
        """uint8 [h, w, 3]."""
        top, left, bottom, right = self.box
        return np.repeat(self.volume.grey[self.z, top:bottom, left:right, None], 3, axis=2)


def of_organs(volume: Volume, z: int, count: int) -> Iterator[Crop]:
    """`count` crops of a slice, each centred in an organ; every organ is as likely."""
    depths = organ_depths(volume.labels[z])
    for k in range(count):
        name = f"organs-{volume.about.name}-{z:03d}-{k:03d}"
        rng = rng_of(name)
        code = int(rng.choice(sorted(depths)))
        box, depth = centred(depths[code], rng)
        organ = NAMES[code - 1]
        questions = [formats.worded("organ", WHICH, organ, NAMES, "organ", round(2 * depth, 1))]
        questions += visible(volume.labels[z, box[0] : box[2], box[1] : box[3]], rng)
        yield Crop(name, volume, z, box, tuple(questions))


def organ_depths(labels: np.ndarray) -> dict[int, np.ndarray]:
    """For each organ that can be at a crop's centre: at every such place its distance to the organ's edge, else 0."""
    height, width = labels.shape
    half = LOW // 2
    found = {}
    for code, place in enumerate(ndimage.find_objects(labels, max_label=len(NAMES)), start=1):
        if place is None:
            continue
        depth = np.zeros(labels.shape, np.float32)
        inside = np.pad(labels[place] == code, 1)  # beyond its bounding box there is none of it
        depth[place] = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
        depth[:half], depth[height - half :] = 0, 0
        depth[:, :half], depth[:, width - half :] = 0, 0
        if depth.max() >= DEPTHS[0]:
            found[code] = depth
    return found


def centred(depth: np.ndarray, rng: Generator) -> tuple[tuple[int, int, int, int], float]:
    """A box whose exact centre lies at least a random one of DEPTHS deep, and how deep it lies."""
    least = rng.choice([value for value in DEPTHS if depth.max() >= value])
    places = np.argwhere(depth >= least)
    y, x = map(int, places[int(rng.integers(len(places)))])
    height, width = (
        int(rng.integers(LOW, min(HIGH, 2 * min(at, side - at)) + 1))
        for at, side in zip((y, x), depth.shape, strict=True)
    )
    top, left = y - height // 2, x - width // 2
    return (top, left, top + height, left + width), float(depth[y, x])


def visible(labels: np.ndarray, rng: Generator) -> Iterator[Question]:
    """A coarse question: is an organ in the crop? Not asked of one that shows only a few pixels."""
    areas = np.bincount(labels.ravel(), minlength=len(NAMES) + 1)[1:]
    wanted = bool(rng.random() < 0.5)
    clear = [code for code, area in enumerate(areas) if (area >= PART if wanted else area == 0)]
    if clear:
        organ = NAMES[clear[int(rng.integers(len(clear)))]]
        yield Question.closed("visible", f"Is part of the {organ} visible?", wanted, "visible")


def of_tumour(volume: Volume, count: int) -> Iterator[Crop]:
    """For each slice with the tumour `count` crops that have all of it, and as many of the same places without it.

    The latter are of slices at least two away from the tumour, and at most six.
    """
    areas = (volume.labels > 0).sum(axis=(1, 2))
    having = np.flatnonzero(areas)
    away = np.abs(np.arange(len(areas))[:, None] - having).min(axis=1)
    free = np.flatnonzero((away >= 2) & (away <= 6))
    usual = float(np.median([diameter(area) for area in areas[having]]))
    for z in map(int, having):
        for k in range(count):
            name = f"organs-{volume.about.name}-{z:03d}-{k:03d}"
            rng = rng_of(name)
            box = around(volume.labels[z], rng)
            present = Question.closed("tumour", "Is a tumour visible?", True, "tumour", diameter(areas[z]))
            yield Crop(f"{name}-with", volume, z, box, (present,))
            without = Question.closed("tumour", "Is a tumour visible?", False, "tumour", usual)
            yield Crop(f"{name}-without", volume, int(rng.choice(free)), box, (without,))


def around(labels: np.ndarray, rng: Generator) -> tuple[int, int, int, int]:
    """A random box with sides of LOW to HIGH, or all of a shorter side, that has every labelled pixel."""
    ends = []
    for side, place in zip(labels.shape, ndimage.find_objects(labels)[0], strict=True):
        length = int(rng.integers(min(LOW, side), min(HIGH, side) + 1))
        start = int(rng.integers(max(0, place.stop - length), min(place.start, side - length) + 1))
        ends.append((start, start + length))
    (top, bottom), (left, right) = ends
    return top, left, bottom, right

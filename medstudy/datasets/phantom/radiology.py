"""Radiology: chest films (lungs, ribs, heart on anatomical noise) and mammograms (parenchyma with 1/f^3 noise).

Fine: nodules, interstitial mesh; microcalcifications, spiculated margins. Coarse: heart, effusion; side, density.
"""

from __future__ import annotations

from numpy.random import Generator

from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.chest import Chest
from medstudy.datasets.phantom.drawing import QUADRANTS
from medstudy.datasets.phantom.mammogram import Mammogram


def plan(rng: Generator) -> Chest | Mammogram:
    """Draw what an image shows: every answer is equally likely and independent of all sizes."""
    flip = lambda: bool(rng.random() < 0.5)  # noqa: E731
    if flip():
        return Chest(
            shape=drawing.sides(rng, 308, 448, (0.8, 1.25)),
            nodules=flip(),
            nodule_px=drawing.log_uniform(rng, 2, 24),
            quadrant=drawing.choose(rng, QUADRANTS),
            mesh=flip(),
            mesh_px=drawing.log_uniform(rng, 2, 16),
            enlarged=flip(),
            effusion=drawing.choose(rng, ("left", "right", "", "")),
        )
    shape = drawing.sides(rng, 308, 448, (0.7, 0.95))
    calcification, mass = rng.permutation(4)[:2]
    return Mammogram(
        shape=shape,
        calcifications=flip(),
        calcification_px=drawing.log_uniform(rng, 2, 18),
        quadrant=QUADRANTS[calcification],
        spiculated=flip(),
        spicule_px=drawing.log_uniform(rng, 2, 10),
        mass_quadrant=QUADRANTS[mass],
        points=drawing.choose(rng, ("left", "right")),
        dense=flip(),
    )

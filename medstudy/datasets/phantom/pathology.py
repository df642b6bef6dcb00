"""Pathology: stained sections. Nuclei with chromatin, in glands, sheets, spindle bundles or lymphoid tissue.

Fine: phase of the mitotic figures, chromatin pattern. Coarse: architecture, stain, what else the tissue shows.
"""

from __future__ import annotations

from numpy.random import Generator

from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.tissue import ARCHITECTURE, CHANGES, Section

MITOSES = ("Metaphase", "Anaphase", "No mitosis")
CHROMATIN = ("Stippled", "Vesicular", "Smudged")
STAINS = ("Hematoxylin and eosin", "Immunohistochemistry")


def plan(rng: Generator) -> Section:
    """Draw what a section shows: every answer is equally likely, and no size reveals a fine one."""
    architecture = drawing.choose(rng, tuple(ARCHITECTURE))
    nucleus = drawing.log_uniform(rng, 18, 28 if architecture == "Lymphoid tissue" else 48)
    most = 0.3 * nucleus
    sets = (MITOSES, CHROMATIN, tuple(ARCHITECTURE), tuple(CHANGES), STAINS)
    return Section(
        shape=drawing.sides(rng, 252, 392, (0.75, 1.33)),
        nucleus_px=nucleus,
        mitosis=drawing.choose(rng, MITOSES),
        plate_px=drawing.log_uniform(rng, 2, most),
        chromatin=drawing.choose(rng, CHROMATIN),
        grain_px=drawing.log_uniform(rng, 2, most),
        architecture=architecture,
        change=drawing.choose(rng, tuple(CHANGES)),
        stain=drawing.choose(rng, STAINS),
        orders=tuple(tuple(str(o) for o in rng.permutation(options)) for options in sets),
    )

"""Pathology: stained sections. Nuclei with chromatin, in glands, sheets, spindle bundles or lymphoid tissue.

Fine: phase of the mitotic figures, chromatin pattern. Coarse: architecture, stain, what else the tissue shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from medstudy.datasets.phantom import noise, section
from medstudy.records import LETTERS, Question

MITOSES = ("Metaphase", "Anaphase", "No mitosis")
CHROMATIN = ("Stippled", "Vesicular", "Smudged")
ARCHITECTURE = {  # name -> anatomy tag
    "Glands": "colon",
    "Solid sheets": "liver",
    "Spindle cell bundles": "soft tissue",
    "Lymphoid tissue": "lymph node",
}
STAINS = ("Hematoxylin and eosin", "Immunohistochemistry")


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

    def render(self, rng: Generator) -> noise.Array:
        return section.draw(self, rng)


def plan(rng: Generator) -> Section:
    """Decide what a section shows; every answer is a fair draw, and no size tells a fine one."""
    architecture = noise.choose(rng, tuple(ARCHITECTURE))
    nucleus = noise.log_uniform(rng, 18, 28 if architecture == "Lymphoid tissue" else 48)
    most = 0.3 * nucleus
    sets = (MITOSES, CHROMATIN, tuple(ARCHITECTURE), tuple(section.CHANGES), STAINS)
    return Section(
        shape=noise.sides(rng, 252, 392, (0.75, 1.33)),
        nucleus_px=nucleus,
        mitosis=noise.choose(rng, MITOSES),
        plate_px=noise.log_uniform(rng, 2, most),
        chromatin=noise.choose(rng, CHROMATIN),
        grain_px=noise.log_uniform(rng, 2, most),
        architecture=architecture,
        change=noise.choose(rng, tuple(section.CHANGES)),
        stain=noise.choose(rng, STAINS),
        orders=tuple(tuple(str(o) for o in rng.permutation(options)) for options in sets),
    )

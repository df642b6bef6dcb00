"""Subcellular: cultured cells as in the Human Protein Atlas. Green protein, blue nucleus, red microtubules.

The cell line shows in size and shape; the localizations differ in fineness. Fine: the description, and whether
the protein is found in one compartment. Coarse: nucleus or cytoplasm, crowding.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from medstudy.datasets.phantom import culture, noise
from medstudy.datasets.phantom.culture import CYTOPLASMIC, LINES, NUCLEAR
from medstudy.records import Question

LOCALIZATIONS = NUCLEAR + CYTOPLASMIC
SIZES = {  # range of the feature's diameter or thickness in pixels
    "nucleoplasm": None,  # the nucleus itself
    "cytosol": None,
    "nucleoli": (3, 14),
    "mitochondria": (2, 8),
    "vesicles": (2, 14),
    "plasma membrane": (2, 10),
    "centrosome": (2.5, 14),
    "microtubules": (1.7, 4),
}
FINE = tuple(name for name in LOCALIZATIONS if SIZES[name])


@dataclass(frozen=True)
class Field:
    """What one field of view shows. `sizes` holds every localization's feature size, present or not."""

    shape: tuple[int, int]
    line: str
    crowded: bool
    localizations: tuple[str, ...]
    sizes: dict[str, float]
    asked: tuple[str, str]  # the localizations of the two closed questions
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
            Question(
                f"in_{name.replace(' ', '_')}",
                f"Is the protein found in the {name}?",
                "yes" if name in self.localizations else "no",
                "closed",
                "compartment found",
                detail_px=self.sizes[name],
            )
            for name in self.asked
        )
        coarse = (
            Question(
                "compartment",
                "Is the protein in the nucleus, in the cytoplasm or in both?",
                self.compartment,
                "open",
                "compartment",
            ),
            Question("crowded", "Are the cells crowded?", "yes" if self.crowded else "no", "closed", "crowding"),
        )
        return described, *closed, *coarse

    def render(self, rng: Generator) -> noise.Array:
        return culture.draw(self, rng)


def plan(rng: Generator) -> Field:
    """Decide what a field shows. Closed questions are "yes" half of the time for every localization asked about."""
    line = noise.choose(rng, tuple(LINES))
    sizes = {name: noise.log_uniform(rng, *SIZES[name]) if SIZES[name] else 0.0 for name in LOCALIZATIONS}
    sizes["nucleoplasm"] = round(2 * LINES[line].nucleus, 2)
    sizes["cytosol"] = round(LINES[line].cell - LINES[line].nucleus, 2)
    asked = tuple(str(name) for name in rng.permutation(FINE)[:2])
    localizations = _localizations(rng, asked)
    return Field(
        shape=noise.sides(rng, 252, 364, (0.9, 1.12)),
        line=line,
        crowded=bool(rng.random() < 0.5),
        localizations=localizations,
        sizes=sizes,
        asked=asked,
    )


def _localizations(rng: Generator, asked: tuple[str, str]) -> tuple[str, ...]:
    """One or two localizations: each one asked about is in with a fair chance, the others keep compartments even."""
    chosen = [name for name in asked if rng.random() < 0.5]
    inner, outer = ([name for name in group if name not in asked] for group in (NUCLEAR, CYTOPLASMIC))
    outer += ["cytosol"] * 4  # never asked about, so otherwise rare
    if not chosen:
        chosen = [str(rng.choice(inner if rng.random() < 0.75 else outer))]
        if rng.random() < 0.4:
            chosen += [str(name) for name in rng.permutation([n for n in inner if n not in chosen])[:1]]
    elif len(chosen) == 1 and rng.random() < 0.7:
        same, other = (inner, outer) if chosen[0] in NUCLEAR else (outer, inner)
        chosen += [str(rng.choice(other if rng.random() < 0.8 else same))]
    return tuple(name for name in LOCALIZATIONS if name in chosen)

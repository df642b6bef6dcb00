"""Subcellular: cultured cells as in the Human Protein Atlas. Green protein, blue nucleus, red microtubules.

The cell line shows in size and shape; the localizations differ in fineness. Fine: the description, and whether
the protein is found in one compartment. Coarse: nucleus or cytoplasm, crowding.
"""

from __future__ import annotations

from numpy.random import Generator

from medstudy.datasets.phantom import drawing
from medstudy.datasets.phantom.cells import CYTOPLASMIC, LINES, NUCLEAR, Field

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


def plan(rng: Generator) -> Field:
    """Draw what a field shows. The answer of a closed question is "yes" half of the time for each localization."""
    line = drawing.choose(rng, tuple(LINES))
    sizes = {name: drawing.log_uniform(rng, *SIZES[name]) if SIZES[name] else 0.0 for name in LOCALIZATIONS}
    sizes["nucleoplasm"] = round(2 * LINES[line].nucleus, 2)
    sizes["cytosol"] = round(LINES[line].cell - LINES[line].nucleus, 2)
    queried = tuple(str(name) for name in rng.permutation(FINE)[:2])
    localizations = _localizations(rng, queried)
    return Field(
        shape=drawing.sides(rng, 252, 364, (0.9, 1.12)),
        line=line,
        crowded=bool(rng.random() < 0.5),
        localizations=localizations,
        sizes=sizes,
        queried=queried,
    )


def _localizations(rng: Generator, queried: tuple[str, str]) -> tuple[str, ...]:
    """One or two localizations: each in `queried` has an even chance; the others keep the compartments balanced."""
    chosen = [name for name in queried if rng.random() < 0.5]
    inner, outer = ([name for name in group if name not in queried] for group in (NUCLEAR, CYTOPLASMIC))
    outer += ["cytosol"] * 4  # no closed question is about it, so it would be rare
    if not chosen:
        chosen = [str(rng.choice(inner if rng.random() < 0.75 else outer))]
        if rng.random() < 0.4:
            chosen += [str(name) for name in rng.permutation([n for n in inner if n not in chosen])[:1]]
    elif len(chosen) == 1 and rng.random() < 0.7:
        same, other = (inner, outer) if chosen[0] in NUCLEAR else (outer, inner)
        chosen += [str(rng.choice(other if rng.random() < 0.8 else same))]
    return tuple(name for name in LOCALIZATIONS if name in chosen)

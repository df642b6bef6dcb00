"""Our own claims O8 to O10: the gain of native over low resolution on fine questions (O1) as a sum of three parts.

Four arms, each trained and run on its own view, answer the same questions with the same seeds:

    native ──information──► down_up ──tokens and scale──► equal_flops ──compute──► low

- native: images at their own size.
- down_up: the same sizes and visual tokens, without the detail finer than the low resolution.
- equal_flops: images at the low resolution, as many steps as take the FLOPs of native's training.
- low: images at the low resolution, as many epochs as native.

Each part is the mean difference of two neighbours, so the three estimates add up to the gain exactly. Each has the
interval of a paired difference: by question and seed, over images and training seeds, both random (Hillis 2014; see
`medstudy.statistics.intervals`). Parts share arms, so their intervals do not add up, and each holds by itself: they are
not simultaneous.

The rule of all three, fixed before any study with these arms was read: supported if the interval is above 0, not
supported if it is below 0, else inconclusive; no verdict with one training seed, or if the native models do not beat
the blind control (O6).
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from medstudy.claims.claim import Finding, above_zero, basis, claim, needs_image
from medstudy.claims.study_scores import NotRun, StudyScores
from medstudy.statistics import paired_difference

NATIVE, DOWN_UP, EQUAL_FLOPS, LOW = "native", "down_up", "equal_flops", "low"  # the arms


@dataclass(frozen=True)
class Part:
    """A part of the gain: the arm that has something, minus the arm that lacks it."""

    id: str
    words: str
    has: str
    lacks: str


PARTS = (
    Part("O8", "information", NATIVE, DOWN_UP),
    Part("O9", "tokens and scale", DOWN_UP, EQUAL_FLOPS),
    Part("O10", "compute", EQUAL_FLOPS, LOW),
)


def arms(study: StudyScores) -> dict[str, pd.DataFrame]:
    """The scores of each arm that the study has, at its own view, over the seeds that all of them have."""
    cells = {}
    for arm, (regime, view) in views(study).items():
        rows = study.test[(study.test["regime"] == regime) & (study.test["inference"] == view)]
        rows = rows[rows["control"] == (DOWN_UP if arm == DOWN_UP else "none")]
        if len(rows):
            cells[arm] = rows
    seeds = set.intersection(*(set(rows["seed"]) for rows in cells.values())) if cells else set()
    return {arm: rows[rows["seed"].isin(seeds)] for arm, rows in cells.items()}


def views(study: StudyScores) -> dict[str, tuple[str, str]]:
    """The regime and the view of each arm, by their labels."""
    down_up = f"{DOWN_UP}-{study.side}"
    mode = study.low.rsplit("-", 1)[0]
    longer = f"{EQUAL_FLOPS}-{study.side}" if mode == "fixed" else f"{EQUAL_FLOPS}_{mode}-{study.side}"
    return {NATIVE: (study.native, study.native), DOWN_UP: (down_up, down_up),
            EQUAL_FLOPS: (longer, study.low), LOW: (study.low, study.low)}


@claim("O8", "Ours: on fine questions, models gain from detail finer than the low resolution: trained and run with it, "
       "or without it on as many visual tokens (information, points)")
def information(study: StudyScores) -> Finding:
    """Aligned native minus down_up, each trained and run on its own view, over fine questions."""
    return _part(study, PARTS[0], "Both have the same number of visual tokens, the same sizes and the same FLOPs.")


@claim("O9", "Ours: on fine questions, models gain from native's visual tokens and scale, without its detail and at "
       "equal training FLOPs (tokens and scale, points)")
def tokens_and_scale(study: StudyScores) -> Finding:
    """down_up minus low resolution at equal training FLOPs, each trained and run on its own view."""
    return _part(study, PARTS[1], "Both have the same information and training FLOPs; the first shows it in more "
                                  "visual tokens and in fewer epochs.")


@claim("O10", "Ours: on fine questions, low-resolution models gain from as many training FLOPs as native's (compute, "
       "points)")
def compute(study: StudyScores) -> Finding:
    """Low resolution at native's training FLOPs minus low resolution for native's epochs, both run at low."""
    return _part(study, PARTS[2], "Both have the same view; the first repeats the same images more often.")


def _part(study: StudyScores, part: Part, words: str) -> Finding:
    fine = {arm: rows[rows["level"] == "fine"] for arm, rows in arms(study).items()}
    names = views(study)
    for arm in (part.has, part.lacks):
        if arm not in fine:
            raise NotRun("needs the regime {} evaluated at {}, which this study lacks".format(*names[arm]))
        if fine[arm].empty:
            raise NotRun("needs fine questions: a data set that knows the size of the deciding detail")
    gain = paired_difference(fine[part.has], fine[part.lacks], confidence=study.confidence)
    first, second = ("trained at {} and run at {}".format(*names[arm]) for arm in (part.has, part.lacks))
    why = f"Fine questions, models {first} minus models {second} ({basis(gain)}). {words} {_sum(fine)}".rstrip()
    return needs_image(study, above_zero(gain, why))


def _sum(fine: dict[str, pd.DataFrame]) -> str:
    """The three parts and their sum in words; empty if an arm is missing."""
    if set(fine) != {NATIVE, DOWN_UP, EQUAL_FLOPS, LOW}:
        return ""
    means = {arm: 100 * rows["score"].mean() for arm, rows in fine.items()}
    parts = ", ".join(f"{part.words} {means[part.has] - means[part.lacks]:+.1f} ({part.id})" for part in PARTS)
    return f"The parts add up to the gain of {means[NATIVE] - means[LOW]:+.1f} points (O1): {parts}."


CLAIMS = (information, tokens_and_scale, compute)

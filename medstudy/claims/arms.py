"""Our own claims O8 to O10: the gain of native over low resolution on fine questions (O1) as a sum of three parts.

Four arms, each trained and run on its own view, answer the same questions with the same seeds: native, down_up, low
at equal FLOPs, and low (`medstudy.statistics.gain_parts`). Each part is the mean difference of two neighbours, so the
three estimates add up to the gain exactly. Each has the interval of a paired difference: by question, over
images and training seeds, both random (Hillis 2014; see `medstudy.statistics.intervals`). Parts share arms, so their
intervals do not add up, and each holds by itself: they are not simultaneous.

The rule of all three, fixed before any study with these arms was read: supported if the interval is above 0, not
supported if it is below 0, else inconclusive; no verdict where no claim has one (`claim`).
"""

from __future__ import annotations

import pandas as pd

from medstudy.claims.claim import Finding, above_zero, basis, claim
from medstudy.claims.study_scores import NotRun, StudyScores
from medstudy.statistics import paired_difference
from medstudy.statistics.gain_parts import GAIN, PARTS, Part, arms, views

IDS = ("O8", "O9", "O10")  # of the claims about the parts


@claim(IDS[0], "Ours: detail finer than the low resolution helps on fine questions, at the same visual tokens and "
       "training FLOPs (information, points)", needs_training=True)
def information(study: StudyScores) -> Finding:
    """Aligned native minus down_up, each trained and run on its own view, over fine questions."""
    return _part(study, PARTS[0], "Both have the same number of visual tokens, the same sizes and the same FLOPs.")


@claim(IDS[1], "Ours: native's visual tokens and scale help on fine questions, without its detail and at the same "
       "training FLOPs (points)", needs_training=True)
def tokens_and_scale(study: StudyScores) -> Finding:
    """down_up minus low resolution at equal training FLOPs, each trained and run on its own view."""
    return _part(study, PARTS[1], "Both have the same information and training FLOPs; the first shows it in more "
                                  "visual tokens and in fewer epochs.")


@claim(IDS[2], "Ours: native's training FLOPs help on fine questions, at the low resolution (compute, points)",
       needs_training=True)
def compute(study: StudyScores) -> Finding:
    """Low resolution at native's training FLOPs minus low resolution for native's epochs, both run at low."""
    return _part(study, PARTS[2], "Both have the same view; the first repeats the same images more often.")


def _part(study: StudyScores, part: Part, words: str) -> Finding:
    labels = study.native, study.low
    names, cells = views(*labels), arms(study.test, *labels)
    fine = {arm: rows[rows["level"] == "fine"] for arm, rows in cells.items()}
    for arm in (part.has, part.lacks):
        if arm not in fine:
            raise NotRun("needs the regime {} evaluated at {}, which this study lacks".format(*names[arm]))
        if fine[arm].empty:
            raise NotRun("needs fine questions: a data set that knows the size of the deciding detail")
    gain = paired_difference(fine[part.has], fine[part.lacks], confidence=study.confidence)
    first, second = ("trained at {} and run at {}".format(*names[arm]) for arm in (part.has, part.lacks))
    why = f"Fine questions, models {first} minus models {second} ({basis(gain)}). {words} {_sum(fine)}".rstrip()
    return above_zero(gain, why)


def _sum(fine: dict[str, pd.DataFrame]) -> str:
    """The three parts and their sum in words; empty if an arm is missing."""
    if not {arm for part in PARTS for arm in (part.has, part.lacks)} <= set(fine):
        return ""
    means = {arm: 100 * rows["score"].mean() for arm, rows in fine.items()}
    gain, *parts = (means[part.has] - means[part.lacks] for part in (GAIN, *PARTS))
    words = ", ".join(f"{part.words} {value:+.1f} ({id})" for id, part, value in zip(IDS, PARTS, parts, strict=True))
    return f"The parts add up to the gain of {gain:+.1f} points (O1): {words}."


CLAIMS = (information, tokens_and_scale, compute)

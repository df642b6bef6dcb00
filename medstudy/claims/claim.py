"""What a claim under test is made of: the study it is tested in, its finding, its verdict.

A verdict comes from the interval alone, by the rule that stands in `why`. With
one training seed no verdict is given: the interval then leaves out training noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from medstudy.claims.study_scores import NotRun, Study, over_blind
from medstudy.statistics.intervals import Estimate
from medstudy.statistics.resampling import Draws

BLIND = (" No verdict: the native models cannot be told from the same models shown no image (O6), so their "
         "gains and losses say nothing.")


def if_looking(study: Study, found: Finding) -> Finding:
    """The finding, without a verdict where the native models do not use the image: O6 was run and is not above 0."""
    try:
        looks = bool(over_blind(study).low > 0)
    except NotRun:
        looks = True
    return found if looks else replace(found, yes=False, no=False, why=found.why + BLIND)


REPRODUCED, NOT, INCONCLUSIVE, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"


@dataclass(frozen=True)
class Claim:
    """One row of the claims table; estimate, low and high are NaN when the claim was not run."""

    id: str
    claim: str
    source_value: str
    estimate: float
    low: float
    high: float
    verdict: str
    why: str


@dataclass(frozen=True)
class Finding:
    """What a claim's function finds: the numbers, whether they say yes or no, and the reasons in words."""

    estimate: float
    low: float
    high: float
    yes: bool
    no: bool
    why: str


@dataclass(frozen=True)
class Test:
    """A claim as it is stated, and the function that finds out."""

    id: str
    claim: str
    source_value: str
    find: Callable[[Study], Finding]

    __test__ = False  # not one of pytest's

    def __call__(self, study: Study) -> Claim:
        """The claim with its verdict in this study."""
        try:
            found = self.find(study)
        except NotRun as missing:
            return Claim(self.id, self.claim, self.source_value, *[float("nan")] * 3, NOT_RUN,
                         f"Not run: {missing}.")
        verdict = REPRODUCED if found.yes else NOT if found.no else INCONCLUSIVE
        why = found.why
        if study.ladder["seed"].nunique() < 2:
            verdict = INCONCLUSIVE
            why += " One training seed: the interval leaves out training noise, so no verdict is given."
        numbers = (float(x) for x in (found.estimate, found.low, found.high))
        return Claim(self.id, self.claim, self.source_value, *numbers, verdict, why)


def claim(name: str, text: str, source_value: str) -> Callable[[Callable[[Study], Finding]], Test]:
    """Decorator: the function of a Study that tests this claim."""
    return lambda find: Test(name, text, source_value, find)


def rule(yes: str, no: str) -> str:
    """The sentence that states a verdict's rule."""
    return f"Rule: reproduced if {yes}; not reproduced if {no}; else inconclusive."


def basis(estimate: Estimate | Draws) -> str:
    """The sample sizes of an estimate, in words."""
    seeds = "1 seed" if estimate.n_seeds == 1 else f"{estimate.n_seeds} seeds"
    return f"{estimate.n_questions} questions, {estimate.n_images} independent images, {seeds}"


def points(estimate: Estimate) -> tuple[float, float, float]:
    """Estimate, low and high of a difference of scores, in percentage points."""
    return 100 * estimate.estimate, 100 * estimate.low, 100 * estimate.high

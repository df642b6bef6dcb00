"""What a claim is: a statement, the function that tests it, and the rule that turns an interval into a verdict.

A claim of the paper (C…) is reproduced or not reproduced, one of our own (O…) supported or not supported: each states
two conditions on its interval, one to hold and one to fail. It is inconclusive if
- the interval meets neither condition,
- the study has one training seed, so the interval lacks training noise, or
- the claim `needs_image`, and the native models are not shown to beat the same models without an image (O6).
It is not run if the study lacks scores that it needs (`NotRun`). The column `why` of claims.csv says all this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from medstudy.claims.study_scores import NotRun, StudyScores
from medstudy.statistics import Difference, Draws, Estimate

OURS = "none: our own"  # the source value of our own claims
PAPER_WORDS, OUR_WORDS = ("reproduced", "not reproduced"), ("supported", "not supported")
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"
ONE_SEED = "One training seed: the interval lacks training noise, so there is no verdict."
NO_IMAGE = (
    "No verdict: the native models are not shown to beat the same models without an image (O6), so their gains and "
    "losses mean nothing."
)


@dataclass(frozen=True)
class Claim:
    """One row of claims.csv; estimate, low and high are NaN if the claim was not run."""

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
    """What a claim's function returns: numbers, whether they meet its two conditions, and both in words."""

    estimate: float
    low: float
    high: float
    holds: bool
    fails: bool
    why: str
    holds_if: str
    fails_if: str
    no_verdict: str = ""  # a reason to give none, whatever the interval


@dataclass(frozen=True)
class ClaimTest:
    """A claim's statement, and the function that tests it in a study."""

    id: str
    claim: str
    source_value: str
    find: Callable[[StudyScores], Finding]

    def __call__(self, study: StudyScores) -> Claim:
        """The claim with its verdict in this study."""
        try:
            finding = self.find(study)
        except NotRun as missing:
            why, numbers = f"Not run: {missing}.", [float("nan")] * 3
            return Claim(self.id, self.claim, self.source_value, *numbers, NOT_RUN, why)
        yes, no = OUR_WORDS if self.source_value == OURS else PAPER_WORDS
        rule = f"Rule: {yes} if {finding.holds_if}; {no} if {finding.fails_if}; else {INCONCLUSIVE}."
        one_seed = ONE_SEED if study.ladder["seed"].nunique() < 2 else ""
        verdict = yes if finding.holds else no if finding.fails else INCONCLUSIVE
        if finding.no_verdict or one_seed:
            verdict = INCONCLUSIVE
        why = " ".join(filter(None, (finding.why, rule, finding.no_verdict, one_seed)))
        numbers = (float(x) for x in (finding.estimate, finding.low, finding.high))
        return Claim(self.id, self.claim, self.source_value, *numbers, verdict, why)


def claim(id: str, text: str, source_value: str = OURS) -> Callable[[Callable[[StudyScores], Finding]], ClaimTest]:
    """Decorator of the function that tests a claim; without a source value the claim is our own."""
    return lambda find: ClaimTest(id, text, source_value, find)


def needs_image(study: StudyScores, finding: Finding) -> Finding:
    """The finding, without a verdict if the blind control was run and the native models do not beat it (O6)."""
    try:
        uses_image = study.gain_from_image().low > 0
    except NotRun:
        uses_image = True
    return finding if uses_image else replace(finding, no_verdict=NO_IMAGE)


def above_zero(difference: Difference, why: str) -> Finding:
    """The finding of a claim that a difference of scores is above 0, in percentage points."""
    holds, fails = difference.low > 0, difference.high < 0
    return Finding(*points(difference), holds, fails, why, "the interval is above 0", "it is below 0")


def basis(estimate: Estimate | Draws) -> str:
    """The sample sizes of an estimate, in words."""
    seeds = "1 seed" if estimate.n_seeds == 1 else f"{estimate.n_seeds} seeds"
    return f"{estimate.n_questions} questions, {estimate.n_images} independent images, {seeds}"


def points(estimate: Estimate) -> tuple[float, float, float]:
    """Estimate, low and high of a difference of scores, in percentage points."""
    return 100 * estimate.estimate, 100 * estimate.low, 100 * estimate.high

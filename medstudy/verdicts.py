"""What a claim under test is made of: the study it is tested in, its finding, its verdict.

A verdict comes from the interval alone, by the rule that stands in `why`. With
one training seed no verdict is given: the interval then leaves out training noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from medstudy.intervals import Estimate
from medstudy.resampling import Draws

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


class NotRun(Exception):
    """The study lacks what a claim needs; becomes the verdict "not run"."""


@dataclass(frozen=True)
class Study:
    """Scores and training logs of one study, and the names of the policies that the claims speak of."""

    scores: pd.DataFrame
    training: pd.DataFrame | None = None
    low: str = "fixed-84"
    native: str = "native"
    mixed: str = "mixed"
    level: float = 0.95
    seed: int = 0

    @cached_property
    def test(self) -> pd.DataFrame:
        """The scores of the test split."""
        return self.scores[self.scores["split"] == "test"]

    @cached_property
    def ladder(self) -> pd.DataFrame:
        """The test scores without the controls."""
        return self.test[self.test["control"] == "none"]

    @property
    def side(self) -> str:
        """The side of the low policy's pixel budget: "84" of "fixed-84"."""
        return self.low.split("-")[-1]

    @property
    def add(self) -> str:
        """The regime that keeps every native sample and adds a low-resolution variant."""
        return f"add-{self.side}"

    def cell(self, regime: str, inference: str) -> pd.DataFrame:
        """The scores of one regime at one inference policy."""
        rows = self.ladder[(self.ladder["regime"] == regime) & (self.ladder["inference"] == inference)]
        if rows.empty:
            raise NotRun(f"needs the regime {regime} evaluated at {inference}, which this study lacks")
        return rows

    def aligned(self, policy: str) -> pd.DataFrame:
        """The scores of the regime trained and evaluated at the same policy."""
        return self.cell(policy, policy)


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

"""What a claim is: a statement, the function that tests it, and the rule that turns an interval into a verdict.

A claim of the paper (C…) is reproduced or not reproduced, one of our own (O…) supported or not supported: each states
two conditions on its interval, one to hold and one to fail. It is inconclusive if
- the interval meets neither condition,
- the study has one training seed, so the interval lacks training noise,
- the native models are not shown to beat the same models without an image (O6): a model that does not use the image
  says nothing about resolution. This holds for every claim but O6 itself; or
- the claim's function gives a reason of its own, such as a ratio to a score that may be 0.
It is not run if the study lacks scores that it needs (`NotRun`). The column `why` of claims.csv says all this.

A study without regimes has one model as it is. Claims that compare trainings are then not run: they need training. The
others compare the answers of this model at two rungs or under a control, and hold for it alone: there is no training
noise to miss, so the interval over images (or groups) is the whole interval, and one seed is no reason for no verdict.

An inconclusive claim says in `to_settle` how many images and seeds would settle it (`statistics.sample_size`), from the
study's own variances, if the estimate stays where it is. If the study is too small for the effect that the source
states, `why` says so too: "Not decidable at this size".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from medstudy.claims.study_scores import NotRun, StudyScores
from medstudy.statistics import Difference, Estimate, SampleSize, Spread, images_for, size_for

OURS = "none: our own"  # the source value of our own claims
PAPER_WORDS, OUR_WORDS = ("reproduced", "not reproduced"), ("supported", "not supported")
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"
POWER = 0.8  # share of studies that decide a claim if its effect is as stated; studies are sized for it
MEAN_GAIN = 12.7  # %: the average gain from native resolution that the source states
DESIGN_GAIN = MEAN_GAIN / 2  # points: the effect that our own claims are sized for, half the source's average gain
ONE_SEED = "One training seed: the interval lacks training noise, so there is no verdict."
NO_IMAGE = (
    "No verdict: the native models are not shown to beat the same models without an image (O6), so their gains and "
    "losses mean nothing."
)
NO_IMAGE_AS_IS = (
    "No verdict: the model at native is not shown to beat itself without an image (O6), so its gains and losses mean "
    "nothing."
)
NO_SEEDS = "1 seed"  # in a basis; of a model as it is, a word that means nothing
NEEDS_TRAINING = "needs training: it compares models that the study trains at different resolutions"
ONE_MODEL = "The interval is for this one model: it covers other images, not other trainings."
NO_SIZE = "no practical size: the estimate lies on the bound"


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
    to_settle: str  # images and seeds that would settle an inconclusive claim; else empty
    why: str


@dataclass(frozen=True)
class Precision:
    """What planning needs: variances, and distances in the same unit (a score, or the log of a ratio).

    needed: half the width of the interval that would settle the claim, with the estimate where it is.
    stated: the distance from the effect that the source states to the bound that decides.
    comparisons: for how many the interval is corrected, by Bonferroni.
    """

    spread: Spread
    needed: float
    stated: float
    comparisons: int = 1

    def size(
        self, distance: float, confidence: float, power: float = 0.5, trained: bool = True
    ) -> SampleSize | None:
        """`size_for` this distance with the corrected interval; for a model as it is `images_for`."""
        needed = size_for if trained else images_for
        return needed(self.spread, distance, 1 - (1 - confidence) / self.comparisons, power)


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
    precision: Precision | None = None


@dataclass(frozen=True)
class ClaimTest:
    """A claim's statement, and the function that tests it in a study."""

    id: str
    claim: str
    source_value: str
    find: Callable[[StudyScores], Finding]
    gated: bool = True  # no verdict unless the native models beat the blind control
    needs_training: bool = False  # it compares trainings, so a model as it is cannot decide it

    def __call__(self, study: StudyScores) -> Claim:
        """The claim with its verdict in this study."""
        try:
            if self.needs_training and not study.trained:
                raise NotRun(NEEDS_TRAINING)
            finding = self.find(study)
        except NotRun as missing:
            why, numbers = f"Not run: {missing}.", [float("nan")] * 3
            return Claim(self.id, self.claim, self.source_value, *numbers, NOT_RUN, "", why)
        finding = needs_image(study, finding) if self.gated else finding
        yes, no = OUR_WORDS if self.source_value == OURS else PAPER_WORDS
        rule = f"Rule: {yes} if {finding.holds_if}; {no} if {finding.fails_if}; else {INCONCLUSIVE}."
        one_seed = ONE_SEED if _lacks_seeds(study) else ""
        verdict = yes if finding.holds else no if finding.fails else INCONCLUSIVE
        if finding.no_verdict or one_seed:
            verdict = INCONCLUSIVE
        open_ = verdict == INCONCLUSIVE
        to_settle = _to_settle(study, finding, one_seed) if open_ else ""
        size = _too_small(study, finding) if open_ and not finding.no_verdict else ""
        alone = "" if study.trained else ONE_MODEL
        found = finding.why if study.trained else finding.why.replace(f", {NO_SEEDS})", ")")
        why = " ".join(filter(None, (found, alone, rule, size, finding.no_verdict, one_seed)))
        numbers = (float(x) for x in (finding.estimate, finding.low, finding.high))
        return Claim(self.id, self.claim, self.source_value, *numbers, verdict, to_settle, why)


def claim(
    id: str, text: str, source_value: str = OURS, gated: bool = True, needs_training: bool = False
) -> Callable[[Callable[[StudyScores], Finding]], ClaimTest]:
    """Decorator of the function that tests a claim; without a source value the claim is our own."""
    return lambda find: ClaimTest(id, text, source_value, find, gated, needs_training)


def needs_image(study: StudyScores, finding: Finding) -> Finding:
    """The finding, without a verdict if the blind control was run and the native models do not beat it (O6)."""
    return finding if _beats_blind(study) else replace(finding, no_verdict=_no_image(study))


def _no_image(study: StudyScores) -> str:
    return NO_IMAGE if study.trained else NO_IMAGE_AS_IS


def _lacks_seeds(study: StudyScores) -> bool:
    """Whether the study trains with one seed, so that its intervals lack training noise."""
    return study.trained and study.ladder["seed"].nunique() < 2


def _beats_blind(study: StudyScores) -> bool:
    """Whether the native models are shown to beat the blind control; a study without the control is not asked."""
    try:
        return study.gain_from_image().low > 0
    except NotRun:
        return True


def _to_settle(study: StudyScores, finding: Finding, one_seed: str) -> str:
    """The images and seeds that would settle an inconclusive claim, in words."""
    if one_seed:
        return "at least 2 seeds"
    if finding.no_verdict == _no_image(study):
        gain = study.gain_from_image()
        needed = Precision(gain.spread, gain.estimate, gain.estimate)
        return f"for O6, {needed.size(gain.estimate, study.confidence, trained=study.trained) or NO_SIZE}"
    precision = finding.precision
    size = precision and precision.size(precision.needed, study.confidence, trained=study.trained)
    return str(size or NO_SIZE)


def _too_small(study: StudyScores, finding: Finding) -> str:
    """A sentence, if this study could not decide the claim even if its effect were as stated."""
    precision = finding.precision
    if precision is None or _lacks_seeds(study):
        return ""
    size, spread = precision.size(precision.stated, study.confidence, POWER, study.trained), precision.spread
    if size and size.images <= spread.n_images and size.seeds <= spread.n_seeds:
        return ""
    needs = f"that needs {size}" if size else "no practical size would"
    return f"Not decidable at this size: {POWER:.0%} of studies should decide it if the effect is as stated; {needs}."


def above_zero(difference: Difference, why: str) -> Finding:
    """The finding of a claim that a difference of scores is above 0, in percentage points.

    Studies are sized to decide it at a true difference of `DESIGN_GAIN`.
    """
    holds, fails = difference.low > 0, difference.high < 0
    precision = Precision(difference.spread, abs(difference.estimate), DESIGN_GAIN / 100)
    return Finding(*points(difference), holds, fails, why, "the interval is above 0", "it is below 0",
                   precision=precision)


def basis(estimate: Estimate) -> str:
    """The sample sizes of an estimate, in words."""
    seeds = NO_SEEDS if estimate.n_seeds == 1 else f"{estimate.n_seeds} seeds"
    return f"{estimate.n_questions} questions, {estimate.n_images} independent images, {seeds}"


def points(estimate: Estimate) -> tuple[float, float, float]:
    """Estimate, low and high of a difference of scores, in percentage points."""
    return 100 * estimate.estimate, 100 * estimate.low, 100 * estimate.high

"""Our own claims, O1 to O7: what the phantom was built to show, tested as strictly as the paper's.

Each function ends with the conditions for supported and not supported; `claim` has those for no verdict, which are the
same for all claims. The bounds were fixed before the results were seen that they judge.
"""

from __future__ import annotations

import pandas as pd

from medstudy.claims.claim import DESIGN_GAIN, Finding, Precision, above_zero, basis, claim, points
from medstudy.claims.study_scores import NotRun, StudyScores
from medstudy.statistics import Difference, contrast, paired_difference

MARGIN = DESIGN_GAIN  # points within which coarse questions count as unchanged: half the source's average gain
NEGLIGIBLE = 1.0  # points: a smaller loss counts as none


@claim("O1", "Ours: questions that depend on fine detail gain from native resolution (points)")
def fine_gain(study: StudyScores) -> Finding:
    """Aligned native minus aligned low over fine questions."""
    gain = _gain_at_level(study, "fine")
    return above_zero(gain, f"{study.versus} over fine questions ({basis(gain)}), Cohen's h {gain.effect:.2f}.")


@claim("O2", "Ours: coarse questions do not change with resolution (points)")
def coarse_unchanged(study: StudyScores) -> Finding:
    """Aligned native minus aligned low over coarse questions, as a test of equivalence."""
    gain = _gain_at_level(study, "coarse")
    estimate, low, high = points(gain)
    precision = Precision(gain.spread, abs(MARGIN - abs(estimate)) / 100, MARGIN / 100)
    return Finding(
        estimate, low, high, -MARGIN < low and high < MARGIN, low > MARGIN or high < -MARGIN,
        f"{study.versus} over coarse questions ({basis(gain)}); the interval "
        f"{'includes' if low <= 0 <= high else 'excludes'} 0. This is a test of equivalence, because finding no "
        "difference does not show that there is none; the margin is half of the average gain that the source states.",
        f"the interval lies within ±{MARGIN:g} points", "it lies entirely outside them", precision=precision,
    )


def _gain_at_level(study: StudyScores, level: str) -> Difference:
    native, low = study.aligned(study.native), study.aligned(study.low)
    if not (native["level"] == level).any():
        raise NotRun(f"needs {level} questions: a data set that knows the size of the deciding detail")
    return paired_difference(native[native["level"] == level], low[low["level"] == level], confidence=study.confidence)


@claim("O3", "Ours: native resolution gains more on fine than on coarse questions (points)")
def fine_over_coarse(study: StudyScores) -> Finding:
    """The interaction of resolution and level of detail."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    if not {"fine", "coarse"} <= set(native["level"].unique()):
        raise NotRun("needs fine and coarse questions")
    difference = contrast(native, low, "level", "fine", "coarse", confidence=study.confidence)
    fine, coarse = 100 * difference.mean_a, 100 * difference.mean_b
    return above_zero(difference, f"The gain is {fine:+.1f} points on fine and {coarse:+.1f} on coarse questions; the "
                                  f"estimate is their difference ({basis(difference)}).")


@claim("O4", "Ours: on the same pixels, models trained at another resolution do worse (the worse of two, points)",
       needs_training=True)
def mismatch_on_the_same_pixels(study: StudyScores) -> Finding:
    """Native-trained against low-trained models at low inference, and the reverse at native inference.

    The upper end is corrected for two comparisons (Bonferroni), because the worse is picked after seeing both. The
    lower end needs no correction: whichever is truly worse, its own interval covers it.
    """
    low, native = study.low, study.native
    cells = [(study.cell(native, low), study.aligned(low)), (study.cell(low, native), study.aligned(native))]
    changes = [paired_difference(*cell, confidence=study.confidence) for cell in cells]
    corrected = [paired_difference(*cell, confidence=(1 + study.confidence) / 2) for cell in cells]
    at_low, at_native = (100 * change.estimate for change in changes)
    worse = min(changes, key=lambda change: change.estimate)
    bottom, top = 100 * min(change.low for change in changes), 100 * min(change.high for change in corrected)
    estimate = 100 * worse.estimate
    return Finding(
        estimate, bottom, top, top < 0, bottom > -NEGLIGIBLE,
        f"At {low}, {native}-trained minus {low}-trained models: {at_low:+.1f} points; at {native}, {low}-trained "
        f"minus {native}-trained models: {at_native:+.1f} ({basis(worse)}). Unlike in C2, both see the same pixels, "
        "so only training differs. The interval is for the worse of the two; its upper end is corrected for two "
        "comparisons.",
        "the interval is below 0", f"even its lower end is above -{NEGLIGIBLE:g}",
        precision=Precision(worse.spread, max(-worse.estimate, worse.estimate + NEGLIGIBLE / 100), DESIGN_GAIN / 100,
                            comparisons=2),
    )


@claim("O5", "Ours: averaged over the inference ladder, mixed training beats native training (points)",
       needs_training=True)
def mixed_over_the_ladder(study: StudyScores) -> Finding:
    """Each question's score averaged over the rungs, mixed minus native training."""
    mixed, native = (_over_ladder(study, regime) for regime in (study.mixed, study.native))
    gain = paired_difference(mixed, native, confidence=study.confidence)
    rungs = study.ladder["inference"].nunique()
    return above_zero(gain, f"Trained at {study.mixed} minus trained at {study.native}, each question's score averaged "
                            f"over all {rungs} rungs ({basis(gain)}).")


def _over_ladder(study: StudyScores, regime: str) -> pd.DataFrame:
    study.cell(regime, study.native)  # raises NotRun
    rows = study.ladder[study.ladder["regime"] == regime]
    question = ["dataset", "image_id", "group", "question_id", "regime", "seed"]
    return rows.groupby(question, as_index=False, observed=True)["score"].mean()


@claim("O6", "Ours: the native model needs the image (points above the same model without an image)",
       gated=False)
def beats_blind(study: StudyScores) -> Finding:
    """Aligned native minus the blind control."""
    gain = study.gain_from_image()
    who = f"Aligned {study.native} minus the same models" if study.trained else "The model at native minus itself"
    return above_zero(gain, f"{who} without an image ({basis(gain)}).")


@claim("O7", "Ours: on fine questions, native models use detail finer than the low resolution (points above the same "
       "images downsampled and upsampled again)")
def uses_finer_detail(study: StudyScores) -> Finding:
    """Native models on fine questions: native images minus those downsampled to the low side and upsampled again."""
    aligned = study.aligned(study.native)
    label = f"down_up-{study.side}"
    control = study.test[(study.test["inference"] == label) & (study.test["regime"] == study.of_native)]
    control = control[control["level"] == "fine"]
    if control.empty:
        raise NotRun(f"needs the control {label} and fine questions")
    gain = paired_difference(aligned[aligned["level"] == "fine"], control, confidence=study.confidence)
    who = f"The same {study.native} models" if study.trained else "The same model"
    why = (f"{who} on fine questions, original images minus images downsampled to "
           f"{study.side}² and upsampled again, which keeps their number of visual tokens ({basis(gain)}).")
    return above_zero(gain, why)


CLAIMS = (fine_gain, coarse_unchanged, fine_over_coarse, mismatch_on_the_same_pixels, mixed_over_the_ladder,
          beats_blind, uses_finer_detail)

"""Our own claims I1 to I4, about one model as it is: what inference alone says of resolution.

They are tested in studies without regimes only. All compare answers of the same model to the same questions, so each
difference is paired by question, and its interval covers other images (or groups), which are all that varies. C1 and O4
ask more: whether models should be trained at another resolution, which one model cannot say.

The bounds were fixed before any study that they judge was read.
"""

from __future__ import annotations

import math

from medstudy.claims.claim import Finding, Precision, above_zero, basis, claim
from medstudy.claims.study_scores import NotRun, StudyScores
from medstudy.statistics import acuity_gain, contrast, native_strata, paired_difference

ACUITY = 0.5  # octaves: the gain of acuity that I4 is sized for


@claim("I1", "Ours: run at native resolution, the model answers better than run at the low one (points)")
def runs_better_at_native(study: StudyScores) -> Finding:
    """The model at native minus itself at low, over all questions."""
    gain = paired_difference(study.aligned(study.native), study.aligned(study.low), confidence=study.confidence)
    return above_zero(gain, f"{study.versus} over all questions ({basis(gain)}), Cohen's h {gain.effect:.2f}.")


@claim("I2", "Ours: the model uses the image that it is shown (points above itself, shown another item's image)",
       gated=False)
def uses_its_own_image(study: StudyScores) -> Finding:
    """The model at native minus itself under the control `shuffled`."""
    shuffled = study.under("shuffled")
    if shuffled.empty:
        raise NotRun("needs the shuffled control")
    gain = paired_difference(study.aligned(study.native), shuffled, confidence=study.confidence)
    return above_zero(gain, f"The model at native minus itself, shown another item's image ({basis(gain)}).")


@claim("I3", "Ours: large images gain more from native resolution than small ones (points)")
def large_images_gain_more(study: StudyScores) -> Finding:
    """The gain of native over low on the largest third of the images by pixels, minus that on the smallest third."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    strata = native_strata(native)
    thirds = [third for third in strata.cat.categories if (strata == third).any()]
    if len(thirds) < 2:
        raise NotRun("needs images of different sizes")
    rows = native.assign(stratum=strata.astype(str))
    gain = contrast(rows, low, "stratum", thirds[-1], thirds[0], confidence=study.confidence)
    large, small = 100 * gain.mean_a, 100 * gain.mean_b
    return above_zero(gain, f"The gain is {large:+.1f} points on images {thirds[-1]} and {small:+.1f} on those "
                            f"{thirds[0]}; the estimate is their difference ({basis(gain)}). The questions differ with "
                            "the size of the images.")


@claim("I4", "Ours: run at native resolution, the model sees smaller details than run at the low one (octaves of the "
       "acuity threshold)")
def sees_smaller_details(study: StudyScores) -> Finding:
    """By how many octaves the threshold of the psychometric fit at native is below that at low."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    if native["detail_px"].isna().all():
        raise NotRun("needs fine questions: a data set that knows the size of the deciding detail")
    gain = acuity_gain(native, low, confidence=study.confidence, n=min(study.resamples, 400))
    if math.isnan(gain.estimate):
        raise NotRun(f"needs a threshold at {study.native} and at {study.low}, and one is {gain.why}")
    return Finding(
        gain.estimate, gain.low, gain.high, gain.low > 0, gain.high < 0,
        f"The threshold at {study.low} over that at {study.native}, each half-way between chance and ceiling of the "
        f"fit to the fine questions ({basis(gain)}); 1 octave is half the size.",
        "the interval is above 0", "it is below 0",
        precision=Precision(gain.spread, abs(gain.estimate), ACUITY),
    )


CLAIMS = (runs_better_at_native, uses_its_own_image, large_images_gain_more, sees_smaller_details)

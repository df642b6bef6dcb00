"""The claims of our own, O1 to O7: what the stand-in was built to show, tested as strictly as the paper's."""

from __future__ import annotations

import pandas as pd

from medstudy.claims.claim import Finding, basis, claim, if_looking, points, rule
from medstudy.claims.study_scores import NotRun, Study, common_seeds, over_blind
from medstudy.statistics import Difference, contrast, draw_means, paired_difference, simultaneous

OURS = "none: our own"
MARGIN = 3.0  # points within which coarse questions count as unchanged
NEGLIGIBLE = 1.0  # points: a smaller loss counts as none
ABOVE, BELOW = "the interval is above 0", "it is below 0"


@claim("O1", "Ours: questions that hang on fine detail gain from native resolution (points)", OURS)
def fine_gain(study: Study) -> Finding:
    """Aligned native minus aligned low over fine questions."""
    found = _at_level(study, "fine")
    return _gain(found, f"Aligned {study.native} minus aligned {study.low} over fine questions ({basis(found)}), "
                 f"Cohen's h {found.effect:.2f}.")


def _gain(difference: Difference, words: str) -> Finding:
    """The finding that a difference is above 0."""
    return Finding(*points(difference), difference.low > 0, difference.high < 0, f"{words} {rule(ABOVE, BELOW)}")


@claim("O2", "Ours: coarse questions do not change with resolution (points)", OURS)
def coarse_unchanged(study: Study) -> Finding:
    """Aligned native minus aligned low over coarse questions, as an equivalence test."""
    found = _at_level(study, "coarse")
    estimate, bottom, top = points(found)
    zero = "holds" if bottom <= 0 <= top else "excludes"
    why = (f"Aligned {study.native} minus aligned {study.low} over coarse questions ({basis(found)}); the "
           f"interval {zero} 0. A test of equivalence: finding no difference does not show there is none. "
           + rule(f"the interval lies within ±{MARGIN:g} points", "it lies wholly outside them"))
    return Finding(estimate, bottom, top, -MARGIN < bottom and top < MARGIN, bottom > MARGIN or top < -MARGIN,
                   why)


def _at_level(study: Study, level: str) -> Difference:
    native, low = study.aligned(study.native), study.aligned(study.low)
    if not (native["level"] == level).any():
        raise NotRun(f"needs {level} questions: a data set that knows the size of the deciding detail")
    return paired_difference(native[native["level"] == level], low[low["level"] == level], level=study.level)


@claim("O3", "Ours: native resolution gains more on fine than on coarse questions (points)", OURS)
def fine_over_coarse(study: Study) -> Finding:
    """The interaction of resolution and the level of detail."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    if not {"fine", "coarse"} <= set(native["level"].unique()):
        raise NotRun("needs fine and coarse questions")
    found = contrast(native, low, "level", "fine", "coarse", level=study.level)
    return _gain(found, f"The gain is {100 * found.mean_a:+.1f} points on fine and {100 * found.mean_b:+.1f} on coarse "
                 f"questions; their difference in one interval ({basis(found)}).")


@claim("O4", "Ours: on the same pixels, models trained at another resolution do worse (the worse of two, "
       "points)", OURS)
def mismatch_on_the_same_pixels(study: Study) -> Finding:
    """Native-trained against low-trained models at low inference, and the reverse at native inference."""
    low, native = study.low, study.native
    cells = [study.cell(*cell) for cell in ((native, low), (low, low), (low, native), (native, native))]
    drawn = draw_means(common_seeds(pd.concat(cells)), ["regime", "inference"], seed=study.seed)
    moved = [drawn.of(native, low), drawn.of(low, native)]
    home = [drawn.of(low, low), drawn.of(native, native)]
    changes = drawn.means[moved] - drawn.means[home]
    bottoms, tops = simultaneous(changes, drawn.draws[:, moved] - drawn.draws[:, home], study.level)
    estimate, bottom, top = 100 * changes.min(), 100 * bottoms.min(), 100 * tops.min()
    at_low, at_native = 100 * changes
    why = (f"At {low}, {native}-trained minus {low}-trained models: {at_low:+.1f} points; at {native}, "
           f"{low}-trained minus {native}-trained: {at_native:+.1f} ({basis(drawn)}). Unlike in C2 both see "
           "the same pixels, so nothing but training differs. The interval is simultaneous over the two. "
           + rule("the interval is below 0", f"even its lower end is above -{NEGLIGIBLE:g}"))
    return Finding(estimate, bottom, top, top < 0, bottom > -NEGLIGIBLE, why)


@claim("O5", "Ours: averaged over the inference ladder, mixed training beats native training (points)", OURS)
def mixed_over_the_ladder(study: Study) -> Finding:
    """Each question's score averaged over the rungs, mixed minus native training."""
    mixed, native = (_over_ladder(study, regime) for regime in (study.mixed, study.native))
    found = paired_difference(mixed, native, level=study.level)
    return _gain(found, f"{study.mixed} minus {study.native} training, each question's score averaged over all "
                 f"{study.ladder['inference'].nunique()} rungs ({basis(found)}).")


def _over_ladder(study: Study, regime: str) -> pd.DataFrame:
    study.cell(regime, study.native)
    rows = study.ladder[study.ladder["regime"] == regime]
    question = ["dataset", "image_id", "group", "question_id", "seed"]
    return rows.groupby(question, as_index=False, observed=True)["score"].mean()


@claim("O6", "Ours: the native model needs the image (points over the same model shown none)", OURS)
def beats_blind(study: Study) -> Finding:
    """Aligned native minus the blind control."""
    found = over_blind(study)
    return _gain(found, f"Aligned {study.native} minus the same models shown no image ({basis(found)}).")


@claim("O7", "Ours: native models use detail finer than the low resolution on fine questions (points over the same "
       "images brought down and up again)", OURS)
def uses_finer_detail(study: Study) -> Finding:
    """Native models on fine questions: native images minus those down to the low side and up again."""
    aligned = study.aligned(study.native)
    label = f"down_up-{study.side}"
    control = study.test[(study.test["inference"] == label) & (study.test["regime"] == study.native)]
    control = control[control["level"] == "fine"]
    if control.empty:
        raise NotRun(f"needs the control {label} and fine questions")
    found = paired_difference(aligned[aligned["level"] == "fine"], control, level=study.level)
    gain = _gain(found, f"The same {study.native} models on fine questions, images as they are minus images brought "
                 f"down to {study.side}² and up again, which keeps their number of visual tokens ({basis(found)}). "
                 "Added after the 15-minute study had been read and before the larger one.")
    return if_looking(study, gain)


CLAIMS = (fine_gain, coarse_unchanged, fine_over_coarse, mismatch_on_the_same_pixels, mixed_over_the_ladder,
          beats_blind, uses_finer_detail)

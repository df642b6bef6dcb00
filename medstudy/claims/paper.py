"""The claims of the paper (arXiv 2510.18304), C1 to C3b, as second-hand sources give them, tested in one study.

What holds for this study's model and data says nothing about the paper's own models. Estimates are percentage points
(points) or per cent of the score compared with (%), as each claim states.

Each function ends with the conditions for reproduced and not reproduced; `claim` has those for no verdict, which are
the same for all claims. The bounds were fixed before the results were seen that they judge:
- where the source states a number, a claim is reproduced if our interval agrees with that number and excludes what
  would contradict the claim, and not reproduced if it excludes the number (C1b, C3, C3b);
- what contradicts C3 and C3b follows from the source's average gain of 12.7 %: fixed low-resolution training keeps
  1 / 1.127 = 88.7 % of the native score. C3 must keep at least half of that gain, as non-inferiority trials ask (FDA
  2016, Non-Inferiority Clinical Trials, "preserve half the effect"); C3b, whose own 92 % keeps less than half, some of
  it;
- C2 states "up to 48.7 %", the worst of many cells of another model. Half of it counts as reproduced.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medstudy.claims.claim import MEAN_GAIN, Finding, Precision, basis, claim, points
from medstudy.claims.study_scores import NotRun, StudyScores
from medstudy.statistics import RelativeChange, differences, paired_difference, relative_change

SMALLEST_GAIN, LARGEST_GAIN = 0.54, 6.8  # %, of C1
WORST_LOSS, MIXED_LOSS = 48.7, 1.0  # %, of C2 and C3
ADDED_SHARE, ADDED_COST = 92.0, 5.0  # %, of C3b
LEAST_LOSS = WORST_LOSS / 2  # %, the smallest worst loss that reproduces C2
LOW_SHARE = 100 / (1 + MEAN_GAIN / 100)  # 88.7 %: the share of the native score that low-resolution training keeps
MOST_LOSS = (100 - LOW_SHARE) / 2  # 5.6 %: the loss that leaves half of native training's gain


@claim("C1", "Native-resolution training and inference beat fixed low resolution across tasks (points)",
       "+0.54 % to +6.8 % per task", needs_training=True)
def native_beats_low(study: StudyScores) -> Finding:
    """The paired difference over all questions, with the range over tasks."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    gain = paired_difference(native, low, confidence=study.confidence)
    relative = 100 * relative_change(native, low, confidence=study.confidence).estimate
    estimate, bottom, top = points(gain)
    needed = max(estimate, SMALLEST_GAIN - estimate) / 100
    return Finding(
        estimate, bottom, top, bottom > 0, top < SMALLEST_GAIN,
        f"Aligned {study.native} minus aligned {study.low} over all questions ({basis(gain)}), Cohen's h "
        f"{gain.effect:.2f}, {relative:+.1f} % relative. {_task_range(native, low, study.confidence)} The source does "
        "not say whether its % are points or relative.",
        "the interval is above 0", f"it is below the smallest gain, +{SMALLEST_GAIN}",
        precision=Precision(gain.spread, needed, (SMALLEST_GAIN + LARGEST_GAIN) / 200),
    )


def _task_range(native: pd.DataFrame, low: pd.DataFrame, confidence: float) -> str:
    tasks = differences(native, low, ["task"], confidence=confidence).sort_values("estimate")
    least, most = tasks.iloc[0], tasks.iloc[-1]
    sure = tasks.loc[tasks["p_holm"] < 1 - confidence, "estimate"]
    return (f"By task {100 * least.estimate:+.1f} ({least.task}) to {100 * most.estimate:+.1f} points ({most.task}); "
            f"after Holm's correction over {len(tasks)} tasks, {(sure > 0).sum()} gain and {(sure < 0).sum()} lose.")


@claim("C1b", "The same gain, averaged over tasks (points)", "+12.7 % average", needs_training=True)
def native_beats_low_on_average(study: StudyScores) -> Finding:
    """The paired difference with the same weight for every task."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    gain = paired_difference(native, low, confidence=study.confidence, macro="task")
    estimate, bottom, top = points(gain)
    includes = bottom <= MEAN_GAIN <= top
    needed = max(estimate, abs(estimate - MEAN_GAIN)) / 100
    return Finding(
        estimate, bottom, top, includes and bottom > 0, not includes,
        "The two sources disagree: gains of +0.54 to +6.8 % a task (C1) cannot average +12.7 %, unless one counts "
        f"points and the other relative change. Here, with the same weight for every task ({basis(gain)}), the "
        f"interval {'includes' if includes else 'excludes'} +12.7.",
        "the interval includes +12.7 and excludes 0", "it excludes +12.7",
        precision=Precision(gain.spread, needed, MEAN_GAIN / 100),
    )


@claim("C2", "A mismatch between training and inference resolution degrades performance (worst change, %)",
       "down by up to 48.7 %")
def worst_mismatch(study: StudyScores) -> Finding:
    """The worst relative change when an aligned model is evaluated at any other rung of the ladder.

    A model as it is counts as aligned at the rung of the resolution that it was trained at, where that is stated.

    The lower end is the lowest of all mismatches: whichever is truly worst, its own interval covers it. The upper end
    comes from the farthest rung of each regime alone, named before the data: the worst of all is at most the worst of
    these, with Bonferroni's correction over them. So nothing is gained by picking the worst after seeing them.
    """
    changes = {pair: _mismatch(study, *pair, study.confidence) for pair in _mismatches(study)}
    usable = {pair: change for pair, change in changes.items() if not np.isnan(change.estimate)}
    if not usable:
        raise NotRun("needs an aligned score above 0 to compare with")
    regime, rung = min(usable, key=lambda pair: usable[pair].estimate)
    worst = usable[regime, rung]
    far = _farthest(study, list(usable))
    confidence = 1 - (1 - study.confidence) / len(far)
    estimate, bottom = 100 * worst.estimate, 100 * min(change.low for change in usable.values())
    top = max(estimate, 100 * min(_mismatch(study, *pair, confidence).high for pair in far))
    return Finding(
        estimate, bottom, top, top < -LEAST_LOSS, bottom > -LEAST_LOSS,
        f"The worst of {len(usable)} mismatches is {_who(study, regime)} evaluated at {rung} instead of "
        f"{_own(study, regime)} ({basis(worst)}). The interval is for the worst of all: its upper end is from the "
        f"farthest mismatch{_each(study, far)}. It {'includes' if bottom <= -WORST_LOSS <= top else 'excludes'} "
        f"-{WORST_LOSS} %. Lower rungs also lose information: {_separates(study)}",
        f"the interval is below -{LEAST_LOSS:g} %, half of what the source states", "it is above that",
        no_verdict=_bounded(worst),
        precision=_log_precision(worst, 1 + worst.estimate, [1 - LEAST_LOSS / 100], 1 - WORST_LOSS / 100, len(far)),
    )


def _mismatches(study: StudyScores) -> list[tuple[str, str]]:
    """(regime, rung) of every regime that was evaluated at its own resolution, at each other rung."""
    if not study.trained and study.own_rung is None:
        raise NotRun(f"needs the model's own training resolution as a rung; {study.own_why}")
    cells = study.cells
    pairs = [(regime, rung) for regime, rung in sorted(cells)
             if (regime, _own(study, regime)) in cells and rung != _own(study, regime)]
    if not pairs:
        raise NotRun("needs a regime evaluated at its own resolution and at another")
    return pairs


def _own(study: StudyScores, regime: str) -> str:
    """The rung at which a regime was trained; of a model as it is, the one that is stated."""
    return regime if study.trained else study.own_rung


def _who(study: StudyScores, regime: str) -> str:
    if study.trained:
        return f"{regime}-trained models"
    return f"the model, which was trained at {study.own_rung} ({study.own_why}),"


def _each(study: StudyScores, far: list[tuple[str, str]]) -> str:
    if not study.trained:
        return f", {far[0][1]}"
    return f" of each regime, {' and '.join(f'{r} at {i}' for r, i in far)}, corrected for their number"


def _separates(study: StudyScores) -> str:
    if study.trained:
        return "O4 separates the two."
    return "only models trained at both resolutions separate the two (O4)."


def _mismatch(study: StudyScores, regime: str, rung: str, confidence: float) -> RelativeChange:
    return relative_change(study.cell(regime, rung), study.aligned(_own(study, regime)), confidence=confidence)


def _farthest(study: StudyScores, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of each regime the rung whose pixel budget is the farthest from its own, in octaves."""
    budget = {rung: np.log2(rows["budget_pixels"].max()) for (_, rung), rows in study.cells.items()}
    ranked = sorted(pairs, key=lambda pair: abs(budget[pair[1]] - budget[_own(study, pair[0])]))
    return sorted({regime: (regime, rung) for regime, rung in ranked}.values())


def _bounded(change: RelativeChange) -> str:
    """The reason to give no verdict on a ratio whose denominator may be 0, or nothing."""
    return f"No verdict: {change.note}, so the ratio has no finite interval." if change.note else ""


def _log_precision(
    change: RelativeChange, share: float, bounds: list[float], stated: float, comparisons: int = 1
) -> Precision | None:
    """The precision of a share of a score against the nearest way to a verdict, in logs of ratios.

    share: the estimate; bounds: shares, one of which the interval must exclude; stated: the source's share, which must
    be told from the first bound.
    """
    if change.spread is None or share <= 0:
        return None
    needed = max(abs(np.log(share / bound)) for bound in bounds)
    return Precision(change.spread, float(needed), float(abs(np.log(stated / bounds[0]))), comparisons)


@claim("C3", "Mixed-resolution training recovers aligned native performance (loss at native inference, %)",
       "average loss limited to 1.0 %", needs_training=True)
def mixed_recovers(study: StudyScores) -> Finding:
    """The relative loss of mixed against native training, both evaluated at native resolution."""
    mixed, native = study.cell(study.mixed, study.native), study.aligned(study.native)
    change = relative_change(mixed, native, confidence=study.confidence)
    estimate, bottom, top = -100 * change.estimate, -100 * change.high, -100 * change.low
    return Finding(
        estimate, bottom, top, bottom <= MIXED_LOSS and top <= MOST_LOSS, bottom > MIXED_LOSS,
        f"Trained at {study.mixed} against trained at {study.native}, both evaluated at {study.native} "
        f"({basis(change)}); a negative loss is a gain. A loss of {MOST_LOSS:.1f} % leaves half of the gain that the "
        f"source states for native training, +{MEAN_GAIN} %.",
        f"the interval reaches {MIXED_LOSS} % or less and ends below {MOST_LOSS:.1f} %",
        f"its lower end is above {MIXED_LOSS} %",
        no_verdict=_bounded(change),
        precision=_log_precision(change, 1 + change.estimate, [1 - MOST_LOSS / 100, 1 - MIXED_LOSS / 100],
                                 1 - MIXED_LOSS / 100),
    )


@claim("C3b", "Low-resolution variants added to native training keep its performance at little cost (share "
       "of the native score, %; cost in visual tokens)", "92 % of native performance for +5 % training cost",
       needs_training=True)
def added_variants(study: StudyScores) -> Finding:
    """The share of the native score that the add regime reaches, with its added training cost."""
    added, native = study.cell(study.add, study.native), study.aligned(study.native)
    change = relative_change(added, native, confidence=study.confidence)
    tokens, flops = (_added_cost(study, column) for column in ("visual_tokens", "flops"))
    estimate, bottom, top = (100 * (1 + x) for x in (change.estimate, change.low, change.high))
    cheap = round(tokens) <= ADDED_COST
    return Finding(
        estimate, bottom, top, bottom >= LOW_SHARE and top >= ADDED_SHARE and cheap, top < ADDED_SHARE or not cheap,
        f"Trained at {study.add} against trained at {study.native}, both evaluated at {study.native} "
        f"({basis(change)}). {LOW_SHARE:.1f} % is what fixed low-resolution training keeps if native training gains "
        f"the +{MEAN_GAIN} % that the source states. Added training cost: {tokens:+.1f} % visual tokens, {flops:+.1f} "
        "% FLOPs; it follows from the sizes of the images.",
        f"the interval reaches {ADDED_SHARE:g} % or more, begins above {LOW_SHARE:.1f} %, and the added visual tokens "
        f"round to {ADDED_COST:g} % or less",
        f"its upper end is below {ADDED_SHARE:g} % or they round to more",
        no_verdict=_bounded(change),
        precision=_log_precision(change, 1 + change.estimate, [LOW_SHARE / 100, ADDED_SHARE / 100], ADDED_SHARE / 100),
    )


def _added_cost(study: StudyScores, column: str) -> float:
    """Training cost of the add regime above the native one, in %, at the last step, averaged over runs."""
    log = study.training
    if log is None or not {study.add, study.native} <= set(log["regime"]):
        raise NotRun(f"needs the training logs of {study.add} and {study.native}")
    last = log.groupby(["regime", "run_id"])[column].max().groupby("regime").mean()
    return float(100 * (last[study.add] / last[study.native] - 1))


CLAIMS = (native_beats_low, native_beats_low_on_average, worst_mismatch, mixed_recovers, added_variants)

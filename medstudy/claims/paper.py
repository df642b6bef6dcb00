"""The claims of the paper (arXiv 2510.18304), C1 to C3b, as second-hand sources give them, tested in one study.

What holds for this study's model and data says nothing about the paper's own models. Estimates are percentage points
(points) or per cent of the score compared with (%), as each claim states.

Each function ends with the conditions for reproduced and not reproduced. A claim is inconclusive if its interval meets
neither, if the study has one training seed, or if it `needs_image` and the native models do not beat the blind control.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medstudy.claims.claim import Finding, basis, claim, needs_image, points
from medstudy.claims.study_scores import NotRun, StudyScores, common_seeds
from medstudy.statistics import Draws, differences, draw_means, paired_difference, relative_change, simultaneous

SMALLEST_GAIN, MEAN_GAIN = 0.54, 12.7  # %, of C1 and C1b
WORST_LOSS, MIXED_LOSS = 48.7, 1.0  # %, of C2 and C3
ADDED_SHARE, ADDED_COST = 92.0, 5.0  # %, of C3b
NEGLIGIBLE = 1.0  # %: a smaller loss counts as none


@claim("C1", "Native-resolution training and inference beat fixed low resolution across tasks (points)",
       "+0.54 % to +6.8 % per task")
def native_beats_low(study: StudyScores) -> Finding:
    """The paired difference over all questions, with the range over tasks."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    gain = paired_difference(native, low, confidence=study.confidence)
    relative = 100 * relative_change(native, low, confidence=study.confidence).estimate
    estimate, bottom, top = points(gain)
    return Finding(
        estimate, bottom, top, bottom > 0, top < SMALLEST_GAIN,
        f"Aligned {study.native} minus aligned {study.low} over all questions ({basis(gain)}), Cohen's h "
        f"{gain.effect:.2f}, {relative:+.1f} % relative. {_task_range(native, low, study.confidence)} The source does "
        "not say whether its % are points or relative.",
        "the interval is above 0", f"it is below the smallest gain, +{SMALLEST_GAIN}",
    )


def _task_range(native: pd.DataFrame, low: pd.DataFrame, confidence: float) -> str:
    tasks = differences(native, low, ["task"], confidence=confidence).sort_values("estimate")
    least, most = tasks.iloc[0], tasks.iloc[-1]
    sure = tasks.loc[tasks["p_holm"] < 1 - confidence, "estimate"]
    return (f"By task {100 * least.estimate:+.1f} ({least.task}) to {100 * most.estimate:+.1f} points ({most.task}); "
            f"after Holm's correction over {len(tasks)} tasks, {(sure > 0).sum()} gain and {(sure < 0).sum()} lose.")


@claim("C1b", "The same gain, averaged over tasks (points)", "+12.7 % average")
def native_beats_low_on_average(study: StudyScores) -> Finding:
    """The paired difference with the same weight for every task."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    gain = paired_difference(native, low, confidence=study.confidence, macro="task")
    estimate, bottom, top = points(gain)
    includes = bottom <= MEAN_GAIN <= top
    return needs_image(study, Finding(
        estimate, bottom, top, includes and bottom > 0, not includes,
        "The two sources disagree: gains of +0.54 to +6.8 % a task (C1) cannot average +12.7 %, unless one counts "
        f"points and the other relative change. Here, with the same weight for every task ({basis(gain)}), the "
        f"interval {'includes' if includes else 'excludes'} +12.7.",
        "the interval includes +12.7 and excludes 0", "it excludes +12.7",
    ))


@claim("C2", "A mismatch between training and inference resolution degrades performance (worst change, %)",
       "down by up to 48.7 %")
def worst_mismatch(study: StudyScores) -> Finding:
    """The worst relative change when an aligned model is evaluated at any other rung of the ladder."""
    drawn, mismatched, matched = _mismatches(study)
    changes = drawn.means[mismatched] / drawn.means[matched] - 1
    redrawn = drawn.draws[:, mismatched] / np.maximum(drawn.draws[:, matched], 1e-9) - 1
    lows, highs = simultaneous(changes, redrawn, study.confidence)
    regime, rung = drawn.labels[mismatched[changes.argmin()]]
    estimate, bottom, top = 100 * changes.min(), 100 * max(-1.0, lows.min()), 100 * highs.min()
    return Finding(
        estimate, bottom, top, top < 0, bottom > -NEGLIGIBLE,
        f"The worst of {len(mismatched)} mismatches is {regime}-trained models evaluated at {rung} instead of {regime} "
        f"({basis(drawn)}). The interval is simultaneous over all of them (max-statistic), because the worst was "
        f"picked after seeing them; it {'includes' if bottom <= -WORST_LOSS <= top else 'excludes'} -{WORST_LOSS} %. "
        "Lower rungs also lose information: O4 separates the two.",
        "the interval is below 0", f"even its lower end is above -{NEGLIGIBLE:g} %",
    )


def _mismatches(study: StudyScores) -> tuple[Draws, list[int], list[int]]:
    """Draws of all cells, and the indices [K] of each mismatched cell and of its aligned one."""
    # regimes that were evaluated at their own resolution, over the seeds that all of them have
    rows = study.ladder
    cells = rows[["regime", "inference"]].drop_duplicates().astype(str)
    aligned = cells.loc[cells["regime"] == cells["inference"], "regime"]
    rows = common_seeds(rows[rows["regime"].isin(aligned)])
    if rows.empty or rows["inference"].nunique() < 2:
        raise NotRun("needs a regime evaluated at its own resolution and at another")
    drawn = draw_means(rows, ["regime", "inference"], seed=study.seed)
    # their cells at other rungs, where the aligned score can be divided by
    cells = [(r, i) for r, i in drawn.labels if i != r and drawn.means[drawn.of(r, r)] > 0]
    if not cells:
        raise NotRun("needs an aligned score above 0 to compare with")
    return drawn, [drawn.of(*cell) for cell in cells], [drawn.of(r, r) for r, _ in cells]


@claim("C3", "Mixed-resolution training recovers aligned native performance (loss at native inference, %)",
       "average loss limited to 1.0 %")
def mixed_recovers(study: StudyScores) -> Finding:
    """The relative loss of mixed against native training, both evaluated at native resolution."""
    mixed, native = study.cell(study.mixed, study.native), study.aligned(study.native)
    change = relative_change(mixed, native, confidence=study.confidence)
    estimate, bottom, top = -100 * change.estimate, -100 * change.high, -100 * change.low
    return needs_image(study, Finding(
        estimate, bottom, top, top <= MIXED_LOSS, bottom > MIXED_LOSS,
        f"Trained at {study.mixed} against trained at {study.native}, both evaluated at {study.native} "
        f"({basis(change)}); a negative loss is a gain.",
        f"the interval's upper end is at most {MIXED_LOSS} %", "its lower end is above that",
    ))


@claim("C3b", "Low-resolution variants added to native training keep its performance at little cost (share "
       "of the native score, %; cost in visual tokens)", "92 % of native performance for +5 % training cost")
def added_variants(study: StudyScores) -> Finding:
    """The share of the native score that the add regime reaches, with its added training cost."""
    added, native = study.cell(study.add, study.native), study.aligned(study.native)
    change = relative_change(added, native, confidence=study.confidence)
    tokens, flops = (_added_cost(study, column) for column in ("visual_tokens", "flops"))
    estimate, bottom, top = (100 * (1 + x) for x in (change.estimate, change.low, change.high))
    cheap = round(tokens) <= ADDED_COST
    return needs_image(study, Finding(
        estimate, bottom, top, bottom >= ADDED_SHARE and cheap, top < ADDED_SHARE or not cheap,
        f"Trained at {study.add} against trained at {study.native}, both evaluated at {study.native} "
        f"({basis(change)}). Added training cost: {tokens:+.1f} % visual tokens, {flops:+.1f} % FLOPs; it follows from "
        "the sizes of the images.",
        f"the interval's lower end is at least {ADDED_SHARE:g} % and the added visual tokens round to {ADDED_COST:g} % "
        "or less", f"its upper end is below {ADDED_SHARE:g} % or they round to more",
    ))


def _added_cost(study: StudyScores, column: str) -> float:
    """Training cost of the add regime above the native one, in %, at the last step, averaged over runs."""
    log = study.training
    if log is None or not {study.add, study.native} <= set(log["regime"]):
        raise NotRun(f"needs the training logs of {study.add} and {study.native}")
    last = log.groupby(["regime", "run_id"])[column].max().groupby("regime").mean()
    return float(100 * (last[study.add] / last[study.native] - 1))


CLAIMS = (native_beats_low, native_beats_low_on_average, worst_mismatch, mixed_recovers, added_variants)

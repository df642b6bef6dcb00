"""The paper's claims (arXiv 2510.18304), as second-hand sources give them, tested in this study's stand-in."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medstudy.claims import claim as claims_claim
from medstudy.claims import study_scores
from medstudy.claims.claim import Finding, basis, claim, points, rule
from medstudy.claims.study_scores import NotRun, Study
from medstudy.statistics import Draws, differences, draw_means, paired_difference, relative_change, simultaneous

SMALLEST_GAIN, MEAN_GAIN = 0.54, 12.7  # %, as C1 and C1b give them
WORST_LOSS, MIXED_LOSS = 48.7, 1.0  # %, as C2 and C3 give them
ADDED_SHARE, ADDED_COST = 92.0, 5.0  # %, as C3b gives them
NEGLIGIBLE = 1.0  # %: a smaller loss counts as none


@claim("C1", "Native-resolution training and inference beat fixed low resolution across tasks (points)",
       "+0.54 % to +6.8 % per task")
def native_beats_low(study: Study) -> Finding:
    """The paired difference over all questions, with the range over tasks."""
    native, low = study.aligned(study.native), study.aligned(study.low)
    over_all = paired_difference(native, low, level=study.level)
    relative = 100 * relative_change(native, low, level=study.level).estimate
    estimate, bottom, top = points(over_all)
    why = (f"In the stand-in, aligned {study.native} minus aligned {study.low} over all questions "
           f"({basis(over_all)}), Cohen's h {over_all.effect:.2f}, {relative:+.1f} % relative. "
           f"{_task_range(native, low, study.level)} The source does not say whether its % are points or "
           "relative. " + rule("the interval is above 0", f"it is below the least gain, +{SMALLEST_GAIN}"))
    return Finding(estimate, bottom, top, bottom > 0, top < SMALLEST_GAIN, why)


def _task_range(native: pd.DataFrame, low: pd.DataFrame, level: float) -> str:
    tasks = differences(native, low, ["task"], level=level).sort_values("estimate")
    least, most = tasks.iloc[0], tasks.iloc[-1]
    sure = tasks.loc[tasks["p_holm"] < 1 - level, "estimate"]
    return (f"Per task {100 * least.estimate:+.1f} ({least.task}) to {100 * most.estimate:+.1f} points "
            f"({most.task}); after Holm over {len(tasks)} tasks {(sure > 0).sum()} gain and "
            f"{(sure < 0).sum()} lose.")


@claim("C1b", "The same gain, averaged over tasks (points)", "+12.7 % average")
def native_beats_low_on_average(study: Study) -> Finding:
    """The paired difference with every task weighing the same."""
    found = paired_difference(study.aligned(study.native), study.aligned(study.low), level=study.level,
                              macro="task")
    estimate, bottom, top = points(found)
    holds = bottom <= MEAN_GAIN <= top
    why = ("The two sources disagree: gains of +0.54 to +6.8 % a task (C1) cannot average +12.7 %, unless "
           "one counts points and the other relative change. In the stand-in, every task weighing the same "
           f"({basis(found)}), the interval {'holds' if holds else 'excludes'} +12.7. "
           + rule("the interval holds +12.7 and excludes 0", "it excludes +12.7"))
    return claims_claim.if_looking(study, Finding(estimate, bottom, top, holds and bottom > 0, not holds, why))


@claim("C2", "A mismatch between training and inference resolution degrades performance (worst change, %)",
       "down by up to 48.7 %")
def worst_mismatch(study: Study) -> Finding:
    """The worst relative change when an aligned model is evaluated at any other rung of the ladder."""
    drawn, moved, home = _mismatches(study)
    changes = drawn.means[moved] / drawn.means[home] - 1
    low, high = simultaneous(changes, drawn.draws[:, moved] / np.maximum(drawn.draws[:, home], 1e-9) - 1,
                             study.level)
    regime, rung = drawn.labels[moved[changes.argmin()]]
    estimate, bottom, top = 100 * changes.min(), 100 * max(-1.0, low.min()), 100 * high.min()
    inside = "inside" if bottom <= -WORST_LOSS <= top else "outside"
    why = (f"In the stand-in the worst of {len(moved)} mismatches is {regime}-trained models evaluated at "
           f"{rung} instead of {regime} ({basis(drawn)}). The interval is simultaneous over all of them "
           f"(max-statistic), as the worst was picked after seeing them; -{WORST_LOSS} % lies {inside} it. "
           "Going down the ladder also loses information, the more the further down: O4 sets that apart. "
           + rule("the interval is below 0", f"even its lower end is above -{NEGLIGIBLE:g} %"))
    return Finding(estimate, bottom, top, top < 0, bottom > -NEGLIGIBLE, why)


def _mismatches(study: Study) -> tuple[Draws, list[int], list[int]]:
    """Draws of all cells, and the indices [K] of each mismatched cell and of its aligned one."""
    rows = study.ladder
    cells = rows[["regime", "inference"]].drop_duplicates().astype(str)
    homes = cells.loc[cells["regime"] == cells["inference"], "regime"]
    rows = study_scores.common_seeds(rows[rows["regime"].isin(homes)])
    if rows.empty or rows["inference"].nunique() < 2:
        raise NotRun("needs a regime evaluated at its own resolution and at another")
    drawn = draw_means(rows, ["regime", "inference"], seed=study.seed)
    cells = [(r, i) for r, i in drawn.labels if i != r and drawn.means[drawn.of(r, r)] > 0]
    if not cells:
        raise NotRun("needs an aligned score above 0 to compare with")
    return drawn, [drawn.of(*cell) for cell in cells], [drawn.of(r, r) for r, _ in cells]


@claim("C3", "Mixed-resolution training recovers aligned native performance (loss at native inference, %)",
       "average loss limited to 1.0 %")
def mixed_recovers(study: Study) -> Finding:
    """The relative loss of mixed against native training, both evaluated at native resolution."""
    change = relative_change(study.cell(study.mixed, study.native), study.aligned(study.native),
                             level=study.level)
    estimate, bottom, top = -100 * change.estimate, -100 * change.high, -100 * change.low
    why = (f"In the stand-in, {study.mixed} against {study.native} training, both evaluated at "
           f"{study.native} ({basis(change)}); a negative loss is a gain. "
           + rule(f"the interval's upper end is at most {MIXED_LOSS} %", "its lower end is above that"))
    return claims_claim.if_looking(study, Finding(estimate, bottom, top, top <= MIXED_LOSS, bottom > MIXED_LOSS, why))


@claim("C3b", "Low-resolution variants added to native training keep its performance at little cost (share "
       "of the native score, %; cost in visual tokens)", "92 % of native performance for +5 % training cost")
def added_variants(study: Study) -> Finding:
    """The share of the native score that the add regime reaches, with its added training cost."""
    change = relative_change(study.cell(study.add, study.native), study.aligned(study.native),
                             level=study.level)
    tokens, flops = (_added_cost(study, column) for column in ("visual_tokens", "flops"))
    estimate, bottom, top = (100 * (1 + x) for x in (change.estimate, change.low, change.high))
    cheap = round(tokens) <= ADDED_COST
    why = (f"In the stand-in, {study.add} against {study.native} training, both evaluated at {study.native} "
           f"({basis(change)}). Added training cost: {tokens:+.1f} % visual tokens, {flops:+.1f} % FLOPs; it "
           "follows from the sizes of the images. "
           + rule(f"the interval's lower end is at least {ADDED_SHARE:g} % and the added visual tokens round "
                  f"to {ADDED_COST:g} % or less", f"its upper end is below {ADDED_SHARE:g} % or they do not"))
    yes, no = bottom >= ADDED_SHARE and cheap, top < ADDED_SHARE or not cheap
    return claims_claim.if_looking(study, Finding(estimate, bottom, top, yes, no, why))


def _added_cost(study: Study, column: str) -> float:
    """Training cost of the add regime over the native one, added %, at the last step, mean over runs."""
    log = study.training
    if log is None or not {study.add, study.native} <= set(log["regime"]):
        raise NotRun(f"needs the training logs of {study.add} and {study.native}")
    last = log.groupby(["regime", "run_id"])[column].max().groupby("regime").mean()
    return float(100 * (last[study.add] / last[study.native] - 1))


PAPER = (native_beats_low, native_beats_low_on_average, worst_mismatch, mixed_recovers, added_variants)

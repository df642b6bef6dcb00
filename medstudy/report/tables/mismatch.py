"""The cost of a mismatch: every regime at other resolutions than its own, against itself at its own."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import holm, paired_difference, relative_change

TITLE = "Mismatch between training and inference resolution"
NEEDS_TRAINING = True  # a study without regimes cannot have it


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime trained at one rung x other inference policy: the change from aligned inference."""
    rows = selections.plain(study.scores)
    policies = selections.ladder(rows)
    changes = [
        row
        for name in selections.datasets(rows)
        for regime in selections.regimes(rows)
        if regime in policies
        for row in _rows(rows[rows["dataset"] == name], name, regime, policies, study.confidence)
    ]
    table = pd.DataFrame(changes)
    if table.empty:
        return table
    return table.assign(p_holm=holm(table["p"])["p_holm"].to_numpy(), tests=len(table))


def _rows(rows: pd.DataFrame, name: str, regime: str, policies: list[str], confidence: float) -> list[dict]:
    aligned = selections.cell(rows, regime, regime)
    others = {policy: selections.cell(rows, regime, policy) for policy in policies if policy != regime and len(aligned)}
    return [_row(part, aligned, name, regime, policy, confidence) for policy, part in others.items() if len(part)]


def _row(other: pd.DataFrame, aligned: pd.DataFrame, name: str, regime: str, policy: str, confidence: float) -> dict:
    change = paired_difference(other, aligned, confidence=confidence)
    relative = relative_change(other, aligned, confidence=confidence)
    scores = {"score_pct": 100 * change.mean_a, "aligned_pct": 100 * change.mean_b}
    return (
        {"dataset": name, "trained": regime, "shown": policy}
        | scores
        | columns.triple(change, "change_points")
        | columns.triple(relative, "relative_pct")
        | {"p": change.p}
    )


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    rows = selections.plain(study.scores)
    return (
        "Models trained at one resolution and shown another, minus the same models at their own resolution, paired "
        "question by question over all questions of a data set. change_points: percentage points; relative_pct: per "
        f"cent of the aligned score. In brackets {study.confidence:.0%} intervals over image groups and training "
        f"seeds; p_holm: Holm's correction over the {len(table)} rows. n: {captions.count_words(rows)}. Lower rungs "
        "also lose information."
    )

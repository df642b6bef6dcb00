"""What a mismatch costs: every regime away from the resolution it was trained at, against itself at home."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import holm, paired_difference, relative_change

TITLE = "Mismatch between training and inference resolution"


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x regime trained at a single rung x other inference policy: change from aligned inference."""
    rows = selections.plain(study.scores)
    policies = selections.ladder(rows)
    found = [
        row
        for name in selections.datasets(rows)
        for regime in selections.regimes(rows)
        if regime in policies
        for row in _rows(rows[rows["dataset"] == name], name, regime, policies, study.level)
    ]
    table = columns.frame(found)
    return table.assign(p_holm=holm(table["p"])["p_holm"].to_numpy(), tests=len(table)) if found else table


def _rows(rows: pd.DataFrame, name: str, regime: str, policies: list[str], level: float) -> list[dict]:
    home = selections.cell(rows, regime, regime)
    away = {policy: selections.cell(rows, regime, policy) for policy in policies if policy != regime and len(home)}
    return [_row(part, home, name, regime, policy, level) for policy, part in away.items() if len(part)]


def _row(away: pd.DataFrame, home: pd.DataFrame, name: str, regime: str, policy: str, level: float) -> dict:
    change = paired_difference(away, home, level=level)
    relative = relative_change(away, home, level=level)
    return (
        {
            "dataset": name,
            "trained": regime,
            "shown": policy,
            "score_pct": 100 * change.mean_a,
            "aligned_pct": 100 * change.mean_b,
        }
        | columns.triple(change, "change_points")
        | columns.triple(relative, "relative_pct")
        | {"p": change.p}
    )


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    rows = selections.plain(study.scores)
    return (
        "Models trained at one resolution and shown another, minus the same models at their own, paired "
        "question by question over all questions of a data set. change_points: percentage points; "
        f"relative_pct: per cent of the aligned score. In brackets {study.level:.0%} intervals over image "
        f"groups and training seeds; p_holm: Holm's correction over the {len(table)} rows. n: "
        f"{captions.count_words(rows)}. Going down the ladder also loses information."
    )

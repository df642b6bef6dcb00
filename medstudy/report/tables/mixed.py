"""Mixed, add and curriculum training against native and fixed training, with their costs."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import mean_interval, paired_difference

TITLE = "Mixed against native and fixed training, with cost"
NEEDS_TRAINING = True  # a study without regimes cannot have it

_ENDS = ("", "_low", "_high")
_MEASURES = (
    "at_native_pct",
    "minus_aligned_native_points",
    "at_low_pct",
    "minus_aligned_low_points",
    "ladder_mean_pct",
)
ORDER = ["dataset", "trained", *(f"{name}{end}" for name in _MEASURES for end in _ENDS)]


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime: scores at native and low inference and over the ladder, against aligned models."""
    rows = selections.plain(study.scores)
    cells = [
        {"dataset": name, "trained": regime} | _row(rows[rows["dataset"] == name], regime, study)
        for name in selections.datasets(rows)
        for regime in selections.regimes(rows)
        if regime != "base"
    ]
    table = pd.DataFrame(cells).reindex(columns=[name for name in ORDER if any(name in row for row in cells)])
    return table.merge(_cost(study.training), on="trained", how="left") if cells else pd.DataFrame()


def _row(rows: pd.DataFrame, regime: str, study: StudyData) -> dict:
    row = {}
    for place, reference in (("native", "native"), ("low", study.low)):
        shown, aligned = (
            selections.cell(rows, regime, reference or ""),
            selections.cell(rows, reference or "", reference or ""),
        )
        if shown.empty or aligned.empty:
            continue
        row |= columns.triple(mean_interval(shown, confidence=study.confidence), f"at_{place}_pct")
        if regime != reference:
            row |= columns.triple(
                paired_difference(shown, aligned, confidence=study.confidence), f"minus_aligned_{place}_points"
            )
    ladder = rows[rows["regime"] == regime]
    return row | columns.triple(mean_interval(ladder, confidence=study.confidence), "ladder_mean_pct")


def _cost(training: pd.DataFrame) -> pd.DataFrame:
    """Columns trained, flops_pct, visual_tokens_pct, seconds_pct: training cost relative to native."""
    if training.empty:
        return pd.DataFrame(columns=["trained"])
    wide = selections.spent(training).pivot(index="regime", columns="cost", values="spent")
    if "native" not in wide.index:
        return pd.DataFrame(columns=["trained"])
    relative = 100 * wide / wide.loc["native"]
    return relative.add_suffix("_pct_of_native").rename_axis("trained").reset_index()


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    rows = selections.plain(study.scores)
    return (
        f"Every regime at native and at low resolution ({study.low or 'not run'}), and averaged over all rungs. "
        "minus_aligned_native_points: minus native-trained models on the same native pixels; minus_aligned_low_points: "
        "minus low-trained models on the same low pixels; both in percentage points, paired. In brackets "
        f"{study.confidence:.0%} intervals over image groups and training seeds. Training cost in per cent of "
        f"native's, averaged over seeds. n: {captions.count_words(rows)}."
    )

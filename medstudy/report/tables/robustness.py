"""Robustness over the inference ladder, as Res-Bench measures it: rank correlation and continuous error."""

from __future__ import annotations

import pandas as pd

from medstudy.report import selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import robustness

TITLE = "Robustness over the inference ladder"
NAMES = {"spearman": "Spearman ρ", "ace": "ACE", "rce": "RCE"}


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime x measure: `robustness` over all rungs."""
    rows = selections.plain(study.scores)
    if rows.empty or rows["inference"].nunique() < 2:
        return pd.DataFrame()
    table = robustness(rows, ["dataset", "regime"], confidence=study.confidence, n=study.resamples)
    ends = {"estimate": "value", "low": "value_low", "high": "value_high"}
    table = table.rename(columns=ends | columns.COUNTS)
    table = columns.in_order(table, regime=selections.regimes(table))
    return table.assign(measure=table["measure"].map(NAMES))


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "How much a trained model's score (0 to 1) depends on the inference resolution, after Res-Bench (arXiv "
        "2510.16926): Spearman's ρ of score and resolution over the rungs, ACE = Σ |s(i+1) − s(i)|, RCE = ACE / mean "
        f"score. Small ACE and RCE mean robust. In brackets bias-corrected {study.confidence:.0%} intervals from "
        f"{study.resamples} draws of images and seeds; noise adds to ACE and RCE."
    )

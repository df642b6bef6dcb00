"""Robustness over the inference ladder, as Res-Bench measures it: rank correlation and continuous error."""

from __future__ import annotations

import pandas as pd

from medstudy.report import selections
from medstudy.report.study_data import StudyData
from medstudy.statistics import robustness

TITLE = "Robustness over the inference ladder"
NAMES = {"spearman": "Spearman ρ", "ace": "ACE", "rce": "RCE"}


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x regime x measure: `robustness` over all rungs."""
    rows = selections.plain(study.scores)
    if rows.empty or rows["inference"].nunique() < 2:
        return pd.DataFrame()
    table = robustness(rows, ["dataset", "regime"], level=study.level, n=study.resamples)
    ends = {"estimate": "value", "low": "value_low", "high": "value_high"}
    table = table.rename(
        columns=ends | {"n_questions": "questions", "n_images": "images", "n_seeds": "seeds"}
    )
    order = [selections.datasets(table), selections.regimes(table)]
    places = table.assign(
        dataset=table["dataset"].map(order[0].index), regime=table["regime"].map(order[1].index)
    )
    table = table.loc[places.sort_values(["dataset", "regime"], kind="stable").index].reset_index(drop=True)
    return table.assign(measure=table["measure"].map(NAMES))


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "How much a trained model's score (0 to 1) depends on the inference resolution, after Res-Bench "
        "(arXiv 2510.16926): Spearman's ρ of score with resolution over the rungs, ACE = Σ |s(i+1) − "
        "s(i)|, RCE = ACE / mean score. Small ACE and RCE mean robust. In brackets bias-corrected "
        f"{study.level:.0%} intervals from {study.resamples} draws of images and seeds; noise adds to ACE "
        "and RCE."
    )

"""The claims under test: what the source states, our estimate, its interval, the verdict and why."""

from __future__ import annotations

import pandas as pd

from medstudy.report.study_data import StudyData

TITLE = "Claims"


def build(study: StudyData) -> pd.DataFrame:
    """claims.csv, one row a claim: id, claim, source_value, estimate with its ends, verdict, why."""
    ends = {"low": "estimate_low", "high": "estimate_high"}
    return study.claims.rename(columns=ends)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    counts = ", ".join(
        f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().sort_index().items()
    )
    return (
        "The paper's claims as second-hand sources give them (C) and our own (O), tested in this study's "
        "stand-in: what holds here says nothing about the paper's own models. Units as each claim states; "
        f"in brackets {study.level:.0%} intervals. Verdicts follow from the interval by the rule stated with each: "
        f"{counts}. Rules were fixed before the data, with two exceptions, made after the first results had been "
        "seen: O7 was added, and C1b, C3, C3b and O7 give no verdict where the native models cannot be told from the "
        "same models shown no image (O6)."
    )

"""The claims: the source's value, our estimate with its interval, the verdict and its reason."""

from __future__ import annotations

import pandas as pd

from medstudy.report.study_data import StudyData

TITLE = "Claims"


def build(study: StudyData) -> pd.DataFrame:
    """claims.csv, one row per claim: id, claim, source_value, estimate with its ends, verdict, to_settle, why."""
    ends = {"low": "estimate_low", "high": "estimate_high"}
    return study.claims.rename(columns=ends)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are, and on which data sets no claim is tested."""
    excluded = "".join(f" {line}" for line in not_tested(study))
    if table.empty:
        return f"No claims were tested.{excluded}"
    counts = ", ".join(f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().sort_index().items())
    return (
        "The paper's claims (C), as second-hand sources give them, and our own (O), tested on the model and data of "
        "this study: a claim of the paper is reproduced or not, one of ours supported or not. What holds here says "
        f"nothing about the paper's own models. Units are in each claim; in brackets {study.confidence:.0%} intervals. "
        f"Verdicts follow from the interval by the rule given with each claim: {counts}. Rules were fixed before the "
        "results that they judge. No claim but O6 has a verdict if the native models are not shown to beat the same "
        f"models without an image (O6). {_as_is(study)}to_settle: the images and seeds that would settle an "
        "inconclusive claim, from this study's own variances, if the estimate stays where it is."
        f"{excluded}"
    )


def _as_is(study: StudyData) -> str:
    if not study.as_is:
        return ""
    return (
        "Nothing is trained here: claims that compare trainings are not run, because they need training, and the "
        "others, I1 to I4 among them, hold for this one model, with intervals over images (or groups). "
    )


def not_tested(study: StudyData) -> list[str]:
    """A sentence on each data set on which no claim is tested, with the reason."""
    reasons = dict(study.study.get("no_claims", {}))
    return [f"No claim is tested on {name}: {reason.rstrip('.')}." for name, reason in reasons.items()]

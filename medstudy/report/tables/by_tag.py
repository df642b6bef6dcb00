"""Native against low resolution by tag, modality and anatomy: means, paired differences, Holm's p values."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import tags

TITLE = "Results by tag, modality and anatomy"
ENDS = ("", "_low", "_high")
NAMES = {"native": "native_pct", "lower": "fixed_pct", "estimate": "difference_points"}


def applies(study: StudyData) -> bool:
    """Whether the study compares both regimes and its questions have labels."""
    return not build(study).empty


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x label x category: `tags.compare` of native and low regime, in % and points."""
    cells = (selections.arm(study.scores, policy) for policy in ("native", study.low or ""))
    table = tags.compare(*cells, confidence=study.confidence)
    if table.empty:
        return table
    ends = {"estimate_low": table["low"], "estimate_high": table["high"]}
    table = columns.in_order(table.assign(**ends).drop(columns=["low", "high"]))
    scaled = {f"{new}{end}": 100 * table[f"{old}{end}"] for old, new in NAMES.items() for end in ENDS}
    counts = {new: table[old] for old, new in columns.COUNTS.items()}
    keys = table[["dataset", *tags.BY]]
    return keys.assign(**scaled, p=table["p"], p_holm=table["p_holm"], tests=table["family_size"], **counts)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    low, run = style.regime_label(study.low or "none"), "run" if study.as_is else "trained and run"
    sizes = table.groupby("dataset", sort=False)["tests"].first()
    tests = captions.join([f"{n} ({name})" for name, n in sizes.items()])
    return (
        "Questions grouped by the value of each of their tags, and by modality, anatomy and family of the image. A "
        "label with a single value, or one that groups the questions of a data set exactly like an earlier label, is "
        f"left out. native_pct: the model {run} at native resolution; fixed_pct: at "
        f"{low}; difference_points: native minus {low}, paired question by question. In brackets: "
        f"{captions.interval_words(study)}, or for the paired difference. p_holm: Holm's correction over all values in "
        f"a data set; number of tests: {tests}. A question with several labels counts in each, so rows are not "
        "independent; images counts independent groups."
    )

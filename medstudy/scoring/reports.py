"""Scores of written reports, as columns.

`strict`, and so `score`, is F1 of the findings that a report states, denies or suspects
(`medstudy.data.clinical_labels`): a report that says the opposite of its reference scores 0, although it has most of
its words. A reference that mentions none of the known findings is scored by F1 of its words. Both were fixed before any
result was read. The scores of `report_packages` are beside it, where these are installed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medstudy.data import clinical_labels, standard_scores
from medstudy.data.final_answer import final
from medstudy.scoring import report_packages
from medstudy.scoring.columns import frame, mapped

METRICS = ("clinical_f1", *(package.column for package in report_packages.PACKAGES))


def report(rows: pd.DataFrame) -> pd.DataFrame:
    """Reports: findings, words, and the packages' scores."""
    given, true = rows["raw_text"].map(lambda text: final(text).text), rows["answer"]
    clinical = mapped(_clinical, given, true)
    words = mapped(standard_scores.multiset_words, given, true)
    packages = report_packages.scores(list(given), list(true)) if len(rows) else {}
    return frame(rows, strict=np.where(np.isnan(clinical), words[:, 2], clinical), clinical_f1=clinical,
                 strict_precision=words[:, 0], strict_recall=words[:, 1], strict_f1=words[:, 2],
                 unread=(given.str.strip() == "").astype(float), chance=0.0, **packages)


def _clinical(given: str, true: str) -> float:
    value = clinical_labels.f1(given, true)
    return float("nan") if value is None else value

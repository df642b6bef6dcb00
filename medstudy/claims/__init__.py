"""Claims under test, each with a verdict: C1 to C3b of the paper (`paper`), O1 to O10 our own (`ours`, `arms`).

A study without regimes also has I1 to I4 (`one_model`), about one model as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from medstudy.claims import arms, one_model, ours, paper
from medstudy.claims.claim import Claim
from medstudy.claims.study_scores import StudyScores

COLUMNS = list(Claim.__dataclass_fields__)
CLAIMS = (*paper.CLAIMS, *ours.CLAIMS, *arms.CLAIMS)


def claims_table(scores: pd.DataFrame, training: pd.DataFrame | None = None, **names: object) -> pd.DataFrame:
    """Every claim with its verdict; names: fields of `StudyScores`, such as low="fixed-84"."""
    study = StudyScores(scores, training, **names)
    tests = CLAIMS if study.trained else (*CLAIMS, *one_model.CLAIMS)
    return pd.DataFrame([asdict(test(study)) for test in tests], columns=COLUMNS)


def by_data_set(
    scores: pd.DataFrame, training: pd.DataFrame | None, order: tuple[str, ...],
    notes: Mapping[str, str] | None = None, **names: object,
) -> pd.DataFrame:
    """`claims_table` for each data set in `order`, never pooled; ids of those after the first are like "C1/slake".

    notes: by data set, a text that ends the reasons of all its claims, such as an allowed leak.
    """
    tables = []
    for place, dataset in enumerate(order):
        table = claims_table(scores[scores["dataset"] == dataset], training, **names)
        if notes and dataset in notes:
            table["why"] += f" {notes[dataset]}"
        tables.append(table if place == 0 else table.assign(id=table["id"] + f"/{dataset}"))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)

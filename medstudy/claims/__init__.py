"""Claims and their verdicts: the paper's and our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from medstudy.claims import ours
from medstudy.claims.claim import Claim
from medstudy.claims.paper import PAPER
from medstudy.claims.study_scores import Study

COLUMNS = list(Claim.__dataclass_fields__)
CLAIMS = (*PAPER, *ours.CLAIMS)


def claims_table(scores: pd.DataFrame, training: pd.DataFrame | None = None, **names: object) -> pd.DataFrame:
    """Every claim with its verdict; `names` are fields of `verdicts.Study`, such as low="fixed-84"."""
    study = Study(scores, training, **names)
    return pd.DataFrame([asdict(test(study)) for test in CLAIMS], columns=COLUMNS)


def by_data_set(
    scores: pd.DataFrame, training: pd.DataFrame | None, order: tuple[str, ...],
    notes: Mapping[str, str] | None = None, **names: object,
) -> pd.DataFrame:
    """`claims_table` for each data set in turn, never pooled; those after the first have ids such as "C1/atlas".

    notes: by data set, what ends the reasons of all its claims, as a leak that was allowed.
    """
    tables = []
    for place, dataset in enumerate(order):
        table = claims_table(scores[scores["dataset"] == dataset], training, **names)
        if notes and dataset in notes:
            table["why"] += f" {notes[dataset]}"
        tables.append(table if place == 0 else table.assign(id=table["id"] + f"/{dataset}"))
    return pd.concat(tables, ignore_index=True)

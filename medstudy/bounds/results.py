"""What the jobs `bounds` and `probe` leave on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

TOWER, PIXELS, GUESS = "tower", "pixels", "guess"  # readers
FINE, NOT_FINE, UNSEEN = "fine", "not shown to be fine", "not shown to be visible"  # marks
ANSWERS, MARKS, UNBOUNDED = "answers.parquet", "marks.csv", "unbounded.csv"  # files in a job's folder


@dataclass(frozen=True)
class Results:
    """answers: `readings.table`; marks: `marks.marks`; unbounded: `questions.units`. All empty if nothing was read."""

    answers: pd.DataFrame = field(default_factory=pd.DataFrame)
    marks: pd.DataFrame = field(default_factory=pd.DataFrame)
    unbounded: pd.DataFrame = field(default_factory=pd.DataFrame)


def read(folders: Iterable[Path]) -> Results:
    """The results of the first of these folders, if there is one."""
    for folder in folders:
        tables = (pd.read_csv(folder / name) for name in (MARKS, UNBOUNDED))
        return Results(pd.read_parquet(folder / ANSWERS), *tables)
    return Results()

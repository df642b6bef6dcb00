"""What the jobs `bounds` and `probe` leave on disk, and the rungs that they read at. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from medstudy.params import Study
from medstudy.resolution.policies import Single

TOWER, PIXELS, GUESS = "tower", "pixels", "guess"  # readers
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


def rungs(study: Study) -> list[Single]:
    """The inference ladder, and the low regime if it is a single policy outside of it; by budget."""
    ladder = {rung.label: rung for rung in study.inference}
    low = study.policy(study.low)
    if low.singles == (low,):
        ladder.setdefault(low.label, low)
    return sorted(ladder.values(), key=lambda rung: rung.budget)


def ends(study: Study) -> tuple[str, str]:
    """The labels of the rungs that marks compare: the largest budget, and the low regime, else the smallest budget."""
    ladder = [rung.label for rung in rungs(study)]
    return ladder[-1], study.low if study.low in ladder else ladder[0]

"""The scores that a claim is tested on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from medstudy.statistics import Difference, paired_difference


def common_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the seeds that every regime has."""
    seeds = [set(part.unique()) for _, part in rows.groupby("regime", observed=True)["seed"]]
    return rows[rows["seed"].isin(set.intersection(*seeds) if seeds else set())]


def over_blind(study: Study) -> Difference:
    aligned = study.aligned(study.native)
    blind = study.test[(study.test["control"] == "blind") & (study.test["regime"] == study.native)]
    if blind.empty:
        raise NotRun("needs the blind control")
    return paired_difference(aligned, blind, level=study.level)


class NotRun(Exception):
    """The study lacks what a claim needs; becomes the verdict "not run"."""


@dataclass(frozen=True)
class Study:
    """Scores and training logs of one study, and the names of the policies that the claims speak of."""

    scores: pd.DataFrame
    training: pd.DataFrame | None = None
    low: str = "fixed-84"
    native: str = "native"
    mixed: str = "mixed"
    level: float = 0.95
    seed: int = 0

    @cached_property
    def test(self) -> pd.DataFrame:
        """The scores of the test split."""
        return self.scores[self.scores["split"] == "test"]

    @cached_property
    def ladder(self) -> pd.DataFrame:
        """The test scores without the controls."""
        return self.test[self.test["control"] == "none"]

    @property
    def side(self) -> str:
        """The side of the low policy's pixel budget: "84" of "fixed-84"."""
        return self.low.split("-")[-1]

    @property
    def add(self) -> str:
        """The regime that keeps every native sample and adds a low-resolution variant."""
        return f"add-{self.side}"

    def cell(self, regime: str, inference: str) -> pd.DataFrame:
        """The scores of one regime at one inference policy."""
        rows = self.ladder[(self.ladder["regime"] == regime) & (self.ladder["inference"] == inference)]
        if rows.empty:
            raise NotRun(f"needs the regime {regime} evaluated at {inference}, which this study lacks")
        return rows

    def aligned(self, policy: str) -> pd.DataFrame:
        """The scores of the regime trained and evaluated at the same policy."""
        return self.cell(policy, policy)

"""The scores and training logs of one study, and the selections of them that claims compare."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from medstudy.statistics import Difference, paired_difference


class NotRun(Exception):
    """The study lacks what a claim needs; the claim's verdict is then "not run"."""


@dataclass(frozen=True)
class StudyScores:
    """Scores and training logs of one study on one data set, and the names of the policies that claims refer to."""

    scores: pd.DataFrame
    training: pd.DataFrame | None = None
    low: str = "fixed-84"
    native: str = "native"
    mixed: str = "mixed"
    confidence: float = 0.95

    @cached_property
    def test(self) -> pd.DataFrame:
        """The scores of the test split."""
        return self.scores[self.scores["split"] == "test"]

    @cached_property
    def ladder(self) -> pd.DataFrame:
        """The test scores without controls."""
        return self.test[self.test["control"] == "none"]

    @cached_property
    def cells(self) -> dict[tuple[str, str], pd.DataFrame]:
        """The scores of each (regime, inference policy) that was run."""
        cells = self.ladder.groupby(["regime", "inference"], sort=False, observed=True)
        return {(str(regime), str(inference)): rows for (regime, inference), rows in cells}

    @property
    def side(self) -> str:
        """The side of the low policy's pixel budget: "84" of "fixed-84"."""
        return self.low.split("-")[-1]

    @property
    def add(self) -> str:
        """The regime that keeps every native sample and adds a low-resolution variant."""
        return f"add-{self.side}"

    def cell(self, regime: str, inference: str) -> pd.DataFrame:
        """The scores of one regime at one inference policy. Raises NotRun."""
        if (regime, inference) not in self.cells:
            raise NotRun(f"needs the regime {regime} evaluated at {inference}, which this study lacks")
        return self.cells[regime, inference]

    def aligned(self, policy: str) -> pd.DataFrame:
        """The scores of the regime trained and evaluated at the same policy. Raises NotRun."""
        return self.cell(policy, policy)

    def gain_from_image(self) -> Difference:
        """Aligned native minus the same models without an image. Raises NotRun without the blind control."""
        if self._gain_from_image is None:
            raise NotRun("needs the blind control")
        return self._gain_from_image

    @cached_property
    def _gain_from_image(self) -> Difference | None:
        aligned = self.aligned(self.native)
        blind = self.test[(self.test["control"] == "blind") & (self.test["regime"] == self.native)]
        return None if blind.empty else paired_difference(aligned, blind, confidence=self.confidence)

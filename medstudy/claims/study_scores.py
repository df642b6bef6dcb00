"""The scores and training logs of one study, and the selections of them that claims compare.

A study that trains compares regimes, each with several trainings: an aligned model runs at the resolution that it was
trained at. A study without regimes has one model as it is (the regime "base"), and compares its answers at two rungs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from medstudy.statistics import Difference, paired_difference

AS_IS = "base"  # the regime of a model that the study does not train


class NotRun(Exception):
    """The study lacks what a claim needs; the claim's verdict is then "not run"."""


@dataclass(frozen=True)
class StudyScores:
    """Scores and training logs of one study on one data set, and the names of the policies that claims refer to.

    trained: whether the study trains; if not, low may be None. own_rung: of a model as it is, the rung at the
    resolution that it was trained at, if known; own_why: where that is stated, or why it is not known.
    """

    scores: pd.DataFrame
    training: pd.DataFrame | None = None
    low: str | None = "fixed-84"
    native: str = "native"
    mixed: str = "mixed"
    confidence: float = 0.95
    trained: bool = True
    own_rung: str | None = None
    own_why: str = "nothing states the resolution that the model was trained at"
    resamples: int = 400

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
        """The side of the low policy's pixel budget: "84" of "fixed-84". Raises NotRun if no low policy is named."""
        return self._named(self.low).split("-")[-1]

    @property
    def of_native(self) -> str:
        """The regime of the models that run at native and under the controls."""
        return self.native if self.trained else AS_IS

    @property
    def versus(self) -> str:
        """What `aligned` native minus `aligned` low compares, as the start of a sentence."""
        if self.trained:
            return f"Aligned {self.native} minus aligned {self.low}"
        return f"The model at {self.native} minus the same model at {self.low}"

    @staticmethod
    def _named(low: str | None) -> str:
        if low is None:
            raise NotRun("needs `low`, the rung that native is compared with")
        return low

    @property
    def add(self) -> str:
        """The regime that keeps every native sample and adds a low-resolution variant."""
        return f"add-{self.side}"

    def cell(self, regime: str, inference: str) -> pd.DataFrame:
        """The scores of one regime at one inference policy. Raises NotRun."""
        if (regime, inference) not in self.cells:
            raise NotRun(f"needs the regime {regime} evaluated at {inference}, which this study lacks")
        return self.cells[regime, inference]

    def aligned(self, policy: str | None) -> pd.DataFrame:
        """The scores of the regime trained and evaluated at the same policy; of a model as it is, evaluated there.

        Raises NotRun.
        """
        policy = self._named(policy)
        return self.cell(policy if self.trained else AS_IS, policy)

    def under(self, control: str) -> pd.DataFrame:
        """The scores of the native models under a control, such as "blind"; empty if it was not run."""
        return self.test[(self.test["control"] == control) & (self.test["regime"] == self.of_native)]

    def gain_from_image(self) -> Difference:
        """Aligned native minus the same models without an image. Raises NotRun without the blind control."""
        if self._gain_from_image is None:
            raise NotRun("needs the blind control")
        return self._gain_from_image

    @cached_property
    def _gain_from_image(self) -> Difference | None:
        aligned, blind = self.aligned(self.native), self.under("blind")
        return None if blind.empty else paired_difference(aligned, blind, confidence=self.confidence)

"""The rungs at which readers are tested, and the two that marks compare.

Readers see whole images: rungs that compress tokens or crop are left out.
"""

from __future__ import annotations

from medstudy.params import Study
from medstudy.resolution.policies import Fixed, Native, Single


def rungs(study: Study) -> list[Single]:
    """The inference ladder, and the low regime if it is a single policy outside of it; by budget."""
    ladder = {rung.label: rung for rung in study.inference if isinstance(rung, Native | Fixed)}
    low = study.policy(study.low)
    if isinstance(low, Native | Fixed):
        ladder.setdefault(low.label, low)
    return sorted(ladder.values(), key=lambda rung: rung.budget)


def ends(study: Study) -> tuple[str, str]:
    """The labels of the rungs that marks compare: the largest budget, and the low regime, else the smallest budget."""
    ladder = [rung.label for rung in rungs(study)]
    return ladder[-1], study.low if study.low in ladder else ladder[0]

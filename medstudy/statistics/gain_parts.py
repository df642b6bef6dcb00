"""The gain of native over low resolution as a sum of parts: the arms of a study, and which two make each part.

    native ──information──► down_up ──tokens and scale──► equal_flops ──compute──► low

- native: images at their own size.
- down_up: the same sizes and visual tokens, without the detail finer than the low resolution.
- equal_flops: images at the low resolution, as many steps as take the FLOPs of native's training.
- low: images at the low resolution, as many epochs as native.

Each arm is trained and run on its own view. A part is the mean difference of two neighbours, so the parts add up to the
gain exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

NATIVE, DOWN_UP, EQUAL_FLOPS, LOW = "native", "down_up", "equal_flops", "low"  # the arms


@dataclass(frozen=True)
class Part:
    """A part of the gain: the arm that has something, minus the arm that lacks it."""

    words: str
    has: str
    lacks: str


GAIN = Part("gain", NATIVE, LOW)
PARTS = (
    Part("information", NATIVE, DOWN_UP),
    Part("tokens and scale", DOWN_UP, EQUAL_FLOPS),
    Part("compute", EQUAL_FLOPS, LOW),
)


def views(native: str, low: str) -> dict[str, tuple[str, str]]:
    """The regime and the inference policy of each arm, by the labels of the regimes that are compared."""
    mode, _, side = low.rpartition("-")
    down_up = f"{DOWN_UP}-{side}"
    longer = f"{EQUAL_FLOPS}-{side}" if mode == "fixed" else f"{EQUAL_FLOPS}_{mode}-{side}"
    return {NATIVE: (native, native), DOWN_UP: (down_up, down_up), EQUAL_FLOPS: (longer, low), LOW: (low, low)}


def arms(scores: pd.DataFrame, native: str, low: str) -> dict[str, pd.DataFrame]:
    """The scores of each arm that they have, at its own view, over the seeds that all these arms have."""
    cells = {}
    for arm, (regime, view) in views(native, low).items():
        rows = scores[(scores["regime"] == regime) & (scores["inference"] == view)]
        rows = rows[rows["control"] == (DOWN_UP if arm == DOWN_UP else "none")]
        if len(rows):
            cells[arm] = rows
    seeds = set.intersection(*(set(rows["seed"]) for rows in cells.values())) if cells else set()
    return {arm: rows[rows["seed"].isin(seeds)] for arm, rows in cells.items()}

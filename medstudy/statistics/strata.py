"""Strata of native size: a cap changes only the images above it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def native_strata(scores: pd.DataFrame, edges: Sequence[float] | None = None) -> pd.Series:
    """Each row's stratum by its image's native pixel count: an ordered categorical such as "224² to 318² px".

    edges: the inner limits in pixels, for instance the ladder's pixel budgets; by default the tertiles of the images.
    Results are shown by stratum because a budget changes only the images above it.
    """
    pixels = scores["height"] * scores["width"]
    if edges is None:
        images = pixels.groupby([scores["dataset"], scores["image_id"]], observed=True).first()
        edges = np.unique(images.quantile([1 / 3, 2 / 3]))
    sides = [f"{round(np.sqrt(edge))}²" for edge in edges]
    between = [f"{a} to {b} px" for a, b in zip(sides, sides[1:], strict=False)]
    labels = [f"up to {sides[0]} px", *between, f"above {sides[-1]} px"]
    return pd.Series(pd.cut(pixels, [0, *edges, np.inf], labels=labels), index=scores.index, name="stratum")

"""Two steps of an interval with pandas alone, for the notebook that computes a claim by hand (05_claims).

`medstudy.statistics.intervals` has what the study uses; the notebook ends by comparing the two.
"""

from __future__ import annotations

import pandas as pd


def by_image_and_seed(values: pd.Series) -> pd.DataFrame:
    """Deviations from the mean, added up by image (rows) and seed (columns), scaled to the size of one value.

    Rows are numbered, since the name of a group is that of a patient or an image, and a notebook shows these cells.
    """
    share = (values - values.mean()) / max(1, len(values))
    cells = share.groupby(["group", "seed"], observed=True).sum().unstack(fill_value=0.0)
    return (cells * cells.size).reset_index(drop=True).rename_axis("image")


def seed_variance(values: pd.Series) -> float:
    """The variance of a mean that comes from its trainings: their spread less the share of the unexplained rest."""
    cells = by_image_and_seed(values)
    images, seeds = cells.shape
    if seeds < 2:
        return 0.0
    of_images, of_seeds = cells.mean(axis=1), cells.mean(axis=0)
    rest = cells.sub(of_images, axis=0).sub(of_seeds, axis=1) + cells.to_numpy().mean()
    rest_square = (rest**2).to_numpy().sum() / max(1, (images - 1) * (seeds - 1))
    return float(of_seeds.var() / seeds - rest_square / (images * seeds))

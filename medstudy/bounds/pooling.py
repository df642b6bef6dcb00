"""Tokens of any number, from an image of any size, as one vector that a linear model can read.

A mean over tokens hides a detail that one token of many shows. So each feature is pooled in four ways, and by place:

- moments: mean and standard deviation over all tokens (texture, amount);
- extremes: largest and smallest value over all tokens (one token that differs: a small detail);
- halves, thirds: mean, largest and smallest value in each cell of a 2 x 2 and of a 3 x 3 grid (place, size, side), as
  in spatial pyramids (Lazebnik et al. 2006, https://doi.org/10.1109/CVPR.2006.68).

The vector's length does not depend on the number of tokens. The blocks stay apart, because the reader gives each of
them the same weight whatever its length (`medstudy.bounds.ridge`).
"""

from __future__ import annotations

import torch
from torch.nn import functional

BLOCKS = ("moments", "extremes", "halves", "thirds")
GRIDS = (2, 3)


def of_tokens(features: torch.Tensor, places: torch.Tensor) -> list[torch.Tensor]:
    """features [n, width] at places [n, 2] -> one vector for each of `BLOCKS`. A cell without a token gets the mean."""
    mean, largest, smallest = features.mean(0), features.amax(0), features.amin(0)
    blocks = [torch.cat([mean, features.std(0, correction=0)]), torch.cat([largest, smallest])]
    for side in GRIDS:
        rows, columns = (places * side).long().clamp(0, side - 1).unbind(1)
        cell = rows * side + columns
        parts = [features[cell == number] for number in range(side**2)]
        parts = [part if len(part) else mean[None] for part in parts]
        blocks.append(torch.cat([values for part in parts for values in (part.mean(0), part.amax(0), part.amin(0))]))
    return blocks


def of_maps(maps: torch.Tensor) -> list[torch.Tensor]:
    """Maps [features, height, width] -> the same blocks; cells of an uneven division overlap by a pixel."""
    flat = maps.flatten(1)
    blocks = [torch.cat([flat.mean(1), flat.std(1, correction=0)]), torch.cat([flat.amax(1), flat.amin(1)])]
    for side in GRIDS:
        pooled = (functional.adaptive_avg_pool2d(maps, side), functional.adaptive_max_pool2d(maps, side),
                  -functional.adaptive_max_pool2d(-maps, side))
        blocks.append(torch.cat([part.flatten() for part in pooled]))
    return blocks

"""Where each row of a tower's features lies in the image, by family: the centres of patches, as shares of its sides."""

from __future__ import annotations

from functools import singledispatch

import torch
from transformers.vision_utils import get_vision_window_index

from medstudy.errors import ModelError
from medstudy.models.family import Family
from medstudy.models.qwen_vl import Qwen2_5VL, QwenVL
from medstudy.models.tiled import Tiled
from medstudy.resolution.sizes import Size


def grid(rows: int, columns: int) -> torch.Tensor:
    """[rows, columns, 2] centres (y, x) of equal cells in the unit square."""
    y = (torch.arange(rows) + 0.5) / rows
    x = (torch.arange(columns) + 0.5) / columns
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)


@singledispatch
def of(family: Family, size: Size) -> torch.Tensor:
    """[patches, 2] the place of each row of `family.features` for an image shown at `size`. Raises ModelError."""
    raise ModelError(
        f"A probe needs to know where each feature of the tower lies, but family {family.name} does not say. Add it to "
        "medstudy/bounds/places.py, or set `bounds: null`."
    )


@of.register
def _(family: QwenVL, size: Size) -> torch.Tensor:
    """Patches in the order of `patches`: one visual token of merge × merge patches after the other."""
    merge = family.model.config.vision_config.spatial_merge_size
    rows, columns = (side // family.patch_size for side in size)
    blocks = grid(rows, columns).view(rows // merge, merge, columns // merge, merge, 2)
    return blocks.permute(0, 2, 1, 3, 4).reshape(-1, 2)


@of.register
def _(family: Qwen2_5VL, size: Size) -> torch.Tensor:
    """As `QwenVL`, with the visual tokens in the order of the tower's windows."""
    vision = family.model.config.vision_config
    order, _ = get_vision_window_index(
        family.grid(size), vision.spatial_merge_size, window_size=vision.window_size, patch_size=vision.patch_size
    )
    return of.dispatch(QwenVL)(family, size).view(len(order), -1, 2)[order].reshape(-1, 2)


@of.register
def _(family: Tiled, size: Size) -> torch.Tensor:
    """Tile after tile, row by row within each; the overview covers the whole image."""
    geometry = family.geometry
    (views, rows, columns), side = family.grid(size)[0].tolist(), geometry.patches
    tiles = grid(rows * side, columns * side).view(rows, side, columns, side, 2).permute(0, 2, 1, 3, 4)
    parts = [tiles.reshape(-1, 2)]
    if views > rows * columns:
        parts.insert(0 if family.overview_first else 1, grid(side, side).reshape(-1, 2))
    return torch.cat(parts)

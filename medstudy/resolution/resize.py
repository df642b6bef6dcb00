"""An image's pixels resized as a view plans them. Nothing else in the study resizes.

The resizer is the one of transformers' default image processors: torchvision's on uint8, antialiased. It is twice as
fast as Pillow's near native size, and eight times where a twelfth of the pixels remain; the two differ by a few levels.
"""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode, functional

from medstudy.resolution.sizes import View

FILTERS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


def resize(array: np.ndarray, shown: View, interpolation: str) -> torch.Tensor:
    """[height, width, 3] uint8 -> its crop, if any, at exactly `shown.size`; antialiased, black padding."""
    if shown.crop:
        top, left, height, width = shown.crop
        array = np.ascontiguousarray(array[top : top + height, left : left + width])
    view = torch.from_numpy(array).permute(2, 0, 1)
    for step in shown.steps:
        if view.shape[1:] != tuple(step):
            view = functional.resize(view, list(step), FILTERS[interpolation], antialias=True)
    if view.shape[1:] != tuple(shown.size):
        view = _centred(view, shown)
    return view.permute(1, 2, 0).contiguous()


def _centred(view: torch.Tensor, shown: View) -> torch.Tensor:
    """[3, h, w] in the middle of a black canvas of `shown.size`."""
    height, width = view.shape[1:]
    top, left = (shown.size.height - height) // 2, (shown.size.width - width) // 2
    canvas = torch.zeros((3, *shown.size), dtype=torch.uint8)
    canvas[:, top : top + height, left : left + width] = view
    return canvas

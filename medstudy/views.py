"""An image as a policy shows it: the plan of `medstudy.resolution` applied to pixels. Nothing else resizes.

The resizer is the one of transformers' default image processors, torchvision's on uint8, antialiased. It is twice as
fast as Pillow's near native size, and eight times where a twelfth of the pixels is left; they differ by a few levels.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode, functional

from medstudy import code_hash, shelf
from medstudy.pictures import Picture
from medstudy.resolution import Shown

DECODERS = ("pillow", "simplejpeg", "imagecodecs", "tifffile", "pydicom", "pylibjpeg-openjpeg", "nibabel")
LIBRARIES = (*DECODERS, "torch", "torchvision")
SOURCES = ("images.py", "imaging/*.py", "pictures.py", "views.py")
FILTERS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


def render(image: Image.Image | Picture, shown: Shown, interpolation: str) -> torch.Tensor:
    """[height, width, 3] uint8 at exactly `shown.size`; antialiased, black padding."""
    array = image.pixels() if isinstance(image, Picture) else np.array(image)
    view = torch.from_numpy(array).permute(2, 0, 1)
    for step in shown.steps:
        if view.shape[1:] != tuple(step):
            view = functional.resize(view, list(step), FILTERS[interpolation], antialias=True)
    if view.shape[1:] != tuple(shown.size):
        view = _centred(view, shown)
    return view.permute(1, 2, 0).contiguous()


def cached(picture: Picture, shown: Shown, interpolation: str, store: shelf.Shelf | None) -> torch.Tensor:
    """`render`, taken from the shelf when it stands there; a PIL image has no identity, and needs no shelf."""
    if store is None:
        return render(picture, shown, interpolation)
    return store.get(key(picture, shown, interpolation), lambda: render(picture, shown, interpolation))


def key(picture: Picture, shown: Shown, interpolation: str) -> str:
    """The identity of a view's pixels. What decodes and resizes is part of it."""
    return shelf.key("view", picture.sha256, shown.steps, shown.size, interpolation, _made_by())


@cache
def _made_by() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES} | {"medstudy": code_hash.code(*SOURCES)}


def _centred(view: torch.Tensor, shown: Shown) -> torch.Tensor:
    """[3, h, w] in the middle of a black canvas."""
    height, width = view.shape[1:]
    top, left = (shown.size.height - height) // 2, (shown.size.width - width) // 2
    canvas = torch.zeros((3, *shown.size), dtype=torch.uint8)
    canvas[:, top : top + height, left : left + width] = view
    return canvas

"""An image as a policy shows it: the plan of `medstudy.resolution` applied to pixels. Nothing else resizes."""

from __future__ import annotations

import numpy as np
import PIL
import simplejpeg
import torch
from PIL import Image

from medstudy import shelf
from medstudy.pictures import Picture, pil
from medstudy.resolution import Shown

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
}


def render(image: Image.Image | Picture, shown: Shown, interpolation: str) -> np.ndarray:
    """[height, width, 3] uint8 at exactly `shown.size`; Pillow's antialiased filters, black padding."""
    image = pil(image)
    for step in shown.steps:
        if (image.height, image.width) != tuple(step):
            image = image.resize((step.width, step.height), FILTERS[interpolation])
    if (image.height, image.width) != tuple(shown.size):
        image = _centred(image, shown)
    return np.asarray(image)


def cached(picture: Image.Image | Picture, shown: Shown, interpolation: str, store: shelf.Shelf | None) -> torch.Tensor:
    """`render` as a tensor, taken from the shelf when it stands there."""

    def make() -> torch.Tensor:
        return torch.from_numpy(render(picture, shown, interpolation).copy())

    return make() if store is None else store.get(key(picture, shown, interpolation), make)


def key(picture: Picture, shown: Shown, interpolation: str) -> str:
    """The identity of a view's pixels. What decodes and resizes is part of it."""
    made_by = {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__}
    return shelf.key("view", picture.sha256, shown.steps, shown.size, interpolation, made_by)


def _centred(image: Image.Image, shown: Shown) -> Image.Image:
    canvas = Image.new("RGB", (shown.size.width, shown.size.height))
    canvas.paste(image, ((shown.size.width - image.width) // 2, (shown.size.height - image.height) // 2))
    return canvas

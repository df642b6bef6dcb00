"""An image as a policy shows it: the plan of `medstudy.resolution` applied to pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medstudy.resolution import Shown

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
}


def render(image: Image.Image, shown: Shown, interpolation: str) -> np.ndarray:
    """[height, width, 3] uint8 at exactly `shown.size`; Pillow's antialiased filters, black padding."""
    for step in shown.steps:
        if (image.height, image.width) != tuple(step):
            image = image.resize((step.width, step.height), FILTERS[interpolation])
    if (image.height, image.width) != tuple(shown.size):
        image = _centred(image, shown)
    return np.asarray(image)


def _centred(image: Image.Image, shown: Shown) -> Image.Image:
    canvas = Image.new("RGB", (shown.size.width, shown.size.height))
    canvas.paste(image, ((shown.size.width - image.width) // 2, (shown.size.height - image.height) // 2))
    return canvas

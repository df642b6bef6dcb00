"""Images as a policy shows them: decoded, resized by `medstudy.resolution.resize`, and kept on disk."""

from __future__ import annotations

from functools import cache
from importlib import metadata

import numpy as np
import torch
from PIL import Image

from medstudy.data.encoded_image import Picture
from medstudy.engine import tensor_cache
from medstudy.resolution.resize import resize
from medstudy.resolution.sizes import View
from medstudy.utils import code_hash

DECODERS = ("pillow", "simplejpeg", "imagecodecs", "tifffile", "pydicom", "pylibjpeg-openjpeg", "nibabel")
LIBRARIES = (*DECODERS, "torch", "torchvision")
SOURCES = ("imaging/*.py", "data/encoded_image.py", "resolution/resize.py", "engine/views.py")


def render(image: Image.Image | Picture, shown: View, interpolation: str) -> torch.Tensor:
    """[height, width, 3] uint8 at exactly `shown.size`, of an image that is decoded here if it is a `Picture`."""
    array = image.pixels() if isinstance(image, Picture) else np.array(image)
    return resize(array, shown, interpolation)


def cached(picture: Picture, shown: View, interpolation: str, store: tensor_cache.TensorCache | None) -> torch.Tensor:
    """`render`, read from the cache when it is there; without a store it is always computed."""
    if store is None:
        return render(picture, shown, interpolation)
    return store.get(key(picture, shown, interpolation), lambda: render(picture, shown, interpolation))


def key(picture: Picture, shown: View, interpolation: str) -> str:
    """The cache key of a view's pixels. The versions of the decoders and of the resizer are part of it."""
    crop = [shown.crop] if shown.crop else []
    return tensor_cache.key("view", picture.sha256, *crop, shown.steps, shown.size, interpolation, _versions())


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES} | {"medstudy": code_hash.code(*SOURCES)}

"""A stored image that is decoded when it is looked at: its encoded bytes stay in memory, its pixels do not."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from medstudy import images


@dataclass(frozen=True)
class Picture:
    """The bytes of an image file of any kind that `medstudy.images` reads; `name` is what errors call it."""

    data: bytes = field(repr=False)
    name: str

    @classmethod
    def of(cls, image: Image.Image, name: str) -> Picture:
        """A PIL image as a PNG, lightly compressed."""
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        return cls(buffer.getvalue(), name)

    @cached_property
    def sha256(self) -> str:
        """Hash of the encoded bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def height(self) -> int:
        return self._size[0]

    @property
    def width(self) -> int:
        return self._size[1]

    def pixels(self) -> np.ndarray:
        """[height, width, 3] uint8, decoded at every call. Raises ImageError naming the picture."""
        return images.read_array(self.data, name=self.name)

    @cached_property
    def _size(self) -> tuple[int, int]:
        """(height, width), upright, from the header alone. Raises ImageError naming the picture."""
        return images.read_size(self.data, name=self.name)


def pil(image: Image.Image | Picture) -> Image.Image:
    """An example's image as a PIL image, decoded if it is a stored one."""
    return Image.fromarray(image.pixels()) if isinstance(image, Picture) else image

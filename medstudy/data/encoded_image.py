"""An encoded image that is decoded on demand. Its bytes are in memory, or stay in the file that holds them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from medstudy import imaging
from medstudy.errors import DataError


@dataclass(frozen=True)
class Picture:
    """The bytes of an image file of any kind that `medstudy.imaging` reads. name: how errors refer to it."""

    data: bytes = field(repr=False)
    name: str
    limit: int = imaging.MAX_PIXELS  # maximum of height times width

    @classmethod
    def of(cls, image: Image.Image, name: str) -> Picture:
        """A PIL image as a PNG, lightly compressed."""
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        return cls(buffer.getvalue(), name)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the encoded bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def height(self) -> int:
        return self._size[0]

    @property
    def width(self) -> int:
        return self._size[1]

    def pixels(self) -> np.ndarray:
        """[height, width, 3] uint8, decoded at every call. Raises ImageError naming the picture."""
        return imaging.read_array(self.data, name=self.name, max_pixels=self.limit)

    @cached_property
    def _size(self) -> tuple[int, int]:
        """(height, width), upright, from the header alone. Raises ImageError naming the picture."""
        return imaging.read_size(self.data, name=self.name)


class StoredPicture(Picture):
    """A picture whose bytes are part of a file. They are read at each use and never kept.

    Its hash and (height, width) are known without reading. Pickled, it is only a path and a few numbers.
    """

    def __init__(self, file: Path, start: int, length: int, name: str, sha256: str, size: tuple[int, int]):
        vars(self).update(file=file, start=start, length=length, name=name, sha256=sha256, _size=size,
                          limit=max(imaging.MAX_PIXELS, size[0] * size[1]))

    @property
    def data(self) -> bytes:
        """The encoded bytes. Raises DataError if the file is missing or truncated."""
        try:
            with open(self.file, "rb") as stream:
                stream.seek(self.start)
                content = stream.read(self.length)
        except OSError as error:
            raise DataError(f"{self.name} must be in {self.file}, but: {error.strerror}. Run its data job.") from error
        if len(content) < self.length:
            raise DataError(f"{self.name} must be in {self.file}, but this is truncated. Run its data job again.")
        return content


def array(image: Image.Image | Picture) -> np.ndarray:
    """An example's image as [height, width, 3] uint8, decoded if it is encoded. Raises ImageError."""
    return image.pixels() if isinstance(image, Picture) else np.asarray(image)


def pil(image: Image.Image | Picture) -> Image.Image:
    """An example's image as a PIL image, decoded if it is encoded."""
    return Image.fromarray(image.pixels()) if isinstance(image, Picture) else image

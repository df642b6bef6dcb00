"""What an image shows, in a few hundred bytes: equal for equal pixels, alike for copies in any encoding, size and pose.

The lowest frequencies of the cosine transform (DCT) of the small grey image are kept: 63 signs, by which copies are
found (a perceptual hash), and 256 coefficients weighted by their frequency, by which they are confirmed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from medstudy.data.encoded_image import array
from medstudy.data.example import Example

SIDE = 32  # pixels of the small grey image that is transformed
SIGNS, KEPT = 8, 16  # frequencies a side whose signs are the hash; that confirm it
FLAT = 2.0  # standard deviation in grey levels of 255: below, an image has nothing to be compared by but its pixels
COLUMNS = ["dataset", "split", "image_id", "place", "group", "exact", "near", "detail"]


@dataclass(frozen=True)
class Fingerprint:
    """exact: SHA-256 of the pixels with their shape. near: a 63-bit hash in each of the 8 orientations. detail: 16 × 16
    coefficients as int8 bytes. The last two are None for a flat image, which is like every other flat one."""

    exact: str
    near: list[int] | None
    detail: bytes | None


def fingerprint(pixels: np.ndarray) -> Fingerprint:
    """Of [height, width, 3] uint8 RGB pixels."""
    exact = hashlib.sha256(str(pixels.shape).encode())
    exact.update(np.ascontiguousarray(pixels).data)
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(small, np.float32)
    if grey.std() < FLAT:
        return Fingerprint(exact.hexdigest(), None, None)
    weighted = dctn(grey, norm="ortho")[:KEPT, :KEPT] * _RADIUS
    detail = np.round(127 * weighted / np.abs(weighted).max()).astype(np.int8)
    return Fingerprint(exact.hexdigest(), [_hash(turned) for turned in orientations(weighted)], detail.tobytes())


def fingerprints(examples: Iterable[Example]) -> pd.DataFrame:
    """One row an image: dataset, split, image_id, place (0, or 1 and on in an example's context), group, `Fingerprint`.

    Raises ImageError for an image that cannot be read.
    """
    rows = [row for example in examples for row in rows_of(example)]
    return pd.DataFrame(rows, columns=COLUMNS)


def rows_of(example: Example, images: Iterable | None = None) -> list[dict]:
    """The rows of one example. images: its `images`, where they are decoded already. Raises ImageError."""
    about = {name: getattr(example, name) for name in ("dataset", "split", "image_id", "group")}
    shown = [fingerprint(array(image)) for image in (example.images if images is None else images)]
    order = [len(shown) - 1, *range(len(shown) - 1)]  # the example's own image comes last in a prompt
    return [about | {"place": place} | asdict(shown[index]) for place, index in enumerate(order)]


def _hash(weighted: np.ndarray) -> int:
    """The signs of the lowest frequencies but the mean, as a number below 2**63. Bits turn with the image."""
    bits = (weighted[:SIGNS, :SIGNS] > 0).reshape(-1)[1:]
    return int.from_bytes(np.packbits(np.concatenate([[False], bits])).tobytes(), "big")


def orientations(coefficients: np.ndarray) -> list[np.ndarray]:
    """[..., k, k] of an image and of it turned and flipped, 8 in all: a flip of the image negates odd frequencies."""
    made = []
    for turned in (coefficients, coefficients.swapaxes(-1, -2)):
        made += [turned, turned * _ODD, turned * _ODD[:, None], turned * _ODD * _ODD[:, None]]
    return made


_RADIUS = np.hypot(*np.mgrid[:KEPT, :KEPT]).astype(np.float32)  # 0 for the mean
_ODD = np.where(np.arange(KEPT) % 2, -1, 1).astype(np.float32)

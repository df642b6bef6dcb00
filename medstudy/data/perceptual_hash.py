"""A perceptual hash: a few hundred bytes that are equal for equal pixels, and similar for copies of an image.

A copy may be re-encoded, resized, rotated or flipped. The hash keeps the lowest frequencies of the cosine transform
(DCT) of the small grey image: 63 signs find copies, and 256 coefficients weighted by frequency confirm them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from medstudy.data.encoded_image import Picture, array
from medstudy.data.example import Example

SIDE = 32  # pixels of the small grey image that is transformed
SIGNS, KEPT = 8, 16  # frequencies a side whose signs are the hash; that confirm it
FLAT = 2.0  # standard deviation in grey levels (0 to 255) below which images are compared by their pixels only
COLUMNS = ["dataset", "split", "image_id", "place", "group", "exact", "near", "detail"]


@dataclass(frozen=True)
class Fingerprint:
    """The hash of one image.

    exact: SHA-256 of the pixels and their shape. near: a 63-bit hash for each of the 8 orientations. detail: 16 × 16
    coefficients as int8 bytes. near and detail are None for a flat image, which resembles every other flat image.
    """

    exact: str
    near: list[int] | None
    detail: bytes | None


def fingerprint(pixels: np.ndarray) -> Fingerprint:
    """The fingerprint of [height, width, 3] uint8 RGB pixels."""
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
    """One row for each image: dataset, split, image_id, place, group, and the fields of `Fingerprint`.

    place is 0 for an example's own image, and 1, 2, … for the images of its context. Raises ImageError for an image
    that cannot be read.
    """
    rows = [row for example in examples for row in rows_of(example)]
    return pd.DataFrame(rows, columns=COLUMNS)


def rows_of(example: Example, images: Iterable[Image.Image | Picture] | None = None) -> list[dict]:
    """The rows of one example. images: its `images`, if they are already decoded. Raises ImageError."""
    about = {name: getattr(example, name) for name in ("dataset", "split", "image_id", "group")}
    shown = [fingerprint(array(image)) for image in (example.images if images is None else images)]
    order = [len(shown) - 1, *range(len(shown) - 1)]  # the example's own image comes last in a prompt
    return [about | {"place": place} | asdict(shown[index]) for place, index in enumerate(order)]


def _hash(weighted: np.ndarray) -> int:
    """The signs of the lowest frequencies except the mean, as a number below 2**63."""
    bits = (weighted[:SIGNS, :SIGNS] > 0).reshape(-1)[1:]
    return int.from_bytes(np.packbits(np.concatenate([[False], bits])).tobytes(), "big")


def orientations(coefficients: np.ndarray) -> list[np.ndarray]:
    """The coefficients [..., k, k] of an image in its 8 orientations: flipping an image negates odd frequencies."""
    return [
        turned * flip
        for turned in (coefficients, coefficients.swapaxes(-1, -2))
        for flip in (np.float32(1), _ODD, _ODD[:, None], _ODD * _ODD[:, None])
    ]


_RADIUS = np.hypot(*np.mgrid[:KEPT, :KEPT]).astype(np.float32)  # 0 for the mean
_ODD = np.where(np.arange(KEPT) % 2, -1, 1).astype(np.float32)

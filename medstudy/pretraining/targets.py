"""What each patch of an image looks like, in numbers: the dense targets of the vision stage.

Blob strength in cells of 7 px at six scales (Laplacian of Gaussians; the idea of MaskFeat,
https://arxiv.org/abs/2112.09133, with more than gradients), edge energy and direction, colour, and the brightness of
every 2 × 2 pixels. So the place and shape of detail within a visual token of 28 px is asked for, not only its amount.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch.nn.functional import avg_pool2d, max_pool2d

PATCH, CELL, DOT = 14, 7, 2  # px
FINE, COARSE = (0.8, 1.2, 1.8, 2.7), (4.0, 6.0)  # px, scales of blobs: told by cell and by patch
EDGES = (1.0, 2.5)  # px, scales of gradients
CELLS, DOTS = (PATCH // CELL) ** 2, (PATCH // DOT) ** 2
LOOKS = CELLS * (2 * len(FINE) + 3 * len(EDGES) + 3) + 2 * len(COARSE) + DOTS + 1  # numbers that describe a patch


@contextmanager
def _exact() -> Iterator[None]:
    """Products in full float32 on a GPU: faint blobs are lost in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@torch.no_grad()
@_exact()
def describe(images: torch.Tensor) -> torch.Tensor:
    """[n, H, W, 3] uint8 -> [n, H / 14, W / 14, LOOKS] float32, of the order of one."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    gray = scaled.mean(1, keepdim=True)
    parts = []
    for sigma in FINE:
        blobs = _blobs(gray, sigma)
        parts += [_folded(_root(max_pool2d(sign * blobs, CELL)), CELL) for sign in (-1, 1)]
    for sigma in COARSE:
        blobs = _blobs(gray, sigma)
        parts += [_root(max_pool2d(sign * blobs, PATCH)) for sign in (-1, 1)]
    for sigma in EDGES:
        down, right = _filtered(gray, sigma, 1, 0), _filtered(gray, sigma, 0, 1)
        parts += [_folded(_root(10 * avg_pool2d(part, CELL)), CELL) for part in (down**2, right**2, down * right)]
    parts.append(_folded(avg_pool2d(scaled, CELL) * 2 - 1, CELL))
    mean = avg_pool2d(gray, PATCH)
    parts.append(5 * (avg_pool2d(gray**2, PATCH) - mean**2).clamp(min=0).sqrt())
    parts.append(4 * (_folded(avg_pool2d(gray, DOT), DOT) - mean))
    return torch.cat(parts, 1).permute(0, 2, 3, 1)


def ordered(places: torch.Tensor) -> torch.Tensor:
    """[n, H / 14, W / 14, …] -> [patches, …] in the tower's order: image by image, token by token, 2 × 2 in each."""
    n, rows, columns, *rest = places.shape
    return places.view(n, rows // 2, 2, columns // 2, 2, *rest).transpose(2, 3).reshape(n * rows * columns, *rest)


def _folded(plane: torch.Tensor, size: int) -> torch.Tensor:
    """[n, c, H / size, W / size] -> [n, c · (14 / size)², H / 14, W / 14]."""
    return torch.nn.functional.pixel_unshuffle(plane, PATCH // size)


def _blobs(gray: torch.Tensor, sigma: float) -> torch.Tensor:
    return sigma**2 * (_filtered(gray, sigma, 2, 0) + _filtered(gray, sigma, 0, 2))


def _filtered(gray: torch.Tensor, sigma: float, down: int, right: int) -> torch.Tensor:
    """[n, 1, H, W]: a derivative of the image, after a Gaussian of `sigma` px; edges are repeated."""
    height, width = gray.shape[-2:]
    return _filter(height, sigma, down, gray.device) @ gray @ _filter(width, sigma, right, gray.device).T


@lru_cache(maxsize=1024)
def _filter(side: int, sigma: float, order: int, device: torch.device) -> torch.Tensor:
    """[side, side]: maps a line of pixels to its derivative. A convolution is slower, on a CPU six times."""
    reach = math.ceil(3 * sigma)
    kernel, matrix = _kernel(sigma, order, reach), torch.zeros(side, side)
    rows = torch.arange(side)
    for shift, weight in zip(range(-reach, reach + 1), kernel, strict=True):
        matrix.index_put_((rows, (rows + shift).clamp(0, side - 1)), weight.expand(side), accumulate=True)
    return matrix.to(device)


def _kernel(sigma: float, order: int, reach: int) -> torch.Tensor:
    """[2 · reach + 1] a Gaussian or its first or second derivative; it is 0 for a flat image and exact for x, x²."""
    x = torch.arange(-reach, reach + 1, dtype=torch.float64)
    bell = torch.exp(-0.5 * (x / sigma) ** 2)
    bell = bell / bell.sum()
    if order == 1:
        return (x * bell / (x**2 * bell).sum()).float()
    if order == 2:
        second = x**2 * bell - (x**2 * bell).sum() * bell
        return (2 * second / (x**2 * second).sum()).float()
    return bell.float()


def _root(values: torch.Tensor) -> torch.Tensor:
    """Signed square root: compresses strong responses and separates faint ones."""
    return values.sign() * values.abs().sqrt() * math.sqrt(10)

"""The first stage of pre-training: the vision tower learns to describe every patch of a general image.

Qwen2-VL starts from a pre-trained vision tower, and so does our tiny model, on the same low-resolution general corpus.
For each visual token a linear head predicts colour, contrast, edge energy, blob strength at six scales (the idea of
MaskFeat, https://arxiv.org/abs/2112.09133, with Laplacian-of-Gaussian responses in addition to gradients) and the shape
whose centre is there. The head is then discarded, and the language stage follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from scipy import ndimage

from medstudy.datasets import shapes as datasets_shapes
from medstudy.datasets.shapes.scene import Scene
from medstudy.datasets.shapes.words import SHAPES
from medstudy.engine.batches import MicroBatch
from medstudy.engine.family_protocol import Family
from medstudy.resolution.sizes import Size

SCALES = (0.8, 1.2, 1.8, 2.7, 4.0, 6.0)  # of blobs, in pixels
EDGES = (1.0, 2.5)  # of gradients, in pixels
LOCAL = 4 + 2 * len(SCALES) + 3 * len(EDGES)  # numbers that describe a visual token


@dataclass(frozen=True)
class Scenes:
    """Step k holds images k·n … (k+1)·n of the corpus, their grids and the targets of every visual token.

    rank, ranks: this process's number and the number of processes; each takes its share of the images.
    """

    family: Family
    seed: int
    images: int
    per_step: int
    rank: int = 0
    ranks: int = 1

    def __len__(self) -> int:
        return self.images // self.per_step

    def __getitem__(self, step: int) -> list[MicroBatch]:
        indices = range(step * self.per_step, (step + 1) * self.per_step)[self.rank :: self.ranks]
        if not indices:
            return []
        arrays, scenes = zip(*map(self._drawn, indices), strict=True)
        grids = torch.cat([self.family.grid(Size(*array.shape[:2])) for array in arrays])
        inputs = {"images": [torch.from_numpy(array.copy()) for array in arrays], "grids": grids}
        factor = self.family.geometry.factor
        local = torch.cat([describe(array, factor) for array in arrays])
        shapes = torch.cat([centres(scene, factor) for scene in scenes])
        return [MicroBatch(inputs | {"local": local, "shapes": shapes}, len(arrays), len(arrays), len(shapes), 0.0)]

    def _drawn(self, index: int) -> tuple[np.ndarray, Scene]:
        rng = Random(f"vision/{self.seed}/{index}")
        scene = datasets_shapes.compose(rng)
        return np.asarray(datasets_shapes.render(scene, np.random.default_rng(rng.getrandbits(64)))), scene


def describe(image: np.ndarray, factor: int) -> torch.Tensor:
    """[height, width, 3] uint8 -> [tokens, LOCAL]: local features of each visual token, of the order of one."""
    scaled = image.astype(np.float32) / 255
    gray = scaled.mean(2)
    channels = [_pool(scaled[..., c], factor).mean(1) * 2 - 1 for c in range(3)] + [_pool(gray, factor).std(1) * 5]
    for sigma in SCALES:
        response = _pool(sigma**2 * ndimage.gaussian_laplace(gray, sigma, truncate=3), factor)
        channels += [_root(-response.min(1)), _root(response.max(1))]
    for sigma in EDGES:
        down, right = (ndimage.gaussian_filter(gray, sigma, order=order, truncate=3) for order in ((1, 0), (0, 1)))
        channels += [_root(_pool(part, factor).mean(1) * 10) for part in (down**2, right**2, down * right)]
    return torch.from_numpy(np.stack(channels, 1).astype(np.float32))


def centres(scene: Scene, factor: int) -> torch.Tensor:
    """[tokens] index of the shape whose centre is in the token; the number of shapes if there is none."""
    grid = torch.full((scene.height // factor, scene.width // factor), len(SHAPES))
    for item in scene.items:
        grid[int(item.y) // factor, int(item.x) // factor] = list(SHAPES).index(item.shape)
    return grid.flatten()


class Seer(torch.nn.Module):
    """A vision tower with the head that is discarded later."""

    def __init__(self, family: Family):
        super().__init__()
        self.patches = family.patches
        self.visual = family.model.model.visual
        self.head = torch.nn.Linear(family.model.config.text_config.hidden_size, LOCAL + len(SHAPES) + 1)


def loss_of(seer: Seer, inputs: dict) -> torch.Tensor:
    """Mean loss over the visual tokens, times the number of images."""
    pixels = torch.cat([seer.patches(image) for image in inputs["images"]])
    grids, true_local, true_shapes = (inputs[name].to(pixels.device) for name in ("grids", "local", "shapes"))
    tokens = seer.visual(pixels, grid_thw=grids).pooler_output
    local, shapes = seer.head(tokens).split([LOCAL, len(SHAPES) + 1], 1)
    loss = torch.nn.functional.smooth_l1_loss(local, true_local, beta=0.2) * 5
    loss = loss + 0.3 * torch.nn.functional.cross_entropy(shapes, true_shapes)
    return loss * len(grids)


def _pool(plane: np.ndarray, factor: int) -> np.ndarray:
    """[height, width] -> [tokens, factor²], tokens row by row."""
    rows, columns = plane.shape[0] // factor, plane.shape[1] // factor
    return plane.reshape(rows, factor, columns, factor).swapaxes(1, 2).reshape(rows * columns, -1)


def _root(values: np.ndarray) -> np.ndarray:
    """Signed square root: compresses strong responses and separates faint ones."""
    return np.sign(values) * np.sqrt(np.abs(values)) * math.sqrt(10)

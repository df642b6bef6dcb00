"""The first stage of the base's pre-training: its vision tower learns to describe every patch of a general image.

As a Qwen2-VL starts from a vision tower that was trained before, so does the stand-in, on the same low-resolution
general corpus: for each visual token a linear head must give colour, contrast, edge energy, blob strength at six
scales (the idea of MaskFeat, https://arxiv.org/abs/2112.09133, with Laplacian-of-Gaussian responses beside gradients)
and the shape whose centre lies there. The head is thrown away; the language stage follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import DataLoader

from medstudy.datasets import general
from medstudy.datasets.general.words import SHAPES
from medstudy.progress import bar
from medstudy.resolution import Size

SCALES = (0.8, 1.2, 1.8, 2.7, 4.0, 6.0)  # px, of the blobs
EDGES = (1.0, 2.5)  # px, of the gradients
LOCAL = 4 + 2 * len(SCALES) + 3 * len(EDGES)  # numbers that describe a token


@dataclass(frozen=True)
class Scenes:
    """Batch k holds images k·n … (k+1)·n of the corpus: pixels, grids and the targets of every visual token."""

    family: object
    seed: int
    images: int
    per_step: int

    def __len__(self) -> int:
        return self.images // self.per_step

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        made = [self._one(index) for index in range(step * self.per_step, (step + 1) * self.per_step)]
        arrays = [array for array, _ in made]
        inputs = self.family.pixels(arrays, [Size(*array.shape[:2]) for array in arrays])
        factor = self.family.geometry.factor
        local = [describe(array, factor) for array in arrays]
        shapes = [centres(scene, factor) for _, scene in made]
        return inputs | {"local": torch.cat(local), "shapes": torch.cat(shapes)}

    def _one(self, index: int):
        rng = Random(f"vision/{self.seed}/{index}")
        scene = general.compose(rng)
        return np.asarray(general.render(scene, np.random.default_rng(rng.getrandbits(64)))), scene


def describe(image: np.ndarray, factor: int) -> torch.Tensor:
    """[height, width, 3] uint8 -> [tokens, LOCAL]: what each token's pixels look like, in units of about one."""
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


def centres(scene, factor: int) -> torch.Tensor:
    """[tokens] index of the shape whose centre lies in the token, the number of shapes where there is none."""
    grid = torch.full((scene.height // factor, scene.width // factor), len(SHAPES))
    for item in scene.items:
        grid[int(item.y) // factor, int(item.x) // factor] = list(SHAPES).index(item.shape)
    return grid.flatten()


def pretrain(family, seed: int, images: int, per_step: int, learning_rate: float, workers: int) -> list[float]:
    """Train `family.model.model.visual` in place; returns the loss of every step."""
    torch.manual_seed(seed)
    visual = family.model.model.visual.train()
    head = torch.nn.Linear(family.model.config.vision_config.hidden_size, LOCAL + len(SHAPES) + 1)
    parameters = [*visual.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    scenes = Scenes(family, seed, images, per_step)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=len(scenes), pct_start=0.05)
    losses, line = [], bar("vision", "step", len(scenes))
    for batch in DataLoader(scenes, batch_size=None, shuffle=False, num_workers=workers):
        seen = visual(batch["pixel_values"], grid_thw=batch["image_grid_thw"]).pooler_output
        local, shapes = head(seen).split([LOCAL, len(SHAPES) + 1], 1)
        loss = torch.nn.functional.smooth_l1_loss(local, batch["local"], beta=0.2) * 5
        loss = loss + 0.3 * torch.nn.functional.cross_entropy(shapes, batch["shapes"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        line.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}", refresh=False)
        line.update()
    line.close()
    return losses


def _pool(plane: np.ndarray, factor: int) -> np.ndarray:
    """[height, width] -> [tokens, factor²], tokens row by row."""
    rows, columns = plane.shape[0] // factor, plane.shape[1] // factor
    return plane.reshape(rows, factor, columns, factor).swapaxes(1, 2).reshape(rows * columns, -1)


def _root(values: np.ndarray) -> np.ndarray:
    """Signed square root: compresses strong responses, keeps faint ones apart."""
    return np.sign(values) * np.sqrt(np.abs(values)) * math.sqrt(10)

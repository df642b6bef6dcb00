"""The first stage of pre-training: the vision tower learns to say what is in every patch of a general image.

Qwen2-VL starts from a pre-trained vision tower, and so does our small model. From each patch of 14 px, and again from
the merger's output for each visual token of 28 px, a linear head predicts how the patch looks
(`medstudy.pretraining.targets`) and what stands there: the kind, place, size and direction of a small mark, the texture
of the ground, the outline that runs through it, and the shape whose centre is in the token. Images are fields of marks
(`medstudy.datasets.shapes.fine`) and scenes of the general corpus, on canvases of 56 to 448 px a side. A tower that
goes on from a checkpoint is also held to its visual tokens, so that its language model still understands them. The
heads are then discarded, and the language stage follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from medstudy.datasets import shapes as datasets_shapes
from medstudy.datasets.shapes import fine
from medstudy.datasets.shapes.marks import MARKS
from medstudy.datasets.shapes.scene import Scene
from medstudy.datasets.shapes.words import SHAPES
from medstudy.engine.batches import MicroBatch
from medstudy.engine.family_protocol import Family
from medstudy.pretraining import targets
from medstudy.pretraining.tower import Tower
from medstudy.resolution.sizes import Size

TOKEN, PATCH = 28, fine.PATCH
AREA = (4, 256)  # visual tokens of a canvas
ASPECT = 2.5  # at most
SCENES = 0.3  # share of scenes of the general corpus; the rest are fields of marks
LEAST = 2  # images of a pass, however large
NONE = fine.NONE
# What is predicted of a patch, and how many numbers that takes.
PARTS = {
    "looks": targets.LOOKS,
    "marks": len(MARKS) + 1,
    "numbers": fine.NUMBERS,
    "grounds": len(fine.GROUNDS),
    "outlines": len(fine.OUTLINES) + 1,
}
WIDTH = sum(PARTS.values())


@dataclass(frozen=True)
class Scenes:
    """Step k holds `canvases` passes, each of images of one size, of about `tokens` visual tokens in all.

    rank, ranks: this process's number and the number of processes; each takes its share of the images.
    """

    family: Family
    seed: int
    steps: int
    canvases: int
    tokens: int
    rank: int = 0
    ranks: int = 1

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> list[MicroBatch]:
        passes = (self._canvas(step, number) for number in range(self.canvases))
        return [each for each in passes if each is not None]

    def _canvas(self, step: int, number: int) -> MicroBatch | None:
        """This process's share of a pass; None if there are fewer images than processes."""
        rows, columns = canvas(np.random.default_rng([self.seed, step, number]))
        own = range(max(self.tokens // (rows * columns), LEAST))[self.rank :: self.ranks]
        if not own:
            return None
        labelled = [draw(f"vision/{self.seed}/{step}/{number}/{index}", rows * TOKEN, columns * TOKEN) for index in own]
        content = {name: torch.from_numpy(np.stack([each[name] for each in labelled])) for name in labelled[0]}
        grid = self.family.grid(Size(rows * TOKEN, columns * TOKEN))
        tokens = len(own) * rows * columns
        return MicroBatch(content | {"grids": grid.repeat(len(own), 1)}, tokens, len(own), tokens, 0.0)


def canvas(rng: np.random.Generator, area: tuple[int, int] = AREA) -> tuple[int, int]:
    """Rows and columns of about `area` visual tokens, from and to: any size is as likely as half or twice that size."""
    low, high = area
    tokens, aspect = np.exp(rng.uniform(np.log(low), np.log(high))), np.exp(rng.uniform(-1, 1) * np.log(ASPECT))
    sides = np.sqrt([tokens * aspect, tokens / aspect]).round().astype(int).clip(2, math.isqrt(AREA[1]))
    return int(sides[0]), int(sides[1])


def draw(name: str, height: int, width: int) -> dict[str, np.ndarray]:
    """An image of that size and its labels: a field of marks, or a scene of the general corpus."""
    rng = Random(name)
    if rng.random() < SCENES:
        scene = datasets_shapes.compose(rng, size=(height, width))
        pixels = np.asarray(datasets_shapes.render(scene, np.random.default_rng(rng.getrandbits(64))))
        return {"images": pixels} | labels(scene) | {"shapes": centres(scene, TOKEN)}
    field = fine.field(np.random.default_rng(rng.getrandbits(64)), height, width)
    unknown = np.full((height // TOKEN, width // TOKEN), NONE, np.int8)
    return {"images": field.pixels, "marks": field.marks, "numbers": field.numbers, "grounds": field.grounds,
            "outlines": field.outlines, "shapes": unknown}


def labels(scene: Scene) -> dict[str, np.ndarray]:
    """marks, numbers, grounds and outlines of a scene by patch, as of a field: a scene's only marks are its dots."""
    size = (scene.height // PATCH, scene.width // PATCH)
    free = np.ones(size, bool)
    for item in scene.items:
        reach = 1.1 * item.radius
        (top, bottom), (left, right) = ((max(int((at - reach) // PATCH), 0), int((at + reach) // PATCH) + 1)
                                        for at in (item.y, item.x))
        free[top:bottom, left:right] = False
    clear = free & (not scene.lines and not scene.word)
    marks = np.where(clear, len(MARKS), NONE).astype(np.int8)
    numbers = np.zeros((*size, fine.NUMBERS), np.float32)
    for dot in scene.dots:
        at = int(dot.y) // PATCH, int(dot.x) // PATCH
        marks[at] = list(MARKS).index("disc")
        contrast, (y, x) = (sum(scene.marks.rgb) - sum(scene.base)) / 150, (dot.y / PATCH % 1, dot.x / PATCH % 1)
        numbers[at] = (2 * y - 1, 2 * x - 1, math.log2(dot.diameter / 6), 0, 0, contrast)
    grounds = np.where(clear, fine.GROUNDS.index(scene.texture), NONE).astype(np.int8)
    outlines = np.where(clear, len(fine.OUTLINES), NONE).astype(np.int8)
    return {"marks": marks, "numbers": numbers, "grounds": grounds, "outlines": outlines}


def centres(scene: Scene, factor: int) -> np.ndarray:
    """[rows, columns] index of the shape whose centre is in the token; the number of shapes if there is none."""
    grid = np.full((scene.height // factor, scene.width // factor), len(SHAPES), np.int8)
    for item in scene.items:
        grid[int(item.y) // factor, int(item.x) // factor] = list(SHAPES).index(item.shape)
    return grid


class Seer(torch.nn.Module):
    """A vision tower with its merger, and the heads that are discarded later."""

    def __init__(self, family: Family, start: Family | None = None, keep: float = 0.0):
        """start: the checkpoint that training goes on from; keep: the weight of being held to its visual tokens."""
        super().__init__()
        config = family.model.config
        self.keep, self.start = keep, Tower(start) if start is not None else None
        self.normalised = family.normalised
        self.visual, self.tower = family.model.model.visual, Tower(family)
        self.norm = torch.nn.LayerNorm(config.vision_config.embed_dim)
        self.by_patch = torch.nn.Linear(config.vision_config.embed_dim, WIDTH)
        self.by_token = torch.nn.Linear(config.text_config.hidden_size, 4 * WIDTH + len(SHAPES) + 1)

    def forward(self, images: torch.Tensor, grids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images [n, H, W, 3] uint8 -> predictions [patches, WIDTH] from patches and from tokens, and of shapes.

        Also how far the visual tokens are from those of the start, in units of the spread of those.
        """
        pixels = self.normalised(patches(images))
        states, tokens = self.tower(pixels, grids)
        whole, shapes = self.by_token(tokens).split([4 * WIDTH, len(SHAPES) + 1], 1)
        return self.by_patch(self.norm(states)), whole.reshape(-1, WIDTH), shapes, self._moved(tokens, pixels, grids)

    def _moved(self, tokens: torch.Tensor, pixels: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        if self.start is None:
            return tokens.new_zeros(())
        with torch.no_grad():
            before = self.start(pixels, grids)[1]
        spread = before.std()
        return smooth_l1_loss(tokens / spread, before / spread, beta=0.5)


def patches(images: torch.Tensor) -> torch.Tensor:
    """[n, H, W, 3] -> [patches, 3, 14²] in the tower's order."""
    n, height, width, _ = images.shape
    split = images.view(n, height // TOKEN, 2, PATCH, width // TOKEN, 2, PATCH, 3)
    return split.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, 3, PATCH**2)


def loss_of(seer: Seer, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum over the visual tokens of a pass of their loss: from patches, and half as much from tokens."""
    device = seer.by_patch.weight.device
    moved = {name: part.to(device, non_blocking=True) for name, part in inputs.items() if name != "grids"}
    by_patch, by_token, shapes, away = seer(moved["images"], inputs["grids"])
    true = {name: targets.ordered(moved[name]) for name in PARTS if name != "looks"}
    true["looks"] = targets.ordered(targets.describe(moved["images"]))
    loss = _loss(by_patch, true) + 0.5 * _loss(by_token, true)
    count = len(shapes)
    named = cross_entropy(shapes, moved["shapes"].flatten().long(), ignore_index=NONE, reduction="sum") / count
    return (loss + 0.3 * named + seer.keep * away) * count


def _loss(predicted: torch.Tensor, true: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean loss over the patches."""
    parts = dict(zip(PARTS, predicted.split(list(PARTS.values()), 1), strict=True))
    count, marks = len(predicted), true["marks"].long()
    loss = 5 * smooth_l1_loss(parts["looks"], true["looks"], beta=0.2)
    there = ((marks >= 0) & (marks < len(MARKS)))[:, None]
    off = smooth_l1_loss(parts["numbers"], true["numbers"], beta=0.2, reduction="none")
    loss = loss + (off * there).sum() / count
    for name, weight in (("marks", 1.0), ("grounds", 0.2), ("outlines", 0.5)):
        named = cross_entropy(parts[name], true[name].long(), ignore_index=NONE, reduction="sum")
        loss = loss + weight * named / count
    return loss

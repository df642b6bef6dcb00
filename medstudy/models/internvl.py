"""InternVL (https://arxiv.org/abs/2504.10479): tiles of 448 pixels, 256 tokens each, and a thumbnail beside several.

Checkpoints in transformers' own format (`OpenGVLab/InternVL3-1B-hf` and its kin), not those that bring their code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medstudy import cost
from medstudy.models.tiles import Tiled, Tiles, tile_shape
from medstudy.prefix import Seen
from medstudy.resolution import Size


@dataclass(frozen=True)
class Thumbnailed(Tiles):
    """merge: patches a side of one visual token."""

    merge: int

    def views(self, rows: int, columns: int) -> int:
        return rows * columns + (rows * columns > 1)

    def tokens(self, size: Size) -> int:
        return self.views(*self.layout(size)) * (self.patches // self.merge) ** 2


class InternVL(Tiled):
    """See `Tiled`. The thumbnail comes last, and a single tile has none. Pixel shuffle goes with the projector."""

    name = "internvl"
    images = "GotOcr2ImageProcessor"
    overview_first = False
    settings = {"vision_feature_layer": -1, "vision_feature_select_strategy": "default"}

    @property
    def geometry(self) -> Thumbnailed:
        config = self.model.config
        side, patch = config.vision_config.image_size[0], self.patch_size
        return Thumbnailed(side, side**2, side // patch, int(1 / config.downsample_ratio))

    def image_ids(self, count: int, grid: torch.Tensor) -> list[int]:
        """The visual tokens between the tokens that begin and end an image."""
        processor = self.processor
        return [processor.start_image_token_id, *super().image_ids(count, grid), processor.end_image_token_id]

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """With the class token of every view."""
        return tuple((grids[:, 0] * (self.geometry.patches**2 + 1)).tolist())

    def feature_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """Without it."""
        return tuple((grids[:, 0] * self.geometry.patches**2).tolist())

    @property
    def patch_size(self) -> int:
        return self.model.config.vision_config.patch_size[0]

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Without the class token, which the model leaves out."""
        return self.model.model.vision_tower(pixel_values=pixel_values).last_hidden_state[:, 1:].flatten(0, 1)

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        model, side = self.model.model, self.geometry.patches
        planes = features.view(-1, side, side, features.shape[-1])
        shuffled = model.pixel_shuffle(planes, scale_factor=self.model.config.downsample_ratio)
        return Seen(model.multi_modal_projector(shuffled.flatten(0, 2)))

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        vision, hidden = config.vision_config, config.text_config.hidden_size
        side, patch, merge = vision.image_size[0], vision.patch_size[0], int(1 / config.downsample_ratio) ** 2
        merger = merge * vision.hidden_size * hidden + hidden**2
        return tile_shape(config, side=side, patch=patch, merge=merge, merger_weights=merger, extra=1)

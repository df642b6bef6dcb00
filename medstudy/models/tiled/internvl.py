"""InternVL (https://arxiv.org/abs/2504.10479): tiles of 448 pixels, 256 tokens each; the overview is a thumbnail.

For checkpoints in transformers' own format (such as `OpenGVLab/InternVL3-1B-hf`), not those that bring their own code.
"""

from __future__ import annotations

import torch
from transformers import PretrainedConfig

from medstudy.models.tiled import Tiled, Tiles


class InternVL(Tiled):
    """See `Tiled`. The thumbnail comes last; a single tile has none. Pixel shuffle belongs to the merger."""

    name = "internvl"
    images = "GotOcr2ImageProcessor"
    class_tokens = 1
    settings = {"vision_feature_layer": -1, "vision_feature_select_strategy": "default"}

    @classmethod
    def tiles(cls, config: PretrainedConfig) -> Tiles:
        side = config.vision_config.image_size[0]
        return Tiles(side, side**2, side // config.vision_config.patch_size[0], int(1 / config.downsample_ratio))

    @staticmethod
    def merger_weights(config: PretrainedConfig) -> int:
        hidden, merge = config.text_config.hidden_size, int(1 / config.downsample_ratio) ** 2
        return merge * config.vision_config.hidden_size * hidden + hidden**2

    @property
    def patch_size(self) -> int:
        return self.model.config.vision_config.patch_size[0]

    def image_ids(self, count: int, grid: torch.Tensor) -> list[int]:
        """See `Family.image_ids`; one token begins the image and one ends it."""
        processor = self.processor
        return [processor.start_image_token_id, *super().image_ids(count, grid), processor.end_image_token_id]

    def project(self, features: torch.Tensor) -> torch.Tensor:
        model, side = self.model.model, self.geometry.patches
        planes = features.view(-1, side, side, features.shape[-1])
        shuffled = model.pixel_shuffle(planes, scale_factor=self.model.config.downsample_ratio)
        return model.multi_modal_projector(shuffled.flatten(0, 2))

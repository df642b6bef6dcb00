"""Qwen2-VL (https://arxiv.org/abs/2409.12191): full attention within an image, 28 pixels a side a visual token."""

from __future__ import annotations

from medstudy import cost
from medstudy.models.family import text_shape
from medstudy.models.qwen_vl import QwenVL


class Qwen2VL(QwenVL):
    """See `QwenVL`."""

    name = "qwen2_vl"

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        vision = config.vision_config
        width, merge = vision.embed_dim, vision.spatial_merge_size**2
        return cost.Shape(
            blocks=vision.depth,
            block_weights=4 * width**2 + 2 * width * int(width * vision.mlp_ratio),
            width=width,
            patch_weights=vision.in_channels * vision.patch_size**2 * width,
            merge=merge,
            merger_weights=(merge * width) ** 2 + merge * width * vision.hidden_size,
            **text_shape(config.text_config),
        )

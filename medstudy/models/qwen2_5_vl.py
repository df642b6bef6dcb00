"""Qwen2.5-VL (https://arxiv.org/abs/2502.13923): most of the tower attends within windows of 112 pixels a side."""

from __future__ import annotations

import torch
from transformers.vision_utils import get_vision_window_index

from medstudy import cost
from medstudy.models.family import text_shape
from medstudy.models.qwen_vl import QwenVL
from medstudy.prefix import Seen


class Qwen2_5VL(QwenVL):
    """See `QwenVL`. Its tower keeps an image's patches window by window; so do cached features."""

    name = "qwen2_5_vl"

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        """The features of images, one after the other, through the merger, and back from windows to rows."""
        visual = self.model.model.visual
        order, _ = get_vision_window_index(
            grids, visual.spatial_merge_size, window_size=visual.window_size, patch_size=visual.patch_size
        )
        return Seen(visual.merger(features)[torch.argsort(order).to(features.device)])

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        vision = config.vision_config
        width, merge = vision.hidden_size, vision.spatial_merge_size**2
        return cost.Shape(
            blocks=vision.depth,
            block_weights=4 * width**2 + 3 * width * vision.intermediate_size,
            width=width,
            windowed_blocks=vision.depth - len(vision.fullatt_block_indexes),
            window=(vision.window_size // vision.patch_size) ** 2,
            patch_weights=vision.in_channels * vision.patch_size**2 * width,
            merge=merge,
            merger_weights=(merge * width) ** 2 + merge * width * vision.out_hidden_size,
            **text_shape(config.text_config),
        )

"""Qwen3-VL (https://arxiv.org/abs/2511.21631): 32 pixels a side a visual token; features of several blocks (DeepStack).

The language model's first layers are given the features of earlier blocks of the tower, each by a merger of its own.
"""

from __future__ import annotations

import torch

from medstudy import cost
from medstudy.models.family import text_shape
from medstudy.models.qwen_vl import QwenVL
from medstudy.prefix import Seen


class Qwen3VL(QwenVL):
    """See `QwenVL`. Cached features are those of the last block, then those of DeepStack's blocks, side by side."""

    name = "qwen3_vl"

    @property
    def feature_width(self) -> int:
        """Numbers a patch in what `features` returns."""
        return self.shape.width * (1 + len(self.model.config.vision_config.deepstack_visual_indexes))

    @torch.no_grad()
    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """One image through a frozen tower: all that its mergers read, [patches, width · (1 + DeepStack's blocks)]."""
        visual, kept = self.model.model.visual, {}
        blocks = [len(visual.blocks) - 1, *visual.deepstack_visual_indexes]
        hooks = [
            visual.blocks[i].register_forward_hook(lambda _, __, made, place=place: kept.__setitem__(place, made))
            for place, i in enumerate(blocks)
        ]
        try:
            visual(pixel_values.to(self.model.dtype), grid_thw=grid)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([kept[place] for place in range(len(blocks))], 1)

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        """The features of images, one after the other, through each their merger."""
        visual = self.model.model.visual
        last, *deep = features.split(self.model.config.vision_config.hidden_size, 1)
        pairs = zip(visual.deepstack_merger_list, deep, strict=True)
        return Seen(visual.merger(last.contiguous()), tuple(merger(part.contiguous()) for merger, part in pairs))

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        vision = config.vision_config
        width, merge = vision.hidden_size, vision.spatial_merge_size**2
        merger = (merge * width) ** 2 + merge * width * vision.out_hidden_size
        return cost.Shape(
            blocks=vision.depth,
            block_weights=4 * width**2 + 2 * width * vision.intermediate_size,
            width=width,
            patch_weights=vision.in_channels * vision.patch_size**2 * width,
            merge=merge,
            merger_weights=merger * (1 + len(vision.deepstack_visual_indexes)),
            **text_shape(config.text_config),
        )

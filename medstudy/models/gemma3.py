"""Gemma 3 (https://arxiv.org/abs/2503.19786) and MedGemma: every image is 896 x 896 pixels and 256 visual tokens.

The encoder sees one size and no other, so a policy never changes what an image costs. What it changes is the detail: a
budget below 896² brings the image down before it is enlarged to 896². Sides are stretched to a square, as the processor
does (`Fixed` with `mode: pad` keeps the aspect). Pan and scan, which is off in the checkpoints, is refused
(`medstudy.models.pixels`).

The tokens of an image look at each other in both directions, and most layers look back over a window; both are said by
masks (`medstudy.row_layout.Plan`), so only sdpa will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import DynamicCache

from medstudy import attention, cost
from medstudy.models.tiles import Tiled, Tiles, tile_shape
from medstudy.prefix import Seen
from medstudy.resolution import Size


@dataclass(frozen=True)
class OneSize(Tiles):
    """pooled: visual tokens a side."""

    pooled: int
    unit: ClassVar[str] = "image"
    most_units: ClassVar[int] = 1

    def views(self, rows: int, columns: int) -> int:
        return rows * columns

    def tokens(self, size: Size) -> int:
        return self.pooled**2


class Gemma3(Tiled):
    """See `Tiled`, with one tile for every image. FLOPs count every layer as one that looks back over all."""

    name = "gemma3"
    images = "Gemma3ImageProcessor"
    turn_end = "<end_of_turn>"
    both_ways = True
    overview_first = False
    settings = {
        "vision_config.model_type": "siglip_vision_model",
        "text_config.attn_logit_softcapping": None,
        "text_config.final_logit_softcapping": None,
    }

    @staticmethod
    def kernel(model) -> attention.Choice:
        return attention.Choice("prefix_masked", "the tokens of an image look at each other both ways, and most layers "
                                "over a window: sdpa with masks alone says that")  # fmt: skip

    @property
    def geometry(self) -> OneSize:
        config = self.model.config
        side = config.vision_config.image_size
        return OneSize(side, side**2, side // self.patch_size, int(config.mm_tokens_per_image**0.5))

    def ids(self, text: str) -> list[int]:
        """With the newlines and the end that the processor writes around an image, and one visual token in it."""
        begin, image, end = (getattr(self.processor.tokenizer, f"{name}_token") for name in ("boi", "image", "eoi"))
        return super().ids(text.replace(begin, f"\n\n{begin}{image}{end}\n\n"))

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        return tuple((grids[:, 0] * self.geometry.patches**2).tolist())

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model.model.vision_tower(pixel_values=pixel_values).last_hidden_state.flatten(0, 1)

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        views = features.view(-1, self.geometry.patches**2, features.shape[-1])
        return Seen(self.model.model.multi_modal_projector(views).flatten(0, 1))

    def cache(self) -> DynamicCache:
        """All keys in all layers: where a branch begins, its window reaches back into the prefix."""
        return DynamicCache()

    def masks(self, mask: torch.Tensor, positions: torch.Tensor, stood: torch.Tensor) -> dict[str, torch.Tensor]:
        near = stood[0] > positions[0, 0][:, None] - self.model.config.text_config.sliding_window
        return {"full_attention": mask, "sliding_attention": mask & near}

    def language(self, *, position_ids: torch.Tensor, attention_mask=None, **inputs):
        """A packed row has its plan, and no mask for either kind of layer."""
        masks = attention_mask or {"full_attention": None, "sliding_attention": None}
        return self.model.model.language_model(position_ids=position_ids[0], attention_mask=masks, **inputs)

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        vision, patch = config.vision_config, config.vision_config.patch_size
        merge = (vision.image_size // patch) ** 2 // config.mm_tokens_per_image
        merger = vision.hidden_size * config.text_config.hidden_size
        return tile_shape(config, side=vision.image_size, patch=patch, merge=merge, merger_weights=merger)

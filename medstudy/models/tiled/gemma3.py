"""Gemma 3 (https://arxiv.org/abs/2503.19786) and MedGemma: every image is 896 x 896 pixels and 256 visual tokens.

The encoder sees a single size, so a policy never changes what an image costs. It changes the detail: a budget below
896² reduces the image before it is enlarged to 896². Images are stretched to a square, as the processor does (`Fixed`
with `mode: pad` keeps the aspect). Pan and scan is a policy (`medstudy.resolution.pan_and_scan`); a processor that
would do it unasked is refused (`medstudy.models.image_processor`). Crops are announced in the processor's words.

The tokens of an image attend to each other in both directions, and most layers attend within a window; masks express
both (`medstudy.engine.row_layout.RowLayout`), so only sdpa can be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from medstudy.data.example import Question, Shot
from medstudy.engine import attention
from medstudy.models.tiled import Tiled, Tiles
from medstudy.resolution.sizes import Size


@dataclass(frozen=True)
class OneSize(Tiles):
    """One tile, which is the whole image."""

    unit: ClassVar[str] = "image"
    most_units: ClassVar[int] = 1

    def views(self, rows: int, columns: int) -> int:
        return rows * columns

    def tokens(self, size: Size) -> int:
        return (self.patches // self.merge) ** 2


class Gemma3(Tiled):
    """See `Tiled`, with one tile for every image. FLOPs count every layer as one that attends to all tokens."""

    name = "gemma3"
    images = "Gemma3ImageProcessor"
    turn_end = "<end_of_turn>"
    both_ways = True
    settings = {
        "vision_config.model_type": "siglip_vision_model",
        "text_config.attn_logit_softcapping": None,
        "text_config.final_logit_softcapping": None,
    }

    @classmethod
    def tiles(cls, config: PretrainedConfig) -> OneSize:
        side, tokens = config.vision_config.image_size, int(config.mm_tokens_per_image**0.5)
        patches = side // config.vision_config.patch_size
        return OneSize(side, side**2, patches, patches // tokens)

    @staticmethod
    def merger_weights(config: PretrainedConfig) -> int:
        return config.vision_config.hidden_size * config.text_config.hidden_size

    @staticmethod
    def kernel(model: PreTrainedModel, device: torch.device) -> attention.KernelChoice:
        return attention.KernelChoice(
            "prefix_masked",
            "the tokens of an image look at each other both ways, and most layers over a window: sdpa with masks alone "
            "says that",
        )

    def prompt(
        self, question: Question, image: bool = True, context: Sequence[Shot] = (), crops: Sequence[int] = ()
    ) -> str:
        """See `Family.prompt`; an image with crops is announced as `Gemma3Processor.replace_image_token` does."""
        text, begin = super().prompt(question, image, context), self.processor.tokenizer.boi_token
        if not crops:
            return text
        before, *after = text.split(begin)
        pairs = zip(crops, after, strict=True)
        return before + "".join(_announced(begin, count) + words for count, words in pairs)

    def ids(self, text: str) -> list[int]:
        """See `Family.ids`; the processor writes newlines and an end around an image, and here one visual token."""
        begin, image, end = (getattr(self.processor.tokenizer, f"{name}_token") for name in ("boi", "image", "eoi"))
        return super().ids(text.replace(begin, f"\n\n{begin}{image}{end}\n\n"))

    def cache(self) -> DynamicCache:
        """See `Family.cache`; all layers keep all keys: at the start of a branch its window reaches into the prefix."""
        return DynamicCache()

    def masks(
        self, mask: torch.Tensor, positions: torch.Tensor, key_positions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        near = key_positions[0] > positions[0, 0][:, None] - self.model.config.text_config.sliding_window
        return {"full_attention": mask, "sliding_attention": mask & near}

    def language(self, *, position_ids: torch.Tensor, attention_mask: dict | None = None, **inputs: Any):
        """A packed row has a plan, and no mask for either kind of layer."""
        masks = attention_mask or {"full_attention": None, "sliding_attention": None}
        return self.model.model.language_model(position_ids=position_ids[0], attention_mask=masks, **inputs)


def _announced(begin: str, crops: int) -> str:
    """The placeholder of an image, and those of its crops after it."""
    if not crops:
        return begin
    listed = " ".join([begin] * crops)
    return f"Here is the original image {begin} and here are some crops to help you see better {listed}"

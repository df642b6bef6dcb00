"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: an image may have any size of whole visual tokens, 28 or 32 pixels a side.

Resolution is a pixel budget. The processor's own limits never act: an image arrives at the exact size that the policy
planned, and `patches` raises if its sides are not multiples of a visual token (transformers#41955: limits given to a
processor can be ignored).
"""

from __future__ import annotations

from types import MethodType

import torch
from transformers import PretrainedConfig
from transformers.vision_utils import get_vision_window_index

from medstudy.engine import flops
from medstudy.engine.row_layout import VisualTokens
from medstudy.errors import ModelError
from medstudy.models.family import Family, heads, text_shape
from medstudy.resolution.sizes import Geometry, Size

AXES = 3  # of M-RoPE
BLOCKS = ("fullatt_block_indexes", "deepstack_visual_indexes")  # the tower ignores an index that it does not have


class QwenVL(Family):
    """What the three families share. Positions are M-RoPE's: time, height and width of an image's patches."""

    images = "Qwen2VLImageProcessor"
    tower_name = "visual"
    merger_names = ("merger",)

    @property
    def layout(self) -> dict[str, int]:
        vision = self.model.config.vision_config
        return {
            "patch_size": vision.patch_size,
            "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
        }

    def check(self, source: str) -> None:
        """See `Family.check`. Also: M-RoPE's sections fill half a head, and the named blocks exist."""
        text, vision = self.model.config.text_config, self.model.config.vision_config
        sections, half = (text.rope_parameters or {}).get("mrope_section"), heads(text).width // 2
        numbers = isinstance(sections, (list, tuple)) and all(type(n) is int and n > 0 for n in sections)
        if not numbers or len(sections) != AXES or sum(sections) != half:
            raise ModelError(
                f"mrope_section in config.json must be {AXES} numbers (time, height, width) that sum to half the width "
                f"of a head, {half}, but {source!r} has {sections!r}. Use the config.json of the model's release."
            )
        for name in BLOCKS:
            blocks = getattr(vision, name, None) or []
            if wrong := [block for block in blocks if type(block) is not int or not 0 <= block < vision.depth]:
                raise ModelError(
                    f"{name} in config.json must list blocks of the tower, 0 to {vision.depth - 1}, but {source!r} "
                    f"lists {wrong}. Use the config.json of the model's release."
                )
        super().check(source)

    @staticmethod
    def prepare(model: torch.nn.Module) -> None:
        embed = model.model.visual.patch_embed
        embed.forward = MethodType(_linear, embed)

    @property
    def geometry(self) -> Geometry:
        factor = self.patch_size * self.model.config.vision_config.spatial_merge_size
        return Geometry(factor, min_pixels=factor**2)

    def grid(self, size: Size) -> torch.Tensor:
        """[1, 3] patches of an image shown at `size`: time, height, width."""
        return torch.tensor([[1, size.height // self.patch_size, size.width // self.patch_size]])

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        return tuple(grids.prod(1).tolist())

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        """M-RoPE positions [3, prefix] of the shared prefix; a branch continues at their maximum + 1 on all rows."""
        if not len(grids):
            return torch.arange(len(prefix)).expand(3, -1)
        ids = torch.tensor([prefix])
        kinds = (ids == self.image_token).int()
        return self.model.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grids)[0][:, 0]

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 at its planned size -> [patches, 3·patch²] float32, on the model's device.

        Bit for bit the numbers of the processor (transformers' default backend) without its resize. The processor
        makes two equal frames of an image; these are one of them. The pixels travel to the device as uint8 and are
        reordered there. Raises ModelError.
        """
        patch, merge = self.patch_size, self.model.config.vision_config.spatial_merge_size
        high, wide = self.blocks(image)
        ordered = image.to(self.model.device).view(high, merge, patch, wide, merge, patch, 3)
        return self.normalised(ordered.permute(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3, patch**2))

    def see(self, pixel_values: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        encoded = self.model.model.visual(pixel_values.to(self.model.dtype), grid_thw=grids)
        return VisualTokens(encoded.pooler_output, tuple(getattr(encoded, "deepstack_features", None) or ()))

    @torch.no_grad()
    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return self.model.model.visual(pixel_values.to(self.model.dtype), grid_thw=grid).last_hidden_state

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        return VisualTokens(self.model.model.visual.merger(features))


class Qwen2VL(QwenVL):
    """Qwen2-VL (https://arxiv.org/abs/2409.12191): every block of the tower attends to the whole image."""

    name = "qwen2_vl"

    @staticmethod
    def cost_shape(config: PretrainedConfig) -> flops.ModelShape:
        vision = config.vision_config
        width = vision.embed_dim
        return _cost_shape(config, width, 2 * width * int(width * vision.mlp_ratio), vision.hidden_size)


class Qwen2_5VL(QwenVL):
    """Qwen2.5-VL (https://arxiv.org/abs/2502.13923): most blocks attend within windows of 112 pixels a side.

    The tower orders an image's patches by window, and so do cached features.
    """

    name = "qwen2_5_vl"

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        """See `Family.merge`; the merged tokens go back from the order of windows to that of rows."""
        visual = self.model.model.visual
        order, _ = get_vision_window_index(
            grids, visual.spatial_merge_size, window_size=visual.window_size, patch_size=visual.patch_size
        )
        return VisualTokens(visual.merger(features)[torch.argsort(order).to(features.device)])

    @staticmethod
    def cost_shape(config: PretrainedConfig) -> flops.ModelShape:
        vision = config.vision_config
        width = vision.hidden_size
        return _cost_shape(
            config,
            width,
            3 * width * vision.intermediate_size,
            vision.out_hidden_size,
            windowed_blocks=vision.depth - len(vision.fullatt_block_indexes),
            window=(vision.window_size // vision.patch_size) ** 2,
        )


class Qwen3VL(QwenVL):
    """Qwen3-VL (https://arxiv.org/abs/2511.21631): each visual token covers 32 × 32 pixels; it uses DeepStack.

    DeepStack gives the language model's first layers the features of earlier blocks of the tower, each through its own
    merger. Cached features are those of the last block, then those of DeepStack's blocks, joined by column.
    """

    name = "qwen3_vl"

    @property
    def feature_width(self) -> int:
        return self.shape.width * (1 + len(self.model.config.vision_config.deepstack_visual_indexes))

    @torch.no_grad()
    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """See `Family.features`: [patches, width · (1 + DeepStack's blocks)]."""
        visual, outputs = self.model.model.visual, {}
        blocks = [len(visual.blocks) - 1, *visual.deepstack_visual_indexes]
        hooks = [
            visual.blocks[i].register_forward_hook(lambda _, __, out, place=place: outputs.__setitem__(place, out))
            for place, i in enumerate(blocks)
        ]
        try:
            visual(pixel_values.to(self.model.dtype), grid_thw=grid)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([outputs[place] for place in range(len(blocks))], 1)

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        """See `Family.merge`; each block's features go through their own merger."""
        visual = self.model.model.visual
        last, *deep = features.split(self.model.config.vision_config.hidden_size, 1)
        pairs = zip(visual.deepstack_merger_list, deep, strict=True)
        deep = tuple(merger(part.contiguous()) for merger, part in pairs)
        return VisualTokens(visual.merger(last.contiguous()), deep)

    @staticmethod
    def cost_shape(config: PretrainedConfig) -> flops.ModelShape:
        vision = config.vision_config
        width, mergers = vision.hidden_size, 1 + len(vision.deepstack_visual_indexes)
        return _cost_shape(config, width, 2 * width * vision.intermediate_size, vision.out_hidden_size, mergers)


def _cost_shape(
    config: PretrainedConfig, width: int, feed_forward: int, out: int, mergers: int = 1, **windows: int
) -> flops.ModelShape:
    """feed_forward: weights of a block beyond its attention; out: numbers that a merger gives for a visual token."""
    vision = config.vision_config
    merge = vision.spatial_merge_size**2
    return flops.ModelShape(
        blocks=vision.depth,
        block_weights=4 * width**2 + feed_forward,
        width=width,
        patch_weights=vision.in_channels * vision.patch_size**2 * width,
        merge=merge,
        merger_weights=mergers * ((merge * width) ** 2 + merge * width * out),
        **windows,
        **text_shape(config.text_config),
    )


def _linear(patch_embed: torch.nn.Module, patches: torch.Tensor) -> torch.Tensor:
    """The patch embedding as a matrix product, which its convolution without overlap is: a third of the CPU time.

    patches [n, 3·patch²] are of a single frame, which an image shows twice: the weights of both frames are added.
    Not transformers' fusion_config, which renames the weight and starts from a random one for some checkpoints.
    """
    weight = patch_embed.proj.weight
    single = patches.shape[-1] * weight.shape[2] == weight[0].numel()
    weight = (weight.sum(2) if single else weight).flatten(1)
    return torch.nn.functional.linear(patches.to(weight.dtype), weight, patch_embed.proj.bias)

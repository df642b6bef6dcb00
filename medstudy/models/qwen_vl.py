"""What the Qwen-VL families share: resolution is a pixel budget, and a visual token covers patch x merge pixels a side.

The processor's own limits never act: an image arrives at the exact size that the policy planned, a multiple of the
factor, and `patches` raises when it is none (transformers#41955: limits given to a processor can be ignored).
"""

from __future__ import annotations

from types import MethodType

import torch

from medstudy.errors import ModelError
from medstudy.models.family import Family, heads
from medstudy.prefix import Seen
from medstudy.resolution import Geometry, Size

AXES = 3  # of M-RoPE
BLOCKS = ("fullatt_block_indexes", "deepstack_visual_indexes")  # of the tower: any other is passed over in silence


class QwenVL(Family):
    """See `Family`. Positions are M-RoPE's: time, height and width of an image's patches."""

    images = "Qwen2VLImageProcessor"

    @property
    def layout(self) -> dict[str, int]:
        vision = self.model.config.vision_config
        return {
            "patch_size": vision.patch_size,
            "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
        }

    def check(self, source: str) -> None:
        """See `Family.check`; M-RoPE must share out the width of a head, and the tower have the blocks it names."""
        text, vision = self.model.config.text_config, self.model.config.vision_config
        found, due = (text.rope_parameters or {}).get("mrope_section"), heads(text).width // 2
        numbers = isinstance(found, (list, tuple)) and all(type(one) is int and one > 0 for one in found)
        if not numbers or len(found) != AXES or sum(found) != due:
            raise ModelError(
                f"mrope_section in config.json must be {AXES} numbers (time, height, width) that sum to half a head's "
                f"width, {due}, but that of {source!r} is {found!r}. Use the config.json of the model's release."
            )
        for name in BLOCKS:
            named = getattr(vision, name, None) or []
            if wrong := [one for one in named if type(one) is not int or not 0 <= one < vision.depth]:
                raise ModelError(
                    f"{name} in config.json must be blocks of the tower, 0 to {vision.depth - 1}, but in that of "
                    f"{source!r} are {wrong}. Use the config.json of the model's release."
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

    @staticmethod
    def part(name: str) -> str:
        return "language" if "visual." not in name else "merger" if "merger" in name else "tower"

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

        Bit for bit the numbers of the processor (of transformers' default backend) without its resize, of one of the
        two equal frames that it makes of an image. The uint8 travel to the device and are put in order there. Raises
        ModelError.
        """
        patch, merge = self.patch_size, self.model.config.vision_config.spatial_merge_size
        high, wide = self.blocks(image)
        ordered = image.to(self.model.device).view(high, merge, patch, wide, merge, patch, 3)
        return self.normalised(ordered.permute(0, 3, 1, 4, 6, 2, 5).reshape(-1, 3, patch**2))

    def see(self, pixel_values: torch.Tensor, grids: torch.Tensor) -> Seen:
        """Images through the tower and the mergers."""
        visual = self.model.model.visual
        made = visual(pixel_values.to(self.model.dtype), grid_thw=grids)
        return Seen(made.pooler_output, tuple(getattr(made, "deepstack_features", None) or ()))

    @torch.no_grad()
    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """One image through a frozen tower: all that its mergers read, [patches, width]; what may be cached."""
        return self.model.model.visual(pixel_values.to(self.model.dtype), grid_thw=grid).last_hidden_state

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        """The features of images, one after the other, through the mergers."""
        return Seen(self.model.model.visual.merger(features))


def _linear(patch_embed: torch.nn.Module, patches: torch.Tensor) -> torch.Tensor:
    """The patch embedding as the matrix product that its convolution without overlap is: a third of the time on a CPU.

    patches [n, 3·patch²] are of a single frame, which an image shows twice: the weights of both frames are added.
    Not transformers' fusion_config, which renames the weight and starts from a random one for some checkpoints.
    """
    weight = patch_embed.proj.weight
    single = patches.shape[-1] * weight.shape[2] == weight[0].numel()
    weight = (weight.sum(2) if single else weight).flatten(1)
    return torch.nn.functional.linear(patches.to(weight.dtype), weight, patch_embed.proj.bias)

"""A Qwen2-VL tower on many small images at once.

transformers attends to one image at a time. Images of a few patches make that slow on a GPU, so here the images of a
pass share one call, padded to the longest. The numbers are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MethodType

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_position_ids

from medstudy.engine.family_protocol import Family


@dataclass(frozen=True)
class Places:
    """Where the patches of a pass stand: [n · longest] bool, True for a patch; lengths are those of n images."""

    lengths: tuple[int, ...]
    real: torch.Tensor | None  # None: all images have the same length

    @classmethod
    def of(cls, grids: torch.Tensor, device: torch.device) -> Places:
        """Of the images of grids [n, 3], on the CPU."""
        lengths = grids.prod(1)
        longest = int(lengths.max())
        same = bool((lengths == longest).all())
        real = None if same else (torch.arange(longest) < lengths[:, None]).to(device)
        return cls(tuple(lengths.tolist()), real)

    def padded(self, rows: torch.Tensor) -> torch.Tensor:
        """[patches, heads, width] -> [n, heads, longest, width], zeros where there is no patch."""
        if self.real is None:
            return rows.view(len(self.lengths), -1, *rows.shape[1:]).transpose(1, 2)
        whole = rows.new_zeros(*self.real.shape, *rows.shape[1:])
        whole[self.real] = rows
        return whole.transpose(1, 2)

    def rows(self, whole: torch.Tensor) -> torch.Tensor:
        """The inverse: [n, heads, longest, width] -> [patches, heads · width]."""
        whole = whole.transpose(1, 2).flatten(2)
        return whole.flatten(0, 1) if self.real is None else whole[self.real]


class Tower:
    """A family's vision tower; its attention is changed in place, for this object's calls alone."""

    def __init__(self, family: Family):
        self.visual, self.merge = family.model.model.visual, family.model.config.vision_config.spatial_merge_size

    def __call__(self, patches: torch.Tensor, grids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [n, 3·14²] of images of grids [images, 3] (on the CPU) -> (states [n, width], visual tokens)."""
        places = Places.of(grids, patches.device)
        where = torch.cat([_positions(*grid, self.merge) for grid in grids.tolist()]).to(patches.device)
        layers = [block.attn for block in self.visual.blocks]
        for layer in layers:
            layer.places = places
            layer.forward = MethodType(_attend, layer)
        try:
            seen = self.visual(patches, grid_thw=grids, position_ids=where)
        finally:
            for layer in layers:
                del layer.forward, layer.places
        return seen.last_hidden_state, seen.pooler_output


@lru_cache(maxsize=1024)
def _positions(time: int, height: int, width: int, merge: int) -> torch.Tensor:
    return get_vision_position_ids(torch.tensor([[time, height, width]]), merge)


def _attend(layer: torch.nn.Module, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor | None = None,
            position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None, **_: object) -> torch.Tensor:
    """transformers' VisionAttention.forward, for all images in one call."""
    query, key, value = layer.qkv(hidden_states).view(len(hidden_states), 3, layer.num_heads, -1).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    places = layer.places
    mask = None if places.real is None else places.real[:, None, None, :]
    whole = scaled_dot_product_attention(*map(places.padded, (query, key, value)), mask, scale=layer.scaling)
    return layer.proj(places.rows(whole))

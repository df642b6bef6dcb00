"""LLaVA-OneVision (https://arxiv.org/abs/2408.03326): tiles of 384 pixels, an overview, a newline after every row.

The projected features of all tiles are laid out as one plane, row by row with a trained newline embedding after each;
above `anyres_max_9` (the tokens of nine tiles, with a tolerance) the model itself shrinks that plane to so many tokens.
The plane is not limited to `image_grid_pinpoints`: any grid that a policy plans is assembled in the same way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import sqrt

import torch
from torch.nn.functional import interpolate

from medstudy import cost
from medstudy.errors import ModelError
from medstudy.models.tiles import Tiled, Tiles, tile_shape
from medstudy.prefix import Seen
from medstudy.resolution import Size


@dataclass(frozen=True)
class Anyres(Tiles):
    """most: tiles whose tokens the plane may hold (`vision_aspect_ratio`)."""

    most: int

    def views(self, rows: int, columns: int) -> int:
        return rows * columns + 1

    def plane(self, rows: int, columns: int) -> tuple[int, int]:
        """Height and width, in tokens, of the plane that the tiles make: the model's own arithmetic."""
        height, width = rows * self.patches, columns * self.patches
        ratio = sqrt(height * width / (self.most * self.patches**2))
        return (int(height // ratio), int(width // ratio)) if ratio > 1.1 else (height, width)

    def tokens(self, size: Size) -> int:
        height, width = self.plane(*self.layout(size))
        return self.patches**2 + height * (width + 1)


class LlavaOnevision(Tiled):
    """See `Tiled`. The overview comes first, also beside a single tile, which it then equals.

    The newline embedding is trained with the projector, as part of the merger.
    """

    name = "llava_onevision"
    images = "LlavaOnevisionImageProcessor"
    overview_first = True
    settings = {
        "vision_config.model_type": "siglip_vision_model",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }

    @classmethod
    def prepare(cls, model: torch.nn.Module) -> None:
        super().prepare(model)
        if not re.fullmatch(r"anyres_max_\d+", found := str(model.config.vision_aspect_ratio)):
            raise ModelError(
                f"Family {cls.name} needs vision_aspect_ratio to be anyres_max_N in the checkpoint's config.json, got "
                f"{found!r}. Use a checkpoint with that setting."
            )

    @property
    def geometry(self) -> Anyres:
        config = self.model.config
        side, most = config.vision_config.image_size, int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
        return Anyres(side, side**2, side // self.patch_size, most)

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        return tuple((grids[:, 0] * self.geometry.patches**2).tolist())

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The last block's output, before the norm after it, which the model leaves out."""
        tower = self.model.model.vision_tower
        return tower.encoder(inputs_embeds=tower.embeddings(pixel_values)).last_hidden_state.flatten(0, 1)

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        tokens = self.model.model.multi_modal_projector(features).split(list(self.patch_counts(grids)))
        layouts = grids[:, 1:].tolist()
        return Seen(torch.cat([self._assembled(part, *layout) for part, layout in zip(tokens, layouts, strict=True)]))

    def _assembled(self, tokens: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """An image's projected patches, view by view -> the overview, then the plane with its newlines."""
        side = self.geometry.patches
        overview, tiles = tokens[: side**2], tokens[side**2 :]
        plane = tiles.view(rows, columns, side, side, -1).permute(4, 0, 2, 1, 3).flatten(3).flatten(1, 2)
        shape = self.geometry.plane(rows, columns)
        if shape != tuple(plane.shape[1:]):
            plane = interpolate(plane[None], shape, mode="bilinear")[0]
        newline = self.model.model.image_newline[:, None, None].expand(-1, shape[0], 1)
        return torch.cat([overview, torch.cat([plane, newline.to(plane.dtype)], 2).flatten(1).T])

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        vision, hidden = config.vision_config, config.text_config.hidden_size
        merger = vision.hidden_size * hidden + hidden**2
        return tile_shape(config, side=vision.image_size, patch=vision.patch_size, merge=1, merger_weights=merger)

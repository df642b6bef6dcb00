"""LLaVA-OneVision (https://arxiv.org/abs/2408.03326): tiles of 384 pixels, an overview, a newline after every row.

The projected features of all tiles form one plane, row by row, with a trained newline embedding after each row. Above
`anyres_max_9` (the tokens of nine tiles, with a tolerance) the model itself shrinks that plane to that many tokens.
The plane is not limited to `image_grid_pinpoints`: any grid that a policy plans is assembled in the same way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import sqrt

import torch
from torch.nn.functional import interpolate
from transformers import PretrainedConfig

from medstudy.engine.row_layout import VisualTokens
from medstudy.errors import ModelError
from medstudy.models.tiled import Tiled, Tiles
from medstudy.resolution.sizes import Size


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

    def token_grid(self, size: Size) -> None:
        """Its plane has newlines between the rows, and may have been shrunk."""


class LlavaOnevision(Tiled):
    """See `Tiled`. The overview comes first, also with a single tile, which it then equals.

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
        if not re.fullmatch(r"anyres_max_\d+", ratio := str(model.config.vision_aspect_ratio)):
            raise ModelError(
                f"Family {cls.name} needs vision_aspect_ratio to be anyres_max_N in the checkpoint's config.json, got "
                f"{ratio!r}. Use a checkpoint with that setting."
            )

    @classmethod
    def tiles(cls, config: PretrainedConfig) -> Anyres:
        side, most = config.vision_config.image_size, int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
        return Anyres(side, side**2, side // config.vision_config.patch_size, merge=1, most=most)

    @staticmethod
    def merger_weights(config: PretrainedConfig) -> int:
        return config.vision_config.hidden_size * config.text_config.hidden_size + config.text_config.hidden_size**2

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See `Tiled.encode`; the last block's output before the final norm, which the model leaves out."""
        tower = self.model.model.vision_tower
        return tower.encoder(inputs_embeds=tower.embeddings(pixel_values)).last_hidden_state.flatten(0, 1)

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        tokens = self.project(features).split(list(self.patch_counts(grids)))
        layouts = grids[:, 1:].tolist()
        assembled = [self._assembled(part, *layout) for part, layout in zip(tokens, layouts, strict=True)]
        return VisualTokens(torch.cat(assembled))

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

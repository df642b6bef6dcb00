"""What families share that cut an image into square tiles, each of which the tower sees by itself.

Resolution is the number of tiles. A policy plans a size whose sides are multiples of the tile, the image is resized to
exactly that size, and the tiles are cut here: the processor's own choice of a grid never acts, nor its most tiles, nor
its padding. An overview (the whole image, brought to one tile by the processor's own filter) goes along. A policy's
budget counts the pixels of the tiles; the visual tokens that are planned and recorded count the overview as well.

Sides are rounded to whole tiles, within a budget down, so an image of few tiles is stretched, and most of all a strip
thinner than a tile (`Fixed` with `mode: pad` keeps the aspect). These families cannot show less than one tile: an image
that is smaller is enlarged to it, which records show as a scale above 1. A budget below one tile is kept by the detail:
the image is brought down to it and then enlarged, which records show as a detail below what is shown.

Their positions are one-dimensional, so a branch continues where its prefix ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar

import torch
from transformers.image_utils import SizeDict

from medstudy import cost
from medstudy.errors import ModelError
from medstudy.models.family import Family, text_shape
from medstudy.prefix import Seen
from medstudy.resolution import Geometry, Size


def tile_shape(config, *, side: int, patch: int, merge: int, merger_weights: int, extra: int = 0) -> cost.Shape:
    """Of a tower that sees tiles of `side` pixels one by one, cut into patches of `patch` pixels a side.

    merge: patches that become one visual token. extra: places of a tile beside its patches, as a class token.
    """
    vision, width = config.vision_config, config.vision_config.hidden_size
    return cost.Shape(
        blocks=vision.num_hidden_layers,
        block_weights=4 * width**2 + 2 * width * vision.intermediate_size,
        width=width,
        windowed_blocks=vision.num_hidden_layers,
        window=(side // patch) ** 2 + extra,
        patch_weights=vision.num_channels * patch**2 * width,
        merge=merge,
        merger_weights=merger_weights,
        **text_shape(config.text_config),
    )


@dataclass(frozen=True)
class Tiles(Geometry):
    """Sizes of whole tiles of `factor` pixels a side, which the tower cuts into `patches` a side."""

    patches: int
    unit: ClassVar[str] = "tile"
    enlarges: ClassVar[bool] = True
    floats: ClassVar[bool] = False

    def layout(self, size: Size) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return size.height // self.factor, size.width // self.factor

    def views(self, rows: int, columns: int) -> int:
        """What the tower sees: the tiles, and where there is one the overview."""
        raise NotImplementedError


class Tiled(Family):
    """See `Family`. A grid is [images, 3]: views, rows and columns of tiles."""

    overview_first: ClassVar[bool]  # or after the tiles
    settings: ClassVar[dict[str, object]]  # of the configuration, that `encode` and `merge` are written for

    @classmethod
    def prepare(cls, model: torch.nn.Module) -> None:
        """Raises ModelError for a configuration that features would be wrong for."""
        for name, needed in cls.settings.items():
            found = attrgetter(name)(model.config)
            if found != needed:
                raise ModelError(
                    f"Family {cls.name} needs {name} to be {needed!r} in the checkpoint's config.json, got {found!r}. "
                    f"Use a checkpoint with that setting."
                )

    @property
    def layout(self) -> dict[str, dict]:
        side = self.geometry.factor
        return {"size": {"height": side, "width": side}}

    @staticmethod
    def part(name: str) -> str:
        if "vision_tower." in name:
            return "tower"
        return "merger" if "multi_modal_projector." in name or "image_newline" in name else "language"

    def grid(self, size: Size) -> torch.Tensor:
        rows, columns = self.geometry.layout(size)
        return torch.tensor([[self.geometry.views(rows, columns), rows, columns]])

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(prefix))[None]

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 at its planned size -> [views, 3, tile, tile] float32, on the model's device.

        Bit for bit what the processor (of transformers' default backend) makes of the image where it comes to the
        same grid of tiles.
        Raises ModelError.
        """
        side = self.geometry.factor
        rows, columns = self.blocks(image)
        views = image.view(rows, side, columns, side, 3).permute(0, 2, 4, 1, 3).reshape(-1, 3, side, side)
        if self.geometry.views(rows, columns) > len(views):
            overview = self._overview(image)
            views = torch.cat([overview, views] if self.overview_first else [views, overview])
        return self.normalised(views.to(self.model.device).flatten(2)).view(len(views), 3, side, side)

    def _overview(self, image: torch.Tensor) -> torch.Tensor:
        side, settings = self.geometry.factor, self.processor.image_processor
        size = SizeDict(height=side, width=side)
        return settings.resize(image.permute(2, 0, 1)[None], size, resample=settings.resample)

    @property
    def pixel_settings(self) -> tuple:
        return (*super().pixel_settings, int(self.processor.image_processor.resample))

    def see(self, pixel_values: torch.Tensor, grids: torch.Tensor) -> Seen:
        return self.merge(self.encode(pixel_values.to(self.model.dtype)), grids)

    @torch.no_grad()
    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return self.encode(pixel_values.to(self.model.dtype))

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[views, 3, tile, tile] -> what the tower makes of them, [views · patches, width]."""
        raise NotImplementedError

    def language(self, *, position_ids: torch.Tensor, attention_mask=None, **inputs):
        """Without a mask transformers would look for packed sequences in positions that start again, and make one.

        A row's attention follows its plan, so it is given a mask of the shape that is passed on as it is.
        """
        mask = torch.ones((1, 1, 1, 1), dtype=torch.bool) if attention_mask is None else attention_mask
        return super().language(position_ids=position_ids[0], attention_mask=mask, **inputs)

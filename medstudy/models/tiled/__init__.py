"""Families that cut an image into square tiles, which the vision tower sees one by one.

Resolution is the number of tiles. A policy plans a size whose sides are multiples of the tile, the image is resized to
exactly that size, and it is cut here: the processor's own choice of a grid, its limit on tiles and its padding never
act. Most families add an overview: the whole image, resized to one tile by the processor's own filter. A policy's
budget counts the pixels of the tiles; planned and recorded visual tokens include the overview.

Sides are rounded to whole tiles (down, within a budget), so an image of few tiles is stretched, and a strip thinner
than a tile most of all (`Fixed` with `mode: pad` keeps the aspect). These families cannot show less than one tile. A
smaller image is enlarged to one, which records show as a scale above 1. A budget below one tile limits the detail: the
image is reduced to the budget and then enlarged, which records show as a detail below the size shown.

Positions are one-dimensional, so a branch continues where its prefix ends.

To add such a family: set the class attributes of `Tiled`, and write `tiles`, `merger_weights` and, where the default
does not fit, `encode` and `project`.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar

import torch
from transformers import PretrainedConfig
from transformers.image_utils import SizeDict

from medstudy.engine import flops
from medstudy.engine.row_layout import VisualTokens
from medstudy.errors import ModelError
from medstudy.models.family import Family, text_shape
from medstudy.resolution.sizes import Geometry, Size, TokenGrid


@dataclass(frozen=True)
class Tiles(Geometry):
    """Sizes of whole tiles of `factor` pixels a side.

    patches: of a tile, a side. merge: patches of a visual token, a side.
    """

    patches: int
    merge: int
    unit: ClassVar[str] = "tile"
    enlarges: ClassVar[bool] = True
    floats: ClassVar[bool] = False
    keeps_places: ClassVar[bool] = False

    def layout(self, size: Size) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return size.height // self.factor, size.width // self.factor

    def views(self, rows: int, columns: int) -> int:
        """How many images the tower sees: the tiles, and an overview unless there is a single tile."""
        return rows * columns + (rows * columns > 1)

    def tokens(self, size: Size) -> int:
        return self.views(*self.layout(size)) * (self.patches // self.merge) ** 2

    def token_grid(self, size: Size) -> TokenGrid | None:
        """See `Geometry.token_grid`: one grid a tile."""
        side = self.patches // self.merge
        return TokenGrid(self.tokens(size) // side**2, side, side)


class Tiled(Family):
    """See `Family`. A grid is [images, 3]: views, rows and columns of tiles."""

    overview_first: ClassVar[bool] = False  # whether the overview comes before the tiles
    class_tokens: ClassVar[int] = 0  # what the tower adds to the patches of a view, and the model then leaves out
    settings: ClassVar[dict[str, object]] = {}  # entries of config.json that this code was written for

    @classmethod
    def tiles(cls, config: PretrainedConfig) -> Tiles:
        """The geometry that a configuration describes."""
        raise NotImplementedError

    @staticmethod
    def merger_weights(config: PretrainedConfig) -> int:
        """Multiply-adds of the merger, a visual token."""
        raise NotImplementedError

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[views, 3, tile, tile] through the tower: [views · patches, width]."""
        tower = getattr(self.model.model, self.tower_name)
        return tower(pixel_values=pixel_values).last_hidden_state[:, self.class_tokens :].flatten(0, 1)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """[views, patches, width] through the merger: [..., hidden]."""
        return self.model.model.multi_modal_projector(features)

    @classmethod
    def prepare(cls, model: torch.nn.Module) -> None:
        """Raises ModelError for a configuration for which features would be wrong."""
        for name, needed in cls.settings.items():
            value = attrgetter(name)(model.config)
            if value != needed:
                raise ModelError(
                    f"Family {cls.name} needs {name} to be {needed!r} in the checkpoint's config.json, got {value!r}. "
                    f"Use a checkpoint with that setting."
                )

    @property
    def geometry(self) -> Tiles:
        return self.tiles(self.model.config)

    @property
    def layout(self) -> dict[str, dict]:
        side = self.geometry.factor
        return {"size": {"height": side, "width": side}}

    def grid(self, size: Size) -> torch.Tensor:
        rows, columns = self.geometry.layout(size)
        return torch.tensor([[self.geometry.views(rows, columns), rows, columns]])

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """See `Family.patch_counts`; includes the class token of every view."""
        return tuple((grids[:, 0] * (self.geometry.patches**2 + self.class_tokens)).tolist())

    def feature_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        return tuple((grids[:, 0] * self.geometry.patches**2).tolist())

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(prefix))[None]

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 at its planned size -> [views, 3, tile, tile] float32, on the model's device.

        Bit for bit what the processor (transformers' default backend) makes of the image where it chooses the same
        grid of tiles. Raises ModelError.
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

    def see(self, pixel_values: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        return self.merge(self.encode(pixel_values.to(self.model.dtype)), grids)

    @torch.no_grad()
    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return self.encode(pixel_values.to(self.model.dtype))

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        views = features.view(-1, self.geometry.patches**2, features.shape[-1])
        return VisualTokens(self.project(views).flatten(0, -2))

    def language(self, *, position_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: Any):
        """Without a mask transformers would take positions that start again for packed sequences, and make a mask.

        The attention of a packed row follows its plan, so the row gets a mask of a shape that is passed on unchanged.
        """
        mask = torch.ones((1, 1, 1, 1), dtype=torch.bool) if attention_mask is None else attention_mask
        return super().language(position_ids=position_ids[0], attention_mask=mask, **inputs)

    @classmethod
    def cost_shape(cls, config: PretrainedConfig) -> flops.ModelShape:
        """All blocks attend within one view, so a view is a window."""
        vision, width = config.vision_config, config.vision_config.hidden_size
        tiles = cls.tiles(config)
        patch = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
        return flops.ModelShape(
            blocks=vision.num_hidden_layers,
            block_weights=4 * width**2 + 2 * width * vision.intermediate_size,
            width=width,
            windowed_blocks=vision.num_hidden_layers,
            window=tiles.patches**2 + cls.class_tokens,
            patch_weights=vision.num_channels * patch**2 * width,
            merge=tiles.merge**2,
            merger_weights=cls.merger_weights(config),
            **text_shape(config.text_config),
        )

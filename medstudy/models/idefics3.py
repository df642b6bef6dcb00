"""Idefics3 (https://arxiv.org/abs/2408.12637) and SmolVLM (https://arxiv.org/abs/2504.05299): tiles and their places.

Tiles of 364, 384 or 512 pixels, as the checkpoint says, each after a token that names its row and its column, and then
the whole image as one more. The processor enlarges every image to its longest edge before it cuts; here the policy says
how many tiles there are, and a native image is not enlarged beyond whole tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from medstudy import cost
from medstudy.models.tiles import Tiled, Tiles, tile_shape
from medstudy.prefix import Seen
from medstudy.resolution import Size

_WHOLE = "<global-img>"  # what both processors write before the whole image


@dataclass(frozen=True)
class Placed(Tiles):
    """merge: patches a side of one visual token. The tokens that name places know six rows and six columns."""

    merge: int
    most_units: ClassVar[int] = 6

    def views(self, rows: int, columns: int) -> int:
        return rows * columns + (rows * columns > 1)

    def tokens(self, size: Size) -> int:
        return self.views(*self.layout(size)) * (self.patches // self.merge) ** 2


class Idefics3(Tiled):
    """See `Tiled`. The overview comes last, and a single tile has none. Pixel shuffle goes with the projector."""

    name = "idefics3"
    images = "Idefics3ImageProcessor"
    turn_end = "<end_of_utterance>"
    language_name = "text_model"
    overview_first = False
    settings = {}

    @property
    def layout(self) -> dict[str, dict]:
        return {"max_image_size": {"longest_edge": self.geometry.factor}}

    @staticmethod
    def part(name: str) -> str:
        return "tower" if "vision_model." in name else "merger" if "connector." in name else "language"

    @property
    def geometry(self) -> Placed:
        config = self.model.config
        side = config.vision_config.image_size
        return Placed(side, side**2, side // self.patch_size, config.scale_factor)

    def image_ids(self, count: int, grid: torch.Tensor) -> list[int]:
        """The visual tokens of each tile behind its place, a row a line, and of the whole image behind its own name."""
        views, rows, columns = grid.tolist()
        if (rows, columns) not in self._places:
            self._places[rows, columns] = self.ids(self._text(rows, columns))
        each = [self.image_token] * (count // views)
        return [token for one in self._places[rows, columns] for token in (each if one == self.image_token else [one])]

    @cached_property
    def _places(self) -> dict[tuple[int, int], list[int]]:
        """The tokens of `_text`, of every layout that was asked for."""
        return {}

    def _text(self, rows: int, columns: int) -> str:
        """What the processor writes for an image, with one visual token for each view."""
        around, image = self.processor.fake_image_token, self.processor.image_token
        lines = ["".join(f"{around}<row_{row + 1}_col_{column + 1}>{image}" for column in range(columns)) + "\n"
                 for row in range(rows) if rows * columns > 1]  # fmt: skip
        return "".join([*lines, "\n" * bool(lines), around, _WHOLE, image, around])

    def answer_ids(self, text: str) -> list[int]:
        """Its template ends a prompt with "Assistant:" and writes a space before an answer."""
        return super().answer_ids(f" {text}")

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        return tuple((grids[:, 0] * self.geometry.patches**2).tolist())

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model.model.vision_model(pixel_values=pixel_values).last_hidden_state.flatten(0, 1)

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        views = features.view(-1, self.geometry.patches**2, features.shape[-1])
        return Seen(self.model.model.connector(views).flatten(0, 1))

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        vision, merge = config.vision_config, config.scale_factor**2
        merger = merge * vision.hidden_size * config.text_config.hidden_size
        return tile_shape(config, side=vision.image_size, patch=vision.patch_size, merge=merge, merger_weights=merger)


class SmolVLM(Idefics3):
    """The same in SmolVLM2's own class; the first SmolVLM's checkpoints are Idefics3's."""

    name = "smolvlm"
    images = "SmolVLMImageProcessor"

"""Idefics3 (https://arxiv.org/abs/2408.12637) and SmolVLM (https://arxiv.org/abs/2504.05299): tiles with places.

Tiles have 364, 384 or 512 pixels a side, as the checkpoint says. A token before each names its row and
column; the whole image follows as an overview. Their processor enlarges every image to its longest edge before it cuts;
here the policy sets the number of tiles, and a native image is not enlarged beyond whole tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from transformers import PretrainedConfig

from medstudy.models.tiled import Tiled, Tiles

_WHOLE = "<global-img>"  # both processors write this before the overview


@dataclass(frozen=True)
class Placed(Tiles):
    """The tokens that name places know six rows and six columns."""

    most_units: ClassVar[int] = 6


class Idefics3(Tiled):
    """See `Tiled`. The overview comes last; a single tile has none. Pixel shuffle belongs to the merger."""

    name = "idefics3"
    images = "Idefics3ImageProcessor"
    turn_end = "<end_of_utterance>"
    language_name = "text_model"
    tower_name = "vision_model"
    merger_names = ("connector.",)

    @classmethod
    def tiles(cls, config: PretrainedConfig) -> Placed:
        side = config.vision_config.image_size
        return Placed(side, side**2, side // config.vision_config.patch_size, config.scale_factor)

    @staticmethod
    def merger_weights(config: PretrainedConfig) -> int:
        return config.scale_factor**2 * config.vision_config.hidden_size * config.text_config.hidden_size

    @property
    def layout(self) -> dict[str, dict]:
        return {"max_image_size": {"longest_edge": self.geometry.factor}}

    def image_ids(self, count: int, grid: torch.Tensor) -> list[int]:
        """See `Family.image_ids`: each tile behind its place, a row a line, then the overview behind its own name."""
        views, rows, columns = grid.tolist()
        if (rows, columns) not in self._layouts:
            self._layouts[rows, columns] = self.ids(self._text(rows, columns))
        image, each = self.image_token, count // views
        return [copy for token in self._layouts[rows, columns] for copy in [token] * (each if token == image else 1)]

    @cached_property
    def _layouts(self) -> dict[tuple[int, int], list[int]]:
        """The tokens of `_text` by rows and columns."""
        return {}

    def _text(self, rows: int, columns: int) -> str:
        """What the processor writes for an image, with one visual token for each view."""
        around, image = self.processor.fake_image_token, self.processor.image_token
        lines = ["".join(f"{around}<row_{row + 1}_col_{column + 1}>{image}" for column in range(columns)) + "\n"
                 for row in range(rows) if rows * columns > 1]
        return "".join([*lines, "\n" * bool(lines), around, _WHOLE, image, around])

    def answer_ids(self, text: str) -> list[int]:
        """Its template ends a prompt with "Assistant:" and writes a space before an answer."""
        return super().answer_ids(f" {text}")

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.model.model.connector(features)


class SmolVLM(Idefics3):
    """SmolVLM2 has a class of its own in transformers; checkpoints of the first SmolVLM are Idefics3's."""

    name = "smolvlm"
    images = "SmolVLMImageProcessor"

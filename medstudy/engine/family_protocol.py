"""What the engine, training and evaluation ask of a model family: `medstudy.models.family.Family` is the base class.

The engine stands below the families, so it knows them by this protocol alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from transformers import Cache, LogitsProcessor

from medstudy.data.example import Question, Shot
from medstudy.engine import attention, flops
from medstudy.engine.row_layout import Packed, Row, Seen
from medstudy.resolution.sizes import Geometry, Shown, Size

Part = Literal["tower", "merger", "language"]


class Family(Protocol):
    """A loaded model with its processor. `medstudy.models.family.Family` documents each member."""

    name: str
    model: torch.nn.Module
    processor: object
    revision: str
    attention: attention.Choice
    images: str
    language_name: str
    both_ways: bool
    shares_prefix: bool

    @property
    def geometry(self) -> Geometry: ...

    @property
    def shape(self) -> flops.Shape: ...

    @property
    def tower(self) -> list[torch.nn.Parameter]: ...

    @property
    def pixel_settings(self) -> tuple: ...

    @property
    def image_token(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def ends(self) -> tuple[int, ...]: ...

    # Sizes and parts of the model
    def grid(self, size: Size) -> torch.Tensor: ...

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]: ...

    def part(self, name: str) -> Part: ...

    def freeze_tower(self) -> None: ...

    # Text
    def prompt(self, question: Question, image: bool = True, context: Sequence[Shot] = ()) -> str: ...

    def ids(self, text: str) -> list[int]: ...

    def answer_ids(self, text: str) -> list[int]: ...

    def image_ids(self, count: int, grid: torch.Tensor) -> list[int]: ...

    def text(self, ids: list[int]) -> str: ...

    def row(
        self, questions: tuple[Question, ...], shown: Shown, answered: bool, context: tuple[Shot, ...] = ()
    ) -> Row: ...

    # Images
    def patches(self, image: torch.Tensor) -> torch.Tensor: ...

    def look(self, images: list[torch.Tensor], grids: torch.Tensor) -> Seen: ...

    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor: ...

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen: ...

    # The pass over a packed row, and decoding
    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor: ...

    def hidden(self, packed: Packed, seen: Seen | None, cache: Cache | None = None) -> torch.Tensor: ...

    def cache(self) -> Cache: ...

    def advance(
        self, ids: torch.Tensor, positions: torch.Tensor, stood: torch.Tensor, mask: torch.Tensor, cache: Cache
    ) -> torch.Tensor: ...

    def rules(self, lengths: Sequence[int], limit: int) -> Callable | None: ...

    def generated(
        self, packed: Packed, seen: Seen | None, limit: int, drawing: Callable[[int], LogitsProcessor] | None = None
    ) -> list[list[int]]: ...

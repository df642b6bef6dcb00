"""How much each question looks at each visual token: attention weights, recorded while a packed row passes through.

    with recorded(packed, family.image_token) as maps:
        family.hidden(packed, seen)
    maps.mean()   # [questions, visual tokens]

Kernels keep no weights, so those of the last place of each branch are computed again, layer by layer: softmax over all
that the place may attend to, as the mask of the layout says, and the mean over heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch

from medstudy.engine.row_layout import PackedRow, RowLayout


@dataclass
class Maps:
    """The weights of one packed row of a single image. visual: [S] bool, the places of visual tokens; last: [Q]."""

    visual: torch.Tensor
    last: torch.Tensor
    layers: list[torch.Tensor] = field(default_factory=list)  # each [Q, visual tokens]

    def add(
        self, query: torch.Tensor, key: torch.Tensor, layout: RowLayout, scale: float, window: int | None
    ) -> None:
        """A layer's weights from its query [1, heads, S, D] and key [1, key heads, S, D]."""
        last = self.last.to(query.device)
        keys = key[0].float().repeat_interleave(query.shape[1] // key.shape[1], 0)
        scores = torch.einsum("hqd,hsd->hqs", query[0, :, last].float(), keys) * scale
        seen = layout.within(window)[self.last.cpu()].to(query.device)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).mean(0)
        self.layers.append(weights[:, self.visual.to(query.device)].cpu())

    def mean(self) -> torch.Tensor:
        """[Q, visual tokens] float32: the mean over the second half of the layers."""
        return torch.stack(self.layers[len(self.layers) // 2 :]).mean(0)


_RECORDING: ContextVar[Maps | None] = ContextVar("attention_maps", default=None)


@contextmanager
def recorded(packed: PackedRow, image_token: int) -> Iterator[Maps]:
    """The maps of the row that passes through a family's language model in the block."""
    maps = Maps(packed.ids[0] == image_token, packed.last)
    token = _RECORDING.set(maps)
    try:
        yield maps
    finally:
        _RECORDING.reset(token)


def note(query: torch.Tensor, key: torch.Tensor, layout: RowLayout, scale: float, window: int | None) -> None:
    """Called by every layer's attention over a packed row."""
    if (maps := _RECORDING.get()) is not None:
        maps.add(query, key, layout, scale, window)

"""Floating-point operations of a forward or training pass, by formula from a model's configuration.

A multiply-add is two operations; training is three times the forward pass (forward, backward to the inputs, backward to
the weights). Norms, activations and softmax are left out: they are below 1 % at the sizes of interest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch


@dataclass(frozen=True)
class ModelShape:
    """A model's sizes, as its family reads them from the configuration; weights count multiply-adds."""

    blocks: int  # blocks of the vision tower
    block_weights: int  # weights of one block, for each patch
    width: int  # width of the tower's attention
    patch_weights: int  # weights of the patch embedding, for each patch
    merge: int  # patches merged into one visual token
    merger_weights: int  # weights of all mergers, for each visual token
    layers: int  # layers of the language model
    layer_weights: int  # weights of one layer, for each token
    attention: int  # query heads x head width
    keys: int  # key heads x head width
    hidden: int
    vocabulary: int
    windowed_blocks: int = 0  # tower blocks that attend within windows
    window: int = 0  # patches in a full window


@dataclass(frozen=True)
class RowWork:
    """One row: `patches` of each of its images, tokens of the row, allowed query-key pairs, answer tokens."""

    patches: tuple[int, ...]
    tokens: int
    pairs: int
    answers: int


def forward_flops(shape: ModelShape, work: RowWork) -> float:
    """Operations of one forward pass over `work`."""
    return sum(vision_flops(shape, patches) for patches in work.patches) + language_flops(shape, work)


class _Parts(Protocol):
    model: torch.nn.Module

    def part(self, name: str) -> Literal["tower", "merger", "language"]: ...


@dataclass(frozen=True)
class TrainedParts:
    """Which parts of a model are trained; a frozen part still passes gradients to the parts below it."""

    tower: bool = True
    merger: bool = True
    language: bool = True  # its own weights; adapters do not count

    @classmethod
    def of(cls, family: _Parts) -> TrainedParts:
        """The parts of a family's model with parameters that require gradients."""
        trained = {"tower": False, "merger": False, "language": False}
        for name, parameter in family.model.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                trained[family.part(name)] = True
        return cls(**trained)


ALL = TrainedParts()


def training_flops(shape: ModelShape, work: RowWork, trained: TrainedParts = ALL, tower: bool = True) -> float:
    """Operations of one training step's forward and backward pass over `work`.

    tower: whether the tower runs at all (False: its features are cached). Attention has no weights: its backward pass
    always costs twice its forward pass. LoRA's adapters are left out: they are below 1 %.
    """
    towers = sum(tower_flops(shape, patches) for patches in work.patches)
    mergers = sum(merger_flops(shape, patches) for patches in work.patches)
    attention = 4 * shape.layers * work.pairs * shape.attention
    weights = language_flops(shape, work) - attention
    total = weights * (3 if trained.language else 2) + 3 * attention
    if trained.tower:
        return total + 3 * (towers + mergers)
    return total + mergers * (3 if trained.merger else 1) + towers * tower


def vision_flops(shape: ModelShape, patches: int) -> float:
    """The tower and the mergers on one image."""
    return tower_flops(shape, patches) + merger_flops(shape, patches)


def merger_flops(shape: ModelShape, patches: int) -> float:
    """The mergers on one image."""
    return 2 * (patches // shape.merge) * shape.merger_weights


def tower_flops(shape: ModelShape, patches: int) -> float:
    """The patch embedding and the blocks on one image."""
    full = shape.blocks - shape.windowed_blocks
    pairs = full * patches**2 + shape.windowed_blocks * patches * min(patches, shape.window)
    return 2 * patches * (shape.patch_weights + shape.blocks * shape.block_weights) + 4 * pairs * shape.width


def language_flops(shape: ModelShape, work: RowWork) -> float:
    """The decoder's layers over the row, its attention over the allowed pairs, and the head at the answers."""
    layer = 2 * work.tokens * shape.layer_weights + 4 * work.pairs * shape.attention
    return shape.layers * layer + 2 * work.answers * shape.hidden * shape.vocabulary

"""What a sample costs: visual tokens and floating-point operations, by formula from a model's configuration.

Multiply-adds count as two operations; training is three times the forward pass (forward, and backward to inputs and
weights). Norms, activations and softmax are left out: below 1 % at the sizes of interest.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One row: `patches` of each of its images, tokens of the row, allowed query-key pairs, answer tokens."""

    patches: tuple[int, ...]
    tokens: int
    pairs: int
    answers: int


def forward_flops(config, work: Workload) -> float:
    """Operations of one forward pass of a Qwen2-VL over `work`."""
    return sum(vision_flops(config, patches) for patches in work.patches) + language_flops(config, work)


def training_flops(config, work: Workload, frozen_tower: bool = False) -> float:
    """Operations of one training step's forward and backward pass over `work`; a frozen tower has no backward pass."""
    spared = 2 * sum(tower_flops(config, patches) for patches in work.patches) if frozen_tower else 0
    return 3 * forward_flops(config, work) - spared


def vision_flops(config, patches: int) -> float:
    """The tower and the merger on one image."""
    vision = config.vision_config
    merged = vision.embed_dim * vision.spatial_merge_size**2
    merger = 2 * (patches // vision.spatial_merge_size**2) * (merged**2 + merged * vision.hidden_size)
    return tower_flops(config, patches) + merger


def tower_flops(config, patches: int) -> float:
    """Patch embedding and the blocks (full attention within an image) on one image."""
    vision = config.vision_config
    width, hidden = vision.embed_dim, int(vision.embed_dim * vision.mlp_ratio)
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    block = 2 * patches * (4 * width**2 + 2 * width * hidden) + 4 * patches**2 * width
    return vision.depth * block + 2 * patches * patch * width


def language_flops(config, work: Workload) -> float:
    """The decoder's blocks over the row, its attention over the allowed pairs, and the head at the answers."""
    text = config.text_config
    width, head = text.hidden_size, text.hidden_size // text.num_attention_heads
    kept = head * text.num_key_value_heads
    weights = 2 * width**2 + 2 * width * kept + 3 * width * text.intermediate_size
    layers = text.num_hidden_layers
    return layers * (2 * work.tokens * weights + 4 * work.pairs * width) + 2 * work.answers * width * text.vocab_size

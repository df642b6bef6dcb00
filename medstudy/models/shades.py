"""What a processor makes of the value of a pixel: rescaling and normalisation as a table."""

from __future__ import annotations

import torch
from transformers import BaseImageProcessor


def of(processor: BaseImageProcessor) -> torch.Tensor:
    """[3, 256] float32: what the processor's own function makes of each value of each channel."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16).clone()
    normalised = processor.rescale_and_normalize(
        levels, processor.do_rescale, processor.rescale_factor, processor.do_normalize, processor.image_mean,
        processor.image_std,
    )
    return normalised[0].flatten(1).float()


def applied(pixels: torch.Tensor, shades: torch.Tensor) -> torch.Tensor:
    """[height, width, 3] uint8 -> [3, height, width] float32, bit for bit as the processor normalises them."""
    values = pixels.permute(2, 0, 1).long()
    return torch.stack([shade[channel] for shade, channel in zip(shades, values, strict=True)])

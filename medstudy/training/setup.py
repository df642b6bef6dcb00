"""Prepare a loaded model for a study's training; also a model without weights, to estimate costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medstudy.engine.family_protocol import Family
from medstudy.models import lora
from medstudy.params import Optimisation
from medstudy.training import mixed_precision

if TYPE_CHECKING:
    from peft import PeftModel  # slow to import, and few runs need it


def prepare(family: Family, options: Optimisation) -> PeftModel | None:
    """Freeze, add adapters, convert trained weights to float32 and turn on gradient checkpointing, in place.

    Returns the PeftModel that saves the adapters, or None without adapters. Raises ParamsError.
    """
    if options.freeze_vision_tower:
        family.freeze_tower()
    adapter = lora.add(family, options.lora) if options.lora else None
    mixed_precision.to_float32(family.model)
    if options.gradient_checkpointing:
        checkpoint(family.model)
    return adapter


def checkpoint(model: torch.nn.Module) -> None:
    """Keep only the inputs of layers for the backward pass; transformers 5.23 renamed the method."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})

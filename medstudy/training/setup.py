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
    """Freeze, add adapters, convert trained weights to float32, turn on gradient checkpointing, compile; in place.

    Returns the PeftModel that saves the adapters, or None without adapters. Raises ParamsError.
    """
    if options.freeze_vision_tower:
        family.freeze_tower()
    adapter = lora.add(family, options.lora) if options.lora else None
    mixed_precision.to_float32(family.model)
    if options.gradient_checkpointing:
        checkpoint(family.model)
    if options.compile_layers:
        compile_layers(family.model)
    return adapter


def checkpoint(model: torch.nn.Module) -> None:
    """Keep only the inputs of layers for the backward pass; transformers 5.23 renamed the method."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def compile_layers(model: torch.nn.Module) -> None:
    """Let torch compile every layer and vision block at its first pass, for rows of any length.

    It fuses the operations between matrix products, such as normalisation, rotation and activation. Attention itself
    stays outside (`medstudy.engine.attention`).
    """
    for module in model.modules():
        if type(module).__name__ in (model._no_split_modules or ()):
            module.compile(dynamic=True)

"""A loaded model made ready to be trained as a study asks for it; a sketch without weights too, for plans and costs."""

from __future__ import annotations

from medstudy import adapters, precision
from medstudy.params import Optimisation


def prepare(family, options: Optimisation):
    """Freeze what stays as it is, add adapters, bring what is trained to float32, and turn on checkpointing, in place.

    Returns the PeftModel that saves the adapters, None without. Raises ParamsError.
    """
    if options.freeze_vision_tower:
        family.freeze_tower()
    adapter = adapters.add(family, options.lora) if options.lora else None
    precision.raise_(family.model)
    if options.gradient_checkpointing:
        checkpoint(family.model)
    return adapter


def checkpoint(model) -> None:
    """Keep a layer's input alone for the backward pass; transformers 5.23 gave this another name."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})

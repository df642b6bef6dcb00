"""Mixed precision: trained weights are kept in float32 and computed in the model's 16 bits; the rest stays in 16 bits.

A bfloat16 number has 8 bits of precision: an update below 1/256 of a weight is lost if the weight itself is bfloat16.
So the weights that are trained (all, or adapters), their gradients and the optimizer's states are in float32, and
torch.autocast computes in bfloat16 (https://arxiv.org/abs/1710.03740). Accelerate's own option is not used: it allows
one precision per process, and a notebook may train several models.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def to_float32(model: torch.nn.Module) -> None:
    """Convert trained parameters of 16 bits to float32, in place."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype.itemsize == 2:
            parameter.data = parameter.data.float()


def is_mixed(model: torch.nn.Module) -> bool:
    """Whether a model of 16 bits has parameters that are trained in float32."""
    kind = model_dtype(model)
    if kind is None or kind.itemsize != 2:
        return False
    return any(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


def autocast(model: torch.nn.Module) -> AbstractContextManager:
    """Around a forward pass: autocast to the model's own type if its weights are trained in float32."""
    if not is_mixed(model):
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, model_dtype(model))


def model_dtype(model: torch.nn.Module) -> torch.dtype | None:
    """The type in which a model was loaded and computes; None for a module without a configuration."""
    return getattr(getattr(model, "config", None), "dtype", None)


def describe(model: torch.nn.Module) -> str:
    """In words, for a checkpoint's stamp."""
    kept = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad})
    computed = str(model_dtype(model)).removeprefix("torch.")
    return f"computed in {computed}; trained weights, their gradients and optimizer states in {', '.join(kept)}"

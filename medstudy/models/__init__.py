"""Model families by name: what "resolution" means there, how a policy is imposed, what the prompt looks like."""

from __future__ import annotations

from medstudy.errors import ModelError
from medstudy.models import qwen2_5_vl, qwen2_vl, qwen3_vl

REGISTRY = {family.name: family for family in (qwen2_vl.Qwen2VL, qwen2_5_vl.Qwen2_5VL, qwen3_vl.Qwen3VL)}


def load(model, checkpoint=None):
    """A family's model and processor from a hub id or folder (`medstudy.params.Model`).

    checkpoint: a folder of this study's own training; it replaces the weights and keeps the family.
    """
    return _family(model).load(model, checkpoint)


def sketch(model, device="meta"):
    """A family's model without its weights, for plans and costs; see `QwenVL.sketch`."""
    return _family(model).sketch(model, device)


def _family(model):
    if model.family not in REGISTRY:
        raise ModelError(f"A model family is one of {sorted(REGISTRY)}, got {model.family!r}.")
    return REGISTRY[model.family]

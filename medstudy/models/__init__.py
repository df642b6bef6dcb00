"""Model families by name: what "resolution" means there, how a policy is imposed, what the prompt looks like.

Qwen's are shown an image at any multiple of a visual token's pixels; LLaVA-OneVision, InternVL and Idefics3 cut it into
tiles and can show no less than one (`medstudy.models.tiles`); Gemma 3 sees every image at one size. `auto` is
every other model of transformers, by what its own processor does.
"""

from __future__ import annotations

from medstudy.errors import ModelError
from medstudy.models.auto import Auto
from medstudy.models.gemma3 import Gemma3
from medstudy.models.idefics3 import Idefics3, SmolVLM
from medstudy.models.internvl import InternVL
from medstudy.models.llava_onevision import LlavaOnevision
from medstudy.models.qwen2_5_vl import Qwen2_5VL
from medstudy.models.qwen2_vl import Qwen2VL
from medstudy.models.qwen3_vl import Qwen3VL

REGISTRY = {
    family.name: family
    for family in (Qwen2VL, Qwen2_5VL, Qwen3VL, LlavaOnevision, InternVL, Idefics3, SmolVLM, Gemma3, Auto)
}


def load(model, checkpoint=None):
    """A family's model and processor from a hub id or folder (`medstudy.params.Model`).

    checkpoint: a folder of this study's own training; it replaces the weights and keeps the family.
    """
    return _family(model).load(model, checkpoint)


def sketch(model, device="meta"):
    """A family's model without its weights, for plans and costs; see `Family.sketch`."""
    return _family(model).sketch(model, device)


def _family(model):
    if model.family not in REGISTRY:
        raise ModelError(f"A model family is one of {sorted(REGISTRY)}, got {model.family!r}.")
    return REGISTRY[model.family]

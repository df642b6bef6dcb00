"""Model families by name: what "resolution" means there, how a policy is imposed, what the prompt looks like.

Qwen's are shown an image at any multiple of a visual token's pixels; LLaVA-OneVision, InternVL and Idefics3 cut it into
tiles and can show no less than one (`medstudy.models.tiled`); Gemma 3 sees every image at one size. `auto` is
every other model of transformers, by what its own processor does.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from medstudy.errors import ModelError
from medstudy.models import lora, stamp
from medstudy.models.auto import Auto
from medstudy.models.qwen_vl import Qwen2_5VL, Qwen2VL, Qwen3VL
from medstudy.models.tiled.gemma3 import Gemma3
from medstudy.models.tiled.idefics3 import Idefics3, SmolVLM
from medstudy.models.tiled.internvl import InternVL
from medstudy.models.tiled.llava_onevision import LlavaOnevision

REGISTRY = {
    family.name: family
    for family in (Qwen2VL, Qwen2_5VL, Qwen3VL, LlavaOnevision, InternVL, Idefics3, SmolVLM, Gemma3, Auto)
}


def load(model, checkpoint=None, shown=()):
    """A family's model and processor from a hub id or folder (`medstudy.params.Model`).

    checkpoint: a folder of this study's own training; it replaces the weights and keeps the family.
    shown: labels of the policies that it will be shown. Warns of the resolution at which the model was trained when it
    is a checkpoint of medstudy itself.
    """
    if model.id != "base" and checkpoint is None and (known := stamp.told(model.id, shown, model.revision)):
        warnings.warn(known, stacklevel=2)
    base, own = _base(model)
    if own is None or (checkpoint and not (checkpoint / lora.CONFIG).is_file()):
        return _family(model).load(base, checkpoint)
    family = _family(model).load(base, own)
    return family.adapted(checkpoint) if checkpoint else family  # adapters that were trained on top of these


def sketch(model, device="meta"):
    """A family's model without its weights, for plans and costs; see `Family.sketch`."""
    return _family(model).sketch(_base(model)[0], device)


def _base(model):
    """The model whose weights are needed, and the folder of adapters that go into them where `model.id` is one."""
    folder = Path(model.id).expanduser()
    if not (folder / lora.CONFIG).is_file():
        return model, None
    if not (name := lora.base_of(folder)):
        raise ModelError(
            f"Adapters must say of which model they are (base_model_name_or_path in {lora.CONFIG}), but those in "
            f"{folder.name} do not: their model was on no hub. Write its hub id or folder there."
        )
    return model.model_copy(update={"id": name, "revision": None}), folder


def _family(model):
    if model.family not in REGISTRY:
        raise ModelError(f"A model family is one of {sorted(REGISTRY)}, got {model.family!r}.")
    return REGISTRY[model.family]

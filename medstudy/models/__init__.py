"""Model families by name: what "resolution" means for a model, how a policy is imposed, how a prompt is written.

Qwen's are shown an image at any multiple of a visual token's pixels. LLaVA-OneVision, InternVL and Idefics3 cut it into
tiles and show at least one (`medstudy.models.tiled`); Gemma 3 sees every image at one size. `auto` is every other model
of transformers, with its own processor. `medstudy.models.family` says how to add one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from medstudy.errors import ModelError
from medstudy.models import loading, lora, stamp
from medstudy.models.auto import Auto
from medstudy.models.family import Family
from medstudy.models.qwen_vl import Qwen2_5VL, Qwen2VL, Qwen3VL
from medstudy.models.tiled.gemma3 import Gemma3
from medstudy.models.tiled.idefics3 import Idefics3, SmolVLM
from medstudy.models.tiled.internvl import InternVL
from medstudy.models.tiled.llava_onevision import LlavaOnevision
from medstudy.params import Model

REGISTRY = {
    family.name: family
    for family in (Qwen2VL, Qwen2_5VL, Qwen3VL, LlavaOnevision, InternVL, Idefics3, SmolVLM, Gemma3, Auto)
}


def load(model: Model, checkpoint: Path | None = None, shown: Sequence[str] = ()) -> Family:
    """A family's model and processor from a hub id or folder.

    checkpoint: a folder of this study's own training, whose weights replace the model's. shown: labels of the policies
    that it will be shown. Warns of the resolution at which the model was trained if it is a checkpoint of medstudy.
    """
    if model.id != "base" and checkpoint is None and (known := stamp.resolution_note(model.id, shown, model.revision)):
        warnings.warn(known, stacklevel=2)
    base, adapters = with_adapters(model)
    if adapters is None or (checkpoint and not (checkpoint / lora.CONFIG).is_file()):
        return loading.load(_kind(model), base, checkpoint)
    family = loading.load(_kind(model), base, adapters)
    return loading.adapted(family, checkpoint) if checkpoint else family  # adapters trained on top of the model's own


def sketch(model: Model, device: torch.device | str = "meta") -> Family:
    """A family's model without its weights, for plans and costs; see `loading.sketch`."""
    return loading.sketch(_kind(model), with_adapters(model)[0], device)


def with_adapters(model: Model) -> tuple[Model, Path | None]:
    """The model whose weights are needed, and the folder of adapters for it if `model.id` is such a folder."""
    folder = Path(model.id).expanduser()
    if not (folder / lora.CONFIG).is_file():
        return model, None
    if not (name := lora.base_of(folder)):
        raise ModelError(
            f"Adapters must name their model (base_model_name_or_path in {lora.CONFIG}), but those in {folder.name} do "
            "not: their model was on no hub. Write its hub id or folder there."
        )
    return model.model_copy(update={"id": name, "revision": None}), folder


def _kind(model: Model) -> type[Family]:
    if model.family not in REGISTRY:
        raise ModelError(f"model.family must be one of {sorted(REGISTRY)}, got {model.family!r}.")
    return REGISTRY[model.family]

"""Checkpoints in the hub's format: weights or adapters, processor, model card, and a stamp (`medstudy.models.stamp`).

A folder gets its name once all of it is written, so a save that was interrupted leaves no folder of that name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import PartialState
from huggingface_hub import ModelCard

from medstudy import paths
from medstudy.engine.family_protocol import Family
from medstudy.models.stamp import STAMP
from medstudy.training import distributed, mixed_precision

if TYPE_CHECKING:
    from peft import PeftModel  # slow to import, and few runs need it


def save(
    family: Family, folder: Path, stamp: dict, adapter: PeftModel | None = None, card: ModelCard | None = None
) -> None:
    """Write a family's model. All processes of a training must call this; the first one writes.

    adapter: the result of `lora.add`; the folder then holds the adapters alone. Weights are saved in the type in
    which the model computes, adapters in the type in which they were trained.
    """
    state = PartialState()
    tensors = _tensors(family.model, adapter, state.is_main_process)
    if state.is_main_process:
        with paths.atomic(folder) as temporary:
            temporary.mkdir()
            _write(family, temporary, adapter, tensors, stamp)
            family.processor.save_pretrained(temporary)
            (temporary / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
            (temporary / "README.md").unlink(missing_ok=True)  # peft writes an empty form
            if card is not None:
                card.save(temporary / "README.md")
    state.wait_for_everyone()


def _write(
    family: Family, folder: Path, adapter: PeftModel | None, tensors: dict[str, torch.Tensor] | None, stamp: dict
) -> None:
    given = {} if tensors is None else {"state_dict": tensors}
    if adapter is not None:
        for config in adapter.peft_config.values():
            config.base_model_name_or_path = stamp.get("base_model") or ""  # None: peft writes a local folder
        adapter.save_pretrained(folder, **given)
        return
    config, kind = family.model.config, mixed_precision.model_dtype(family.model)
    family.model.save_pretrained(folder, **given)
    if config.dtype != kind:  # it wrote the type of the float32 weights
        config.dtype = kind
        config.save_pretrained(folder)


def _tensors(model: torch.nn.Module, adapter: PeftModel | None, keep: bool) -> dict[str, torch.Tensor] | None:
    """The weights to save, whole and in the type to save them in; None if the model holds them in this form already."""
    kind, saved = mixed_precision.model_dtype(model), adapter or model
    every = saved.named_parameters(remove_duplicate=False)
    named = {name: parameter for name, parameter in every if adapter is None or "lora_" in name}
    types = {p.dtype for p in named.values()}
    if not any(isinstance(p, distributed.DTensor) for p in named.values()) and (adapter or types <= {kind}):
        return None
    tensors: dict[int, torch.Tensor | None] = {}  # tied weights stay one tensor
    for parameter in named.values():
        if id(parameter) not in tensors:
            tensor = distributed.whole(parameter.detach())
            tensor = tensor if adapter else tensor.to(kind)
            tensors[id(parameter)] = tensor.cpu() if keep else None
    buffers = {} if adapter else {name: b for name, b in saved.state_dict().items() if name not in named}
    return buffers | {name: tensors[id(parameter)] for name, parameter in named.items()} if keep else None

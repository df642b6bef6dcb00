"""Checkpoints in the hub's format: weights or adapters, processor, a model card, and medstudy.json: what made it.

A folder takes its name when all of it is written: one whose save was interrupted does not exist under that name.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from accelerate import PartialState

from medstudy import paths, precision, sharding
from medstudy.stamp import STAMP


def save(family, folder: Path, stamp: dict, adapter=None, card=None) -> None:
    """Write a family's model; of several processes all must call this, and the first one writes.

    adapter: what `adapters.add` returned; the folder then holds the adapters alone. card: a huggingface_hub ModelCard.
    Weights are saved in the type that the model computes in, adapters in that in which they were trained.
    """
    state = PartialState()
    tensors = _tensors(family.model, adapter, state.is_main_process)
    if state.is_main_process:
        with paths.atomic(folder) as temporary:
            temporary.mkdir()
            _write(family, temporary, adapter, tensors, stamp)
            family.processor.save_pretrained(temporary)
            (temporary / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
            (temporary / "README.md").unlink(missing_ok=True)  # peft's own, an empty form
            if card is not None:
                card.save(temporary / "README.md")
    state.wait_for_everyone()


def _write(family, folder: Path, adapter, tensors: dict | None, stamp: dict) -> None:
    given = {} if tensors is None else {"state_dict": tensors}
    if adapter is not None:
        for config in adapter.peft_config.values():
            config.base_model_name_or_path = stamp.get("base_model") or ""  # for None peft writes where it was loaded
        adapter.save_pretrained(folder, **given)
        return
    config, kind = family.model.config, precision.own(family.model)
    family.model.save_pretrained(folder, **given)
    if config.dtype != kind:  # it wrote the type of the weights at hand
        config.dtype = kind
        config.save_pretrained(folder)


def _tensors(model: torch.nn.Module, adapter, keep: bool) -> dict[str, torch.Tensor] | None:
    """The weights to save, whole and in their type on the disk; None where the model holds them just so."""
    kind, saved = precision.own(model), adapter or model
    every = saved.named_parameters(remove_duplicate=False)
    named = {name: parameter for name, parameter in every if adapter is None or "lora_" in name}
    types = {p.dtype for p in named.values()}
    if not any(isinstance(p, sharding.DTensor) for p in named.values()) and (adapter or types <= {kind}):
        return None
    made: dict[int, torch.Tensor] = {}  # tied weights stay one
    for parameter in named.values():
        if id(parameter) not in made:
            tensor = sharding.whole(parameter.detach())
            tensor = tensor if adapter else tensor.to(kind)
            made[id(parameter)] = tensor.cpu() if keep else None
    buffers = {} if adapter else {name: b for name, b in saved.state_dict().items() if name not in named}
    return buffers | {name: made[id(parameter)] for name, parameter in named.items()} if keep else None

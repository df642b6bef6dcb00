"""A checkpoint whose vision tower gets more blocks, to go on from: at first they change nothing."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText

from medstudy import models
from medstudy.errors import ParamsError
from medstudy.params import Model


def grown(source: str, folder: Path, layers: int, seed: int) -> Path:
    """Write the model of `source` to `folder`, its tower with `layers` blocks; tokenizer and all weights are kept.

    A new block adds nothing to its input, because the last matrices of its attention and of its MLP are zero. Raises
    ParamsError if the tower has more blocks already.
    """
    family = models.load(Model(id=source, family="qwen2_vl"))
    config = copy.deepcopy(family.model.config)
    depth = config.vision_config.depth
    if layers < depth:
        raise ParamsError(f"vision_layers must be at least the {depth} blocks of start, {source}, but is {layers}.")
    config.vision_config.depth = layers
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    model.load_state_dict(family.model.state_dict(), strict=False)
    for block in model.model.visual.blocks[depth:]:
        for last in (block.attn.proj, block.mlp.fc2):
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
    model.generation_config = family.model.generation_config
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    family.processor.save_pretrained(folder)
    return folder

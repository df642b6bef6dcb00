"""Weights are loaded completely or not at all: every tensor of the files has a place, every place has a tensor.

transformers fills a missing tensor with random numbers, skips one that fits nowhere, and only logs both. Its own
loading information says what happened, so nothing is read twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import logging

from medstudy.errors import ModelError
from medstudy.models.checkpoint_files import listed, tensors_of

PREFIXES = {
    # what other programs write before every name, and which program
    "module.": "DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "base_model.model.": "peft",
}
PARTS = {
    # part of a name, and what such a tensor means
    "lora_": "They are adapters that were not merged: load the adapters' own folder, or merge them first.",
    "weight_scale": "The weights are quantised: use the checkpoint in its full precision.",
    "absmax": "The weights are quantised: use the checkpoint in its full precision.",
    "qweight": "The weights are quantised: use the checkpoint in its full precision.",
}
LARGER, LEAST = 2, 2**26  # a model with LARGER times the numbers of its files, and at least LEAST, is refused


Kind = type[AutoModel] | type[AutoModelForImageTextToText]


def load(
    place: str, dtype: torch.dtype, kind: Kind = AutoModelForImageTextToText, **options: Any
) -> PreTrainedModel:
    """A model of transformers with all of its weights, from safetensors and without code from the checkpoint.

    kind: transformers' own table from a configuration to a class. Raises ModelError naming tensors that are missing,
    that fit nowhere, or that have another shape.
    """
    if (Path(place) / "config.json").is_file():
        _check_size(place, dtype, kind)
    with _quiet():
        model, information = kind.from_pretrained(
            place, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True, **options,
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"Adapters are loaded from a folder, where each of their tensors is checked, but {place!r} is adapters on "
            "the hub. Fetch them with `hf download`, and name their folder in model.id."
        )
    check_places(place, information)
    _check_ties(place, model)
    return model


def check_places(place: str, information: dict[str, Any]) -> None:
    """Raises ModelError unless every tensor found its place, by transformers' loading information.

    That information leaves out tied tensors and those that a model's class declares optional.
    """
    missing, extra = sorted(information["missing_keys"]), sorted(information["unexpected_keys"])
    shapes = [f"{name} is {list(has)} in the file and {list(due)} by config.json"
              for name, has, due in sorted(information["mismatched_keys"])]
    wrong = [
        f"{len(missing)} are missing from the files ({listed(missing)})" if missing else "",
        f"{len(extra)} do not belong to the model ({listed(extra)})" if extra else "",
        f"{len(shapes)} have another shape ({listed(shapes)})" if shapes else "",
    ]
    if any(wrong):
        raise ModelError(
            f"A checkpoint must hold every tensor of its model and no other, but of the tensors of {place!r} "
            f"{'; '.join(filter(None, wrong))}. {_advice(missing, extra, shapes)}"
        )


def check_finite(place: str, model: PreTrainedModel) -> None:
    """Raises ModelError for weights that are NaN or infinite: every answer would repeat one token."""
    broken = [name for name, tensor in model.named_parameters()
              if not tensor.detach().sum(dtype=torch.float32).isfinite()]
    if broken:
        raise ModelError(
            f"Weights must be finite numbers, but {len(broken)} tensors of {place!r} hold NaN or infinity "
            f"({listed(broken)}). Use a checkpoint from before its training diverged."
        )


def _check_size(place: str, dtype: torch.dtype, kind: Kind) -> None:
    """Raises ModelError where config.json describes a model far larger than the weights, before it takes memory.

    This happens when config.json omits sizes: the class then fills in the defaults of a large model.
    """
    numbers = sum(math.prod(shape) for shape in tensors_of(Path(place)).values())
    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    with torch.device("meta"):
        described = kind.from_config(config, dtype=dtype, attn_implementation="sdpa")
    total = sum(parameter.numel() for parameter in described.parameters())
    if total > max(LARGER * numbers, LEAST):
        raise ModelError(
            f"config.json of {place!r} describes a model of {total:,} numbers, but its weights have {numbers:,}. The "
            "model's class fills in what config.json omits: use the config.json that the weights were saved with, or "
            "fetch the missing weights."
        )


def _check_ties(place: str, model: PreTrainedModel) -> None:
    """Raises ModelError where the configuration ties two tensors that differ in the file."""
    for name, other in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        if model.get_parameter(name) is not model.get_parameter(other):
            raise ModelError(
                f"config.json of {place!r} sets tie_word_embeddings, but the weights hold {name} and {other}, which "
                "differ. Set tie_word_embeddings to false if the model has both, or remove the wrong tensor."
            )


def _advice(missing: list[str], extra: list[str], shapes: list[str]) -> str:
    """What to do about tensors without a place."""
    for prefix, writer in PREFIXES.items():
        if extra and all(name.startswith(prefix) for name in extra):
            return f"Their names begin with {prefix!r}, as {writer} writes them: remove that prefix, and save again."
    for part, advice in PARTS.items():
        if any(part in name for name in extra):
            return advice
    if shapes:
        return "Use the config.json that the weights were saved with (its vocab_size, if the vocabulary was resized)."
    return "Fetch the checkpoint again, or save the whole model with save_pretrained."


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of tensors that did not fit: our error names them.

    A filter, not a level: at the level `warning` and above transformers reports layers "not sharded" for every model.
    """
    logger = logging.get_logger("transformers.modeling_utils")

    def severe(record: LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(severe)
    try:
        yield
    finally:
        logger.removeFilter(severe)

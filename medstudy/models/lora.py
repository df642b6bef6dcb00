"""LoRA (https://arxiv.org/abs/2106.09685) by peft: small trained matrices in the language model, all else frozen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch.nn import Linear
from transformers import PreTrainedModel

from medstudy.engine.family_protocol import Family
from medstudy.errors import ModelError, ParamsError
from medstudy.models import checkpoint_files, stamp
from medstudy.models.checkpoint_files import listed
from medstudy.params import Lora

if TYPE_CHECKING:
    from peft import PeftModel  # slow to import, and few runs need it

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft writes this before the model's own names
# Names before transformers 4.52 and since, when these models gained one more level of modules.
RENAMED = (
    ("model.layers.", "model.language_model.layers."),
    ("model.embed_tokens.", "model.language_model.embed_tokens."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("visual.", "model.visual."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)
Tensors = dict[str, torch.Tensor]


def add(family: Family, options: Lora) -> PeftModel:
    """Add adapters to the family's model, in place, and freeze the rest; the returned PeftModel saves them.

    Raises ParamsError for a target that the language model does not have.
    """
    from peft import LoraConfig, get_peft_model

    modules = family.model.named_modules()
    part = family.language_name
    linear = {name.split(".")[-1] for name, module in modules if part in name.split(".") and isinstance(module, Linear)}
    if wrong := [name for name in options.targets if name not in linear]:
        raise ParamsError(
            f"training.lora.targets must be matrices of the language model ({', '.join(sorted(linear))}), got "
            f"{', '.join(map(repr, wrong))}."
        )
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=rf".*\b{part}\b.*\.({'|'.join(options.targets)})",
        task_type="CAUSAL_LM",
    )
    sketch = family.model.device.type == "meta"
    with _quiet():
        return get_peft_model(family.model, config, low_cpu_mem_usage=sketch)  # a sketch's adapters take no memory


def base_of(folder: Path) -> str | None:
    """The model that a folder's adapters name as their own. Raises ModelError for a damaged file."""
    name = checkpoint_files.parsed(folder / CONFIG, unique=True).get("base_model_name_or_path")
    if name is not None and not isinstance(name, str):
        raise checkpoint_files.damaged(
            folder / CONFIG, f"base_model_name_or_path is {name!r} where a hub id or a folder is required"
        )
    return name


def merged(model: PreTrainedModel, folder: Path, revision: str | None = None) -> PreTrainedModel:
    """The model with a folder's adapters merged into its weights, in place.

    revision: the model's own; a warning follows if the adapters' stamp names other weights. Raises ModelError unless
    every tensor of the file is an adapter of the model and every adapter has its tensor in the file. Names as before
    transformers 4.52 are read as today's, with a warning.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    stored = _stored(folder)
    adapted = _with_empty_adapters(model, folder)
    needed = get_peft_model_state_dict(adapted)
    tensors = _renamed(stored, needed, folder)
    _check_match(tensors, needed, folder)
    result = set_peft_model_state_dict(adapted, tensors)
    if unused := result.unexpected_keys:
        raise _refused(folder, f"{len(unused)} tensors have no place ({listed(unused)})")
    started_from = (stamp.stamp_of(str(folder)) or {}).get("started_from", revision)
    if revision and started_from != revision:
        warnings.warn(
            f"The adapters in {folder.name} were trained on the weights {started_from}, but are merged into {revision},"
            " which has the same shapes and perhaps another training.", stacklevel=2)
    return adapted.merge_and_unload()


def _stored(folder: Path) -> Tensors:
    """The tensors of a folder of adapters. Raises ModelError."""
    file = folder / WEIGHTS
    if not file.is_file():
        others = sorted(path.name for path in folder.glob("adapter_model*"))
        raise ModelError(
            f"Adapters are read from {WEIGHTS} (a pickle can run code), but {folder.name} has "
            f"{listed(others) or 'none'}. Save them with save_pretrained(folder, safe_serialization=True)."
        )
    if not (names := checkpoint_files.shapes_in(file)):
        raise _refused(folder, "the file holds no tensors (some DeepSpeed ZeRO-3 runs save it empty)")
    tensors = load_file(file)
    if broken := [name for name in names if tensors[name].is_floating_point() and not tensors[name].isfinite().all()]:
        raise _refused(folder, f"{len(broken)} hold NaN or infinity ({listed(broken)})")
    return tensors


def _with_empty_adapters(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with empty adapters where the folder's configuration places them. Raises ModelError."""
    from peft import PeftConfig, get_peft_model

    checkpoint_files.parsed(folder / CONFIG, unique=True)
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode, config.base_model_name_or_path = True, model.name_or_path
        with _quiet():
            adapted = get_peft_model(model, config)
    except Exception as error:  # of any type, as the settings may break any step
        why = " ".join(str(error).split())[:400]
        raise ModelError(
            f"{CONFIG} of {folder.name} must name places for adapters in {type(model).__name__}, but peft refuses it: "
            f"{why}. Use the adapters of this model, as peft saved them."
        ) from error
    if not hasattr(adapted, "merge_and_unload"):
        raise ModelError(
            f"Adapters are merged into the model's weights, but those in {folder.name} ({config.peft_type.value}) "
            "cannot be merged. Use LoRA, or another kind that peft merges."
        )
    return adapted


def _renamed(stored: Tensors, needed: Tensors, folder: Path) -> Tensors:
    """The same tensors by today's names; warns of older names. Raises ModelError where two names become one."""
    tensors, older = {}, 0
    for name, tensor in stored.items():
        today = name if name in needed else _today(name, needed)
        if today in tensors:
            raise _refused(folder, f"two tensors are {today}, under today's name and an older one")
        tensors[today] = tensor
        older += today != name
    if older:
        warnings.warn(
            f"{older} of {len(stored)} adapters in {folder.name} have names as before transformers 4.52; they are read "
            "by today's names.", stacklevel=3)
    return tensors


def _today(name: str, needed: Tensors) -> str:
    bare = name.removeprefix(PREFIX)
    for before, since in RENAMED:
        if bare.startswith(before) and (today := PREFIX + since + bare.removeprefix(before)) in needed:
            return today
    return name


def _check_match(tensors: Tensors, needed: Tensors, folder: Path) -> None:
    """Raises ModelError unless the names and shapes in the file are exactly those of the model's adapters."""
    extra, missing = sorted(set(tensors) - set(needed)), sorted(set(needed) - set(tensors))
    shapes = [f"{name} is {list(tensors[name].shape)} in the file and {list(needed[name].shape)} in the model"
              for name in sorted(set(needed) & set(tensors)) if tensors[name].shape != needed[name].shape]
    wrong = [
        f"{len(extra)} of {len(tensors)} tensors have no place ({listed(extra)})" if extra else "",
        f"{len(missing)} of the model's {len(needed)} are missing ({listed(missing)})" if missing else "",
        f"{len(shapes)} have another shape ({listed(shapes)})" if shapes else "",
    ]
    if any(wrong):
        raise _refused(folder, "; ".join(filter(None, wrong)))


def _refused(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"{WEIGHTS} must hold exactly the model's adapters, but in {folder.name} {why}. Use the adapters of this very "
        "model, saved completely by peft's save_pretrained."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that peft 0.21 causes by reading a deprecated attribute of transformers 5.23."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield

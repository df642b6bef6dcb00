"""LoRA (https://arxiv.org/abs/2106.09685) by peft: small matrices beside the language model's, all else frozen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import Linear

from medstudy.errors import ModelError, ParamsError
from medstudy.models import files
from medstudy.models.stamp import stamp_of
from medstudy.params import Lora

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # that peft writes before the model's own names
# Names before transformers 4.52 and since, which put the parts of these models into one more module.
RENAMED = (
    ("model.layers.", "model.language_model.layers."),
    ("model.embed_tokens.", "model.language_model.embed_tokens."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("visual.", "model.visual."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)


def add(family, options: Lora):
    """Put adapters into the family's model, in place, and freeze its rest; returns the PeftModel that saves them.

    Raises ParamsError for a target that the language model does not have.
    """
    from peft import LoraConfig, get_peft_model  # slow to import, and few runs need it

    modules = family.model.named_modules()
    part = family.language_name
    linear = {name.split(".")[-1] for name, one in modules if part in name.split(".") and isinstance(one, Linear)}
    if wrong := [name for name in options.targets if name not in linear]:
        raise ParamsError(
            f"training.lora.targets are matrices of the language model ({', '.join(sorted(linear))}), got "
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
        return get_peft_model(family.model, config, low_cpu_mem_usage=sketch)  # a sketch's adapters take no memory too


def base_of(folder: Path) -> str | None:
    """The model that the adapters of a folder are for, as they say it. Raises ModelError for a damaged file."""
    named = files.parsed(folder / CONFIG, unique=True).get("base_model_name_or_path")
    if named is not None and not isinstance(named, str):
        raise files.damaged(folder / CONFIG, f"base_model_name_or_path is {named!r} where a hub id or folder is due")
    return named


def merged(model: torch.nn.Module, folder: Path, revision: str | None = None) -> torch.nn.Module:
    """The model with the adapters of a folder in its weights, in place.

    revision: the model's own; warns where the adapters' stamp says that they were trained on other weights. Every
    tensor of the file is an adapter of the model, and every adapter of the model has its tensor in the file: raises
    ModelError otherwise. Names as they were before transformers 4.52 are read as today's, with a warning.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    stored = _stored(folder)
    adapted = _prepared(model, folder)
    due = get_peft_model_state_dict(adapted)
    tensors = _renamed(stored, due, folder)
    _match(tensors, due, folder)
    found = set_peft_model_state_dict(adapted, tensors)
    if found.unexpected_keys:
        raise _refused(folder, f"{len(found.unexpected_keys)} fit nowhere ({files.listed(found.unexpected_keys)})")
    stamp = stamp_of(str(folder)) or {}
    if revision and stamp.get("started_from", revision) != revision:
        warnings.warn(
            f"The adapters in {folder.name} were trained on the weights {stamp['started_from']}, but are merged into "
            f"{revision}: of the same shape, and perhaps of another training.", stacklevel=2)
    return adapted.merge_and_unload()


def _stored(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder of adapters. Raises ModelError."""
    file = folder / WEIGHTS
    if not file.is_file():
        others = sorted(one.name for one in folder.glob("adapter_model*"))
        raise ModelError(
            f"Adapters are read from {WEIGHTS} (a pickle can run code), but {folder.name} has "
            f"{files.listed(others) or 'none'}. Save them with save_pretrained(folder, safe_serialization=True)."
        )
    if not (names := files.tensors(file)):
        raise _refused(folder, "the file holds none (some DeepSpeed ZeRO-3 runs save it empty)")
    made = load_file(file)
    if broken := [name for name in names if made[name].is_floating_point() and not made[name].isfinite().all()]:
        raise _refused(folder, f"{len(broken)} hold NaN or infinity ({files.listed(broken)})")
    return made


def _prepared(model: torch.nn.Module, folder: Path):
    """The model with empty adapters where the folder's configuration puts them. Raises ModelError."""
    from peft import PeftConfig, get_peft_model

    files.parsed(folder / CONFIG, unique=True)
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode, config.base_model_name_or_path = True, model.name_or_path
        with _quiet():
            made = get_peft_model(model, config)
    except Exception as error:  # of whatever kind the settings lead to
        why = " ".join(str(error).split())[:400]
        raise ModelError(
            f"{CONFIG} of {folder.name} must say where its adapters stand in {type(model).__name__}, but peft refuses "
            f"it: {why}. Use the adapters of this model, as peft saved them."
        ) from error
    if not hasattr(made, "merge_and_unload"):
        raise ModelError(
            f"Adapters are merged into the model's weights, but those in {folder.name} ({config.peft_type.value}) are "
            "none that can be. Use LoRA, or another kind that peft merges."
        )
    return made


def _renamed(stored: dict, due: dict, folder: Path) -> dict:
    """The same tensors by today's names; warns how many had older ones. Raises ModelError where two become one."""
    made, older = {}, 0
    for name, tensor in stored.items():
        now = name if name in due else _today(name, due)
        if now in made:
            raise _refused(folder, f"two are {now}, under its name of today and an older one")
        made[now] = tensor
        older += now != name
    if older:
        warnings.warn(
            f"{older} of {len(stored)} adapters in {folder.name} have names as before transformers 4.52; they are read "
            "by the names of today.", stacklevel=3)
    return made


def _today(name: str, due: dict) -> str:
    bare = name.removeprefix(PREFIX)
    for before, since in RENAMED:
        if bare.startswith(before) and (now := PREFIX + since + bare.removeprefix(before)) in due:
            return now
    return name


def _match(tensors: dict, due: dict, folder: Path) -> None:
    """Raises ModelError unless names and shapes are those of the model's adapters, both ways."""
    extra, missing = sorted(set(tensors) - set(due)), sorted(set(due) - set(tensors))
    shapes = [f"{name} is {list(tensors[name].shape)} in the file and {list(due[name].shape)} in the model"
              for name in sorted(set(due) & set(tensors)) if tensors[name].shape != due[name].shape]
    wrong = [
        f"{len(extra)} of {len(tensors)} fit nowhere ({files.listed(extra)})" if extra else "",
        f"{len(missing)} of {len(due)} that the model has are missing ({files.listed(missing)})" if missing else "",
        f"{len(shapes)} have another shape ({files.listed(shapes)})" if shapes else "",
    ]
    if any(wrong):
        raise _refused(folder, "; ".join(filter(None, wrong)))


def _refused(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"Every tensor in {WEIGHTS} must be an adapter of the model and every adapter a tensor of the file, but in "
        f"{folder.name} {why}. Use the adapters of this very model, saved whole by peft's save_pretrained."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """peft 0.21 asks models of transformers 5.23 for an attribute that warns: nothing that a user could mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield

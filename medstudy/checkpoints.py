"""Checkpoints in the hub's format: weights or adapters, processor, a model card, and medstudy.json: what made it.

A folder takes its name when all of it is written: one whose save was interrupted does not exist under that name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from pydantic import TypeAdapter, ValidationError
from transformers.utils import cached_file

from medstudy import paths, precision, redact, sharding
from medstudy.resolution import Add, Curriculum, Fixed, Mixed, Native, Training, trained_on

STAMP = "medstudy.json"


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


def stamp_of(source: str, revision: str | None = None) -> dict | None:
    """The medstudy.json of a checkpoint by folder or hub id; None where there is none, or it says no resolution."""
    quiet = {f"_raise_exceptions_for_{name}": False for name in ("gated_repo", "missing_entries", "connection_errors")}
    try:
        file = cached_file(str(Path(source).expanduser()), STAMP, revision=revision, **quiet)
    except OSError:  # no such folder, and no hub id: loading it says so
        file = None
    if file is None:
        return None
    try:
        stamp = json.loads(Path(file).read_text(encoding="utf-8"))
        return stamp if policy_of(stamp) else None
    except (ValueError, AttributeError):
        return None


def policy_of(stamp: dict):
    """The resolution policy that a checkpoint was trained under; None when its stamp has none that we know."""
    try:
        return TypeAdapter(Training).validate_python(stamp.get("policy"))
    except ValidationError:
        return None


def told(source: str, labels: Sequence[str] = (), revision: str | None = None) -> str | None:
    """At which resolution a checkpoint of medstudy was trained, and which of the policies `labels` are others.

    None for a checkpoint that is not medstudy's.
    """
    stamp = stamp_of(source, revision)
    if stamp is None:
        return None
    policy = policy_of(stamp)
    others = [label for label in labels if label not in trained_on(policy)]
    known = f"{redact.last(source)} was trained by medstudy at this resolution: {words(policy)}."
    warned = f" {', '.join(others)}: another resolution, at which it may do worse." if others else ""
    return known + warned


def words(policy) -> str:
    """A training policy in plain words."""
    by = ", rounded as the model's own processor does" if getattr(policy, "rounding", "") == "processor" else ""
    if isinstance(policy, Native):
        return f"native resolution (sides rounded to whole visual tokens, at most {policy.max_pixels:,} pixels){by}"
    if isinstance(policy, Fixed):
        how = {"budget": "aspect kept", "square": "stretched to a square", "pad": "aspect kept, on a square canvas"}
        return f"at most {policy.side} × {policy.side} pixels ({how[policy.mode]}){by}"
    if isinstance(policy, Mixed):
        return f"one of these, drawn for every sample: {_listed(policy.choices)}"
    if isinstance(policy, Add):
        return f"{words(policy.native)}, and every image again at {_listed(policy.variants)}"
    if isinstance(policy, Curriculum):
        return f"these in turn, each for an equal part of the training: {_listed(policy.stages)}"
    return policy.label


def _listed(policies: Sequence) -> str:
    return "; ".join(map(words, policies))


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

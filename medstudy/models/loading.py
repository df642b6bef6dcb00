"""Loading a checkpoint whole or not at all: every tensor of its files has a place, every place has a tensor.

transformers fills what a file lacks at random and only logs it, and passes over what fits nowhere; what it found is
read from its own loading information, so nothing is read twice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord
from pathlib import Path

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import cached_file, logging

from medstudy import paths
from medstudy.errors import MedstudyError, ModelError
from medstudy.models import files

PREFIXES = {
    # what other programs write before every name: by what
    "module.": "DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "base_model.model.": "peft",
}
PARTS = {
    # part of a name: what such a tensor means
    "lora_": "They are adapters that were not merged: load the adapters' own folder, or merge them first.",
    "weight_scale": "The weights are quantised: use the checkpoint in its full precision.",
    "absmax": "The weights are quantised: use the checkpoint in its full precision.",
    "qweight": "The weights are quantised: use the checkpoint in its full precision.",
}
LARGER, LEAST = 2, 2**26  # a model of over so many times the numbers in its files, and over that many, is never made
ERROR = 400  # letters of a library's own message that are quoted


def source(params, checkpoint: Path | None = None) -> tuple[str, dict]:
    """Where a model comes from, and the hub's options for it."""
    own = paths.BASE if params.id == "base" else paths.resolve(params.id)
    place = str(checkpoint or (own if own.is_dir() else params.id))
    return place, {} if Path(place).is_dir() or params.revision is None else {"revision": params.revision}


def processor(place: str, **options):
    """A checkpoint's processor, its images by torchvision: some releases take Pillow's, whose pixels differ.

    A chat template that only tokenizer_config.json holds is the processor's too.
    """
    made = AutoProcessor.from_pretrained(place, trust_remote_code=False, **options)
    if hasattr(made, "image_processor") and not hasattr(made.image_processor, "rescale_and_normalize"):
        made.image_processor = AutoImageProcessor.from_pretrained(place, backend="torchvision", **options)
    if getattr(made, "chat_template", None) is None and hasattr(made, "tokenizer"):
        made.chat_template = made.tokenizer.chat_template
    return made


def model(place: str, dtype: torch.dtype, **options) -> torch.nn.Module:
    """A model of transformers with all of its weights, from safetensors and without code of the checkpoint's.

    Raises ModelError naming tensors that are missing, that fit nowhere, or that have another shape.
    """
    if (Path(place) / "config.json").is_file():
        _sized(place, dtype)
    with _quiet():
        made, found = AutoModelForImageTextToText.from_pretrained(
            place, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True, **options,
        )
    if getattr(made, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"Adapters are loaded from a folder, where each of their tensors is checked, but {place!r} is adapters on "
            "the hub. Fetch them with `hf download`, and name their folder in model.id."
        )
    refuse(place, found)
    _ties(place, made)
    return made


def refuse(place: str, found: dict) -> None:
    """Raises ModelError unless transformers' loading information says that every tensor found its place.

    Ties, and what a model's class itself declares that it can do without, are not in it.
    """
    missing, extra = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    shapes = [f"{name} is {list(has)} in the file and {list(due)} by config.json"
              for name, has, due in sorted(found["mismatched_keys"])]
    wrong = [
        f"{len(missing)} that the model has are missing ({files.listed(missing)})" if missing else "",
        f"{len(extra)} are none of the model's ({files.listed(extra)})" if extra else "",
        f"{len(shapes)} have another shape ({files.listed(shapes)})" if shapes else "",
    ]
    if any(wrong):
        raise ModelError(
            f"A checkpoint must hold every tensor of its model and no other, but of {place!r} "
            f"{'; '.join(filter(None, wrong))}. {_advice(missing, extra, shapes)}"
        )


def _sized(place: str, dtype: torch.dtype) -> None:
    """Raises ModelError where config.json describes a model far larger than the weights, before it takes memory.

    Such as the default of a class, whose sizes stand in for those that config.json does not say.
    """
    held = sum(math.prod(shape) for shape in files.held(Path(place)).values())
    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    with torch.device("meta"):
        described = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
    total = sum(one.numel() for one in described.parameters())
    if total > max(LARGER * held, LEAST):
        raise ModelError(
            f"config.json of {place!r} describes a model of {total:,} numbers, but its weights have {held:,}. What "
            "config.json does not say is filled in by the model's class: use the config.json that the weights were "
            "saved with, or fetch the missing weights."
        )


def finite(place: str, made: torch.nn.Module) -> None:
    """Raises ModelError for weights that are NaN or infinite: answers would be the same token without end."""
    broken = [name for name, one in made.named_parameters() if not one.detach().sum(dtype=torch.float32).isfinite()]
    if broken:
        raise ModelError(
            f"Weights must be finite numbers, but of {place!r} {len(broken)} tensors hold NaN or infinity "
            f"({files.listed(broken)}). Use a checkpoint from before its training diverged."
        )


def revision(place: str, made: torch.nn.Module) -> str:
    """The hub's commit, or for a folder the hash of its weights."""
    if not Path(place).is_dir():
        return str(getattr(made.config, "_commit_hash", None) or "unknown")
    digest = hashlib.sha256()
    for file in sorted(Path(place).glob("*.safetensors")):
        digest.update(file.read_bytes())
    return "sha256:" + digest.hexdigest()[:16]


@contextmanager
def explained(place: str, weights: bool = True, **options) -> Iterator[None]:
    """Whatever a library raises about a checkpoint, as ModelError; the files of a folder are looked at before.

    Those from the hub after they are here.
    """
    folder = Path(place)
    if folder.is_dir():
        files.check(folder, weights)
    try:
        yield
        if not folder.is_dir() and (here := _snapshot(place, **options)):
            files.check(here, weights=False)
    except MedstudyError:
        raise
    except Exception as error:  # of any library: tokenizers raises bare Exceptions
        if (here := folder if folder.is_dir() else _snapshot(place, **options)) is not None:
            files.check(here, weights=False, whole=True)
        why = " ".join(f"{type(error).__name__}: {error}".split())
        why = why if len(why) <= ERROR else why[:ERROR] + "…"
        raise ModelError(
            f'A model is a hub id, a folder or "base", but {place!r} cannot be loaded: {why}'
        ) from error


def _snapshot(place: str, revision: str | None = None, **_) -> Path | None:
    """The folder of a hub id's files on this machine."""
    quiet = {f"_raise_exceptions_for_{name}": False for name in ("gated_repo", "missing_entries", "connection_errors")}
    try:
        found = cached_file(place, "config.json", revision=revision, local_files_only=True, **quiet)
    except (OSError, ValueError):  # no hub id
        return None
    return Path(found).parent if found else None


def _advice(missing: list[str], extra: list[str], shapes: list[str]) -> str:
    """What to do about it."""
    for prefix, writer in PREFIXES.items():
        if extra and all(name.startswith(prefix) for name in extra):
            return f"Their names begin with {prefix!r}, as {writer} writes them: take that away, and save again."
    for part, advice in PARTS.items():
        if any(part in name for name in extra):
            return advice
    if shapes:
        return "Use the config.json that the weights were saved with (its vocab_size, if the vocabulary was resized)."
    return "Fetch the checkpoint again, or save the whole model with save_pretrained."


def _ties(place: str, made: torch.nn.Module) -> None:
    """Raises ModelError where the configuration ties tensors that the file has twice, and different."""
    for name, other in made.get_expanded_tied_weights_keys(all_submodels=True).items():
        if made.get_parameter(name) is not made.get_parameter(other):
            raise ModelError(
                f"config.json of {place!r} says tie_word_embeddings, but the weights hold {name} and {other}, which "
                "differ. Set tie_word_embeddings to false if both are the model's, or remove the wrong one."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of what did not fit: an error says it.

    A filter, not a level: from the level `warning` up transformers reports layers "not sharded" of every model.
    """
    logger = logging.get_logger("transformers.modeling_utils")

    def severe(record: LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(severe)
    try:
        yield
    finally:
        logger.removeFilter(severe)

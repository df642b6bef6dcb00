"""From a hub id or a folder to a family: its model with weights, or a sketch of it without."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils import cached_file

from medstudy import paths
from medstudy.data import coordinates
from medstudy.engine import attention
from medstudy.errors import MedstudyError, ModelError
from medstudy.models import (
    checkpoint_files,
    generation_config,
    image_processor,
    lora,
    prompts,
    published_configs,
    trial_question,
    weights,
)
from medstudy.models.family import Family
from medstudy.params import Model

ERROR = 400  # letters of a library's own message that are quoted


def default_device() -> torch.device:
    """Where models are put: the first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(kind: type[Family], params: Model, checkpoint: Path | None = None) -> Family:
    """From the hub's format, with safetensors only and no code from the checkpoint. Raises ModelError.

    checkpoint: see `medstudy.models.load`.
    """
    if checkpoint and (checkpoint / lora.CONFIG).is_file():
        return adapted(load(kind, params), checkpoint)
    source, options = source_of(params, checkpoint)
    with explained(source, **options):
        processor = _processor(source, **options)
        model = weights.load(source, getattr(torch, params.dtype), **options).to(default_device())
        weights.check_finite(source, model)
        family = _family(kind, model, processor, source, revision_of(source, model), params.coordinates)
        check(family, source)
        trial_question.ask(family, source)
    return family


def adapted(family: Family, folder: Path) -> Family:
    """The family with a folder's adapters merged into its weights, in place. Raises ModelError, see `lora.merged`."""
    model = lora.merged(family.model, folder, family.revision)
    return replace(family, model=model, revision=revision_of(str(folder), model))


def sketch(kind: type[Family], params: Model, device: torch.device | str = "meta") -> Family:
    """The model without its weights, from configuration and processor alone; no weight file is needed.

    On torch's meta device it takes no memory and computes nothing, but prompts, token ids, geometry, grids, shape and
    the sizes of parameters are those of the loaded model. On another device the weights are random. The attention
    kernel is the one that `load` would choose on this machine. For a checkpoint that is not on this machine and whose
    sizes are published (`medstudy.models.published_configs`), these are used and no hub is asked. Raises ModelError.
    """
    source, options = source_of(params)
    dtype, revision, published = getattr(torch, params.dtype), "no weights", published_configs.outline(params.id)
    try:
        with explained(source, weights=False, **options):
            options |= {"local_files_only": published is not None}
            processor = _processor(source, **options)
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    except ModelError:
        if published is None or Path(source).is_dir():
            raise
        (processor, config), revision = published, "published sizes"
    with explained(source, weights=False, **options):
        with torch.device(device):
            model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
        family = _family(kind, model, processor, source, revision, params.coordinates)
        if revision != "published sizes":
            check(family, source)
    return family


def check(family: Family, source: str) -> None:
    """Raises ModelError where the settings in a checkpoint's files cannot be followed; no weight is used."""
    trial_question.check(family, source, (prompts.SYSTEM, *prompts.user_text(trial_question.QUESTION).split("\n")))
    if family.images:
        image_processor.check(family, source)
    generation_config.check(family, source)
    family.check(source)


def _family(
    kind: type[Family], model: PreTrainedModel, processor: ProcessorMixin, source: str, revision: str,
    stated: str | None = None,
) -> Family:
    """The family around a model of transformers. Raises ModelError for a checkpoint of another family.

    stated: how the model writes coordinates, if the study says so.
    """
    kind.accept(model, processor, source)
    kernel = kind.kernel(model, default_device())
    if kind.shares_prefix:
        attention.install(model, kernel)
    kind.prepare(model)
    family = kind(model.eval(), processor, revision, kernel, coordinates.of_model(model.config.model_type, stated))
    if kind.turn_end and family.end in (None, processor.tokenizer.unk_token_id):
        raise ModelError(
            f"Family {kind.name} ends its answers with {kind.turn_end}, but the tokenizer of {source!r} has no such "
            "token. Use a checkpoint that was trained on its chat template."
        )
    return family


def source_of(params: Model, checkpoint: Path | None = None) -> tuple[str, dict[str, str]]:
    """Where a model comes from, and the hub's options for it."""
    folder = paths.BASE if params.id == "base" else paths.resolve(params.id)
    source = str(checkpoint or (folder if folder.is_dir() else params.id))
    return source, {} if Path(source).is_dir() or params.revision is None else {"revision": params.revision}


def _processor(source: str, **options: Any) -> ProcessorMixin:
    """A checkpoint's processor, with torchvision for images: some releases default to Pillow, whose pixels differ.

    A chat template that only tokenizer_config.json holds becomes the processor's too.
    """
    processor = AutoProcessor.from_pretrained(source, trust_remote_code=False, **options)
    images = getattr(processor, "image_processor", None)
    if images is not None and not hasattr(images, "rescale_and_normalize"):
        processor.image_processor = AutoImageProcessor.from_pretrained(source, backend="torchvision", **options)
    if getattr(processor, "chat_template", None) is None and hasattr(processor, "tokenizer"):
        processor.chat_template = processor.tokenizer.chat_template
    return processor


def revision_of(source: str, model: PreTrainedModel) -> str:
    """The hub's commit, or for a folder the hash of its weights."""
    if not Path(source).is_dir():
        return str(getattr(model.config, "_commit_hash", None) or "unknown")
    digest = hashlib.sha256()
    for file in sorted(Path(source).glob("*.safetensors")):
        digest.update(file.read_bytes())
    return "sha256:" + digest.hexdigest()[:16]


@contextmanager
def explained(source: str, weights: bool = True, **options: Any) -> Iterator[None]:
    """Check a folder's files first; turn whatever a library then raises about the checkpoint into ModelError.

    Files from the hub are checked once they are on this machine.
    """
    folder = Path(source)
    if folder.is_dir():
        checkpoint_files.check(folder, weights)
    try:
        yield
        if not folder.is_dir() and (local := _snapshot(source, **options)):
            checkpoint_files.check(local, weights=False)
    except MedstudyError:
        raise
    except Exception as error:  # of any library: tokenizers raises bare Exceptions
        if (local := folder if folder.is_dir() else _snapshot(source, **options)) is not None:
            checkpoint_files.check(local, weights=False, whole=True)
        why = " ".join(f"{type(error).__name__}: {error}".split())
        why = why if len(why) <= ERROR else why[:ERROR] + "…"
        raise ModelError(
            f'A model is a hub id, a folder or "base", but {source!r} cannot be loaded: {why}'
        ) from error


def _snapshot(source: str, revision: str | None = None, **_: Any) -> Path | None:
    """The folder of a hub id's files on this machine."""
    quiet = {f"_raise_exceptions_for_{name}": False for name in ("gated_repo", "missing_entries", "connection_errors")}
    try:
        config = cached_file(source, "config.json", revision=revision, local_files_only=True, **quiet)
    except (OSError, ValueError):  # not a hub id
        return None
    return Path(config).parent if config else None

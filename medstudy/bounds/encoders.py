"""Frozen encoders: an image as a set of tokens with places. To add one, write a class and name it in `REGISTRY`.

    eye = encoders.load(Model(id="facebook/dinov2-small", family="vision"), "bicubic", cache=None)
    view = Native(max_pixels=252**2).view(Size(picture.height, picture.width), eye.geometry)
    tokens = eye(picture, view)                   # Tokens(features [n, width], places [n, 2])

`Model.family` selects the encoder: "vision" is a plain vision encoder of transformers (`VisionEncoder`: DINOv2, ViT,
SigLIP, CLIP), "clip" the same of a contrastive one; any other name is a model family, of which the vision tower is read
(`FamilyTower`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from inspect import signature
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PretrainedConfig, PreTrainedModel

from medstudy import models, paths
from medstudy.bounds import places
from medstudy.data.encoded_image import Picture
from medstudy.engine import tensor_cache, views
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ModelError
from medstudy.models import contrastive, shades
from medstudy.models.loading import default_device
from medstudy.params import Model
from medstudy.resolution.sizes import Geometry, View
from medstudy.utils import code_hash, redact

VISION = "vision"  # the family of plain vision encoders
CODE = ("bounds/encoders.py", "models/contrastive.py", "models/shades.py")  # that makes their features


class Tokens(NamedTuple):
    """features: [n, width] float32. places: [n, 2] float32, centres of the tokens as shares of height and width."""

    features: torch.Tensor
    places: torch.Tensor


class Encoder(Protocol):
    """A frozen encoder: it never learns from the study's data."""

    @property
    def geometry(self) -> Geometry:
        """The sizes that it can be shown."""

    def __call__(self, image: Picture, view: View) -> Tokens:
        """One view of an image as tokens, in main memory."""


def load(model: Model, interpolation: str, cache: Path | None) -> Encoder:
    """The encoder of a model. cache: a folder for features; None: none are kept. Raises ModelError."""
    store = None if cache is None else TensorCache(cache)
    return REGISTRY.get(model.family, FamilyTower).load(model, interpolation, store)


@dataclass(frozen=True)
class FamilyTower:
    """The vision tower of a model family, before the mergers. Its cached features are those of training."""

    inputs: ImageInputs

    @classmethod
    def load(cls, model: Model, interpolation: str, cache: TensorCache | None) -> FamilyTower:
        """See `load` of the module."""
        family = models.load(model)
        if not family.shares_prefix:
            raise ModelError(
                f"A probe reads the features of a vision tower, but family {family.name} runs its tower inside the "
                "model. Choose another family, or set `bounds: null`."
            )
        return cls(ImageInputs(family, interpolation, features=cache))

    @property
    def geometry(self) -> Geometry:
        return self.inputs.family.geometry

    def __call__(self, image: Picture, view: View) -> Tokens:
        inputs = self.inputs
        if inputs.features is None:
            family = inputs.family
            patches = family.patches(views.render(image, view, inputs.interpolation))
            features = family.features(patches, family.grid(view.size).to(family.model.device)).cpu()
        else:
            features = inputs(image, view)
        return Tokens(features.float(), places.of(inputs.family, view.size))


@dataclass(frozen=True)
class VisionEncoder:
    """A vision encoder of transformers that takes images of any size in whole patches, by interpolated positions.

    shades: [3, 256] what the checkpoint's processor makes of each value of each channel.
    """

    model: PreTrainedModel
    shades: torch.Tensor
    interpolation: str
    cache: TensorCache | None = None

    @classmethod
    def load(cls, model: Model, interpolation: str, cache: TensorCache | None) -> VisionEncoder:
        """See `load` of the module. Raises ModelError for a checkpoint without an encoder of images in patches."""
        source, options = _source(model)
        with _explained(model.id):
            processor = AutoImageProcessor.from_pretrained(source, backend="torchvision", **options)
            whole = AutoModel.from_pretrained(
                source, dtype=getattr(torch, model.dtype), trust_remote_code=False, use_safetensors=True, **options
            )
        tower = getattr(whole, "vision_model", whole).eval().to(default_device())
        patch_size(tower.config, model.id)
        return cls(tower, shades.of(processor), interpolation, cache)

    @property
    def geometry(self) -> Geometry:
        """Sides are whole patches."""
        patch = patch_size(self.model.config)
        return Geometry(patch, min_pixels=patch**2)

    @cached_property
    def identity(self) -> str:
        """A hash of all that the features depend on besides the pixels."""
        digest = hashlib.sha256()
        for parameter in self.model.parameters():
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        versions = (metadata.version("transformers"), torch.__version__, code_hash.code(*CODE))
        kind = (str(self.model.dtype), self.model.config._attn_implementation, self.model.device.type)
        return tensor_cache.key(digest.hexdigest(), self.shades.tolist(), kind, versions)

    def __call__(self, image: Picture, view: View) -> Tokens:
        patch = self.geometry.factor
        rows, columns = (side // patch for side in view.size)
        if self.cache is None:
            features = self._features(image, view)
        else:
            name = tensor_cache.key(views.key(image, view, self.interpolation), self.identity)
            features = self.cache.get(name, lambda: self._features(image, view))
        # what comes before the patches (a class token, registers) belongs to no place
        return Tokens(features[len(features) - rows * columns :].float(), places.grid(rows, columns).reshape(-1, 2))

    @torch.no_grad()
    def _features(self, image: Picture, view: View) -> torch.Tensor:
        """[tokens, width] of the last layer."""
        values = shades.applied(views.render(image, view, self.interpolation), self.shades)[None]
        inputs, device = contrastive.tower_inputs(self.model.config, values), self.model.device
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        accepted = signature(self.model.forward).parameters
        taken = {name: value.to(device) if isinstance(value, torch.Tensor) else value
                 for name, value in inputs.items() if name in accepted}
        return self.model(**taken).last_hidden_state[0].cpu()


REGISTRY: dict[str, type[VisionEncoder]] = {VISION: VisionEncoder, "clip": VisionEncoder}


def outline(model: Model) -> PreTrainedModel:
    """A vision encoder without its weights, on torch's meta device. Raises ModelError."""
    source, options = _source(model)
    with _explained(model.id), torch.device("meta"):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
        return AutoModel.from_config(getattr(config, "vision_config", config))


def _source(model: Model) -> tuple[str, dict[str, str]]:
    """Where an encoder comes from, and the hub's options for it."""
    folder = paths.resolve(model.id)
    local = folder.is_dir()
    return str(folder if local else model.id), {} if local or model.revision is None else {"revision": model.revision}


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what a library raises about a checkpoint into ModelError."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            "A vision encoder is a hub id or a folder with config.json, preprocessor_config.json and safetensors, but "
            f"{redact.last(name)!r} does not load: {' '.join(str(error).split())[:300]}"
        ) from error


def patch_size(config: PretrainedConfig, source: str = "this checkpoint") -> int:
    """Pixels a side of a patch. Raises ModelError for a model that does not see square patches of one size."""
    patch = getattr(config, "patch_size", None)
    if type(patch) is not int:
        raise ModelError(
            f"A vision encoder sees square patches of one size (`patch_size`), but {source!r} has patch_size {patch!r}."
            " Use a vision transformer such as DINOv2, ViT or SigLIP."
        )
    return patch

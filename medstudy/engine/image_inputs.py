"""Image inputs of the model: resized uint8 pixels, or the features of a frozen vision tower, both cached on disk.

A frozen tower gives the same features of an image in every regime, seed and model of a study. So each image's features
are computed once, in a pass of its own (so that no other image can change a bit), and cached under a key of everything
they depend on.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata

import torch
from PIL import Image
from torch.utils.data import get_worker_info
from tqdm import tqdm
from transformers.image_utils import PILImageResampling

from medstudy.data.encoded_image import Picture
from medstudy.engine import tensor_cache, views
from medstudy.engine.compression import reduced
from medstudy.engine.family_protocol import Family
from medstudy.engine.row_layout import VisualTokens
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ModelError, RunError
from medstudy.params import Study
from medstudy.resolution.sizes import Reduction, View
from medstudy.utils import code_hash


def caches_features(study: Study, family: Family) -> bool:
    """Whether the study caches a frozen tower's features. Raises ModelError for a family that cannot."""
    keeps = study.training is not None and study.training.keeps_features
    if keeps and not family.shares_prefix:
        raise ModelError(
            f"Family {family.name} runs its tower for every question, but the study asks to cache a frozen tower's "
            "features. Set training.cache_features to false."
        )
    return keeps


@dataclass(frozen=True)
class ImageInputs:
    """Makes the model's image inputs. pixels, features: caches of resized images and of features; None: no cache."""

    family: Family
    interpolation: str
    pixels: TensorCache | None = None
    features: TensorCache | None = None

    @classmethod
    def of(cls, study: Study, family: Family) -> ImageInputs:
        """The image inputs of a study. Warns if the model's own processor resizes with another filter."""
        own = _filter_of(family) if family.images else None
        if own not in (None, study.interpolation):
            warnings.warn(
                f"The model's own processor resizes images by {own}, the study by {study.interpolation}: their pixels "
                "differ. Set `interpolation` in the params where it has that filter.", stacklevel=2)
        cache, keep = study.runs / ".cache", caches_features(study, family)
        pixels = None if keep else TensorCache(cache / "pixels")
        return cls(family, study.interpolation, pixels, TensorCache(cache / "features") if keep else None)

    def __call__(self, image: Image.Image | Picture, shown: View) -> torch.Tensor:
        """One view of an image: its features [patches, width] if they are cached, else uint8 [height, width, 3]."""
        if self.features is None:
            return views.cached(image, shown, self.interpolation, self.pixels)
        name = tensor_cache.key(views.key(image, shown, self.interpolation), self.tower)
        return self.features.get(name, lambda: self._features(image, shown))

    def visual_tokens(
        self, images: list[torch.Tensor], grids: torch.Tensor, reductions: tuple[Reduction, ...] = ()
    ) -> VisualTokens | None:
        """The visual tokens of a row's images, grids [images, 3]; None for a row without images.

        reductions: `PackedRow.reductions`.
        """
        family = self.family
        if not images:
            return None
        if images[0].dtype == torch.uint8:
            seen = family.look(images, grids)
        else:
            seen = family.merge(torch.cat([image.to(family.model.device) for image in images]), grids)
        return reduced(seen, reductions)

    def prepare(self, views: Iterable[tuple[Image.Image | Picture, View]], line: tqdm | None = None) -> None:
        """Compute the features of all (image, view) not cached yet: reader processes, started later, cannot.

        Also compute the tower's identity, before its weights are sharded between processes
        (`medstudy.training.distributed`).
        """
        if self.features is not None:
            self.tower  # noqa: B018 (computes the cached property)
        for image, view in views:
            if self.features is not None:
                self(image, view)
            if line is not None:
                line.update()

    @cached_property
    def tower(self) -> str:
        """The identity of what computes features: weights, their dtype, processor, kernel, versions of the code."""
        digest = hashlib.sha256()
        for parameter in self.family.tower:
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        model, kind = self.family.model, str(self.family.tower[0].dtype)
        settings = (*self.family.pixel_settings, kind, model.config.vision_config._attn_implementation)
        code = code_hash.code("models/**/*.py", "engine/image_inputs.py")
        versions = (metadata.version("transformers"), torch.__version__, code)
        return tensor_cache.key(digest.hexdigest(), settings, model.device.type, versions)

    def _features(self, image: Image.Image | Picture, shown: View) -> torch.Tensor:
        if get_worker_info() is not None and self.family.model.device.type != "cpu":
            raise RunError(
                "Features are computed before the processes that read ahead start, but those of an image have since "
                "disappeared from the study's .cache. Start the run again: it computes what is missing."
            )
        pixels = views.render(image, shown, self.interpolation)
        family = self.family
        return family.features(family.patches(pixels), family.grid(shown.size).to(family.model.device)).cpu()


def _filter_of(family: Family) -> str | None:
    """The filter with which the checkpoint's own processor resizes, such as "bicubic"; None if it names none."""
    kind = getattr(getattr(family.processor, "image_processor", None), "resample", None)
    return None if kind is None else PILImageResampling(int(kind)).name.lower()

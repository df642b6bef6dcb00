"""Images as the model is given them: resized uint8 pixels, or what a frozen vision tower makes of them, from the disk.

A frozen tower makes the same features of an image for every regime, seed and model of a study, so each is computed
once, alone (its bits then hang on nothing else), and kept under a key of all that it depends on.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata

import torch
from torch.utils.data import get_worker_info

from medstudy import code_hash, views
from medstudy.errors import ModelError, RunError
from medstudy.models.family import Seen
from medstudy.models.pixels import filter_name
from medstudy.params import Study
from medstudy.resolution import Shown
from medstudy.shelf import Shelf, key


def kept(study: Study, family) -> bool:
    """Whether a frozen tower's features are kept on the disk. Raises ModelError for a family that has none to keep."""
    if study.training.keeps_features and not family.shares_prefix:
        raise ModelError(
            f"Family {family.name} runs its tower for every question, but the study asks to keep a frozen tower's "
            "features. Set training.cache_features to false."
        )
    return study.training.keeps_features


@dataclass(frozen=True)
class Supply:
    """pixels, features: the shelves that resized images and features are kept on; None keeps none."""

    family: object
    interpolation: str
    pixels: Shelf | None = None
    features: Shelf | None = None

    @classmethod
    def of(cls, study: Study, family) -> Supply:
        """As a study asks for it. Warns where the model's own processor resizes by another filter."""
        own = filter_name(family) if family.images else None
        if own not in (None, study.interpolation):
            warnings.warn(
                f"The model's own processor resizes images by {own}, the study by {study.interpolation}: their pixels "
                "differ. Set `interpolation` in the params where it has that filter.", stacklevel=2)  # fmt: skip
        cache, keep = study.runs / ".cache", kept(study, family)
        pixels = None if keep else Shelf(cache / "pixels")
        return cls(family, study.interpolation, pixels, Shelf(cache / "features") if keep else None)

    def __call__(self, image, shown: Shown) -> torch.Tensor:
        """A view: features [patches, width] where they are kept, else uint8 [height, width, 3]."""
        if self.features is None:
            return views.cached(image, shown, self.interpolation, self.pixels)
        name = key(views.key(image, shown, self.interpolation), self.tower)
        return self.features.get(name, lambda: self._features(image, shown))

    def see(self, images: list[torch.Tensor], grids: torch.Tensor) -> Seen | None:
        """What the language model is given of a row's images; grids [images, 3]. None for a row without any."""
        family = self.family
        if not images:
            return None
        if images[0].dtype == torch.uint8:
            return family.look(images, grids)
        return family.merge(torch.cat([image.to(family.model.device) for image in images]), grids)

    def prepare(self, seen: Iterable[tuple], line=None) -> None:
        """Compute the features of all (image, view) that are missing, before processes that cannot are started.

        The tower's identity too, before its weights are shared between processes (`medstudy.sharding`).
        """
        if self.features is not None:
            self.tower  # noqa: B018 (kept from here on)
        for image, view in seen:
            if self.features is not None:
                self(image, view)
            if line is not None:
                line.update()

    @cached_property
    def tower(self) -> str:
        """The identity of what makes features: weights, their dtype, processor, kernel, and the code's versions."""
        digest = hashlib.sha256()
        for parameter in self.family.tower:
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        model, kind = self.family.model, str(self.family.tower[0].dtype)
        about = (*self.family.pixel_settings, kind, model.config.vision_config._attn_implementation)
        made_by = (metadata.version("transformers"), torch.__version__, code_hash.code("models/*.py", "supply.py"))
        return key(digest.hexdigest(), about, model.device.type, made_by)

    def _features(self, image, shown: Shown) -> torch.Tensor:
        if get_worker_info() is not None and self.family.model.device.type != "cpu":
            raise RunError(
                "Features are computed before processes that read ahead are started, but those of an image are gone "
                "from the study's .cache since. Start the run again: it computes what is missing."
            )
        pixels = views.render(image, shown, self.interpolation)
        family = self.family
        return family.features(family.patches(pixels), family.grid(shown.size).to(family.model.device)).cpu()

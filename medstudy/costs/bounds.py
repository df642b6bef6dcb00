"""What the jobs `bounds` and `probe` cost: each reader looks once at every view of an image; the fits take seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import torch

from medstudy import models
from medstudy.bounds.encoders import REGISTRY, outline, patch_size
from medstudy.bounds.ladder import rungs
from medstudy.costs import memory
from medstudy.data import splits
from medstudy.data.example import SPLITS, Example
from medstudy.data.reading_params import Bounds, Probe
from medstudy.engine import flops
from medstudy.params import Model, Study
from medstudy.resolution.policies import Mixed, Training
from medstudy.resolution.sizes import Geometry, Size, View

MB = 2**20
PIXEL_SECONDS = 4e-7  # measured: filters and pooling, for each pixel shown, on one core of a CPU
START_SECONDS = 5.0  # to load the model and to fit the readers
FLOAT_BYTES = 4
POOLED = 4 + 3 * (4 + 9)  # numbers that `medstudy.bounds.pooling` makes of one feature


def of_bounds(study: Study, family: Tower, data: dict[str, Sequence[Example]], rate: float) -> dict[str, float]:
    """A row's numbers: each rung shows all images to the tower and to the pixels' reader. rate: FLOP/s of the tower."""
    looks = _capped(data, study.bounded)
    views = [view for rung in rungs(study) for split in SPLITS for view in _views(rung, looks[split], family)]
    pixels = PIXEL_SECONDS * sum(view.size.pixels for view in views)
    return _numbers(family, views, max(map(len, looks.values()), default=0), rate, pixels)


def of_probe(study: Study, family: Tower, data: dict[str, Sequence[Example]], rate: float) -> dict[str, float]:
    """As `of_bounds`: each regime shows the images of train and val, each rung those of test, to the encoder alone."""
    looks = _capped(data, study.probe)
    shown = [view for regime in study.regimes for split in ("train", "val")
             for view in _views(regime, looks[split], family)]
    shown += [view for rung in rungs(study) for view in _views(rung, looks["test"], family)]
    return _numbers(family, shown, len(looks["train"]) * len(study.regimes), rate, 0.0)


class Tower(Protocol):
    """What is counted of a family, or of a plain vision encoder."""

    model: torch.nn.Module

    @property
    def geometry(self) -> Geometry: ...
    @property
    def shape(self) -> flops.ModelShape: ...
    @property
    def feature_width(self) -> int: ...
    def grid(self, size: Size) -> torch.Tensor: ...
    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class VisionSketch:
    """A plain vision encoder without its weights."""

    model: torch.nn.Module

    @property
    def geometry(self) -> Geometry:
        return Geometry(patch_size(self.model.config), min_pixels=patch_size(self.model.config) ** 2)

    @property
    def feature_width(self) -> int:
        return self.model.config.hidden_size

    @property
    def shape(self) -> flops.ModelShape:
        config, width = self.model.config, self.feature_width
        inner = getattr(config, "intermediate_size", None) or int(width * getattr(config, "mlp_ratio", 4))
        return flops.ModelShape(
            blocks=config.num_hidden_layers, block_weights=4 * width**2 + 2 * width * inner, width=width,
            patch_weights=3 * self.geometry.factor**2 * width, merge=1, merger_weights=0, layers=0, layer_weights=0,
            attention=0, keys=0, hidden=0, vocabulary=0,
        )

    def grid(self, size: Size) -> torch.Tensor:
        return torch.tensor([[1, *(side // self.geometry.factor for side in size)]])

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        return tuple(grids.prod(1).tolist())


def sketch(model: Model) -> Tower:
    """The encoder of a probe study without its weights. Raises ModelError."""
    return VisionSketch(outline(model)) if model.family in REGISTRY else models.sketch(model)


def _numbers(family: Tower, views: Sequence[View], kept: int, rate: float, more: float) -> dict[str, float]:
    """kept: images whose vectors are in memory at once; more: seconds without the tower."""
    counts = {size: family.patch_counts(family.grid(size)) for size in {view.size for view in views}}
    total = sum(flops.tower_flops(family.shape, count) for view in views for count in counts[view.size])
    vectors = 2 * kept * POOLED * family.feature_width * FLOAT_BYTES
    return {
        "images": len(views), "visual_tokens": sum(view.visual_tokens for view in views), "flops": total,
        "seconds": START_SECONDS + total / rate + more,
        "memory_mb": (memory.PROCESS + memory.weights(family.model) + vectors) / MB,
    }


def _capped(data: dict[str, Sequence[Example]], settings: Bounds | Probe) -> dict[str, list[Example]]:
    """The images that the job takes of each data set and split."""
    names = dict.fromkeys(example.dataset for examples in data.values() for example in examples)
    return {
        split: list(chain.from_iterable(
            splits.capped((each for each in data[split] if each.dataset == name), settings.images, settings.seed)
            for name in names
        ))
        for split in SPLITS
    }


def _views(policy: Training, examples: Iterable[Example], family: Tower) -> list[View]:
    """The views of a policy; of `mixed` all choices, as an upper bound of those drawn."""
    singles = policy.choices if isinstance(policy, Mixed) else policy.singles
    sizes = [Size(example.image.height, example.image.width) for example in examples]
    return [single.view(size, family.geometry) for single in singles for size in sizes]

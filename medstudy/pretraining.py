"""How the base checkpoint was made: a stand-in pre-trained at low resolution on the general procedural corpus.

Two stages: the vision tower alone (`medstudy.vision_pretraining`; optional), then the whole model on questions and
answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
import yaml
from pydantic import PositiveFloat, PositiveInt, ValidationError

from medstudy import models, paths, training, vision_pretraining
from medstudy.datasets import general
from medstudy.errors import ParamsError
from medstudy.models import standin
from medstudy.params import Model, Optimisation, _Params
from medstudy.resolution import Fixed, Size


class Vision(_Params):
    """The first stage, on the vision tower alone."""

    images: PositiveInt
    images_per_step: PositiveInt
    learning_rate: PositiveFloat


class Base(_Params):
    """params/base.yaml: sizes of the model, of the corpus, and how long to train."""

    name: Literal["base"] = "base"
    seed: int
    vocabulary: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    vision_width: PositiveInt
    vision_layers: PositiveInt
    images: PositiveInt
    val_images: PositiveInt
    side: PositiveInt  # images are shown at no more than side² pixels
    vision: Vision | None  # null: the tower starts untrained
    training: Optimisation


@dataclass(frozen=True)
class Corpus:
    """General images never seen twice: step k shows images k·n … (k+1)·n of the split."""

    family: object
    split: str
    images: int
    params: Base

    def __len__(self) -> int:
        return -(-self.images // self.params.training.images_per_step)

    def __getitem__(self, step: int) -> list[training.Micro]:
        size = self.params.training.images_per_step
        policy = Fixed(side=self.params.side)
        seen = []
        for index in range(step * size, min(self.images, (step + 1) * size)):
            example = general.example(self.params.seed, self.split, index)
            view = policy.shown(Size(example.image.height, example.image.width), self.family.geometry)
            seen.append((example, view))
        return training.micros(self.family, seen, "bicubic")


def load(path: str | Path) -> Base:
    """Read params/base.yaml. Raises ParamsError."""
    try:
        return Base.model_validate(yaml.safe_load(paths.resolve(path).read_text(encoding="utf-8")))
    except (OSError, ValidationError) as error:
        raise ParamsError(f"{path} is not a valid base: {error}") from None


def pretrain(base: Base, folder: Path, threads: int = 1, workers: int = 1) -> pd.DataFrame:
    """Build the stand-in, train it, and write it to `folder` in the hub's format; returns the log of the steps."""
    torch.set_num_threads(threads)
    scratch = paths.scratch(folder)
    start = scratch / "seeing"
    if not start.is_dir():
        _teach_to_see(base, start, scratch / "untrained", workers)
    family = models.load(Model(id=str(start)))
    corpus, validation = (
        Corpus(family, split, images, base) for split, images in (("train", base.images), ("val", base.val_images))
    )
    log = training.fit(family, corpus, validation, base.training, base.seed, scratch, "pretrain", workers)
    training.save(family, folder, {"regime": "base", "policy": Fixed(side=base.side).model_dump(), "seed": base.seed})
    log.to_csv(folder / "training.csv", index=False)
    return log


def _teach_to_see(base: Base, folder: Path, untrained: Path, workers: int) -> None:
    """Build the stand-in and, when asked, train its vision tower."""
    sizes = {name: getattr(base, name) for name in ("width", "layers", "vision_width", "vision_layers")}
    standin.build(general.vocabulary(), untrained, base.vocabulary, base.seed, **sizes)
    family, stage = models.load(Model(id=str(untrained))), base.vision
    if stage is None:
        training.save(family, folder, {"stage": "untrained"})
        return
    losses = vision_pretraining.pretrain(
        family, base.seed, stage.images, stage.images_per_step, stage.learning_rate, workers
    )
    training.save(family, folder, {"stage": "vision", "loss": sum(losses[-50:]) / len(losses[-50:])})

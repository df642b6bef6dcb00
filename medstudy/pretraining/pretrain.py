"""Pre-training of the base checkpoint: a tiny Qwen2-VL, trained at low resolution on a general procedural corpus.

Two stages: the vision tower alone (`medstudy.pretraining.vision`; optional), then the whole model on questions and
answers.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from accelerate import PartialState
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from medstudy import models, paths
from medstudy.datasets import shapes
from medstudy.engine import batches
from medstudy.engine.family_protocol import Family
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ParamsError
from medstudy.params import Model, Optimisation, _Params
from medstudy.pretraining import tiny_qwen2_vl
from medstudy.pretraining import vision as pretraining_vision
from medstudy.pretraining.vision import Scenes
from medstudy.resolution.policies import Fixed
from medstudy.resolution.sizes import Size
from medstudy.training import checkpoints, loop, train
from medstudy.training import launch as training_launch
from medstudy.utils import yaml_files


class Vision(_Params):
    """The first stage: the vision tower alone."""

    images: PositiveInt
    training: Optimisation


class Base(_Params):
    """params/base.yaml: the sizes of the model and of the corpus, and how long to train."""

    name: Literal["base"] = "base"
    seed: int
    vocabulary: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    vision_width: PositiveInt
    vision_layers: PositiveInt
    images: PositiveInt
    plain: NonNegativeInt  # how many images at the start are simple: one object at a time, no multiple choice
    val_images: PositiveInt
    side: PositiveInt  # images are shown at no more than side² pixels
    vision: Vision | None  # null: the tower starts untrained
    training: Optimisation


@dataclass(frozen=True)
class Corpus:
    """General images, each shown once: step k shows images k·n … (k+1)·n of the split, each process its share."""

    family: Family
    split: Literal["train", "val"]
    params: Base
    rank: int = 0
    ranks: int = 1

    @property
    def inputs(self) -> ImageInputs:
        return ImageInputs(self.family, "bicubic")

    @property
    def images(self) -> int:
        return self.params.images if self.split == "train" else self.params.val_images

    def __len__(self) -> int:
        return -(-self.images // self.params.training.images_per_step)

    def __getitem__(self, step: int) -> list[batches.MicroBatch]:
        size = self.params.training.images_per_step
        policy = Fixed(side=self.params.side)
        views = []
        for index in range(step * size, min(self.images, (step + 1) * size))[self.rank :: self.ranks]:
            plain = self.split == "train" and index < self.params.plain
            example = shapes.example(self.params.seed, self.split, index, plain)
            view = policy.view(Size(example.image.height, example.image.width), self.family.geometry)
            views.append((example, view))
        return batches.micro_batches(self.inputs, views, self.params.training.tokens_per_pass)


def load(path: str | Path) -> Base:
    """Read params/base.yaml. Raises ParamsError."""
    content = yaml_files.load(paths.resolve(path), path)
    try:
        return Base.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise ParamsError(f"{path} is not a valid base: {error}") from None


def launch(path: str | Path, folder: Path, processes: int) -> pd.DataFrame:
    """Run `pretrain` in `processes` processes by torchrun and return the log of the steps. Raises RunError."""
    training_launch.launch("medstudy.pretraining.pretrain", [path, folder], processes)
    return pd.read_csv(folder / "training.csv")


def pretrain(base: Base, folder: Path, workers: int = 1) -> None:
    """Build the model, train it, and write it to `folder` in the hub's format, with the log of the steps."""
    torch.set_num_threads(1)
    state, scratch = PartialState(cpu=not torch.cuda.is_available()), paths.scratch(folder)
    share = {"rank": state.process_index, "ranks": state.num_processes}
    start = scratch / "seeing"
    if not start.is_dir():
        _pretrain_vision(base, start, scratch / "untrained", workers, share)
    family = models.load(Model(id=str(start)))
    corpus, validation = (Corpus(family, split, base, **share) for split in ("train", "val"))
    loss = partial(train.loss_of, corpus.inputs)
    log = loop.fit(family.model, corpus, validation, base.training, base.seed, scratch, loss, "pretrain", workers)
    stamp = {"regime": "base", "policy": Fixed(side=base.side).model_dump(), "seed": base.seed}
    checkpoints.save(family, folder, stamp)
    if state.is_main_process:
        log.to_csv(folder / "training.csv", index=False)
    state.wait_for_everyone()


def _pretrain_vision(base: Base, folder: Path, untrained: Path, workers: int, share: dict[str, int]) -> None:
    """Build the untrained model and, if `base.vision` is set, train its vision tower."""
    state, stage = PartialState(), base.vision
    if state.is_main_process:
        sizes = {name: getattr(base, name) for name in ("width", "layers", "vision_width", "vision_layers")}
        tiny_qwen2_vl.build(shapes.vocabulary(), untrained, base.vocabulary, base.seed, **sizes)
    state.wait_for_everyone()
    family, stamp = models.load(Model(id=str(untrained))), {"stage": "untrained"}
    if stage is not None:
        torch.manual_seed(base.seed)
        scenes = Scenes(family, base.seed, stage.images, stage.training.images_per_step, **share)
        seer, scratch = pretraining_vision.Seer(family), folder.parent / "vision"
        loss = partial(pretraining_vision.loss_of, seer)
        log = loop.fit(seer, scenes, None, stage.training, base.seed, scratch, loss, "vision", workers)
        stamp = {"stage": "vision", "loss": float(log["loss"].tail(50).mean())}
    checkpoints.save(family, folder, stamp)


if __name__ == "__main__":
    pretrain(load(sys.argv[1]), Path(sys.argv[2]))

"""Pre-training of the base checkpoint: a tiny Qwen2-VL, trained at low resolution on a general procedural corpus.

Two stages: the vision tower alone (`medstudy.pretraining.vision`; optional), then the whole model on questions and
answers.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from medstudy import models, paths
from medstudy.data import formats
from medstudy.data.example import Example
from medstudy.datasets import shapes
from medstudy.datasets.shapes.scene import TOKEN
from medstudy.engine import attention, batches
from medstudy.engine.family_protocol import Family
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import VisualTokens
from medstudy.errors import ParamsError
from medstudy.models import family as model_family
from medstudy.params import Model, Optimisation, Strict
from medstudy.pretraining import grow, tiny_qwen2_vl
from medstudy.pretraining import vision as pretraining_vision
from medstudy.pretraining.tower import Tower
from medstudy.pretraining.vision import Scenes
from medstudy.resolution.policies import Fixed
from medstudy.resolution.sizes import Reduction, Size
from medstudy.training import checkpoints, loop, setup, train
from medstudy.training import launch as training_launch
from medstudy.utils import yaml_files

SMALL = 16  # visual tokens: a canvas that is called large has more

class Vision(Strict):
    """The first stage: the vision tower alone. tokens say how much a step is, `training.images_per_step` does not."""

    steps: PositiveInt
    canvases: PositiveInt  # sizes of images in a step
    tokens: PositiveInt  # visual tokens of the images of each size, about
    keep: NonNegativeFloat = 0.0  # weight of being held to the visual tokens of `start`
    training: Optimisation


class Base(Strict):
    """params/base.yaml: the sizes of the model and of the corpus, and how long to train."""

    name: Literal["base"] = "base"
    seed: int
    start: str | None = None  # a folder with a checkpoint to go on from, which may have fewer blocks; null: none
    vocabulary: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    vision_width: PositiveInt
    vision_layers: PositiveInt
    images: PositiveInt
    plain: NonNegativeInt  # how many images at the start are simple: one object at a time, no multiple choice
    large: float = Field(ge=0, le=1)  # share of the later images whose canvas has up to side² pixels
    val_images: PositiveInt
    side: PositiveInt  # images are shown at no more than side² pixels
    vision: Vision | None  # null: the tower starts untrained
    training: Optimisation  # of the whole model; freeze_vision_tower keeps what the first stage taught


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
            canvas = None if plain else self._canvas(index)
            example = _some_in_words(shapes.example(self.params.seed, self.split, index, plain, canvas), index)
            view = policy.view(Size(example.image.height, example.image.width), self.family.geometry)
            views.append((example, view))
        passes = batches.micro_batches(self.inputs, views, self.params.training.tokens_per_pass)
        return [replace(each, content=_patched(each.content)) for each in passes]

    def _canvas(self, index: int) -> tuple[int, int] | None:
        """Height and width of image `index` if it is a large one."""
        rng = np.random.default_rng([self.params.seed, index, self.split == "val"])
        if rng.random() >= self.params.large:
            return None
        rows, columns = pretraining_vision.canvas(rng, (SMALL, (self.params.side // TOKEN) ** 2))
        return rows * TOKEN, columns * TOKEN


def _some_in_words(example: Example, index: int) -> Example:
    """Every second choice lists its options in words and is answered by one, as in the studies; others by letter."""
    questions = list(example.questions)
    choices = [place for place, question in enumerate(questions) if question.kind == "choice"]
    for place in choices[index % 2 :: 2]:
        questions[place] = formats.in_words(questions[place])
    return replace(example, questions=tuple(questions))


def _patched(batch: batches.Batch) -> batches.Batch:
    """The same with all images as patches [n, 3, 14²] uint8, in one tensor."""
    return replace(batch, images=[torch.cat([pretraining_vision.patches(image[None]) for image in batch.images])])


@dataclass(frozen=True)
class Inputs:
    """What `train.loss_of` asks of a model's inputs, for a pass whose images are patches in one tensor."""

    family: Family
    tower: Tower

    def visual_tokens(
        self, images: list[torch.Tensor], grids: torch.Tensor, reductions: tuple[Reduction, ...] = ()
    ) -> VisualTokens:
        """In float32, also where the language model computes in bfloat16. reductions: none here."""
        device = self.family.model.device
        with torch.autocast(device.type, enabled=False):
            pixels = self.family.normalised(images[0].to(device))
            return VisualTokens(self.tower(pixels, grids.cpu())[1])


def loss_of(inputs: Inputs, batch: batches.Batch) -> torch.Tensor:
    """`train.loss_of`; on a GPU the language model computes in bfloat16, with weights in float32."""
    device = inputs.family.model.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        return train.loss_of(inputs, batch)


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


def pretrain(base: Base, folder: Path, workers: int | None = None) -> None:
    """Build the model, train it, and write it to `folder` in the hub's format, with the log of the steps.

    workers: processes that make the images; None: one on a CPU, all cores but one beside a GPU.
    """
    torch.set_num_threads(1)
    state, scratch = PartialState(cpu=not torch.cuda.is_available()), paths.scratch(folder)
    if workers is None:
        workers = max(1, len(os.sched_getaffinity(0)) - 1) if torch.cuda.is_available() else 1
    share = {"rank": state.process_index, "ranks": state.num_processes}
    start = scratch / "seeing"
    if not start.is_dir():
        pretrain_vision(base, start, scratch / "untrained", workers, share)
    family = answering(start, base)
    corpus, validation = (Corpus(family, split, base, **share) for split in ("train", "val"))
    loss = partial(loss_of, Inputs(family, Tower(family)))
    log = loop.fit(family.model, corpus, validation, base.training, base.seed, scratch, loss, "pretrain", workers)
    stamp = {"regime": "base", "policy": Fixed(side=base.side).model_dump(), "seed": base.seed}
    checkpoints.save(family, folder, stamp)
    if state.is_main_process:
        log.to_csv(folder / "training.csv", index=False)
    state.wait_for_everyone()


def answering(start: Path, base: Base) -> Family:
    """The model whose tower sees, ready for the second stage."""
    family = models.load(Model(id=str(start)))
    setup.prepare(family, base.training)
    if (device := family.model.device).type == "cuda":
        torch.set_float32_matmul_precision("high")
        heads = model_family.heads(family.model.config.text_config)
        attention.install(family.model, attention.choose(device, torch.bfloat16, heads))
    return family


def untrained(base: Base, folder: Path) -> Path:
    """Write the model to start with: `base.start` with the blocks it lacks, or random weights. Raises ParamsError."""
    if base.start is not None:
        return grow.grown(base.start, folder, base.vision_layers, base.seed)
    sizes = {name: getattr(base, name) for name in ("width", "layers", "vision_width", "vision_layers")}
    return tiny_qwen2_vl.build(shapes.vocabulary(), folder, base.vocabulary, base.seed, **sizes)


def pretrain_vision(base: Base, folder: Path, first: Path, workers: int, share: dict[str, int]) -> None:
    """Build the untrained model and, if `base.vision` is set, train its vision tower."""
    state, stage = PartialState(), base.vision
    if state.is_main_process:
        untrained(base, first)
    state.wait_for_everyone()
    family, stamp = models.load(Model(id=str(first))), {"stage": "untrained"}
    if stage is not None:
        torch.manual_seed(base.seed)
        torch.set_float32_matmul_precision("high" if torch.cuda.is_available() else "highest")
        scenes = Scenes(family, base.seed, stage.steps, stage.canvases, stage.tokens, **share)
        before = models.load(Model(id=base.start)) if base.start is not None and stage.keep else None
        seer, scratch = pretraining_vision.Seer(family, before, stage.keep), folder.parent / "vision"
        loss = partial(pretraining_vision.loss_of, seer)
        log = loop.fit(seer, scenes, None, stage.training, base.seed, scratch, loss, "vision", workers)
        stamp = {"stage": "vision", "loss": float(log["loss"].tail(50).mean())}
    checkpoints.save(family, folder, stamp)


if __name__ == "__main__":
    pretrain(load(sys.argv[1]), Path(sys.argv[2]))

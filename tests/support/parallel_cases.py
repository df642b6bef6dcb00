"""Trainings that one and several processes must give alike: run by torchrun, and by the test itself.

    torchrun --nproc_per_node=2 --module tests.support.parallel_cases MODEL FOLDER FAMILY=MODEL…
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from medstudy import models
from medstudy.engine.batches import FineTuning
from medstudy.engine.image_inputs import ImageInputs
from medstudy.params import Lora, Model, Optimisation
from medstudy.resolution.policies import Native
from medstudy.training import loop, setup
from medstudy.training import train as training_train
from medstudy.training.checkpoints import save
from tests.conftest import make_example

# Five images in steps of three: shares of two images and one, and in the last step of one image each.
SIZES = [(56, 84), (112, 112), (140, 196), (90, 60), (84, 84)]
OPTIONS = Optimisation(
    epochs=2, images_per_step=3, learning_rate=1e-3, validations=2, checkpoint_seconds=1, tokens_per_pass=200
)
CHANGES = {
    "full": {},
    "lora": {"lora": Lora(rank=2)},
    "frozen": {"freeze_vision_tower": True, "cache_features": False},
    "checkpointed": {"gradient_checkpointing": True},
    "bf16": {},
}


class Killed:
    """Steps that are interrupted before a given one."""

    def __init__(self, inner, at: int):
        self.inner, self.at = inner, at

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, step):
        if step == self.at:
            raise KeyboardInterrupt
        return self.inner[step]


def steps(family, options, rank=0, ranks=1, examples=None) -> FineTuning:
    """The steps of a training on the images of SIZES."""
    examples = examples or [make_example(index, size) for index, size in enumerate(SIZES)]
    return FineTuning(ImageInputs(family, "bicubic"), examples, Native(max_pixels=10**6), options, 0, rank, ranks)


def train(model: Model, kind: str, sharding: str, folder: Path, killed: int | None = None) -> None:
    """One case: the losses to FOLDER/log.parquet, the checkpoint, and the resume point of every step."""
    state = PartialState(cpu=True)
    place = {"rank": state.process_index, "ranks": state.num_processes}
    changes = {"sharding": sharding, "checkpoint_seconds": 0}
    if model.family != "qwen2_vl":  # images of the other families have more tokens
        changes["tokens_per_pass"] = 400
    options = OPTIONS.model_copy(update=CHANGES[kind] | changes)
    family = models.load(model.model_copy(update={"dtype": "bfloat16" if kind == "bf16" else "float32"}))
    torch.manual_seed(0)
    adapter = setup.prepare(family, options)
    examples = [make_example(index, size, "val") for index, size in enumerate(SIZES[:1])]
    shown, validation = steps(family, options, **place), steps(family, options, **place, examples=examples)
    seen = shown if killed is None else Killed(shown, killed)
    loss = partial(training_train.loss_of, shown.inputs)
    log = loop.fit(family.model, seen, validation, options, 0, folder / "scratch", loss)
    save(family, folder / "checkpoint", {"policy": shown.policy.model_dump()}, adapter)
    if state.is_main_process:
        log.to_parquet(folder / "log.parquet")
    state.wait_for_everyone()


CASES = {"ddp": ("full", "lora"), "fsdp": tuple(CHANGES)}


def main(model: str, folder: str, *others: str) -> None:
    torch.set_num_threads(1)
    for sharding, kinds in CASES.items():
        for kind in kinds:
            train(Model(id=model), kind, sharding, Path(folder, sharding, kind))
        try:
            train(Model(id=model), "full", sharding, Path(folder, sharding, "killed"), killed=2)
        except KeyboardInterrupt:
            train(Model(id=model), "full", sharding, Path(folder, sharding, "killed"))
        for name, place in (other.split("=") for other in others):
            train(Model(id=place, family=name), "full", sharding, Path(folder, sharding, name))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a training step sees: a pure function of (seed, step), packed into forward passes within a token budget.

Nothing hangs on a global random state or on what was seen before, so a run that was killed and resumed sees the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from medstudy import cost, packing, prefix
from medstudy.params import Optimisation
from medstudy.records import Example
from medstudy.resolution import Shown, Size, plan, scale, uniform
from medstudy.supply import Supply

Seen = tuple[Example, Shown]


@dataclass(frozen=True)
class Micro:
    """One forward pass: what the loss is computed from, and what it holds."""

    content: object
    questions: int
    images: int
    visual_tokens: int
    flops: float


@dataclass(frozen=True)
class Batch:
    """A packed row and its images, each as uint8 pixels [height, width, 3] or as a frozen tower's features."""

    packed: prefix.Packed
    images: list[torch.Tensor]


class Batches(Protocol):
    """The steps of a training, each computable alone: `batches[step]` is the list of its forward passes."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> list[Micro]: ...


@dataclass(frozen=True)
class FineTuning:
    """A regime over examples: an epoch is one pass in a seeded order."""

    supply: Supply
    examples: Sequence[Example]
    policy: object
    options: Optimisation
    seed: int

    def __len__(self) -> int:
        return self.options.epochs * self.steps_an_epoch

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.examples) / self.options.images_per_step)

    def __getitem__(self, step: int) -> list[Micro]:
        return micros(self.supply, self.seen(step), self.options.tokens_per_pass)

    def seen(self, step: int) -> list[Seen]:
        """The views that a step shows."""
        epoch, place = divmod(step, self.steps_an_epoch)
        size, geometry = self.options.images_per_step, self.supply.family.geometry
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
        chosen = [self.examples[index] for index in order[place * size : (place + 1) * size]]
        return [
            (one, shown)
            for one in chosen
            for shown in plan(
                self.policy, size_of(one), geometry, uniform(self.seed, epoch, one.image_id), step / len(self)
            )
        ]


def parts(supply: Supply, data: dict[str, Sequence[Example]], policy, options: Optimisation, seed: int):
    """The steps of a training over data["train"], and of one validation over data["val"]."""
    once = options.model_copy(update={"epochs": 1})
    return (
        FineTuning(supply, data["train"], policy, options, seed),
        FineTuning(supply, data["val"], policy, once, seed),
    )


def validation_steps(steps: int, validations: int) -> set[int]:
    """The steps after which a training validates: evenly spread, the last one always among them."""
    return set(np.linspace(steps - 1, 0, validations).round().astype(int).tolist())


def micros(supply: Supply, seen: Sequence[Seen], tokens_per_pass: int) -> list[Micro]:
    """Views of images with their questions -> forward passes. Raises ResolutionError naming one that fits in none."""
    rows = [prefix.row(supply.family, example.questions, shown, answered=True) for example, shown in seen]
    groups = packing.fill(list(map(len, rows)), tokens_per_pass, [name_of(*view) for view in seen])
    return [_micro(supply, [rows[index] for index in group], [seen[index] for index in group]) for group in groups]


def ledger(batches: FineTuning) -> pd.DataFrame:
    """What every training image is shown as, step by step: sizes, detail, tokens, scale; tokens with questions."""
    rows, lengths = [], {}
    for step in range(len(batches)):
        for example, shown in batches.seen(step):
            key = (example.dataset, example.image_id, shown.visual_tokens)
            if key not in lengths:
                lengths[key] = len(prefix.row(batches.supply.family, example.questions, shown, answered=True))
            rows.append(
                {
                    "dataset": example.dataset, "image_id": example.image_id,
                    "epoch": step // batches.steps_an_epoch, "policy": shown.label,
                    "height": example.image.height, "width": example.image.width,
                    "shown_height": shown.size.height, "shown_width": shown.size.width,
                    "detail_height": shown.detail.height, "detail_width": shown.detail.width,
                    "visual_tokens": shown.visual_tokens, "row_tokens": lengths[key],
                    "scale": scale(size_of(example), shown.size), "interpolation": batches.supply.interpolation,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def workload(rows: Sequence[prefix.Row], plan_: prefix.Plan) -> cost.Workload:
    """What a packed row asks of the model."""
    answers = sum(len(b) - a for row in rows for b, a in zip(row.branches, row.answers, strict=True))
    return cost.Workload(tuple(n for row in rows for n in row.patches), len(plan_), plan_.pairs, answers)


def size_of(example: Example) -> Size:
    return Size(example.image.height, example.image.width)


def view_of(example: Example, shown: Shown) -> tuple:
    """What tells one view of a study's images from all others."""
    return example.dataset, example.split, example.image_id, shown.size, shown.steps


def name_of(example: Example, shown: Shown) -> str:
    """How an error names a view."""
    return named(example.dataset, example.image_id, shown.size.height, shown.size.width)


def named(dataset: str, image_id: str, height: int, width: int) -> str:
    """The same from a row of the ledger."""
    return f"image {image_id} of {dataset} at {height}x{width}"


def _micro(supply: Supply, rows: list[prefix.Row], seen: list[Seen]) -> Micro:
    family = supply.family
    packed = prefix.pack(family, rows)
    images = [supply(example.image, shown) for example, shown in seen if shown.visual_tokens]
    work, trained = workload(rows, packed.plan), cost.Trained.of(family)
    return Micro(
        content=Batch(packed, images),
        questions=len(packed.last),
        images=len(rows),
        visual_tokens=sum(shown.visual_tokens for _, shown in seen),
        flops=cost.training_flops(family.shape, work, trained, tower=supply.features is None),
    )

"""The data of a training step: a pure function of (seed, step), packed into forward passes within a token budget.

No global random state and no earlier step has an effect, so a run that was killed and resumed trains on the same data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image

from medstudy.data import coordinates, places
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example
from medstudy.engine import bin_packing, crops, shared_prefix
from medstudy.engine import flops as engine_flops
from medstudy.engine.family_protocol import Family
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import PackedRow, Row, RowLayout
from medstudy.errors import ResolutionError
from medstudy.params import Optimisation
from medstudy.resolution.frames import Frame
from medstudy.resolution.plan import current, plan
from medstudy.resolution.policies import Add, Control, EqualFlops, Mixed, Single, Training
from medstudy.resolution.sizes import UNKNOWN, Geometry, Known, Size, View, scale
from medstudy.utils.seeding import uniform

ExampleView = tuple[Example, View]
Cost = Callable[[Example, View], float]


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass: the content that the loss is computed from, and how much it holds.

    A pass with no questions has no weight: a process makes one when others have more passes in this step.
    """

    content: object
    questions: int
    images: int
    visual_tokens: int
    flops: float


@dataclass(frozen=True)
class Batch:
    """A packed row and its images, each as uint8 pixels [height, width, 3] or as a frozen tower's features."""

    packed: PackedRow
    images: list[torch.Tensor]


class Batches(Protocol):
    """The steps of a training, each computable alone: `batches[step]` is the list of its forward passes."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> list[MicroBatch]: ...


@dataclass(frozen=True)
class FineTuning:
    """The steps of one regime over the examples: an epoch visits each example once, in a seeded order.

    rank, ranks: this process's number and the number of processes; each makes its share of every step.
    length: the number of steps, if not that of whole epochs.
    """

    inputs: ImageInputs
    examples: Sequence[Example]
    policy: Training
    options: Optimisation
    seed: int
    rank: int = 0
    ranks: int = 1
    length: int | None = None

    def __len__(self) -> int:
        return self.options.epochs * self.steps_an_epoch if self.length is None else self.length

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.examples) / self.options.images_per_step)

    def __getitem__(self, step: int) -> list[MicroBatch]:
        return micro_batches(self.inputs, self.views(step), self.options.tokens_per_pass, self.rank, self.ranks)

    def views(self, step: int) -> list[ExampleView]:
        """The views of a step, of all processes together."""
        epoch, place = divmod(step, self.steps_an_epoch)
        size, geometry = self.options.images_per_step, self.inputs.family.geometry
        order, draws = _order(self.seed, epoch, len(self.examples)), isinstance(self.policy, Mixed)
        views = []
        for index in order[place * size : (place + 1) * size].tolist():
            example = self.examples[index]
            draw = uniform(self.seed, epoch, example.image_id) if draws else 0.0
            policy = current(self.policy, draw, step / len(self))
            if (key := (index, id(policy))) not in self._planned:
                self._planned[key] = example_views(policy, example, geometry)
            views += self._planned[key]
        return views

    @cached_property
    def _planned(self) -> dict[tuple[int, int], list[ExampleView]]:
        """The views of an example under a single policy, keyed by the example's index and the policy's `id`."""
        return {}


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch's examples, [count]: the same for each of its steps."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def train_and_val(inputs: ImageInputs, data: dict[str, Sequence[Example]], policy: Training, options: Optimisation,
                  seed: int, rank: int = 0, ranks: int = 1, cost: Cost | None = None) -> tuple[FineTuning, FineTuning]:
    """The steps of a training over data["train"], and those of one validation over data["val"], of one process.

    cost: FLOPs of a view in a training, where they are known without its row; see `view_flops`.
    """
    once = options.model_copy(update={"epochs": 1})
    training = FineTuning(inputs, data["train"], policy, options, seed, rank, ranks)
    if isinstance(policy, EqualFlops):
        training = replace(training, length=equal_steps(training, policy, cost or partial(view_flops, inputs)))
    return training, FineTuning(inputs, data["val"], policy, once, seed, rank, ranks)


def equal_steps(training: FineTuning, policy: EqualFlops, cost: Cost) -> int:
    """After how many steps a training at `policy.low` has taken the FLOPs of one at `policy.native`, to the nearest.

    A row's FLOPs do not depend on the rows that it is packed with, so those of a training are the sum over its views.
    """
    if not training.examples:
        return 0
    geometry, epochs, size = training.inputs.family.geometry, training.options.epochs, training.options.images_per_step
    native, low = (
        np.array([sum(cost(*view) for view in example_views(shown, example, geometry))
                  for example in training.examples])
        for shown in (policy.native, policy.low)
    )
    # whole epochs first, then the steps of one more, in its own order
    whole, rest = divmod(epochs * native.sum(), low.sum())
    order = _order(training.seed, int(whole), len(low))
    ends = np.cumsum([0.0, *np.add.reduceat(low[order], range(0, len(low), size))])
    return max(1, int(whole) * training.steps_an_epoch + int(np.abs(ends - rest).argmin()))


def validation_steps(steps: int, validations: int) -> set[int]:
    """The steps after which a training validates: evenly spread, always including the last."""
    return set(np.linspace(steps - 1, 0, validations).round().astype(int).tolist())


def micro_batches(inputs: ImageInputs, views: Sequence[ExampleView], tokens_per_pass: int, rank: int = 0,
                  ranks: int = 1) -> list[MicroBatch]:
    """Views of images with their questions -> the forward passes of one process; each process gets the same number.

    If others have more passes, this process repeats the shortest view with no weight, because processes that shard the
    weights must gather them together. Raises ResolutionError naming a view that fits in no pass.
    """
    family = inputs.family
    rows = [answered_row(family, example, view) for example, view in views]
    lengths = list(map(len, rows))
    # Several processes get equal shares of the FLOPs; each packs its share into passes.
    costs = [training_flops(inputs, [row]) for row in rows] if ranks > 1 else None
    groups = passes(lengths, tokens_per_pass, [view_name(*view) for view in views], ranks, costs)
    own = [_micro(inputs, [rows[index] for index in group], [views[index] for index in group])
           for group in groups[rank]]
    if missing := max(map(len, groups)) - len(own):
        shortest = lengths.index(min(lengths))
        idle = _micro(inputs, [rows[shortest]], [views[shortest]])
        own += [replace(idle, questions=0, images=0, visual_tokens=0, flops=0.0)] * missing
    return own


def passes(lengths: Sequence[int], tokens_per_pass: int, names: Sequence[str], ranks: int = 1,
           costs: Sequence[float] | None = None) -> list[list[list[int]]]:
    """For each process the groups of `lengths` that share a pass, by index; see `bin_packing`.

    costs: FLOPs of each view, divided about equally among the processes; None: the lengths.
    """
    bin_packing.check(lengths, tokens_per_pass, names)
    groups_of_each = []
    for share in bin_packing.shares(lengths if costs is None else costs, ranks):
        groups = bin_packing.fill([lengths[i] for i in share], tokens_per_pass, [names[i] for i in share])
        groups_of_each.append([[share[place] for place in group] for group in groups])
    return groups_of_each


def ledger(batches: FineTuning) -> pd.DataFrame:
    """The realised size of every image, step by step: sizes, detail, scale, visual tokens, and the tokens of its row.

    Images of a context have rows of their own, named after the example that follows them.
    """
    rows, lengths = [], {}
    for step in range(len(batches)):
        for example, shown in batches.views(step):
            key = (example.dataset, example.image_id, shown)
            if key not in lengths:
                lengths[key] = len(answered_row(batches.inputs.family, example, shown))
            rows += [
                {
                    "dataset": example.dataset, "image_id": name,
                    "epoch": step // batches.steps_an_epoch, "policy": view.label,
                    "height": image.height, "width": image.width,
                    "shown_height": view.size.height, "shown_width": view.size.width,
                    "detail_height": view.detail.height, "detail_width": view.detail.width,
                    "visual_tokens": view.visual_tokens, "row_tokens": lengths[key],
                    "scale": scale(view.native(Size(image.height, image.width)), view.size),
                    "interpolation": batches.inputs.interpolation,
                }
                for name, image, view in shown_images(example, shown)
            ]
    return pd.DataFrame(rows)


def plan_views(policy: Training | Control, example: Example, geometry: Geometry, draw: float = 0.0,
            progress: float = 0.0) -> tuple[View, ...]:
    """`plan` of an example's image; each view carries those of its context, by the same policy and draw.

    Of an example whose questions have several boxes, these are the views of the first; see `example_views`.
    """
    policy = current(policy, draw, progress)
    return _planned(policy, sizes_of(example), crops.known(policy, example), geometry)


def example_views(policy: Training | Control, example: Example, geometry: Geometry) -> list[ExampleView]:
    """Each view of an example with the questions that it is shown for."""
    return [(part, shown) for part in crops.parts(policy, example) for shown in plan_views(policy, part, geometry)]


@lru_cache(maxsize=2**16)
def _planned(
    policy: Single | Add | Control, sizes: tuple[Size, ...], known: Known, geometry: Geometry
) -> tuple[View, ...]:
    """The views of images of these sizes, the example's own last. Cached: equal sizes have equal views.

    known: of the example's own image; nothing is known of those of its context.
    """
    *context, own = (plan(policy, size, geometry, known=known if place == len(sizes) - 1 else UNKNOWN)
                     for place, size in enumerate(sizes))
    if not context:
        return own
    return tuple(replace(view, context=tuple(before)) for view, *before in zip(own, *context, strict=True))


def shown_images(example: Example, shown: View) -> list[tuple[str, Image.Image | Picture, View]]:
    """The images of a view and its context in order, each as (name, image, its own view); none for a blind view.

    The crops of an image follow it, as image_id#1 and so on.
    """
    if not shown.visual_tokens:
        return []
    names = [*(f"{example.image_id}+{place}" for place in range(len(example.context))), example.image_id]
    return [(f"{name}#{number}" if number else name, image, part)
            for name, image, view in zip(names, example.images, (*shown.context, shown), strict=True)
            for number, part in enumerate((view, *view.crops))]


def row_work(rows: Sequence[Row], layout: RowLayout) -> engine_flops.RowWork:
    """The amount of work in a packed row."""
    answers = sum(len(b) - a for row in rows for b, a in zip(row.branches, row.answers, strict=True))
    return engine_flops.RowWork(tuple(n for row in rows for n in row.patches), len(layout), layout.pairs, answers)


def as_asked(convention: str, example: Example, shown: View) -> Example:
    """An example with its questions as a model is asked them about this view (`medstudy.data.coordinates`).

    convention: how the model writes points and boxes. Raises ResolutionError for a point or box in a view of a part.
    """
    if (shown.crop or shown.crops) and any(question.kind in places.KINDS for question in example.questions):
        raise ResolutionError(
            f"Points and boxes are places in the whole image, but policy {shown.label} shows crops of "
            f"{example.image_id}. Leave the policy out, or those questions."
        )
    frame = Frame.of(shown, size_of(example))
    questions = tuple(coordinates.asked(question, convention, frame) for question in example.questions)
    return example if questions == example.questions else replace(example, questions=questions)


def answered_row(family: Family, example: Example, shown: View) -> Row:
    """The row of a view with its questions and their answers, as in training."""
    questions = as_asked(family.coordinates, example, shown).questions
    return shared_prefix.row(family, questions, shown, True, example.context)


def view_flops(inputs: ImageInputs, example: Example, shown: View) -> float:
    """FLOPs of a forward and backward pass over one view with its questions."""
    return training_flops(inputs, [answered_row(inputs.family, example, shown)])


def training_flops(inputs: ImageInputs, rows: Sequence[Row]) -> float:
    """FLOPs of a forward and backward pass over rows that are packed together."""
    work = row_work(rows, shared_prefix.layout_of(inputs.family, rows))
    trained = engine_flops.TrainedParts.of(inputs.family)
    return engine_flops.training_flops(inputs.family.shape, work, trained, tower=inputs.features is None)


def size_of(example: Example) -> Size:
    return Size(example.image.height, example.image.width)


def sizes_of(example: Example) -> tuple[Size, ...]:
    """Sizes of all images of the prompt, the example's own last."""
    if not example.context:
        return (size_of(example),)
    return tuple(Size(image.height, image.width) for image in example.images)


def keyed_views(example: Example, shown: View) -> dict[tuple, tuple[Image.Image | Picture, View]]:
    """The images of a view and its context as (image, view), under keys that are unique within a study."""
    return {
        (example.dataset, example.split, name, view.size, view.steps, view.crop): (image, view)
        for name, image, view in shown_images(example, shown)
    }


def view_name(example: Example, shown: View) -> str:
    """The name of a view in error messages."""
    return view_label(example.dataset, example.image_id, shown.size.height, shown.size.width)


def view_label(dataset: str, image_id: str, height: int, width: int) -> str:
    """The name of a view from a row of the ledger."""
    return f"image {image_id} of {dataset} at {height}x{width}"


def _micro(inputs: ImageInputs, rows: list[Row], views: list[ExampleView]) -> MicroBatch:
    packed = shared_prefix.pack(inputs.family, rows)
    images = [inputs(image, view) for example, whole in views for _, image, view in shown_images(example, whole)]
    return MicroBatch(
        content=Batch(packed, images),
        questions=len(packed.last),
        images=len(rows),
        visual_tokens=sum(view.all_tokens for _, view in views),
        flops=training_flops(inputs, rows),
    )

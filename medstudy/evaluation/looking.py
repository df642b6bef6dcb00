"""Where a model looks for an answer: the box of `zoom` with `box: attention`, from a first pass over the overview.

For each question, the attention of the last place of its prompt, which predicts the first token of the answer, to each
visual token of the overview: softmax weights, averaged over heads and over the second half of the language model's
layers. They are divided by those of a prompt that asks for a general description, so that places that are always
attended to do not count (Zhang et al. 2025, "MLLMs Know Where to Look", https://arxiv.org/abs/2502.17422, there with
one layer of each model). The quotients are averaged over 3 x 3 tokens, fewer at the border. The box is the token with
the largest mean, the first in reading order of equal ones; `medstudy.resolution.zoom` makes the window around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.functional import avg_pool2d

from medstudy.data.example import Example, Question
from medstudy.engine import attention_maps, shared_prefix
from medstudy.engine.batches import shown_images, size_of
from medstudy.engine.image_inputs import ImageInputs
from medstudy.resolution.sizes import Box, Size, TokenGrid, View
from medstudy.resolution.zoom import Zoom

GENERAL = Question("", "Write a general description of the image.", "", "open", "")


@torch.inference_mode()
def boxed(inputs: ImageInputs, examples: Sequence[Example], policy: Zoom) -> list[Example]:
    """The examples with the box of each question replaced by the place where the model looks for its answer."""
    return [_boxed(inputs, example, policy) for example in examples]


def _boxed(inputs: ImageInputs, example: Example, policy: Zoom) -> Example:
    geometry, size = inputs.family.geometry, size_of(example)
    contexts = (Size(shot.image.height, shot.image.width) for shot in example.context)
    view = replace(policy.overview(size, geometry), context=tuple(policy.view(each, geometry) for each in contexts))
    grid = geometry.token_grid(view.size)
    general, *maps = looks(inputs, example, view, (GENERAL, *example.questions))[:, -grid.tokens :]
    boxes = (place(own / general, grid, size) for own in maps)
    questions = (replace(question, box=box) for question, box in zip(example.questions, boxes, strict=True))
    return replace(example, questions=tuple(questions))


def looks(inputs: ImageInputs, example: Example, view: View, questions: Sequence[Question]) -> torch.Tensor:
    """[questions, visual tokens] attention from the end of each question's prompt to the tokens of all images."""
    family = inputs.family
    row = shared_prefix.row(family, tuple(questions), view, False, example.context)
    packed = shared_prefix.pack(family, [row]).to(family.model.device)
    seen = inputs.visual_tokens([inputs(image, part) for _, image, part in shown_images(example, view)], packed.grids)
    with attention_maps.recorded(packed, family.image_token) as maps:
        family.hidden(packed, seen)
    return maps.mean()


def place(weights: torch.Tensor, grid: TokenGrid, image: Size) -> Box:
    """The token of a grid [tokens] whose neighbourhood has the largest mean, as a box of the image."""
    plane = weights.view(1, 1, grid.rows, grid.columns)
    best = int(avg_pool2d(plane, 3, 1, padding=1, count_include_pad=False).argmax())
    row, column = divmod(best, grid.columns)
    top, bottom = (image.height * edge // grid.rows for edge in (row, row + 1))
    left, right = (image.width * edge // grid.columns for edge in (column, column + 1))
    return Box(top, left, max(1, bottom - top), max(1, right - left))

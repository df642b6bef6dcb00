"""Passes of an evaluation: the questions of an image that share a prefix, and the options whose likelihood is
scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from medstudy.data import formats
from medstudy.data.example import Example, Question
from medstudy.engine import bin_packing, shared_prefix
from medstudy.engine.batches import shown_images, view_name
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import PackedRow, Row
from medstudy.params import Decoding
from medstudy.resolution.sizes import View


@dataclass(frozen=True)
class Passes:
    """Forward passes over images with their questions and, if the study asks, their options; each computable alone."""

    inputs: ImageInputs
    examples: Sequence[Example]
    sources: Sequence[Example]  # the examples whose images are shown
    shown: Sequence[View]
    options: Decoding

    @cached_property
    def groups(self) -> list[list[int]]:
        """The images of each pass, by index. Raises ResolutionError naming an image that fits in no pass."""
        lengths = [len(questions) + (len(options) if options else 0) for questions, options in self.rows]
        labels = [view_name(source, view) for source, view in zip(self.sources, self.shown, strict=True)]
        return bin_packing.fill(lengths, self.options.tokens_per_pass, labels)

    @cached_property
    def rows(self) -> list[tuple[Row, Row | None]]:
        """`row` of every image."""
        return [self.row(index) for index in range(len(self.examples))]

    def row(self, index: int) -> tuple[Row, Row | None]:
        """An image's questions up to the start of the answer, and their options as answers."""
        family, example, view = self.inputs.family, self.examples[index], self.shown[index]
        questions = shared_prefix.row(family, example.questions, view, False, example.context)
        options = options_of(example.questions) if self.options.option_likelihoods else ()
        return questions, shared_prefix.row(family, options, view, True, example.context) if options else None

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> tuple[list[int], PackedRow, PackedRow | None, list[torch.Tensor]]:
        """The images of a pass, their packed questions, their packed options, and their pixels or features."""
        family, group = self.inputs.family, self.groups[number]
        questions, options = zip(*(self.rows[index] for index in group), strict=True)
        packed_options = None
        if any(options):  # an image without options is a prefix without branches, so that both rows hold all images
            filled = [row or _without(other) for row, other in zip(options, questions, strict=True)]
            packed_options = shared_prefix.pack(family, filled)
        views = [view for index in group for view in shown_images(self.sources[index], self.shown[index])]
        images = [self.inputs(image, view) for _, image, view in views]
        return group, shared_prefix.pack(family, questions), packed_options, images


def options_of(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Each option of each question that has options, as a question with its letter, or its text, as the answer."""
    return tuple(replace(question, answer=answer) for question in questions for answer in formats.candidates(question))


def _without(row: Row) -> Row:
    """A row's prefix, without branches."""
    return replace(row, branches=[], answers=[])

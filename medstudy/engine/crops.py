"""Examples under a policy that crops by what is known of them: one example for each box of its questions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from medstudy.data.example import Example, Question
from medstudy.errors import ResolutionError
from medstudy.resolution.policies import Control, Training
from medstudy.resolution.sizes import Box, Known


def parts(policy: Training | Control, example: Example) -> list[Example]:
    """The example, or where the policy shows a crop of each question's box, an example for each box, in order.

    Questions of one box share one row; the overview is encoded again for each.
    """
    if "box" not in policy.reads or len({question.box for question in example.questions}) == 1:
        return [example]
    groups: dict[object, list[Question]] = {}
    for question in example.questions:
        groups.setdefault(question.box, []).append(question)
    return [replace(example, questions=tuple(questions)) for questions in groups.values()]


def known(policy: Training | Control, example: Example) -> Known:
    """What the policy reads of an example whose questions have one box (`parts`): of others, the first box."""
    return Known(
        next((question.box for question in example.questions if question.box), None) if "box" in policy.reads else None,
        example.um_per_px if "um_per_px" in policy.reads else None,
    )


def assumed(policy: Training | Control, examples: Sequence[Example]) -> Sequence[Example]:
    """The examples as an estimate counts them: if the model itself finds the boxes, each question has another one."""
    if policy.trains:
        return examples
    return [replace(example, questions=tuple(
        replace(question, box=Box(example.image.height // 2, min(number, example.image.width - 1), 1, 1))
        for number, question in enumerate(example.questions))) for example in examples]


def check(policy: Training | Control, examples: Sequence[Example]) -> None:
    """Raise ResolutionError if a policy reads boxes and no question has one; warn of questions without one."""
    for single in policy.singles:
        if "box" not in single.reads or not single.trains:  # the boxes of others are found by the model
            continue
        questions = [question for example in examples for question in example.questions]
        missing = sum(question.box is None for question in questions)
        if questions and missing == len(questions):
            raise ResolutionError(
                f"{single.label} crops around each question's box, but none of {len(questions)} questions has one. "
                "Name the column with `columns: {box: NAME}`, set `boxes: true` for the phantom, or drop the policy."
            )
        if missing:
            warnings.warn(
                f"{single.label}: {missing} of {len(questions)} questions have no box. A zoom shows them the whole "
                "image in the same budget, a field its middle; their rows say so in crop_source.", stacklevel=2)

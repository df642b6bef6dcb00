"""The box of `zoom` with `box: own`: the model is asked for it in a first turn, and then the question in a second.

The first turn shows the overview alone and asks `ASK` for each question, in the form in which the model writes boxes
(`medstudy.data.coordinates`; a model whose form is not known is an error). Its answer is greedy. The first box that can
be read in it counts, cut to the image. If none can be read, or the model says that there is none, or it lies outside of
the image, the question is shown the whole image in the whole budget, and its rows have crop_source none. Rows keep what
the model said as `crop_text`. The second turn is a prompt of its own, without the first.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from medstudy.data import final_answer, known
from medstudy.data.coordinates import CONVENTIONS
from medstudy.data.example import Example, Question
from medstudy.engine.batches import as_asked, size_of
from medstudy.evaluation.answerer import Answerer, Asked, coordinates_of
from medstudy.models.prompts import user_text
from medstudy.params import Decoding
from medstudy.resolution.frames import Frame
from medstudy.resolution.sizes import Box, Size, View
from medstudy.resolution.zoom import Zoom

ASK = "Which part of the image must one look at to answer this question? {}"
Said = dict[tuple[str, str, str], str]  # by data set, image and question


def boxed(
    model: Answerer, examples: Sequence[Example], policy: Zoom, options: Decoding, workers: int = 0
) -> tuple[list[Example], Said]:
    """The examples with the model's own boxes, None where it gives none; and what it said. Raises ModelError."""
    first = [replace(example, questions=tuple(map(_asked, example.questions))) for example in examples]
    shown = [_overview(policy, example, model) for example in examples]
    forms = [as_asked(coordinates_of(model), example, view) for example, view in zip(first, shown, strict=True)]
    plain = options.model_copy(update={"author": None, "option_likelihoods": False})
    found, said = list(examples), Said()
    for index, given in model.answers(Asked(forms, examples, shown, policy, plain, first, workers=workers)):
        example, frame = examples[index], Frame.of(shown[index], size_of(examples[index]))
        boxes = [read(text or "", coordinates_of(model), frame) for text in given.greedy]
        questions = zip(example.questions, boxes, given.greedy, strict=True)
        said |= {(example.dataset, example.image_id, question.id): text or "" for question, _, text in questions}
        questions = (replace(question, box=box) for question, box in zip(example.questions, boxes, strict=True))
        found[index] = replace(example, questions=tuple(questions))
    missing = sum(question.box is None for example in found for question in example.questions)
    if missing:
        warnings.warn(
            f"{policy.label}: for {missing} of {len(said)} questions the model gave no box that can be read. They are "
            "shown the whole image in the same budget; their rows have crop_source none.", stacklevel=2)
    return found, said


def read(text: str, convention: str, frame: Frame) -> Box | None:
    """The first box in an answer, in native pixels; None if there is none, or if it is empty or outside the image."""
    boxes = CONVENTIONS[convention].read("box", final_answer.final(text).text, frame)
    if not boxes:
        return None
    x0, y0, x1, y1 = boxes[0]
    height, width = frame.native
    inside = max(x0, 0) < min(x1, width) and max(y0, 0) < min(y1, height)
    return known.inside((x0, y0, x1, y1), height, width) if inside else None


def _asked(question: Question) -> Question:
    return Question(question.id, ASK.format(user_text(question)), "[]", "box", question.task)


def _overview(policy: Zoom, example: Example, model: Answerer) -> View:
    contexts = (Size(shot.image.height, shot.image.width) for shot in example.context)
    view = policy.overview(size_of(example), model.geometry)
    return replace(view, context=tuple(policy.view(each, model.geometry) for each in contexts))

"""From images to answers: readers are fitted on the train split and answer the test questions at every rung.

A reader is an eye and a linear readout. Eyes: `tower`, a frozen encoder, and `pixels`, fixed filters without any
pre-training. Both are pooled (`medstudy.bounds.pooling`) and read in the same way (`medstudy.bounds.ridge`), so they
differ in nothing but the eye. A third "reader", `guess`, gives the most frequent training answer that the question
allows, without an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from medstudy.bounds import pixels, pooling, ridge
from medstudy.bounds.encoders import Encoder
from medstudy.bounds.questions import Asked, Unit
from medstudy.bounds.results import GUESS, PIXELS, TOWER
from medstudy.data.example import Example
from medstudy.engine import views
from medstudy.resolution.plan import current
from medstudy.resolution.policies import Mixed, Single, Training
from medstudy.resolution.sizes import Geometry, Size, View
from medstudy.scoring.score import levels
from medstudy.utils.seeding import uniform

COLUMNS = [
    "dataset", "task", "kind", "split", "image_id", "group", "question_id", "reader", "seed", "control", "detail_px",
    "answer", "given", "score", "chance", "regime", "inference", "budget_pixels", "shown_height", "shown_width",
    "visual_tokens",
]
Vectors = list[np.ndarray]  # one vector for each block of `pooling.BLOCKS`


@dataclass(frozen=True)
class Eye:
    """What a reader sees of a view of an image."""

    name: str
    see: Callable[[Example, View], Vectors]


def of_encoder(encoder: Encoder) -> Eye:
    """The eye of a frozen encoder."""
    return Eye(TOWER, lambda example, view: _numbers(pooling.of_tokens(*encoder(example.image, view))))


def of_pixels(interpolation: str) -> Eye:
    """An eye on the pixels as they are shown, without any pre-training."""

    def see(example: Example, view: View) -> Vectors:
        return _numbers(pixels.describe(views.render(example.image, view, interpolation)))

    return Eye(PIXELS, see)


def _numbers(blocks: Iterable[torch.Tensor]) -> Vectors:
    return [block.float().numpy() for block in blocks]


def train_views(policy: Training, example: Example, geometry: Geometry, draws: int = 1, seed: int = 0) -> list[View]:
    """The different views of a training image: `draws` draws under `mixed`, else one under each single policy."""
    size = Size(example.image.height, example.image.width)
    singles: Iterable[Single] = policy.singles
    if isinstance(policy, Mixed):
        keys = ((seed, example.dataset, example.image_id, number) for number in range(draws))
        singles = (current(policy, draw=uniform("probe", *key)) for key in keys)
    return list(dict.fromkeys(single.view(size, geometry) for single in singles))


@dataclass(frozen=True)
class Fitted:
    """A unit's reader: scaling and readout."""

    scaling: ridge.Scaling
    readout: ridge.Readout

    def choose(self, seen: Vectors, possible: Sequence[str]) -> str:
        """The possible answer with the highest score; one that training lacks is never chosen."""
        scores = self.readout.scores(self.scaling([block[None] for block in seen]))[0]
        return max((score, name) for name, score in zip(self.readout.classes, scores, strict=True)
                   if name in possible or not set(possible) & set(self.readout.classes))[1]


def fit(
    eye: Eye, units: Sequence[Unit], shown: Callable[[Example], Sequence[View]], penalties: Sequence[float],
    tick: Callable[[], object] = lambda: None,
) -> list[Fitted]:
    """A reader for each unit, fitted on the views `shown` of its train images, its penalty chosen on those of val."""
    seen: dict[tuple[str, str, str], list[Vectors]] = {}
    for split in ("train", "val"):
        for example in _examples(units, split):
            seen[_key(example)] = [eye.see(example, view) for view in shown(example)]
            tick()
    return [_fit(unit, seen, penalties) for unit in units]


def _fit(unit: Unit, seen: dict[tuple, list[Vectors]], penalties: Sequence[float]) -> Fitted:
    blocks, answers = {}, {}
    for split in ("train", "val"):
        rows = [(vectors, each.answer) for each in unit.asked[split] for vectors in seen[_key(each.example)]]
        answers[split] = np.array([answer for _, answer in rows], dtype=object)
        blocks[split] = [np.stack(block) for block in zip(*(vectors for vectors, _ in rows), strict=True)]
    scaling = ridge.Scaling.of(blocks["train"])
    train = scaling(blocks["train"])
    val = scaling(blocks["val"]) if blocks["val"] else train[:0]
    return Fitted(scaling, ridge.fit(train, answers["train"], val, answers["val"], penalties))


def answer(
    eye: Eye, units: Sequence[Unit], fitted: dict[str, list[Fitted]], rung: Single, geometry: Geometry,
    tick: Callable[[], object] = lambda: None,
) -> Iterator[dict]:
    """A row for each test question and training regime at one rung. fitted: the units' readers by regime."""
    seen = {}
    for example in _examples(units, "test"):
        view = rung.view(Size(example.image.height, example.image.width), geometry)
        seen[_key(example)] = (view, eye.see(example, view))
        tick()
    for regime, readers in fitted.items():
        for unit, reader in zip(units, readers, strict=True):
            for each in unit.asked["test"]:
                view, vectors = seen[_key(each.example)]
                given = reader.choose(vectors, unit.possible(each))
                yield _row(unit, each, eye.name, given) | {
                    "regime": regime, "inference": rung.label, "budget_pixels": rung.budget,
                    "shown_height": view.size.height, "shown_width": view.size.width,
                    "visual_tokens": view.visual_tokens,
                }


def guesses(units: Sequence[Unit]) -> Iterator[dict]:
    """A row for each test question: the most frequent training answer that it allows."""
    for unit in units:
        train = unit.answers("train")
        for each in unit.asked["test"]:
            given = max(unit.possible(each), key=lambda name: (train.count(name), name))
            yield _row(unit, each, GUESS, given) | {"regime": "", "inference": "", "budget_pixels": 0}


def table(rows: Iterable[dict]) -> pd.DataFrame:
    """All rows, with `level` (fine, coarse, unknown)."""
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.assign(level=levels(frame))


def _row(unit: Unit, each: Asked, reader: str, given: str) -> dict:
    example, question = each.example, each.question
    return {
        "dataset": unit.dataset, "task": unit.task, "kind": unit.kind, "split": "test", "image_id": example.image_id,
        "group": example.group, "question_id": question.id, "reader": reader, "seed": 0, "control": "none",
        "detail_px": float("nan") if question.detail_px is None else question.detail_px,
        "answer": each.answer, "given": given, "score": float(given == each.answer),
        "chance": 1 / len(unit.possible(each)),
    }


def _examples(units: Sequence[Unit], split: str) -> list[Example]:
    """The images of a split that some unit asks about, each once."""
    return list({_key(each.example): each.example for unit in units for each in unit.asked[split]}.values())


def _key(example: Example) -> tuple[str, str, str]:
    return example.dataset, example.split, example.image_id

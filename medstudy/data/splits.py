"""Which examples are in which split: held-out groups, new splits, caps. Keyed by name and seed, not by order."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Protocol

from medstudy.data.example import SPLITS, Example, Question
from medstudy.utils.seeding import uniform


class Shares(Protocol):
    """How params divide a data set (`medstudy.data.readers.source.Source`)."""

    train: int | None
    val: int | None
    test: int | None
    val_share: float
    test_share: float
    seed: int


def held_out(group: str, share: float, seed: int) -> bool:
    """Whether a group of the training rows is used for validation instead."""
    return uniform("val", seed, group) < share


def taken(examples: Iterable[Example], params: Shares, split: str, hold_out: bool = False) -> Iterator[Example]:
    """The examples of a split, capped as the params say.

    hold_out: the source has no validation split, and `examples` of train and val are its training split: val takes the
    groups that are held out, train the others.
    """
    if hold_out and split != "test":
        examples = (
            example for example in examples
            if held_out(example.group, params.val_share, params.seed) == (split == "val")
        )
    return capped(examples, getattr(params, split), params.seed)


def new_split(group: str, test_share: float, val_share: float, seed: int) -> str:
    """The new split of a group, where the source's splits are not used."""
    place = uniform("split", seed, group)
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"


def by_group(load: Callable[[Shares, str], Iterable[Example]], params: Shares, split: str) -> Iterator[Example]:
    """The examples of a new split by groups (`split: group`), whatever splits the source has.

    load: `load(params, split)` of the data set. An image that the source has in several splits becomes one example with
    all its questions; a question's id begins with the source's split. The source is read twice, so images are not kept
    in memory.
    """
    every = params.model_copy(update={"split": "source", "train": None, "val": None, "test": None})
    shares = (params.test_share, params.val_share, params.seed)

    def in_split() -> Iterator[tuple[tuple, str, Example]]:
        """((image id, hashes of the images), the source's split, example) of all that the new split has."""
        for source in SPLITS:
            for example in load(every, source):
                if new_split(example.group, *shares) == split:
                    yield (example.image_id, *(image.sha256 for image in example.images)), source, example

    # First pass: the questions of each image, from all of the source's splits.
    questions: dict[tuple, list[Question]] = {}
    for key, source, example in in_split():
        questions.setdefault(key, []).extend(_renamed(source, question) for question in example.questions)
    # Second pass: each image once. A source may give different images of two splits the same id.
    ids = Counter(image_id for image_id, *_ in questions)
    merged = (
        replace(example, split=split, questions=tuple({each.id: each for each in questions.pop(key)}.values()),
                image_id=example.image_id if ids[example.image_id] == 1 else f"{source}-{example.image_id}")
        for key, source, example in in_split() if key in questions
    )
    return capped(merged, getattr(params, split), params.seed)


def _renamed(source: str, question: Question) -> Question:
    """A question with its source's split in its id. The id of a class question stays: it names its set of classes."""
    return question if question.kind == "class" else replace(question, id=f"{source}-{question.id}")


def capped(examples: Iterable[Example], most: int | None, seed: int) -> Iterator[Example]:
    """At most `most` examples, the first in a seeded order of their groups; yielded in their original order.

    Each group is taken whole or not at all, except the last. No more than `most` examples are held at once.
    """
    if most is None:
        yield from examples
        return

    def order(numbered: tuple[int, Example]) -> tuple[float, str, int]:
        number, example = numbered
        return uniform("cap", seed, example.group), example.group, number

    for _, example in sorted(heapq.nsmallest(most, enumerate(examples), key=order), key=itemgetter(0)):
        yield example

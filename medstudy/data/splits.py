"""Which examples stand in which split: held-out groups, new splits, caps; by name and seed, not by order of arrival."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
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


def drawn(group: str, test_share: float, val_share: float, seed: int) -> str:
    """The split of a group, where groups are shared out anew."""
    place = uniform("split", seed, group)
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"


def by_group(load: Callable[[Shares, str], Iterable[Example]], params: Shares, split: str) -> Iterator[Example]:
    """The examples of a data set whose groups are shared out anew (`split: group`), whatever splits its source has.

    load: `load(params, split)` of the data set. An image that the source has in several splits becomes one example with
    all its questions; a question's id begins with the source's split. The source is read twice, so that its images need
    not be kept in between.
    """
    every = params.model_copy(update={"split": "source", "train": None, "val": None, "test": None})
    shares = (params.test_share, params.val_share, params.seed)

    def mine() -> Iterator[tuple[tuple, str, Example]]:
        for source in SPLITS:
            for one in load(every, source):
                if drawn(one.group, *shares) == split:
                    yield (one.image_id, *(image.sha256 for image in one.images)), source, one

    asked: dict[tuple, list[Question]] = {}
    for name, source, one in mine():
        asked.setdefault(name, []).extend(_of(source, each) for each in one.questions)
    ids = Counter(name[0] for name in asked)  # a source may name different images of two splits alike
    merged = (
        replace(one, split=split, questions=tuple({each.id: each for each in asked.pop(name)}.values()),
                image_id=one.image_id if ids[one.image_id] == 1 else f"{source}-{one.image_id}")
        for name, source, one in mine() if name in asked
    )
    return capped(merged, getattr(params, split), params.seed)


def _of(source: str, question: Question) -> Question:
    """A question named after its source's split; but of a class, whose id says which answers are its classes."""
    return question if question.kind == "class" else replace(question, id=f"{source}-{question.id}")


def capped(examples: Iterable[Example], most: int | None, seed: int) -> Iterator[Example]:
    """At most `most` images, the first in a seeded order of their groups; in the order in which they arrived.

    A group is taken whole or not at all, but for the last one. No more than `most` are held at once.
    """
    if most is None:
        yield from examples
        return
    chosen = heapq.nsmallest(
        most, enumerate(examples), key=lambda one: (uniform("cap", seed, one[1].group), one[1].group, one[0])
    )
    for _, example in sorted(chosen, key=lambda one: one[0]):
        yield example

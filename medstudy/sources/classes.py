"""Data sets of classes as the paper's author keeps them: ms-swift rows whose response is the class of the image.

Scored by the author's rule: right when the lower-cased prediction contains the response.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from medstudy.errors import DataError
from medstudy.records import Example, Question, Shot
from medstudy.sources import conversations, splits
from medstudy.sources.base import Source
from medstudy.sources.card import Card
from medstudy.sources.conversations import SwiftRow


class Rows(Source):
    """See `Source`; `path` is a folder with .jsonl files and the images that they name.

    train_file, val_file, test_file: in that folder. Without a val_file a share of the training images is held out;
    without a test_file `test_rows` rows of the train_file are, the first after random.Random(split_seed).shuffle, which
    is how the author splits. With one, `test_rows` is how many of its first rows are used; None is all.
    strip: what image paths begin with and is taken off, as the folder in which the files were written.
    """

    train_file: str = "train.jsonl"
    val_file: str | None = None
    test_file: str | None = "test.jsonl"
    test_rows: PositiveInt | None = None
    split_seed: NonNegativeInt = 42
    strip: str = ""


@dataclass(frozen=True)
class About:
    """What all the examples of a data set have in common."""

    dataset: str
    card: Card
    task: str
    family: str
    modality: str
    anatomy: str


def load(params: Rows, split: str, about: About) -> Iterator[Example]:
    """One example for every set of images, with all of its rows in that split. Raises DataError."""
    found = (example(rows, params.root, split, about) for rows in conversations.rows_by_images(rows_of(params, split)))
    return splits.taken(found, params, split, hold_out=params.val_file is None)


def rows_of(params: Rows, split: str) -> list[SwiftRow]:
    """The rows of a split, those of validation still among the training rows when there is no val_file."""
    if split == "test" and params.test_file is not None:
        return _read(params, params.test_file)[: params.test_rows]
    if split == "val" and params.val_file is not None:
        return _read(params, params.val_file)
    rows = _read(params, params.train_file)
    if params.test_file is not None:
        return rows
    if params.test_rows is None:
        raise DataError("Without a test_file, `test_rows` says how many rows of the train_file are the test. Set it.")
    random.Random(params.split_seed).shuffle(rows)
    return rows[: params.test_rows] if split == "test" else rows[params.test_rows :]


def example(rows: list[SwiftRow], root: Path, split: str, about: About) -> Example:
    """The rows of one set of images; all but the last image are shown before it, without a text."""
    first = rows[0]
    *before, last = (conversations.row_picture(first, root, place) for place in range(max(1, len(first.images))))
    return Example(
        image_id=" + ".join(first.images), image=last, questions=tuple(questions(rows, about.task)),
        dataset=about.dataset, split=split, group=last.sha256[:16], family=about.family, modality=about.modality,
        anatomy=about.anatomy, render=about.card.render, source=about.card.url, license=about.card.license,
        context=tuple(Shot(image) for image in before),
    )  # fmt: skip


def questions(rows: list[SwiftRow], task: str) -> Iterator[Question]:
    """One a different query. Its id is that of the query, so that the classes of a query are known by it."""
    for row in {row.query: row for row in rows}.values():
        name = hashlib.sha256(row.query.encode()).hexdigest()[:8]
        yield Question(id=f"{task} {name}", text=row.query, answer=row.response, kind="class", task=task)


def _read(params: Rows, name: str) -> list[SwiftRow]:
    file = params.root / name
    if not file.is_file():
        raise DataError(f"{params.path} must hold {name}, but does not. Put it there, or name the file in the params.")
    return list(conversations.swift_rows(file, params.strip))

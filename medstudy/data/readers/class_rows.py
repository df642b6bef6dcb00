"""Classification data sets in the paper's format: ms-swift rows whose response is the class of the image.

Scored by the author's rule: right if the lower-cased prediction contains the response.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from medstudy.data import splits
from medstudy.data.example import Example, Question, Shot
from medstudy.data.readers import conversations, grouping
from medstudy.data.readers.conversations import SwiftRow
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.source import Source
from medstudy.errors import DataError


class Rows(Source):
    """See `Source`. path: a folder with .jsonl files and the images that they name.

    train_file, val_file, test_file: in that folder. Without a val_file, a share of the training images is held out.
    test_rows: without a test_file, the test is this many rows of the train_file, the first after
    random.Random(split_seed).shuffle, as the author splits; with one, its first `test_rows` rows (None: all).
    strip: prefix to remove from image paths, such as the folder in which the files were written.
    """

    train_file: str = "train.jsonl"
    val_file: str | None = None
    test_file: str | None = "test.jsonl"
    test_rows: PositiveInt | None = None
    split_seed: NonNegativeInt = 42
    strip: str = ""


@dataclass(frozen=True)
class About:
    """Properties that all examples of a data set share."""

    dataset: str
    card: Card
    task: str
    family: str
    modality: str
    anatomy: str


def load(params: Rows, split: str, about: About) -> Iterator[Example]:
    """One example per set of images, with all its rows in that split. Raises DataError."""
    groups = conversations.rows_by_images(rows_of(params, split))
    examples = (example(rows, params.root, split, about) for rows in groups)
    return splits.taken(examples, params, split, hold_out=params.val_file is None)


def rows_of(params: Rows, split: str) -> list[SwiftRow]:
    """The rows of a split; without a val_file, those of validation are still among the training rows."""
    if split == "test" and params.test_file is not None:
        return _read(params, params.test_file)[: params.test_rows]
    if split == "val" and params.val_file is not None:
        return _read(params, params.val_file)
    rows = _read(params, params.train_file)
    if params.test_file is not None:
        return rows
    if params.test_rows is None:
        raise DataError("Without a test_file, `test_rows` is the number of rows of the train_file to test on. Set it.")
    random.Random(params.split_seed).shuffle(rows)
    return rows[: params.test_rows] if split == "test" else rows[params.test_rows :]


def example(rows: list[SwiftRow], root: Path, split: str, about: About) -> Example:
    """An example from the rows of one set of images; all but the last image are context, without a text."""
    first = rows[0]
    *before, last = (conversations.row_picture(first, root, place) for place in range(max(1, len(first.images))))
    return grouping.example(
        about.card, image_id=" + ".join(first.images), image=last, questions=tuple(questions(rows, about.task)),
        dataset=about.dataset, split=split, group=last.sha256[:16], family=about.family, modality=about.modality,
        anatomy=about.anatomy, context=tuple(Shot(image) for image in before),
    )


def questions(rows: list[SwiftRow], task: str) -> Iterator[Question]:
    """One question per distinct query. Its id is a hash of the query, which identifies the classes of a query."""
    for row in {row.query: row for row in rows}.values():
        name = hashlib.sha256(row.query.encode()).hexdigest()[:8]
        yield Question(id=f"{task} {name}", text=row.query, answer=row.response, kind="class", task=task)


def _read(params: Rows, name: str) -> list[SwiftRow]:
    file = params.root / name
    if not file.is_file():
        raise DataError(f"{params.path} must have {name}, but does not. Copy it there, or name the file in the params.")
    return list(conversations.swift_rows(file, params.strip))

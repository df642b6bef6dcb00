"""MicroVQA: reasoning about microscopy, by biologists, some questions with several images (arXiv 2503.13399).

From `jmhb/microvqa`, which is all test split (early revisions called it train: pin a later one). Questions about the
same images in the same order are one example. There is no training split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import choice
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/jmhb/microvqa",
    license="CC-BY-SA-4.0",
    splits=("test",),
    schema_from="the public card (its dataset_info), jmhb0/microvqa's eval",
    questions={"test": 1042},
)
COLUMNS = {
    "images_list": "one image or several",
    "question": "its text",
    "choices": "its options",
    "correct_index": "the number of the right one, from 0",
}


class Params(Source):
    """See `Source`."""

    name: Literal["microvqa"] = "microvqa"
    path: str = "jmhb/microvqa"


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example for each different list of images, with all of its questions."""
    rows = hub.rows(params.path, "test", COLUMNS, revision=params.revision, images=("images_list",))
    pictures: dict[tuple[str, ...], list[Picture]] = {}
    items = grouping.by_key(_keyed(rows, pictures), lambda row: row["key"], _group)
    for item in splits.taken(items, params, split):
        yield _example(item, pictures[item.key])


def _keyed(rows: Iterable[dict], pictures: dict[tuple[str, ...], list[Picture]]) -> Iterator[dict]:
    """Each row with the hashes of its images as `key`; each different list of images goes to `pictures`."""
    for row in rows:
        images = [hub.picture(image, f"an image of {row['question']!r:.60}") for image in row.pop("images_list") or ()]
        key = tuple(picture.sha256 for picture in images)
        pictures.setdefault(key, images)
        yield row | {"key": key}


def _group(row: dict) -> str:
    """The source's number of the images, which is the same for parts of a list; else the hashes of the images."""
    return f"{row['key_image']}" if row.get("key_image") is not None else "".join(row["key"])


def _example(item: grouping.RowGroup, pictures: list[Picture]) -> Example:
    context, image = grouping.context_and_image(pictures, f"row {item.rows[0][0]} of MicroVQA")
    return grouping.example(
        CARD, dataset="microvqa", split="test", image=image, context=context,
        image_id=hashlib.sha256("".join(item.key).encode()).hexdigest()[:16],
        questions=tuple(_question(number, row) for number, row in item.rows), group=item.group,
        family="microscopy", modality="microscopy", anatomy="unknown",
    )


def _question(number: int, row: dict) -> Question:
    task = row.get("task_str") or (f"task {row['task']}" if row.get("task") is not None else "unknown")
    name, tags = f"{row.get('key_question', number)}", grouping.tags(task=task)
    return choice(name, row["question"].strip(), row["choices"], row["correct_index"], task, tags=tags)

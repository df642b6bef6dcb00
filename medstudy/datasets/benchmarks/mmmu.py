"""MMMU's health and medicine subjects: college exam questions, some with several images (arXiv 2311.16502).

From `MMMU/MMMU`, one configuration per subject. The test split here is its validation split, because the answers of its
own test split are not public. There is no training split. `options` is the text of a Python list, parsed as a literal.
A marker "<image 2>" in a text becomes "(image 2)", numbered in the order of the prompt, which shows images first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import LETTERS, Example, Question
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import choice, closed_or_open
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/MMMU/MMMU",
    license="Apache-2.0",
    splits=("test",),
    schema_from="the public card (HuggingFaceM4/MMMU and lmms-lab/MMMU print its features), MedEvalKit's reader",
)
Subject = Literal[
    "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health"
]
IMAGES = tuple(f"image_{number}" for number in range(1, 8))
COLUMNS = {
    "id": "the question's",
    "question": "its text, with markers",
    "options": "the text of a list",
    "answer": "a letter, or words",
    "question_type": "multiple-choice or open",
    "image_1": "the first image",
}


class Params(Source):
    """See `Source`. subjects: those that are used, in this order."""

    name: Literal["mmmu"] = "mmmu"
    path: str = "MMMU/MMMU"
    subjects: tuple[Subject, ...] = Subject.__args__


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per question, with its own images."""
    tables = (
        (subject, hub.rows(params.path, "validation", COLUMNS, config=subject, revision=params.revision, images=IMAGES))
        for subject in params.subjects
    )
    return splits.taken((_example(row, subject) for subject, rows in tables for row in rows), params, split)


def _example(row: dict, subject: str) -> Example:
    present = [name for name in IMAGES if row.get(name)]
    places = {name.removeprefix("image_"): f"{place}" for place, name in enumerate(present, 1)}
    pictures = [hub.picture(row[name], f"{name} of {row['id']}") for name in present]
    context, image = grouping.context_and_image(pictures, row["id"])
    return grouping.example(
        CARD, dataset="mmmu", split="test", image_id=row["id"], image=image, context=context,
        questions=(_question(row, subject, places),), group=row["id"], family=subject, modality="mixed",
        anatomy="mixed",
    )


def _question(row: dict, subject: str, places: dict[str, str]) -> Question:
    def marked(text: str) -> str:
        if missing := [number for number in re.findall(r"<image (\d+)>", text) if number not in places]:
            raise DataError(f"A marker names an image of its row, but {row['id']} has no image {', '.join(missing)}.")
        return re.sub(r"<image (\d+)>", lambda match: f"(image {places[match[1]]})", text).strip()

    answer, options = row["answer"].strip(), [marked(option) for option in _literal(row["options"], row["id"])]
    if not answer or answer == "?":
        raise DataError(
            f"A test question needs an answer, but {row['id']} has {answer!r}. Use a split with public answers."
        )
    tags = grouping.tags(subject=subject, **{name: row.get(name) for name in ("subfield", "topic_difficulty")})
    if row["question_type"] == "multiple-choice":
        right = LETTERS.find(answer) if len(answer) == 1 else -1
        return choice(row["id"], marked(row["question"]), options, right, subject, tags=tags)
    alternatives = _literal(answer, row["id"]) if answer.startswith("[") else [answer]  # all are right; take the first
    return closed_or_open(row["id"], marked(row["question"]), str(alternatives[0]), subject, tags=tags)


def _literal(text: str, where: str) -> list:
    """The items of a list written as a Python literal. Raises DataError."""
    try:
        items = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        items = None
    if not isinstance(items, list) or not all(isinstance(item, str | int | float) for item in items):
        raise DataError(f"MMMU's options are the text of a list, but {where} has {text!r:.120}. Pin a revision.")
    return [str(item) for item in items]

"""Geoperception: what is drawn in figures of plane geometry, from school books; no medicine (arXiv 2412.08737).

From `euclid-multimodal/Geoperception`; the test split here is the only one of the source, called train. Which angle is
acute and which line is longer are classes. Points on a line or circle, and annotations, are open questions: their score
is the share of the reference's words, so it does not punish a wrong point as the authors' does; F1 beside it does.
Rows without an answer are left out. So are the predicates Parallel and Perpendicular: an answer may name a line by any
two of its points, which no score here can tell from a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from medstudy.data import splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import answered
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
NO_CLAIMS = "its images are figures of geometry, not of medicine"
CARD = Card(
    url="https://huggingface.co/datasets/euclid-multimodal/Geoperception",
    license="Apache-2.0",
    splits=("test",),
    schema_from="the public card (its dataset_info and rows), euclid-multimodal/Euclid: euclid/eval/*",
    questions={"test": 11_657},
    words=(9, 1),
)
COLUMNS = {
    "id": "the question's",
    "question": "its text",
    "answer": "a name, or names between commas",
    "predicate": "what is asked, such as PointLiesOnLine",
    "image": "the figure",
}
CLASSES = {  # predicate -> the form of its question, with its two options
    "AngleClassification": re.compile(r"\b(acute) or (obtuse)\?"),
    "LineComparison": re.compile(r"\b([A-Z]{2}) or ([A-Z]{2})\?"),
}
Predicate = Literal["PointLiesOnLine", "PointLiesOnCircle", "AngleClassification", "LineComparison", "Equals"]
PREDICATES: tuple[Predicate, ...] = (
    "PointLiesOnLine", "PointLiesOnCircle", "AngleClassification", "LineComparison", "Equals",
)


class Params(Source):
    """See `Source`. only: the predicates to ask."""

    name: Literal["geoperception"] = "geoperception"
    path: str = "euclid-multimodal/Geoperception"
    only: tuple[Predicate, ...] = Field(default=PREDICATES, min_length=1)


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per figure, with its questions of the predicates."""
    rows = (row for row in hub.rows(params.path, "train", COLUMNS, revision=params.revision) if _asked(row, params))
    examples = (_example(*found) for found in grouping.by_image(rows, "Geoperception"))
    return splits.taken(examples, params, split)


def _asked(row: dict, params: Params) -> bool:
    return row["predicate"] in params.only and answered(row)


def _example(picture: Picture, rows: list[grouping.NumberedRow]) -> Example:
    name = picture.sha256[:16]
    return grouping.example(
        CARD, dataset="geoperception", split="test", image_id=name, image=picture,
        questions=tuple(_question(row) for _, row in rows), group=name, family="geometry", modality="drawing",
        anatomy="none",
    )


def _question(row: dict) -> Question:
    name, text, answer = f"{row['id']}", row["question"].strip(), row["answer"].strip()
    about = {"task": row["predicate"], "tags": grouping.tags(predicate=row["predicate"])}
    if (form := CLASSES.get(row["predicate"])) is None:
        return Question(name, text, answer, "open", **about)
    options = match.groups() if (match := form.search(text)) else ()
    right = [option for option in options if sorted(option) == sorted(answer)]  # line BA is line AB
    if len(right) != 1:
        raise DataError(f"A question of {row['predicate']} names its two options, and its answer is one of them, but "
                        f"{name} is {text!r} with the answer {answer!r}. Leave the predicate out with `only`.")
    return Question(name, text, right[0], "class", options=options, **about)

"""ProbMed: questions paired with questions about made-up attributes, to penalise always saying yes (arXiv 2405.20421).

A folder with probmed.json (`rippleripple/ProbMed`, access by request) and the images that it names. As in the authors'
eval/calculate_score.py, a set is all questions of an image about one dimension: its modality, its body part, its
findings ("entity") or their positions ("grounding": all questions of no other dimension). Whether anything is abnormal
is a question without a set. There is no training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import closed_or_open
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/rippleripple/ProbMed",
    license="MIT (questions); images of MedICaT and ChestX-ray14, see the card",
    splits=("test",),
    schema_from="eric-ai-lab/ProbMed: README, eval/inference/*, eval/calculate_score.py; the file itself was not seen",
    images={"test": 6303},
    questions={"test": 57132},
)
COLUMNS = {
    "id": "the image's",
    "image": "its file",
    "qa_type": "the question's type",
    "question": "its text",
    "answer": "yes or no",
}
DIMENSIONS = ("modality", "body_part", "abnormality", "entity")


class Params(Source):
    """See `Source`. file: the questions, in `path`. images: the folder of the images; None is `path`."""

    name: Literal["probmed"] = "probmed"
    file: str = "probmed.json"
    images: str | None = None


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with all of its questions."""
    root = archives.root(params.path, f"{params.file} and its images")
    items = grouping.by_key(files.rows(files.below(root, params.file), COLUMNS), lambda row: row["image"])
    images = archives.Images(archives.root(params.images or params.path, "the images of ProbMed"))
    for item in splits.taken(items, params, split):
        yield _example(item, images)


def _example(item: grouping.RowGroup, images: archives.Images) -> Example:
    kind = item.rows[0][1].get("image_type") or "radiology"
    return grouping.example(
        CARD, dataset="probmed", split="test", image_id=item.key, image=images(item.key),
        questions=tuple(_question(number, row) for number, row in item.rows), group=item.group, family=kind,
        modality=kind, anatomy="unknown",
    )


def _question(number: int, row: dict) -> Question:
    dimension = next((name for name in DIMENSIONS if name in row["qa_type"]), "grounding")
    if str(row["answer"]).strip().lower() not in ("yes", "no"):
        raise DataError(f"ProbMed's answers are yes or no, but row {number} has {row['answer']!r}. Correct the row.")
    return closed_or_open(
        f"{number}", row["question"].replace("<image>", "").strip(), row["answer"].strip(), dimension,
        set_id=None if dimension == "abnormality" else f"{row['image']} {dimension}",
        tags=grouping.tags(dimension=dimension, qa_type=row["qa_type"]),
    )

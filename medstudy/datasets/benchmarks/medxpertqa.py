"""MedXpertQA MM: board-level questions with one to six images and patient records (arXiv 2501.18362).

From `TsinghuaC3I/MedXpertQA`, configuration MM: rows name their images, which are in images.zip (packed, or unpacked to
images/). A question's text repeats its options after "Answer Choices:"; that part is removed, because the prompt lists
them. The dev split of five questions is not used, and there is no training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example
from medstudy.data.readers import archives, grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import lettered
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/TsinghuaC3I/MedXpertQA",
    license="MIT",
    splits=("test",),
    schema_from="the public card, and the 2,000 test rows in TsinghuaC3I/MedXpertQA's eval/data",
    questions={"test": 2000},
)
COLUMNS = {
    "id": "the question's",
    "question": "its text",
    "options": "letter: text",
    "label": "the right letter",
    "images": "names of files",
}
REPEATED = "\nAnswer Choices:"
ARCHIVE = "images.zip"


class Params(Source):
    """See `Source`."""

    name: Literal["medxpertqa"] = "medxpertqa"
    path: str = "TsinghuaC3I/MedXpertQA"


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per question, with its own images."""
    rows = hub.rows(params.path, "test", COLUMNS, config="MM", revision=params.revision)
    items = grouping.by_key(rows, lambda row: row["id"])
    images = archives.Images(archives.root(params.path, ARCHIVE, (ARCHIVE,), params.revision), (ARCHIVE,), ("images",
    ""))
    for item in splits.taken(items, params, split):
        yield _example(item.rows[0][1], images)


def _example(row: dict, images: archives.Images) -> Example:
    context, image = grouping.context_and_image([images(name) for name in row["images"] or ()], row["id"])
    options = {letter: text for letter, text in sorted(row["options"].items()) if text is not None}
    text, cut, _ = row["question"].rpartition(REPEATED)
    if not isinstance(row["label"], str):
        raise DataError(f"MedXpertQA's label is a letter, but {row['id']} has {row['label']!r}. Pin a revision.")
    tags = grouping.tags(**{name: row.get(name) for name in ("medical_task", "body_system", "question_type")})
    question = lettered(
        row["id"], (text if cut else row["question"]).strip(), options, row["label"],
        row.get("medical_task") or "unknown", tags=tags,
    )
    return grouping.example(
        CARD, dataset="medxpertqa", split="test", image_id=row["id"], image=image, context=context,
        questions=(question,), group=row["id"], family=row.get("body_system") or "unknown", modality="mixed",
        anatomy=row.get("body_system") or "unknown",
    )

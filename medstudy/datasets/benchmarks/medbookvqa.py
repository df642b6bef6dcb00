"""MedBookVQA: figures of open-access medical textbooks with multiple-choice questions (arXiv 2506.00855).

From `slyipae1/MedBookVQA`: data.json, and figures.zip (packed, or unpacked to figures/). There is no training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import lettered
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/slyipae1/MedBookVQA",
    license="of each book, see the card",
    splits=("test",),
    schema_from="slyipae1/MedBookVQA: README (its list of fields and sample entry), evaluation/eval_utils.py",
    questions={"test": 5000},
)
COLUMNS = {
    "_id": "the entry's",
    "QAtype": "the question's type",
    "Question": "its text",
    "Answer": "the right answer",
    "Distractors": "the wrong ones",
    "correct_choice": "the letter of the right one",
    "other_choices": "the letters of the wrong ones",
    "image_path": "the figure, below the folder",
}
TABLE, ARCHIVE = "data.json", "figures.zip"


class Params(Source):
    """See `Source`."""

    name: Literal["medbookvqa"] = "medbookvqa"
    path: str = "slyipae1/MedBookVQA"


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per entry; entries with the same figure are one group."""
    root = archives.root(params.path, f"{TABLE} and {ARCHIVE}", (TABLE, ARCHIVE), params.revision)
    items = grouping.by_key(files.rows(root / TABLE, COLUMNS), lambda row: row["_id"])
    images = archives.Images(root, (ARCHIVE,), ("", "figures"))
    for item in splits.taken(items, params, split):
        yield _example(item.rows[0][1], images)


def _example(row: dict, images: archives.Images) -> Example:
    image, labels = images(row["image_path"]), row.get("LABEL") or {}
    modality, anatomy = ((labels.get(name) or ["unknown"]) for name in ("Modality", "Anatomy"))
    return grouping.example(
        CARD, dataset="medbookvqa", split="test", image_id=row["_id"], image=image, questions=(_question(row, labels),),
        group=image.sha256[:16], family=modality[0], modality=modality[-1], anatomy=anatomy[-1],
    )


def _question(row: dict, labels: dict) -> Question:
    letters, texts = [row["correct_choice"], *row["other_choices"]], [row["Answer"], *row["Distractors"]]
    if len(letters) != len(texts):
        raise DataError(f"Each option has a letter, but {row['_id']} has {letters} for {texts}. Correct the row.")
    options = {letter: text.strip() for letter, text in sorted(zip(letters, texts, strict=True))}
    tags = grouping.tags(**{name.lower(): dict.fromkeys(labels.get(name) or ()) for name in labels})
    return lettered(row["_id"], row["Question"].strip(), options, row["correct_choice"], row["QAtype"], tags=tags)

"""MMXU: what changed between two chest radiographs of a patient (arXiv 2502.11651).

From `LinjieMu/MMXU`: MMXU-test.jsonl. Its images are those of MIMIC-CXR-JPG (PhysioNet, credentialed access). The
prompt shows the earlier image, then the current one. A patient is one group. There is no training split: the
development split is not public.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import lettered
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/LinjieMu/MMXU",
    license="PhysioNet Credentialed Health Data License (images)",
    splits=("test",),
    schema_from="LinjieMu/MMXU: README, and MMXU-test.jsonl itself (3,000 rows about 2,469 pairs of images)",
    images={"test": 2469},
    questions={"test": 3000},
)
COLUMNS = {
    "id": "the question's",
    "question": "its text",
    "options": "letter: text",
    "answer": "the right letter",
    "cur_image_path": "the current image",
    "prior_image_path": "the earlier image, or a list of them",
}
TABLE = "MMXU-test.jsonl"


class Params(Source):
    """See `Source`. images: the folder with MIMIC-CXR-JPG's files/; None is `path`."""

    name: Literal["mmxu"] = "mmxu"
    path: str = "LinjieMu/MMXU"
    images: str | None = None


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per pair of images, with all of its questions."""
    root = archives.root(params.path, TABLE, (TABLE,), params.revision)
    items = grouping.by_key(_rows(root), lambda row: row["shown"], _patient)
    images = archives.Images(archives.root(params.images, "MIMIC-CXR-JPG's files/") if params.images else root)
    for item in splits.taken(items, params, split):
        yield _example(item, images)


def _rows(root: Path) -> Iterator[dict]:
    """Each row with the names of its images as `shown`, earlier images first."""
    for row in files.rows(root / TABLE, COLUMNS):
        prior = row["prior_image_path"]
        yield row | {"shown": (*([prior] if isinstance(prior, str) else prior), row["cur_image_path"])}


def _patient(row: dict) -> str:
    """ "p10225882" from files/p10/p10225882/s59794385/….jpg; the file's name for any other path."""
    parts = PurePosixPath(row["cur_image_path"]).parts
    return next((part for part in parts if part.startswith("p") and part[1:].isdigit() and len(part) > 3), parts[-1])


def _example(item: grouping.RowGroup, images: archives.Images) -> Example:
    context, image = grouping.context_and_image([images(name) for name in item.key], f"row {item.rows[0][0]} of MMXU")
    return grouping.example(
        CARD, dataset="mmxu", split="test", image=image, context=context,
        image_id="+".join(PurePosixPath(name).stem for name in item.key),
        questions=tuple(_question(row) for _, row in item.rows), group=item.group, family="radiology",
        modality="x-ray", anatomy="chest",
    )


def _question(row: dict) -> Question:
    options = {letter: row["options"][letter].strip() for letter in sorted(row["options"])}
    tags = grouping.tags(change=row.get("content_type"))
    return lettered(f"{row['id']}", row["question"].strip(), options, row["answer"], "change", tags=tags)

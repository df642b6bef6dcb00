"""IU X-Ray: chest radiographs of Indiana University with the findings of their reports (R2Gen's split).

A folder as R2Gen's download (github.com/zhjohnchan/R2Gen): annotation.json and images/. A study has one to three views,
mostly a frontal and a lateral one; a prompt shows all of them, and the last is the example's own image. XXXX stands for
what was removed to protect patients, in about four of ten reports; it is kept, as everybody's scores have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://github.com/zhjohnchan/R2Gen",
    license="see https://openi.nlm.nih.gov/faq",
    splits=("train", "val", "test"),
    schema_from="R2Gen's modules/datasets.py, and public code that prints an entry of annotation.json and counts them",
    images={"train": 2069, "val": 296, "test": 590},
    questions={"train": 2069, "val": 296, "test": 590},
    words=(9, 35),
)
COLUMNS = {
    "id": "the study's",
    "report": "its findings",
    "image_path": "its views, below images/",
}
TABLE, ASKED = "annotation.json", "Write the findings of the report of this chest radiograph."


class Params(Source):
    """See `Source`. path: the folder with annotation.json and images/. The source has its own validation split."""

    name: Literal["iu_xray"] = "iu_xray"


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per study."""
    root = archives.root(params.path, f"{TABLE} and images/")
    rows = files.listed(root / TABLE, split, COLUMNS)
    items = grouping.by_key((row for row in rows if row["report"].strip()), lambda row: row["id"])
    images = archives.Images(root, below=("images", ""))
    for item in splits.taken(items, params, split):
        yield _example(item.rows[0][1], images, split)


def _example(row: dict, images: archives.Images, split: str) -> Example:
    context, image = grouping.context_and_image([images(name) for name in row["image_path"]], row["id"])
    question = Question("report", ASKED, " ".join(row["report"].split()), "report", "findings",
                        tags=grouping.tags(views=f"{len(row['image_path'])}"))
    return grouping.example(
        CARD, dataset="iu_xray", split=split, image_id=row["id"], image=image, context=context, questions=(question,),
        group=row["id"], family="radiology", modality="x-ray", anatomy="chest",
    )

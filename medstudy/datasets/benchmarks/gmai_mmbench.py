"""GMAI-MMBench: the labels of 284 data sets as multiple-choice questions, by clinical task (arXiv 2408.03361).

The test split is the validation file of `VLMEval/GMAI-MMBench`, because the public test files have no answers.
GMAI-MMBench_VAL.tsv has 9 GB, with images in base64; it is read a few rows at a time. There is no training split.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import LETTERS, Example, Question
from medstudy.data.readers import archives, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import lettered
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/VLMEval/GMAI-MMBench",
    license="Apache-2.0 (questions); images of each data set, see the card",
    splits=("test",),
    schema_from="uni-medical/GMAI-MMBench's README, VLMEvalKit's GMAIMMBenchDataset; the table itself was not seen",
)
COLUMNS = {
    "index": "the row's number",
    "image": "the image in base64",
    "question": "its text",
    "A": "the first option",
    "B": "the second option",
    "answer": "the right letter (the public test files have none)",
}
TAGS = ("category", "clinical vqa task", "department", "perceptual granularity", "modality")
SHORTEST = 64  # characters of an image; in VLMEvalKit's files a shorter cell is the index of the row with the image


class Params(Source):
    """See `Source`. file: the table in the folder or in the hub's repository."""

    name: Literal["gmai_mmbench"] = "gmai_mmbench"
    path: str = "VLMEval/GMAI-MMBench"
    file: str = "GMAI-MMBench_VAL.tsv"


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per row; rows with the same image are one group."""
    table = archives.root(params.path, params.file, (params.file,), params.revision) / params.file
    chosen = None
    if params.test is not None:  # choose without reading the images, which would fill memory
        items = grouping.by_key(archives.table(table, {}, "\t", columns=("index",)), lambda row: row["index"])
        chosen = {item.key for item in splits.taken(items, params, split)}
    for row in archives.table(table, {}, "\t", at_once=16):
        row = {name if name in LETTERS else name.lower(): cell for name, cell in row.items()}
        files.need(row, COLUMNS, params.file)
        if chosen is None or row["index"] in chosen:
            yield _example(row)


def _example(row: dict) -> Example:
    image = _picture(row)
    kind = row.get("modality") or row.get("department") or "unknown"
    return grouping.example(
        CARD, dataset="gmai_mmbench", split="test", image_id=row["index"], image=image, questions=(_question(row),),
        group=image.sha256[:16], family=kind, modality=row.get("modality") or "unknown", anatomy="unknown",
    )


def _picture(row: dict) -> Picture:
    name, cell = f"Image {row['index']} of GMAI-MMBench", row["image"].strip()
    try:
        if len(cell) < SHORTEST:
            raise ValueError(f"it has {len(cell)} characters, {cell!r}")
        return Picture(base64.b64decode(cell, validate=True), name)
    except (ValueError, binascii.Error) as error:
        raise DataError(f"{name} must be a file in base64, but {error}. Take a table that has every image.") from error


def _question(row: dict) -> Question:
    options = {letter: row[letter].strip() for letter in LETTERS if row.get(letter, "").strip()}
    tags = grouping.tags(**{name.replace(" ", "_"): row.get(name) for name in TAGS})
    task = row.get("clinical vqa task") or row.get("category") or "unknown"
    return lettered(row["index"], row["question"].strip(), options, row["answer"].strip(), task, tags=tags)

"""OmniMedVQA: classification data sets of many modalities, as multiple-choice questions (arXiv 2402.09181).

From the open part of `foreverbeliever/OmniMedVQA`, unzipped: QA_information/Open-access/*.json and Images/. The source
has no splits. By default all images are for testing; with `test_share` the others are for training. Quirks handled: two
to four options; an answer that differs from its option in case or a full stop; "modality" instead of "modality_type" in
one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import choice
from medstudy.data.readers.source import Source
from medstudy.errors import DataError
from medstudy.utils.seeding import uniform

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/foreverbeliever/OmniMedVQA",
    license="of each of its data sets, see the card",
    splits=("test",),
    schema_from="the public card, OpenGVLab/Multi-Modality-Arena MedicalEval, MedEvalKit, MediVision-OmniMedVQA",
    images={"test": 82_059},
    questions={"test": 88_996},
)
COLUMNS = {
    "image_path": "the image, below the folder",
    "question": "its text",
    "gt_answer": "the text of the right option",
    "option_A": "the first option",
    "option_B": "the second option",
}
QUESTIONS = Path("QA_information") / "Open-access"


class Params(Source):
    """See `Source`. path: the unzipped folder. only: its data sets by name; empty is all. test_share: of the images."""

    name: Literal["omnimedvqa"] = "omnimedvqa"
    only: tuple[str, ...] = ()
    test_share: float = Field(default=1.0, gt=0, le=1)


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with all of its questions."""
    if split != "test" and params.test_share == 1:
        return
    root = archives.root(params.path, f"{QUESTIONS}/*.json and Images/")
    items = grouping.by_key(_rows(root, params.only), lambda row: row["image_path"])
    items = [item for item in items if _split(item.group, params) == split]
    images = archives.Images(root)
    for item in splits.taken(items, params, split):
        yield _example(item, images, split)


def _rows(root: Path, only: tuple[str, ...]) -> Iterator[dict]:
    """The rows of all data sets, in the order of their file names, each with its `dataset`."""
    tables = sorted((root / QUESTIONS).glob("*.json"))
    if not tables:
        raise DataError(f"OmniMedVQA's questions are {QUESTIONS}/*.json, but {root} has none. Unpack its zip there.")
    if unknown := set(only) - {file.stem for file in tables}:
        raise DataError(f"`only` names {sorted(unknown)}, but {root / QUESTIONS} has {[file.stem for file in tables]}.")
    for file in tables:
        if not only or file.stem in only:
            for number, row in enumerate(files.rows(file, COLUMNS)):
                yield {"dataset": file.stem, "id": row.get("question_id", f"{file.stem} {number}")} | row


def _split(group: str, params: Params) -> str:
    if uniform("test", params.seed, group) < params.test_share:
        return "test"
    return "val" if splits.held_out(group, params.val_share, params.seed) else "train"


def _example(item: grouping.RowGroup, images: archives.Images, split: str) -> Example:
    first = item.rows[0][1]
    modality = first.get("modality_type") or first.get("modality") or "unknown"
    return grouping.example(
        CARD, dataset="omnimedvqa", split=split, image_id=item.key, image=images(item.key),
        questions=tuple(_question(row) for _, row in item.rows), group=item.group, family=modality,
        modality=modality, anatomy="unknown",
    )


def _question(row: dict) -> Question:
    options = [str(row[name]).strip() for name in map("option_{}".format, "ABCD") if row.get(name) not in (None, "")]
    right = _place(str(row["gt_answer"]), options)
    if right is None:
        raise DataError(f"OmniMedVQA's gt_answer is one of the options, but {row['id']} has {row['gt_answer']!r} "
                        f"and {options}. Correct the row, or leave its file out with `only`.")
    tags = grouping.tags(source=row["dataset"], modality=row.get("modality_type") or row.get("modality"))
    return choice(row["id"], row["question"].strip(), options, right, row.get("question_type") or "unknown", tags=tags)


def _place(answer: str, options: list[str]) -> int | None:
    """The place of the answer among the options: exactly, or without case and a full stop."""
    for plain in (str.strip, lambda text: text.strip().rstrip(".").lower()):
        texts = [plain(option) for option in options]
        if plain(answer) in texts:
            return texts.index(plain(answer))
    return None

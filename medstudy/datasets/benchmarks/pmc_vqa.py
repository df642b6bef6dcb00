"""PMC-VQA: figures of open-access articles with multiple-choice questions written from captions (arXiv 2305.10415).

From `RadGenome/PMC-VQA`: a .csv per split, and a zip of figures, which need not be unpacked. Version 2 asks about the
panels of compound figures, version 1 about whole figures; "1-clean" tests on version 1's checked subset. Version 1
spells a column "Anwser" and has the letter in "Answer_label". Figures of one article are one group. If the source's
splits divide an article, a study reports it as a leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import choice
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/RadGenome/PMC-VQA",
    license="of each article, see the card",
    splits=("train", "test"),
    schema_from="the public card (version 1), xiaoman-zhang/PMC-VQA and MedEvalKit's reader (version 2)",
)
LETTERS = "ABCD"
COLUMNS = {
    "Figure_path": "the file name of the figure",
    "Question": "its text",
    **{f"Choice {letter}": f"option {letter}" for letter in LETTERS},
}
RELEASES = {
    "1": ("train.csv", "test.csv", "images.zip"),
    "1-clean": ("train.csv", "test_clean.csv", "images.zip"),
    "2": ("train_2.csv", "test_2.csv", "images_2.zip"),
}


class Params(Source):
    """See `Source`. release: the version of the source. A folder may have the zip, or its `figures` or `images`."""

    name: Literal["pmc_vqa"] = "pmc_vqa"
    path: str = "RadGenome/PMC-VQA"
    release: Literal["1", "1-clean", "2"] = "2"


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per figure, with all of its questions in that split; validation holds out training articles."""
    train, test, archive = RELEASES[params.release]
    source = test if split == "test" else train
    root = archives.root(params.path, f"{train}, {test} and {archive}", (train, test, archive), params.revision)
    rows = archives.table(root / source, COLUMNS)
    items = grouping.by_key(rows, lambda row: row["Figure_path"], lambda row: row["Figure_path"].split("_")[0])
    images = archives.Images(root, (archive,), ("figures", "images", ""))
    for item in splits.taken(items, params, split, hold_out=True):
        yield _example(item, images, source, split)


def _example(item: grouping.RowGroup, images: archives.Images, source: str, split: str) -> Example:
    return grouping.example(
        CARD, dataset="pmc_vqa", split=split, image_id=item.key, image=images(item.key),
        questions=tuple(_question(number, row, source) for number, row in item.rows),
        group=item.group, family="figures", modality="mixed", anatomy="mixed",
    )


def _question(number: int, row: dict, source: str) -> Question:
    options = [re.sub(r"^\s*[A-D]\s*:\s*", "", row[f"Choice {letter}"]).strip() for letter in LETTERS]
    right = _right(row, options, f"{source} row {number}")
    return choice(f"{number}", row["Question"].strip(), options, right, "figure")


def _right(row: dict, options: list[str], where: str) -> int:
    """The number of the right option, by letter or by its text."""
    answers = [row.get(name, "").strip() for name in ("Answer_label", "Answer", "Anwser")]
    for answer in filter(None, answers):
        if answer in LETTERS:
            return LETTERS.index(answer)
        if answer in options:
            return options.index(answer)
    raise DataError(
        f"The columns Answer_label, Answer or Anwser must hold a letter of {LETTERS} or an option's text, but {where} "
        f"has {answers} and the options {options}. Pin a revision that has them."
    )

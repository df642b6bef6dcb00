"""BBBC021: breast cancer cells under compounds, three stains as one RGB image (https://bbbc.broadinstitute.org/BBBC021).

A folder with the author's ms-swift rows and the RGB images that they name, which the author made from the three TIFFs
of each field. His queries are not public; the test file is bbbc021_test.jsonl.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data.example import Example
from medstudy.data.readers import class_rows
from medstudy.data.readers.dataset_card import Card

VERSION = "2"
CARD = Card(
    url="https://data.broadinstitute.org/bbbc/BBBC021/",
    license="see its page",
    splits=("train", "test"),
    schema_from="the public evaluation code of the paper's first author",
    typical=(1024, 1280),
    typical_from="the fields of view of the source",
)


class Params(class_rows.Rows):
    """See `class_rows.Rows`."""

    name: Literal["bbbc021"] = "bbbc021"
    train_file: str = "bbbc021_train.jsonl"
    test_file: str | None = "bbbc021_test.jsonl"


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, or per group of images that are shown together."""
    about = class_rows.About("bbbc021", CARD, "perturbation", "subcellular", "fluorescence", "MCF-7 cells")
    return class_rows.load(params, split, about)

"""Cervical liquid-based cytology in four classes (Hussain et al. 2019, https://doi.org/10.17632/zddtpgzv63.4).

963 images at 40x from 460 patients. A folder with the author's ms-swift rows, 200 of them for testing; they do not say
which images are of the same patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import PositiveInt

from medstudy.data.example import Example
from medstudy.data.readers import class_rows
from medstudy.data.readers.dataset_card import Card

VERSION = "2"
CARD = Card(
    url="https://data.mendeley.com/datasets/zddtpgzv63/4",
    license="CC-BY-4.0",
    splits=("train", "test"),
    schema_from="the public evaluation code of the paper's first author",
    images={"train": 763, "test": 200},
    questions={"train": 763, "test": 200},
    typical=(1536, 2048),
    render=True,
)


class Params(class_rows.Rows):
    """See `class_rows.Rows`."""

    name: Literal["hussain"] = "hussain"
    test_file: str | None = "test_200_qwen.jsonl"
    test_rows: PositiveInt | None = 200


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with the question for its class."""
    about = class_rows.About("hussain", CARD, "lesion", "cytology", "light microscopy", "cervix")
    return class_rows.load(params, split, about)

"""PathVQA: questions made from captions of pathology textbooks and a digital library (https://arxiv.org/abs/2003.10286).

From `flaviagiammarino/path-vqa`. Some of its images are CMYK JPEGs; `medstudy.imaging` turns them into RGB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/flaviagiammarino/path-vqa",
    license="MIT; the images belong to their publishers",
    splits=("train", "val", "test"),
    schema_from="the public card, and the public evaluation code of the paper's first author",
    images={"train": 2599, "val": 832, "test": 858},
    questions={"train": 19654, "val": 6259, "test": 6719},
    typical=(272, 309),
    typical_from="the one image that the author's README shows",
)
COLUMNS = {"image": "the image", "question": "its text", "answer": "yes, no or words"}
SPLIT = {"train": "train", "val": "validation", "test": "test"}


class Params(Source):
    """See `Source`. The source has its own validation split, so `val_share` is not used."""

    name: Literal["path_vqa"] = "path_vqa"
    path: str = "flaviagiammarino/path-vqa"
    revision: str | None = "1685832883334b5bb5beaf4e4b333fdeecaa4ad9"


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with all of its questions in that split."""
    rows = hub.rows(params.path, SPLIT[split], COLUMNS, revision=params.revision)
    about = {"dataset": "path_vqa", "family": "pathology", "modality": "pathology"}
    examples = grouping.examples(rows, f"PathVQA {SPLIT[split]}", split, CARD, **about)
    return splits.taken(examples, params, split)

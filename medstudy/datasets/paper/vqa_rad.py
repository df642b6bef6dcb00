"""VQA-RAD: radiology images with questions by clinicians (https://doi.org/10.1038/sdata.2018.251).

From `flaviagiammarino/vqa-rad`. Its splits are by question, so images are in both training and test: a leak that a
study must admit by name. Training images are held out for validation with all their questions.
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
    url="https://huggingface.co/datasets/flaviagiammarino/vqa-rad",
    license="CC0-1.0",
    splits=("train", "test"),
    schema_from="the public card, and the public evaluation code of the paper's first author",
    images={"test": 203},
    questions={"train": 1793, "test": 451},
    render=True,
)
COLUMNS = {"image": "the image", "question": "its text", "answer": "yes, no or words"}


class Params(Source):
    """See `Source`."""

    name: Literal["vqa_rad"] = "vqa_rad"
    path: str = "flaviagiammarino/vqa-rad"
    revision: str | None = "bcf91e7654fb9d51c8ab6a5b82cacf3fafd2fae9"


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with all of its questions in that split."""
    source = "test" if split == "test" else "train"
    rows = hub.rows(params.path, source, COLUMNS, revision=params.revision)
    about = {"dataset": "vqa_rad", "family": "radiology", "modality": "radiology"}
    examples = grouping.examples(rows, f"VQA-RAD {source}", split, CARD, **about)
    return splits.taken(examples, params, split, hold_out=True)

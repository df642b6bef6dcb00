"""MedFrameQA: multiple-choice questions on two to five frames of a medical video (arXiv 2505.16964).

From `SuhaoYu1020/MedFrameQA`, which is all test split. A prompt shows the frames in order: the last is the example's
own image, the others come before it. Frames of one video are one group. There is no training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import LETTERS, Example
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import lettered
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/SuhaoYu1020/MedFrameQA",
    license="CC-BY-4.0 (questions); frames of each video, see the card",
    splits=("test",),
    schema_from="haojinw0027/MedFrameQA: src/eval_process.py; MedEvalKit's reader; OctoMed/MedFrameQA's card (a copy)",
    questions={"test": 2851},
)
IMAGES = tuple(f"image_{number}" for number in range(1, 6))
COLUMNS = {
    "question_id": "the question's",
    "question": "its text",
    "options": "its options, without letters",
    "correct_answer": "the letter of the right one",
    "video_id": "the video's",
    "image_1": "the first frame",
}


class Params(Source):
    """See `Source`."""

    name: Literal["medframeqa"] = "medframeqa"
    path: str = "SuhaoYu1020/MedFrameQA"


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per question, with its own frames."""
    rows = hub.rows(params.path, "test", COLUMNS, revision=params.revision, images=IMAGES)
    items = grouping.by_key(rows, lambda row: row["question_id"], lambda row: row["video_id"])
    for item in splits.taken(items, params, split):
        yield _example(item)


def _example(item: grouping.RowGroup) -> Example:
    row = item.rows[0][1]
    name = f"{item.key}"
    frames = [hub.picture(row[column], f"{column} of {name}") for column in IMAGES if row.get(column)]
    context, image = grouping.context_and_image(frames, name)
    about = {column: row.get(column) for column in ("system", "organ", "keyword", "modality")}
    options = dict(zip(LETTERS, (text.strip() for text in row["options"]), strict=False))
    question = lettered(
        name, row["question"].strip(), options, row["correct_answer"].strip(), about["system"] or "unknown",
        tags=grouping.tags(**about, frames=f"{len(frames)}"),
    )
    return grouping.example(
        CARD, dataset="medframeqa", split="test", image_id=name, image=image, context=context, questions=(question,),
        group=f"{item.group}", family=about["modality"] or "unknown", modality=about["modality"] or "unknown",
        anatomy=about["organ"] or "unknown",
    )

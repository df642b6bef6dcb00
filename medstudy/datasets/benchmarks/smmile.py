"""SMMILE: clinical problems that are answered after solved examples in the prompt (arXiv 2506.21355).

From `smmile/SMMILE` (or `smmile/SMMILE-plusplus`). The test split here is the only one of the source, called train. The
rows of a problem, by `order`, are solved examples; the last is the question. As in the authors' process_data, problems
with a missing image are left out: compare the number loaded with the card's. There is no training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Shot
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import closed_or_open
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/smmile/SMMILE",
    license="CC-BY-NC-SA-4.0",
    splits=("test",),
    schema_from="eth-medical-ai-lab/smmile: inference_and_evaluation/utils.py, stratify.py; arXiv 2506.21355",
    questions={"test": 111},
)
COLUMNS = {
    "problem_id": "the problem's",
    "order": "the row's place in it",
    "question": "its text",
    "answer": "words",
    "image": "the image",
}


class Params(Source):
    """See `Source`. shots: show the solved examples (the benchmark), or only the question (its 0-shot baseline)."""

    name: Literal["smmile"] = "smmile"
    path: str = "smmile/SMMILE"
    shots: bool = True


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per problem."""
    rows = hub.rows(params.path, "train", COLUMNS, revision=params.revision)
    items = grouping.by_key(rows, lambda row: row["problem_id"])
    whole = [item for item in items if all(row["image"] and row["image"].get("bytes") for _, row in item.rows)]
    for item in splits.taken(whole, params, split):
        yield _example(item, params.shots)


def _example(item: grouping.RowGroup, shots: bool) -> Example:
    rows = sorted((row for _, row in item.rows), key=lambda row: row["order"])
    pictures = [hub.picture(row["image"], f"image {row['order']} of problem {item.key}") for row in rows]
    context = tuple(
        Shot(picture, row["question"].strip(), row["answer"].strip())
        for picture, row in zip(pictures[:-1], rows[:-1], strict=True)
    )
    last, field = rows[-1], rows[-1].get("speciality") or "clinical"
    flags = {name: f"{value}" for name, value in last.items() if name.startswith("flag_") and value is not None}
    question = closed_or_open(
        str(item.key), last["question"].strip(), last["answer"].strip(), field,
        tags=grouping.tags(speciality=last.get("speciality"), examples=f"{len(context)}", **flags),
    )
    return grouping.example(
        CARD, dataset="smmile", split="test", image_id=str(item.key), image=pictures[-1],
        context=context if shots else (), questions=(question,), group=str(item.key), family=field,
        modality="mixed", anatomy="mixed",
    )

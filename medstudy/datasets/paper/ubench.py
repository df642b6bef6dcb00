"""µ-Bench: multiple choice over microscopy of many kinds (https://arxiv.org/abs/2407.01791); only evaluated on.

From `jnirschl/uBench`. As in the author's evaluation, only images of more than 1,000,000 pixels are used, without
questions that are null or have no options. The last option is "none of the above". `answer_idx` is the right option.
The data set contains the images of `hussain` as hussain_et_al_2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import NonNegativeInt

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import choice, tagged
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/jnirschl/uBench",
    license="CC-BY-SA-4.0",
    splits=("test",),
    schema_from="the public card, and public code that evaluates it at the pinned revision",
    images={"test": 17315},
    typical=(1024, 1024),
    render=True,
)
COLUMNS = {
    "image_id": "its name", "image": "the image", "questions": "{type: {question, options, answer_idx} or null}",
}
TAGS = ("dataset", "domain", "subdomain", "modality", "submodality", "stain")


class Params(Source):
    """See `Source`. There is no training split.

    whole: also use images of at most `over_pixels` pixels, which the author leaves out.
    """

    name: Literal["ubench"] = "ubench"
    path: str = "jnirschl/uBench"
    revision: str | None = "3f2c5b590bc7a208d5b60f3527ce4c76a331aa2b"
    whole: bool = False
    over_pixels: NonNegativeInt = 1_000_000


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image with a question."""
    rows = hub.rows(params.path, "test", COLUMNS, revision=params.revision)
    examples = filter(None, map(_example, rows))
    if not params.whole:
        examples = (example for example in examples if example.image.height * example.image.width > params.over_pixels)
    return splits.taken(examples, params, split)


def _example(row: dict) -> Example | None:
    questions = (_question(task, fields, row) for task, fields in sorted((row["questions"] or {}).items()))
    if not (questions := tuple(filter(None, questions))):
        return None
    picture = hub.picture(row["image"], f"image {row['image_id']} of µ-Bench")
    license = row.get("license") or CARD.license
    domain, modality = row.get("domain") or "microscopy", row.get("modality") or "microscopy"
    return Example(
        image_id=row["image_id"], image=picture, questions=questions, dataset="ubench", split="test",
        group=picture.sha256[:16], family=domain, modality=modality, anatomy="unknown",
        render=CARD.render and license.upper().startswith("CC"), source=CARD.url, license=license,
    )


def _question(task: str, fields: dict | None, row: dict) -> Question | None:
    if not fields or not fields.get("question") or not fields.get("options"):
        return None
    return choice(task, fields["question"], fields["options"], fields["answer_idx"], task, tags=tagged(row, TAGS))

"""What is published about a data set: where it is, its licence, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from medstudy.records import SPLITS


@dataclass(frozen=True)
class Card:
    """Facts from a public card, none of them measured here.

    images, questions: published numbers by split, for those that are known; what is loaded is compared with them.
    typical: (height, width) that an estimate assumes of every image as long as the data set is not here, and
    `typical_from` where that size comes from ("assumed" where no source states one). words: of a question with its
    options, and of an answer, assumed likewise.
    splits: those that the source itself has, by our names. schema_from: where its columns were read.
    """

    url: str
    license: str
    splits: tuple[str, ...]
    schema_from: str
    images: dict[str, int] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)
    typical: tuple[int, int] = (512, 512)
    typical_from: str = "assumed"
    words: tuple[int, int] = (10, 2)
    render: bool = False  # whether its licence lets images appear in a rendered notebook or figure


def compared(card: Card, questions: pd.DataFrame) -> pd.DataFrame:
    """Images and questions of each split of the source: found, as in a built data set's `questions`, and published.

    Validation images that were held out of the source's training split count there. Missing where no number is
    published. A difference is no error: params may ask for less, and sources change.
    """
    moved = {"val": "train"} if "val" not in card.splits and "train" in card.splits else {}
    rows = questions.assign(split=questions["split"].replace(moved))
    found = rows.groupby("split").agg(images=("image_id", "nunique"), questions=("question_id", "size"))
    names = [split for split in SPLITS if split in {*card.splits, *found.index}]
    table = found.reindex(names, fill_value=0)
    for what in ("images", "questions"):
        published = pd.Series(getattr(card, what), dtype="Int64").reindex(names)
        table.insert(table.columns.get_loc(what) + 1, f"{what}_published", published)
    return table.reset_index(names="split")

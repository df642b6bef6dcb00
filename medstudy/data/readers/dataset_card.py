"""What is published about a data set: its address, its licence, and its size."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from medstudy.data.example import SPLITS


@dataclass(frozen=True)
class Card:
    """Facts from a public data set card; none is measured here.

    splits: the source's own splits, by our names. schema_from: where its columns are documented.
    images, questions: published numbers per split, where known; what is loaded is compared with them.
    typical: (height, width) that an estimate assumes for every image until the data set is downloaded.
    typical_from: the source of that size, or "assumed".
    words: assumed numbers of words of a question with its options, and of an answer.
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
    """Images and questions in each split of the source: loaded (from a built data set's `questions`) and published.

    Validation images held out of the source's training split count as training. Numbers that are not published are
    missing. A difference is not an error: params may ask for less, and sources change.
    """
    moved = {"val": "train"} if "val" not in card.splits and "train" in card.splits else {}
    rows = questions.assign(split=questions["split"].replace(moved))
    loaded = rows.groupby("split").agg(images=("image_id", "nunique"), questions=("question_id", "size"))
    names = [split for split in SPLITS if split in {*card.splits, *loaded.index}]
    table = loaded.reindex(names, fill_value=0)
    for unit in ("images", "questions"):
        published = pd.Series(getattr(card, unit), dtype="Int64").reindex(names)
        table.insert(table.columns.get_loc(unit) + 1, f"{unit}_published", published)
    return table.reset_index(names="split")

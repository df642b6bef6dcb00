"""MediConfusion: pairs of radiographs that models confuse, the same question with opposite answers (arXiv 2409.15477).

A folder as made by the repository AIF4S/MediConfusion: dataset.csv, and images/, which its scripts/download.py fetches
from the articles. A pair is a set: it is right if both answers are. Confusion is the share of pairs with the same
answer for both images (`tables/sets.py`). An image may be in several pairs; images linked by pairs are one group. There
is no training split.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

from medstudy.data import splits
from medstudy.data.example import Example, Question
from medstudy.data.readers import archives, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import lettered
from medstudy.data.readers.source import Source

VERSION = "1"
CARD = Card(
    url="https://github.com/AIF4S/MediConfusion",
    license="MIT (questions); images of each article, see the card",
    splits=("test",),
    schema_from="AIF4S/MediConfusion: data/dataset.csv, utils/answering.py, scripts/download.py",
    images={"test": 228},
    questions={"test": 352},
)
COLUMNS = {
    "id": "the pair's",
    "im_1_local": "the first image's number",
    "im_2_local": "the second image's number",
    "question": "its text",
    "option_A": "option A",
    "option_B": "option B",
    "im_1_correct": "the letter for the first image",
    "im_2_correct": "the letter for the second image",
}


class Params(Source):
    """See `Source`. path: the folder with dataset.csv and images/. A pair that `test` divides is no set."""

    name: Literal["mediconfusion"] = "mediconfusion"


@grouping.only_tested
def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with its question from each of its pairs."""
    root = archives.root(params.path, "dataset.csv and images/")
    rows = list(archives.table(root / "dataset.csv", COLUMNS))
    groups = _linked([(row["im_1_local"], row["im_2_local"]) for row in rows])
    items = grouping.by_key(_sides(rows), lambda side: side["image"], lambda side: groups[side["image"]])
    kept = list(splits.taken(items, params, split))
    tested, images = {item.key for item in kept}, archives.Images(root, below=("images",))
    for item in kept:
        yield grouping.example(
            CARD, dataset="mediconfusion", split=split, image_id=item.key, image=images(f"{item.key}.jpg"),
            questions=tuple(_question(side, side["other"] in tested) for _, side in item.rows), group=item.group,
            family="radiology", modality="radiology", anatomy="unknown",
        )


def _linked(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Each image's group, named by the first of all images that pairs link it to."""
    groups: dict[str, str] = {}
    for left, right in pairs:
        first, second = groups.setdefault(left, left), groups.setdefault(right, right)
        groups |= {name: first for name, group in groups.items() if group == second}
    return groups


def _sides(rows: list[dict]) -> Iterator[dict]:
    """Each pair twice, once for each image: `image`, the `other` image, and `side`."""
    for row in rows:
        for side, other in (("1", "2"), ("2", "1")):
            yield row | {"side": side, "image": row[f"im_{side}_local"], "other": row[f"im_{other}_local"]}


def _question(side: dict, whole: bool) -> Question:
    """whole: both images of the pair are tested, so that it is a set."""
    number, options = side["side"], {"A": side["option_A"].strip(), "B": side["option_B"].strip()}
    tags = grouping.tags(category=_categories(side.get(f"category_{number}")))
    return lettered(
        f"{side['id']}-{number}", side["question"].strip(), options, side[f"im_{number}_correct"].strip(),
        "confusing pair", set_id=side["id"] if whole else None, tags=tags,
    )


def _categories(text: str | None) -> list[str]:
    """The names in "['Cerebral', 'Vascular']", parsed as a literal."""
    try:
        names = ast.literal_eval(text or "[]")
    except (ValueError, SyntaxError):
        return [text]
    return [str(name) for name in names] if isinstance(names, list) else [str(names)]

"""Sources with one row a question, in which an image is repeated in every row that asks about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example
from medstudy.data.readers import hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import answered, closed_or_open


def by_image(
    rows: Iterable[dict], where: str, image: str = "image"
) -> Iterator[tuple[Picture, list[tuple[int, dict]]]]:
    """Each different image with (number in the source, row) of its questions; in order of first appearance.

    Images are the same when their encoded bytes are. Raises DataError for a row without one.
    """
    pictures: dict[str, Picture] = {}
    asked: dict[str, list[tuple[int, dict]]] = {}
    for number, row in enumerate(rows):
        found = hub.picture(row.pop(image), f"row {number} of {where}")
        pictures.setdefault(found.sha256, found)
        asked.setdefault(found.sha256, []).append((number, row))
    for name, found in pictures.items():
        yield found, asked[name]


def examples(rows: Iterable[dict], where: str, split: str, card: Card, *, dataset: str, family: str,
             modality: str) -> Iterator[Example]:
    """Rows of image, question and answer as examples of closed and open questions; a row without a text is left out."""
    for picture, asked in by_image(rows, where):
        name = picture.sha256[:16]
        questions = [
            closed_or_open(f"{number}", row["question"], row["answer"], family)
            for number, row in asked
            if answered(row)
        ]
        if questions:
            yield Example(
                image_id=name, image=picture, questions=tuple(questions), dataset=dataset, split=split, group=name,
                family=family, modality=modality, anatomy="unknown", render=card.render, source=card.url,
                license=card.license,
            )

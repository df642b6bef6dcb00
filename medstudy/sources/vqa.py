"""Sources with one row a question, in which an image is repeated in every row that asks about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from medstudy.pictures import Picture
from medstudy.sources import hub


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

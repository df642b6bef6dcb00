"""What public data sets share: rows collected by what they ask about, prompts of several images, examples, tags."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple

from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Shot
from medstudy.data.readers import hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import answered, closed_or_open
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

Load = Callable[[Source, str], Iterable[Example]]
NumberedRow = tuple[int, dict]  # its number in the source, from 0, and the row


class RowGroup(NamedTuple):
    """The rows about one `key`, such as an image's name, and their group, which must not be split.

    `splits.capped` takes these as well as examples.
    """

    group: str
    key: Hashable
    rows: list[NumberedRow]


def by_key(
    rows: Iterable[dict], key: Callable[[dict], Hashable], group: Callable[[dict], str] | None = None
) -> list[RowGroup]:
    """Rows with equal `key` together, in order of first appearance; for rows of text whose images are read later.

    group: from the first row of each; by default the key.
    """
    groups: dict[Hashable, RowGroup] = {}
    for number, row in enumerate(rows):
        name = key(row)
        rows_of_key = groups.setdefault(name, RowGroup(group(row) if group else str(name), name, [])).rows
        rows_of_key.append((number, row))
    return list(groups.values())


def by_image(rows: Iterable[dict], where: str, image: str = "image") -> Iterator[tuple[Picture, list[NumberedRow]]]:
    """Each distinct image with its rows, in order of first appearance; for rows that contain their image.

    Images are equal if their encoded bytes are. Raises DataError for a row without one.
    """
    groups: dict[str, tuple[Picture, list[NumberedRow]]] = {}
    for number, row in enumerate(rows):
        picture = hub.picture(row.pop(image), f"row {number} of {where}")
        groups.setdefault(picture.sha256, (picture, []))[1].append((number, row))
    yield from groups.values()


def examples(rows: Iterable[dict], where: str, split: str, card: Card, *, dataset: str, family: str,
             modality: str) -> Iterator[Example]:
    """Examples with closed and open questions from rows of image, question and answer; incomplete rows are skipped."""
    for picture, image_rows in by_image(rows, where):
        name = picture.sha256[:16]
        questions = tuple(
            closed_or_open(f"{number}", row["question"], row["answer"], family)
            for number, row in image_rows if answered(row)
        )
        if questions:
            yield example(card, image_id=name, image=picture, questions=questions, dataset=dataset, split=split,
                          group=name, family=family, modality=modality, anatomy="unknown")


def example(card: Card, **fields: Any) -> Example:
    """An `Example` with the source, the licence and the permission to be shown of its data set's card."""
    return Example(render=card.render, source=card.url, license=card.license, **fields)


def context_and_image(pictures: Sequence[Picture], where: str) -> tuple[tuple[Shot, ...], Picture]:
    """(context, image) of a prompt with these images: the last is the example's own. Raises DataError for none."""
    if not pictures:
        raise DataError(f"A question needs an image, but {where} has none. Remove the row, or fix the source.")
    return tuple(Shot(picture) for picture in pictures[:-1]), pictures[-1]


def tags(**values: str | Iterable[str] | None) -> tuple[str, ...]:
    """ "name=value" of every value that is not blank; a list gives several."""
    lists = {name: [value] if isinstance(value, str) else list(value or ()) for name, value in values.items()}
    return tuple(f"{name}={value.strip()}" for name, entries in lists.items() for value in entries if value.strip())


def only_tested(load: Load) -> Load:
    """A benchmark's `load`: its train and val splits are empty, and its source is not opened for them."""

    @wraps(load)
    def of_split(params: Source, split: str) -> Iterator[Example]:
        return iter(load(params, split)) if split == "test" else iter(())

    return of_split

"""What public data sets share: rows gathered by what they ask about, prompts of several images, tags, examples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import wraps
from typing import NamedTuple

from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Shot
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

Load = Callable[[Source, str], Iterable[Example]]


class Asked(NamedTuple):
    """What rows ask about, and those rows with their numbers in the source; `splits.capped` takes these too."""

    group: str
    key: Hashable
    rows: list[tuple[int, dict]]


def gathered(
    rows: Iterable[dict], key: Callable[[dict], Hashable], group: Callable[[dict], str] | None = None
) -> list[Asked]:
    """Rows that ask about the same `key`, as an image's name, in order of first appearance.

    group: of the first of them; by default the key. Use it where rows are text and images are read afterwards.
    """
    found: dict[Hashable, Asked] = {}
    for number, row in enumerate(rows):
        about = key(row)
        one = found.setdefault(about, Asked(group(row) if group else str(about), about, []))
        one.rows.append((number, row))
    return list(found.values())


def shown(pictures: Sequence[Picture], where: str) -> tuple[tuple[Shot, ...], Picture]:
    """(context, image) of a prompt that shows these images: the last is the example's. Raises DataError for none."""
    if not pictures:
        raise DataError(f"A question needs an image, but {where} has none. Remove the row, or mend the source.")
    return tuple(Shot(picture) for picture in pictures[:-1]), pictures[-1]


def tags(**values: str | Iterable[str] | None) -> tuple[str, ...]:
    """ "name=value" of every value that is there; a list gives several."""
    lists = {name: [value] if isinstance(value, str) else list(value or ()) for name, value in values.items()}
    return tuple(f"{name}={value.strip()}" for name, found in lists.items() for value in found if value.strip())


def only_tested(load: Load) -> Load:
    """A benchmark's `load`: its train and val splits are empty, and its source is not opened for them."""

    @wraps(load)
    def of_split(params: Source, split: str) -> Iterator[Example]:
        return iter(load(params, split)) if split == "test" else iter(())

    return of_split


def example(card: Card, **fields: object) -> Example:
    """An `Example` of these fields whose source, licence and right to be shown are those of its data set's card."""
    return Example(render=card.render, source=card.url, license=card.license, **fields)

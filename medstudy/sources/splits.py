"""Which examples stand in which split: held-out groups, caps; by name and seed, never by order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from medstudy.records import Example
from medstudy.resolution import uniform


def held_out(group: str, share: float, seed: int) -> bool:
    """Whether a group of the training rows is used for validation instead."""
    return uniform("val", seed, group) < share


def capped(examples: Iterable[Example], most: int | None, seed: int) -> Iterator[Example]:
    """At most `most` images, the first in a seeded order of their groups; in the order in which they arrived.

    A group is taken whole or not at all, but for the last one.
    """
    if most is None:
        yield from examples
        return
    every = list(examples)
    order = sorted(range(len(every)), key=lambda i: (uniform("cap", seed, every[i].group), every[i].group, i))
    for index in sorted(order[:most]):
        yield every[index]

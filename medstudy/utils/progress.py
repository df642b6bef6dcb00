"""A progress line for long work: count, rate, time left; live in a terminal or notebook, one line a minute in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], what: str, unit: str = "it", total: int | None = None, done: int = 0) -> Iterator[T]:
    """Iterate with a progress line; see `bar`."""
    return iter(bar(what, unit, total, done, items))


def bar(what: str, unit: str = "it", total: int | None = None, done: int = 0, items: Iterable | None = None) -> tqdm:
    """A tqdm line; without a terminal it prints a full line a minute instead of redrawing one.

    In a kernel it goes to standard output, because a notebook shows standard error in red, like warnings.
    """
    live = sys.stderr.isatty()
    return tqdm(
        items,
        file=sys.stdout if type(sys.stdout).__module__.startswith("ipykernel.") else sys.stderr,
        desc=what,
        unit=unit,
        total=total,
        initial=done,
        dynamic_ncols=live,
        ascii=not live,
        mininterval=0.2 if live else 60,
        maxinterval=10 if live else 120,
    )

"""A function of many items in several processes, with the results in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice, starmap
from typing import TypeVar

from medstudy.utils import allocation, devices

T = TypeVar("T")
TOGETHER = 8  # items that a process gets at once


def mapped(function: Callable[..., T], items: Iterable[tuple], processes: int) -> Iterator[T]:
    """function(*item) of each item, in their order, in at most so many processes and at most one per usable core.

    Few results wait at any time, so that memory does not grow with their number. The function is imported by name in
    new processes, so a script that calls this with several needs `if __name__ == "__main__"`.
    """
    processes = min(processes, devices.cores())
    if processes < 2:
        yield from starmap(function, items)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    items, waiting = iter(items), deque[Future]()
    with ProcessPoolExecutor(processes, context, initializer=allocation.keep_freed) as pool:
        while chunk := list(islice(items, TOGETHER)):
            waiting.append(pool.submit(_each, function, chunk))
            if len(waiting) > 2 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _each(function: Callable[..., T], chunk: list[tuple]) -> list[T]:
    return list(starmap(function, chunk))

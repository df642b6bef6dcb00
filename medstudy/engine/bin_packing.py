"""Pack rows of different lengths into forward passes of a token budget, so that every policy needs the same memory."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from medstudy.errors import ResolutionError


def check(lengths: Sequence[int], budget: int, names: Sequence[str]) -> None:
    """Raise ResolutionError naming the longest sample if it does not fit in a forward pass by itself."""
    longest = max(range(len(lengths)), key=lambda index: lengths[index], default=None)
    if longest is not None and lengths[longest] > budget:
        raise ResolutionError(
            f"An image with its questions must fit in one forward pass of {budget} tokens, but {names[longest]} takes "
            f"{lengths[longest]}. Raise tokens_per_pass in the params, or lower the policy's max_pixels."
        )


def shares(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Indices of `costs` (positive) for each process, with sums about equal, by the largest differencing method.

    Each cost starts as a division of its own, alone in one share. The two divisions whose shares differ most are
    joined, the largest share of one with the smallest of the other, until one division is left. No share is empty if
    there are at least as many costs as processes. The same costs give the same shares on every machine, each in order.
    Karmarkar and Karp 1982, https://en.wikipedia.org/wiki/Largest_differencing_method
    """
    empty: list[tuple[float, list[int]]] = [(0, [])] * (processes - 1)
    heap = [(-cost, index, [*empty, (cost, [index])]) for index, cost in enumerate(costs)]  # smallest share first
    heapq.heapify(heap)
    while len(heap) > 1:
        (_, index, division), (_, _, other) = heapq.heappop(heap), heapq.heappop(heap)
        pairs = zip(division, reversed(other), strict=True)
        joined = sorted((a + b, left + right) for (a, left), (b, right) in pairs)
        heapq.heappush(heap, (joined[0][0] - joined[-1][0], index, joined))
    division = heap[0][2] if heap else [*empty, (0, [])]
    return [sorted(share) for _, share in division]


def fill(lengths: Sequence[int], budget: int, names: Sequence[str]) -> list[list[int]]:
    """Indices of `lengths` in groups whose sums stay within the budget: first fit, longest first; see `check`.

    The same lengths give the same groups on every machine.
    """
    check(lengths, budget, names)
    groups: list[list[int]] = []
    room: list[int] = []
    place, before = 0, None
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if length != before:  # an equal length starts where the last one went: earlier groups are still too full
            place, before = 0, length
        while place < len(room) and room[place] < length:
            place += 1
        if place == len(room):
            groups.append([])
            room.append(budget)
        groups[place].append(index)
        room[place] -= length
    return groups

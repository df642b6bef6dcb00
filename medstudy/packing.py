"""Rows of many lengths into forward passes of at most so many tokens: memory stays flat whatever the policy."""

from __future__ import annotations

from collections.abc import Sequence

from medstudy.errors import ResolutionError


def check(lengths: Sequence[int], budget: int, names: Sequence[str]) -> None:
    """Raise ResolutionError naming the longest sample when it does not fit in a forward pass by itself."""
    longest = max(range(len(lengths)), key=lambda index: lengths[index], default=None)
    if longest is not None and lengths[longest] > budget:
        raise ResolutionError(
            f"An image with its questions must fit in one forward pass of {budget} tokens, but {names[longest]} takes "
            f"{lengths[longest]}. Raise tokens_per_pass in the params, or lower the policy's max_pixels."
        )


def shares(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Indices of `lengths` for each process, with sums about equal: longest first, each to the one with the least.

    The same lengths give the same shares on every machine; within one the order is kept.
    """
    made: list[list[int]] = [[] for _ in range(processes)]
    sums = [0] * processes
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        place = sums.index(min(sums))
        made[place].append(index)
        sums[place] += lengths[index]
    return [sorted(share) for share in made]


def fill(lengths: Sequence[int], budget: int, names: Sequence[str]) -> list[list[int]]:
    """Indices of `lengths` in groups whose sums keep the budget: first fit, longest first; see `check`.

    The same lengths give the same groups on every machine.
    """
    check(lengths, budget, names)
    groups: list[list[int]] = []
    room: list[int] = []
    place, before = 0, None
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if length != before:  # one as long as the last goes where that went or after: what was too full before still is
            place, before = 0, length
        while place < len(room) and room[place] < length:
            place += 1
        if place == len(room):
            groups.append([])
            room.append(budget)
        groups[place].append(index)
        room[place] -= length
    return groups

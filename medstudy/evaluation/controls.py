"""Controls of an evaluation: which one a rung is, and another item's image for `shuffled`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medstudy.data.example import Example
from medstudy.errors import DataError
from medstudy.resolution.policies import Control, Single


def control_of(policy: Single | Control) -> str:
    """The control's name, or "none" for a rung."""
    return policy.policy if policy.policy in ("down_up", "blind", "shuffled") else "none"


def swapped(examples: Sequence[Example]) -> list[Example]:
    """For each example the next one of its family, so that prior and style are kept but the image is a different one.

    The context before the image in the prompt is kept. The only example of a family is shown the next image of all.
    Raises DataError if there is no other image.
    """
    if len(examples) < 2:
        raise DataError(
            f"The control `shuffled` shows every question another image, but the test split has {len(examples)}. Raise "
            "its size in the params, or leave the control out."
        )
    families: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        families.setdefault(example.family, []).append(index)
    following = {}
    for members in families.values():
        for index, other in zip(members, [*members[1:], members[0]], strict=True):
            following[index] = other if len(members) > 1 else (index + 1) % len(examples)
    return [replace(examples[following[i]], context=example.context) for i, example in enumerate(examples)]

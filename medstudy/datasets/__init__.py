"""The data sets by name. Each is one module with `Params` (frozen, strict), `VERSION` and `load(params, split)`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from medstudy.datasets import atlas, general, phantom
from medstudy.records import Example

REGISTRY = {"phantom": phantom, "atlas": atlas, "general": general}
Params = Annotated[phantom.Params | atlas.Params | general.Params, Field(discriminator="name")]


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of one split, in a fixed order."""
    return REGISTRY[params.name].load(params, split)


def version(params: Params) -> str:
    """The data set's version: part of the identity of everything made from it."""
    return REGISTRY[params.name].VERSION

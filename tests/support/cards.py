"""docs/reference/data-sets.md: the table of public data sets, from their cards. `python -m tests.support.cards` writes
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from medstudy import datasets, paths
from medstudy.data.example import SPLITS
from medstudy.report.pages import readme

PAGE = paths.ROOT / "docs" / "reference" / "data-sets.md"
CONTENTS = ("name", "what", "images", "questions")
SOURCES = ("name", "source", "revision", "licence", "format known from")


def table() -> str:
    """What each public data set holds, then where it comes from: what is published, none of it measured here."""
    public = [name for name, module in datasets.REGISTRY.items() if hasattr(module, "CARD")]
    return f"{_table(CONTENTS, map(_contents, public))}\n\n{_table(SOURCES, map(_source, public))}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _contents(name: str) -> tuple[str, ...]:
    module = datasets.REGISTRY[name]
    title = re.sub(r"\s*\([^)]*(http|arXiv)[^)]*\)", "", module.__doc__.splitlines()[0])
    what = title.split(": ", 1)[-1].strip().rstrip(".")
    return f"`{name}`", what, _counts(module.CARD, "images"), _counts(module.CARD, "questions")


def _source(name: str) -> tuple[str, ...]:
    card, revision = datasets.REGISTRY[name].CARD, datasets.REGISTRY[name].Params.model_fields["revision"].default
    link = f"[{'/'.join(card.url.rstrip('/').split('/')[-2:])}]({card.url})"
    return f"`{name}`", link, f"`{revision[:8]}`" if revision else "", card.license, card.schema_from


def _counts(card, what: str) -> str:
    """By split, those that are published; a split without a number is named all the same."""
    known = getattr(card, what)
    named = [split for split in SPLITS if split in card.splits]
    return ", ".join(f"{split} {known[split]:,}" if split in known else f"{split} ?" for split in named)


if __name__ == "__main__":
    readme.replace("cards", table(), PAGE)

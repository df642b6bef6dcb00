"""docs/reference/data-sets.md: the table of public data sets, from their cards. `python -m tests.cards` writes it."""

from __future__ import annotations

import re

from medstudy import datasets, paths, readme
from medstudy.records import SPLITS

PAGE = paths.ROOT / "docs" / "reference" / "data-sets.md"
HEAD = "| name | what | source | revision | images | questions | licence | columns read from |"


def table() -> str:
    """One row a public data set: what is published, none of it measured here."""
    rows = [_row(name) for name, module in datasets.REGISTRY.items() if hasattr(module, "CARD")]
    return "\n".join([HEAD, "| --- | --- | --- | --- | --- | --- | --- | --- |", *rows])


def _row(name: str) -> str:
    module = datasets.REGISTRY[name]
    card, title = module.CARD, module.__doc__.splitlines()[0]
    what = re.sub(r"\s*\([^)]*(http|arXiv)[^)]*\)", "", title).split(": ", 1)
    revision = module.Params.model_fields["revision"].default
    cells = (
        f"`{name}`", what[-1].strip().rstrip("."), f"[{'/'.join(card.url.rstrip('/').split('/')[-2:])}]({card.url})",
        f"`{revision[:8]}`" if revision else "", _counts(card, "images"), _counts(card, "questions"), card.license,
        card.schema_from,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _counts(card, what: str) -> str:
    """By split, those that are published; a split without a number is named all the same."""
    known = getattr(card, what)
    named = [split for split in SPLITS if split in card.splits]
    return ", ".join(f"{split} {known[split]:,}" if split in known else f"{split} ?" for split in named)


if __name__ == "__main__":
    readme.replace("cards", table(), PAGE)

"""What is published about a data set: where it is, its licence, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    """Facts from a public card, none of them measured here.

    images, questions: published numbers by split, for those that are known; what is loaded is compared with them.
    typical: (height, width) that an estimate assumes of every image as long as the data set is not here, and
    `typical_from` where that size comes from ("assumed" where no source states one). words: of a question with its
    options, and of an answer, assumed likewise.
    splits: those that the source itself has. schema_from: where its columns were read.
    """

    url: str
    license: str
    splits: tuple[str, ...]
    schema_from: str
    images: dict[str, int] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)
    typical: tuple[int, int] = (512, 512)
    typical_from: str = "assumed"
    words: tuple[int, int] = (10, 2)
    render: bool = False  # whether its licence lets images appear in a rendered notebook or figure

"""Stand-ins for the examples of a data set that is not on this machine: the published number, of a stated size.

An estimate counts them like real examples. `origin` says what the counts rest on, because nothing was measured.
"""

from __future__ import annotations

from medstudy import datasets, paths
from medstudy.data.example import SPLITS, Example, Question
from medstudy.data.readers.dataset_card import Card
from medstudy.resolution.sizes import Size


def is_missing(params: datasets.Params) -> bool:
    """Whether a data set is published, but not on this machine."""
    path = getattr(params, "path", None)
    public = datasets.card(params) is not None or params.name == "hub"
    return path is not None and public and not paths.resolve(path).exists()


def examples(params: datasets.Params, split: str) -> list[Example]:
    """Examples of a split, each with a size for its image; none if no number of images is published."""
    card, label = _card(params), datasets.label(params)
    images, questions = counts(params, split) or (0, 0)
    size = Size(*card.typical)
    text, answer = (" ".join(["word"] * count) for count in card.words)
    stand_ins = []
    for index in range(images):
        numbers = range(questions * index // images, questions * (index + 1) // images)
        its_questions = tuple(Question(str(number), text, answer, "open", label) for number in numbers)
        stand_ins.append(Example(f"{split}-{index}", size, its_questions, label, split, group=str(index), family=label,
                                 modality="", anatomy="", render=False, source=card.url, license=card.license))
    return stand_ins


def counts(params: datasets.Params, split: str) -> tuple[int, int] | None:
    """The published (images, questions) of a split, less those that the params leave out; None if not published."""
    card, most = _card(params), getattr(params, split)
    sources, share = _sources(card, params, split)
    if not sources:
        return 0, 0
    images = [card.images.get(source, card.questions.get(source)) for source in sources]
    if None in images and most is None:
        return None
    questions = [card.questions.get(source, count) for source, count in zip(sources, images, strict=True)]
    images, questions = (round(share * sum(count or most for count in counts)) for counts in (images, questions))
    if most is None or most >= images:
        return images, max(images, questions)
    return most, max(most, round(questions * most / images))


def origin(params: datasets.Params) -> str:
    """A sentence on what an estimate's counts of a data set rest on."""
    card = _card(params)
    height, width = card.typical
    unknown = [split for split in SPLITS if counts(params, split) is None]
    guessed = [split for split in SPLITS if _as_many(card, params, split)]
    taken = f"; {', '.join(guessed)}: as many images as questions, for want of their number" if guessed else ""
    left = f"; {', '.join(unknown)} NOT COUNTED: no number of images is published" if unknown else ""
    return f"not here: published counts; images taken to be {height}x{width} ({card.typical_from}){taken}{left}"


def _as_many(card: Card, params: datasets.Params, split: str) -> bool:
    """Whether only the number of questions of a split is published, so that it stands for the number of images."""
    sources, _ = _sources(card, params, split)
    return any(source not in card.images and source in card.questions for source in sources)


def _card(params: datasets.Params) -> Card:
    """The data set's card; an empty card for a data set of the hub that has none here."""
    return datasets.card(params) or Card(url=params.path, license="unknown", splits=SPLITS, schema_from="nothing")


def _sources(card: Card, params: datasets.Params, split: str) -> tuple[tuple[str, ...], float]:
    """The source's splits that one of our splits is made from, and the share taken of them."""
    if getattr(params, "split", "source") == "group":
        shares = {"test": params.test_share, "val": params.val_share}
        return card.splits, shares.get(split, 1 - sum(shares.values()))
    if split in card.splits:
        return (split,), 1.0 - params.val_share * (split == "train" and "val" not in card.splits)
    return (("train",), params.val_share) if split == "val" and "train" in card.splits else ((), 0.0)

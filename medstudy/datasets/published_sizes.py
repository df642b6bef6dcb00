"""Examples that stand for a data set that is not here yet: as many as are published, of a stated size and length.

An estimate counts them like real ones. What it rests on is returned with them, because none of it was measured.
"""

from __future__ import annotations

from medstudy import datasets, paths
from medstudy.data.example import SPLITS, Example, Question
from medstudy.data.readers.dataset_card import Card
from medstudy.resolution.sizes import Size


def needed(params: datasets.Params) -> bool:
    """Whether a data set comes from a place that is not on this machine."""
    path = getattr(params, "path", None)
    public = datasets.card(params) is not None or params.name == "hub"
    return path is not None and public and not paths.resolve(path).exists()


def examples(params: datasets.Params, split: str) -> list[Example]:
    """Examples of a split whose image is its size alone; none where no number of images is published."""
    card, label = _card(params), datasets.label(params)
    images, questions = counts(params, split) or (0, 0)
    size, asked = Size(*card.typical), " ".join(["word"] * card.words[0])
    answer = " ".join(["word"] * card.words[1])
    made = []
    for index in range(images):
        share = range(questions * index // images, questions * (index + 1) // images)
        own = tuple(Question(str(number), asked, answer, "open", label) for number in share)
        about = {"group": str(index), "family": label, "modality": "", "anatomy": "", "source": card.url}
        made.append(Example(f"{split}-{index}", size, own, label, split, render=False, license=card.license, **about))
    return made


def counts(params: datasets.Params, split: str) -> tuple[int, int] | None:
    """(images, questions) of a split as published, less what the params leave out; None where nobody published them."""
    card, most = _card(params), getattr(params, split)
    sources, share = _sources(card, params, split)
    if not sources:
        return 0, 0
    images = [card.images.get(source, card.questions.get(source)) for source in sources]
    if None in images and most is None:
        return None
    asked = [card.questions.get(source, count) for source, count in zip(sources, images, strict=True)]
    images, questions = (round(share * sum(count or most for count in counts)) for counts in (images, asked))
    if most is None or most >= images:
        return images, max(images, questions)
    return most, max(most, round(questions * most / images))


def origin(params: datasets.Params) -> str:
    """What an estimate's counts of a data set rest on, in words."""
    card = _card(params)
    height, width = card.typical
    unknown = [split for split in SPLITS if counts(params, split) is None]
    guessed = [split for split in SPLITS if _as_many(card, params, split)]
    taken = f"; {', '.join(guessed)}: as many images as questions, for want of their number" if guessed else ""
    left = f"; {', '.join(unknown)} NOT COUNTED: no number of images is published" if unknown else ""
    return f"not here: published counts; images taken to be {height}x{width} ({card.typical_from}){taken}{left}"


def _as_many(card: Card, params, split: str) -> bool:
    """Whether the questions of a split are all that is published of it, and stand for its images."""
    sources, _ = _sources(card, params, split)
    return any(source not in card.images and source in card.questions for source in sources)


def _card(params) -> Card:
    """What is published; of a hub's data set that has no card here, nothing."""
    return datasets.card(params) or Card(url=params.path, license="unknown", splits=SPLITS, schema_from="nothing")


def _sources(card: Card, params, split: str) -> tuple[tuple[str, ...], float]:
    """The source's splits that one of ours is made of, and which share of them; none where there is none."""
    if getattr(params, "split", "source") == "group":
        shares = {"test": params.test_share, "val": params.val_share}
        return card.splits, shares.get(split, 1 - sum(shares.values()))
    if split in card.splits:
        return (split,), 1.0 - params.val_share * (split == "train" and "val" not in card.splits)
    return (("train",), params.val_share) if split == "val" and "train" in card.splits else ((), 0.0)

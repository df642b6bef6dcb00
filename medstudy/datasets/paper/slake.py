"""SLAKE: radiology images with questions by physicians (https://arxiv.org/abs/2102.09542); by default the English ones.

There are two forms. "english" is `mdwiratathya/SLAKE-vqa-english`, as the paper's author evaluates it: image, question
and answer. "original" is `BoKelvin/SLAKE`: a folder with its train.json, validation.json and test.json, and its
imgs.zip unpacked; only this form has tags. In both, closed means yes or no, as for the author; the original calls more
answers CLOSED, which the tag answer_type keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from medstudy.data import splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example
from medstudy.data.readers import files, grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import answered, closed_or_open, tagged
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/BoKelvin/SLAKE",
    license="CC-BY-4.0",
    splits=("train", "val", "test"),
    schema_from="the public cards, and public code that reads both forms",
    images={"train": 450, "val": 96, "test": 96},
    questions={"train": 4919, "val": 1053, "test": 1061},
    render=True,
)
COLUMNS = {"image": "the image", "question": "its text", "answer": "yes, no or words"}
ORIGINAL = {
    "img_name": "the image's path in imgs/", "question": "its text", "answer": "its answer", "q_lang": "en or zh",
    "qid": "its number",
}
TAGS = ("answer_type", "base_type", "content_type", "modality", "location")
SPLIT = {"train": "train", "val": "validation", "test": "test"}


class Params(Source):
    """See `Source`. The source has its own validation split, so `val_share` is not used.

    form: "english" (a hub id, or a folder with its files) or "original" (a folder). languages: of the original form,
    whose questions are in English and Chinese; if there are several, the tag q_lang tells them apart. A Chinese answer
    is closed if it is a word for yes or no (`medstudy.data.yes_no`); open ones are scored by their characters.
    """

    name: Literal["slake"] = "slake"
    form: Literal["english", "original"] = "english"
    path: str = "mdwiratathya/SLAKE-vqa-english"
    revision: str | None = "8d18b4d5a4eae47101c1d9f57b99fc58df66f17e"
    languages: tuple[Literal["en", "zh"], ...] = Field(default=("en",), min_length=1)

    @model_validator(mode="after")
    def _folder(self) -> Params:
        if self.form == "original" and self.path == "mdwiratathya/SLAKE-vqa-english":
            raise ValueError("form: original needs the folder with the files of BoKelvin/SLAKE as `path`")
        if self.form == "english" and self.languages != ("en",):
            raise ValueError(f"only form: original has questions in other languages than en, got {self.languages}")
        return self


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with all of its questions in that split."""
    if params.form == "original":
        examples = _original(params.root, split, params.languages)
    else:
        rows = hub.rows(params.path, SPLIT[split], COLUMNS, revision=params.revision)
        about = {"dataset": "slake", "family": "radiology", "modality": "radiology"}
        examples = grouping.examples(rows, f"SLAKE {SPLIT[split]}", split, CARD, **about)
    return splits.taken(examples, params, split)


def _original(root: Path, split: str, languages: tuple[str, ...]) -> Iterator[Example]:
    """One example per image of a split's file, with its questions in these languages that have an answer."""
    by_image: dict[str, list[dict]] = {}
    for row in files.rows(root / f"{SPLIT[split]}.json", ORIGINAL):
        if row["q_lang"] in languages and answered(row):
            by_image.setdefault(row["img_name"], []).append(row)
    if not by_image:
        wanted = " or ".join(languages)
        raise DataError(f"{root / SPLIT[split]}.json must hold questions with q_lang {wanted}, but has none.")
    for name, rows in by_image.items():
        yield _example(name, rows, root, split, ("q_lang", *TAGS) if len(languages) > 1 else TAGS)


def _example(name: str, rows: list[dict], root: Path, split: str, tags: tuple[str, ...]) -> Example:
    picture = Picture(files.below(root / "imgs", name).read_bytes(), name)
    questions = [
        closed_or_open(f"{row['qid']}", row["question"], row["answer"], "radiology", row["q_lang"],
                       tags=tagged(row, tags))
        for row in rows
    ]
    return grouping.example(
        CARD, dataset="slake", split=split, image_id=name, image=picture, questions=tuple(questions),
        group=picture.sha256[:16], family="radiology", modality=rows[0].get("modality") or "radiology",
        anatomy=rows[0].get("location") or "unknown",
    )

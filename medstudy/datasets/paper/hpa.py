"""Subcellular images of the Human Protein Atlas, each with a sentence on the cell line and the protein's location.

There are three forms. "hub" is `liangyuch/subcellular` with its two splits (1,000 test rows, by np.random.seed(42)).
"jsonl" is a folder with the author's subcellular_train.jsonl and subcellular_test.jsonl. "captions" is a folder with
the captions.json from which both were made, split here as the author did for "jsonl": random.seed(42), 2,000 test rows.
He trains on one prompt and evaluates with another, and caps the training rows as in `kept`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt, model_validator

from medstudy.data import splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question
from medstudy.data.readers import files, grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.source import Source
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://huggingface.co/datasets/liangyuch/subcellular",
    license="that of the Human Protein Atlas, by its release: https://www.proteinatlas.org/about/licence",
    splits=("train", "test"),
    schema_from="the public code of the paper's first author that makes both forms (cliangyu/med_eval, scripts/)",
    images={"test": 1000},
    questions={"test": 1000},
    typical=(1024, 1024),
)
HUB = {
    "image_id": "its name", "cell_line": "the cell line", "localizations": "where the protein is, with ; between",
    "caption": "the sentence", "image": "the image",
}
JSONL = {
    "response": "the sentence", "images": "the image's path", "cell_line": "the cell line",
    "localizations": "where the protein is, a list",
}
CAPTIONS = {name: what for name, what in HUB.items() if name not in ("image", "image_id")} | {
    "file_path": "the image's path"
}
TASK = "cell line and localizations"


class Params(Source):
    """See `Source`.

    train_prompt, test_prompt: the question in training and validation, and in the test. rows_a_cell_line,
    rows_a_localization: at most this many training rows of each, drawn by cap_seed; None is all. test_rows, split_seed:
    for the form "captions". strip: a prefix to remove from image paths.
    """

    name: Literal["hpa"] = "hpa"
    form: Literal["hub", "jsonl", "captions"] = "hub"
    path: str = "liangyuch/subcellular"
    train_prompt: str = "Provide a description of the given image."
    test_prompt: str = "Describe the cell line and subcellular localizations shown in this image."
    rows_a_cell_line: PositiveInt | None = 5000
    rows_a_localization: PositiveInt | None = 1000
    cap_seed: NonNegativeInt = 42
    test_rows: PositiveInt = 2000
    split_seed: NonNegativeInt = 42
    strip: str = ""

    @model_validator(mode="after")
    def _folder(self) -> Params:
        if self.form != "hub" and self.path == "liangyuch/subcellular":
            raise ValueError(f"form: {self.form} needs a folder with the author's files as `path`")
        if self.split == "group" and self.train_prompt != self.test_prompt:
            raise ValueError("split: group mixes rows of both prompts: set train_prompt and test_prompt to the same")
        return self


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with one question. Raises DataError."""
    source = "test" if split == "test" else "train"
    rows = _hub(params, source) if params.form == "hub" else _files(params, source)
    prompt = params.test_prompt if split == "test" else params.train_prompt
    return splits.taken((_example(*row, prompt, split) for row in rows), params, split, hold_out=True)


def kept(cell_lines: Sequence[str], places: Sequence[Sequence[str]], images: Sequence[str], params: Params) -> set[int]:
    """The numbers of the training rows that the author's caps leave (his scripts/cap_subcelular.py, draw for draw).

    First the rows of each cell line are capped. Then each row is repeated for each of its localizations, and the rows
    of each localization are capped. A row stays if it is kept for any of its localizations.
    """
    columns = {"row": range(len(images)), "cell_line": cell_lines, "place": places, "image": images}
    table = _sampled(pd.DataFrame(columns), "cell_line", params.rows_a_cell_line, params.cap_seed)
    table = _sampled(table.explode("place"), "place", params.rows_a_localization, params.cap_seed)
    return set(table.drop_duplicates("image")["row"])


def _sampled(table: pd.DataFrame, by: str, most: int | None, seed: int) -> pd.DataFrame:
    if most is None:
        return table
    parts = [rows.sample(n=min(len(rows), most), random_state=seed) for _, rows in table.groupby(by)]
    return pd.concat(parts, ignore_index=True) if parts else table[:0]


def _hub(params: Params, split: str) -> Iterator[tuple[str, Picture, dict]]:
    """(id, image, row) of the hub's form, without rows whose image is null because its maker could not read it."""
    about = [name for name in HUB if name != "image"]
    rows = hub.rows(params.path, split, HUB, revision=params.revision, only=about)
    chosen = _capped(list(rows), "image_id", params) if split == "train" else None
    for number, row in enumerate(hub.rows(params.path, split, HUB, revision=params.revision)):
        if row["image"] is not None and (chosen is None or number in chosen):
            yield row["image_id"], hub.picture(row["image"], f"image {row['image_id']} of HPA"), row


def _files(params: Params, split: str) -> Iterator[tuple[str, Picture, dict]]:
    """(path, image, row) of the forms that are folders."""
    root = params.root
    if params.form == "jsonl":
        rows, columns, image = list(files.jsonl(root / f"subcellular_{split}.jsonl")), JSONL, "images"
    else:
        rows, columns, image = list(files.jsonl(root / "captions.json")), CAPTIONS, "file_path"
        random.Random(params.split_seed).shuffle(rows)
        rows = rows[: params.test_rows] if split == "test" else rows[params.test_rows :]
    for number, row in enumerate(rows):
        files.need(row, columns, f"Row {number} of {split} in {root.name}")
        path = row[image][0] if isinstance(row[image], list) and row[image] else row[image]
        if not isinstance(path, str):
            raise DataError(f"Row {number} of {split} in {root} must name an image, got {row[image]!r}. Remove it.")
        row[image] = path.removeprefix(params.strip).lstrip("/") if params.strip else path
    chosen = _capped(rows, image, params) if split == "train" else range(len(rows))
    for number in sorted(chosen):
        path = rows[number][image]
        yield path, Picture(files.below(root, path).read_bytes(), path), rows[number]


def _capped(rows: Sequence[dict], image: str, params: Params) -> set[int]:
    columns = [row["cell_line"] for row in rows], [_places(row) for row in rows], [row[image] for row in rows]
    return kept(*columns, params)


def _places(row: dict) -> list[str]:
    """The localizations of a row, from a list or from a text with ; between them."""
    value = row["localizations"] or []
    names = value.split(";") if isinstance(value, str) else value
    return list(dict.fromkeys(name.strip() for name in names if name and name.strip()))


def _example(name: str, picture: Picture, row: dict, prompt: str, split: str) -> Example:
    answer = row["caption"] if "caption" in row else row["response"]
    question = Question(
        id="describe", text=prompt, answer=answer, kind="description", task=TASK, cell_line=row["cell_line"],
        localizations=tuple(_places(row)),
    )
    return grouping.example(
        CARD, dataset="hpa", split=split, image_id=name, image=picture, questions=(question,),
        group=picture.sha256[:16], family="subcellular", modality="fluorescence", anatomy="cell",
    )

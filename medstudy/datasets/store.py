"""Examples on disk: one parquet file a split, in the hub's format (`load_dataset("parquet", …)` reads it too)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, Value

from medstudy import datasets
from medstudy.errors import DataError, ImageError
from medstudy.pictures import Picture
from medstudy.progress import track
from medstudy.records import LETTERS, SPLITS, Example, Question

_TEXT = Value("string")
_QUESTION = {
    "id": _TEXT,
    "text": _TEXT,
    "answer": _TEXT,
    "kind": _TEXT,
    "task": _TEXT,
    "options": List(_TEXT),
    "detail_px": Value("float64"),
    "cell_line": _TEXT,
    "localizations": List(_TEXT),
}
_ABOUT = [field.name for field in fields(Example) if field.name not in ("image", "questions", "context")]
FEATURES = Features(
    {"image": Image(), "questions": List(_QUESTION)}
    | {name: Value("bool") if name == "render" else _TEXT for name in _ABOUT}
)


def build(params: datasets.Params, folder: Path) -> pd.DataFrame:
    """Write every split of a data set to `folder` and return its table of questions (see `questions`).

    Each image is decoded on the way, so that an unreadable one stops the study before anything is trained.
    Raises DataError for an empty split, a repeated image id, a group in two splits, or a question without an answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for split in SPLITS:
        made = track(datasets.load(params, split), f"{params.name} {split}", unit="image")
        examples = [_decoded(example) for example in made]
        _check(examples, params.name, split)
        write(examples, folder / f"{split}.parquet")
        tables.append(questions(examples))
    table = pd.concat(tables, ignore_index=True)
    leaked = table.groupby("group")["split"].nunique()
    if (leaked > 1).any():
        raise DataError(
            f"No group may stand in two splits, but {list(leaked[leaked > 1].index[:5])} of {params.name} do. "
            "Split by group."
        )
    table.to_parquet(folder / "questions.parquet")
    return table


def write(examples: Iterable[Example], file: Path) -> None:
    """One row an image: its bytes (a PIL image as PNG), tags, and the list of its questions."""
    rows = [{"image": {"bytes": _bytes(example), "path": None}} | _about(example) for example in examples]
    Dataset.from_list(rows, features=FEATURES).to_parquet(file)


def read(folder: Path, split: str) -> list[Example]:
    """The examples of one split, images not decoded yet. Raises DataError naming the file, ImageError the image."""
    file = folder / f"{split}.parquet"
    if not file.is_file():
        raise DataError(f"A built data set has {split}.parquet, but there is none in {folder}. Run its data job again.")
    return [_example(row) for row in pq.read_table(file).to_pylist()]


def questions(examples: Iterable[Example]) -> pd.DataFrame:
    """One row a question: its tags and the native height and width of its image; no pixels."""
    rows = []
    for example in examples:
        about = {name: getattr(example, name) for name in _ABOUT}
        about |= {"height": example.image.height, "width": example.image.width}
        for question in example.questions:
            asked = asdict(question)
            rows.append(about | {"question_id": asked.pop("id"), "question": asked.pop("text")} | asked)
    return pd.DataFrame(rows).astype({"detail_px": float})


def _about(example: Example) -> dict:
    return {name: getattr(example, name) for name in _ABOUT} | {
        "questions": [asdict(question) for question in example.questions]
    }


def _decoded(example: Example) -> Example:
    """The example, its image decoded once to see that it can be. Raises ImageError."""
    if isinstance(example.image, Picture):
        example.image.pixels()
    else:
        example.image.load()
    return example


def _bytes(example: Example) -> bytes:
    image = example.image
    return (image if isinstance(image, Picture) else Picture.of(image, example.image_id)).data


def _example(row: dict) -> Example:
    name = f"Image {row['image_id']} of {row['dataset']}"
    if not row["image"]["bytes"]:
        raise ImageError(f"{name} must have bytes, but has none in its parquet file. Run its data job again.")
    image = Picture(row["image"]["bytes"], name)
    asked = [
        Question(**question | {name: tuple(question[name]) for name in ("options", "localizations")})
        for question in row["questions"]
    ]
    return Example(image=image, questions=tuple(asked), **{name: row[name] for name in _ABOUT})


def _check(examples: list[Example], name: str, split: str) -> None:
    if not examples:
        raise DataError(f"Every split needs an image, but {split} of {name} is empty. Raise its size in the params.")
    ids = pd.Series([example.image_id for example in examples])
    if ids.duplicated().any():
        raise DataError(f"Image ids must be unique, but {ids[ids.duplicated()].iloc[0]!r} repeats in {name} {split}.")
    for example in examples:
        if example.split != split:
            raise DataError(f"Image {example.image_id} of {name} {split} says that it is of {example.split}.")
        if not example.questions:
            raise DataError(
                f"An image needs a question, but image {example.image_id} of {name} {split} has none. Remove it."
            )
        for question in example.questions:
            if len(question.options) > len(LETTERS):
                raise DataError(
                    f"A choice has at most {len(LETTERS)} options, one a letter, but {question.id!r} of image "
                    f"{example.image_id} ({name} {split}) has {len(question.options)}. Leave some out."
                )
            if not question.answer.strip() or not question.text.strip():
                raise DataError(
                    f"A question needs a text and an answer, but {question.id!r} of image {example.image_id} "
                    f"({name} {split}) has {question.text!r} and {question.answer!r}. Remove or answer it."
                )

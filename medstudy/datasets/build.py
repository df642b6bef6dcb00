"""Builds a data set: its splits are checked example by example as they stream to disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from medstudy import datasets, paths
from medstudy.data import arrow_store, conflicts, formats, perceptual_hash, places, references
from medstudy.data.example import LETTERS, SPLITS, Example
from medstudy.data.readers import hub
from medstudy.datasets.user import examples as user_examples
from medstudy.datasets.user.params import UserData
from medstudy.datasets.user.rows import Fault
from medstudy.errors import DataError, ImageError
from medstudy.utils import allocation
from medstudy.utils.progress import track

LOST = ["split", "image_id", "where", "problem", "error"]


def build(params: datasets.Params, folder: Path, processes: int = 1) -> pd.DataFrame:
    """Write every split of a data set to `folder` and return its table of questions (see `arrow_store.questions`).

    Each image is decoded, so an unreadable image stops the study before anything is trained. With `on_unreadable: skip`
    it is left out with its questions and listed in unreadable.csv, as are unusable rows of the user's own data. The
    folder also gets questions.parquet; fingerprints.parquet (for `medstudy.data.leakage`); conflicts.csv (questions
    asked twice about one image, see `medstudy.data.conflicts`); for the user's own data columns.csv (the role of each
    column); and for a source that may change source.json with its commit.

    processes: at most so many make the images, of a data set that can use several.

    Raises ImageError; DataError for a repeated image id, a question without an answer, references that cannot be
    scored (`medstudy.data.references`), no test images, training images but no validation images, or test questions of
    the user's own data that contradict each other. A data set without training images is only evaluated on.
    """
    allocation.keep_freed()
    folder.mkdir(parents=True, exist_ok=True)
    label = datasets.label(params)
    checks = _Checks(label, leave_out=getattr(params, "on_unreadable", "stop") == "skip")
    tables, load = [], _loader(params, folder, checks, processes)
    for split in SPLITS:
        examples = track(load(split), f"{label} {split}", unit="image")
        tables.append(arrow_store.write(checks.passed(examples, split), folder / f"{split}.arrow"))
    checks.check_splits([len(table) for table in tables])
    checks.conflicts.table().to_csv(folder / "conflicts.csv", index=False, lineterminator="\n")
    if getattr(params, "on_contradiction", "keep") == "stop":
        checks.check_contradictions()
    table = pd.concat([part for part in tables if len(part)], ignore_index=True)
    references.refuse(references.check(table), label)
    table.to_parquet(folder / "questions.parquet")
    if hasattr(params, "revision"):
        here = paths.resolve(params.path)
        path = here.name if here.exists() else params.path  # a folder's name alone, without where it is
        about = {"path": path, "commit": hub.commit(params.path, params.revision)}
        (folder / "source.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    pd.DataFrame(checks.prints, columns=perceptual_hash.COLUMNS).to_parquet(folder / "fingerprints.parquet")
    unreadable = pd.DataFrame(checks.lost, columns=LOST)
    unreadable.to_csv(folder / "unreadable.csv", index=False, lineterminator="\n")
    return table


def _loader(
    params: datasets.Params, folder: Path, checks: _Checks, processes: int
) -> Callable[[str], Iterable[Example]]:
    """A function that loads a split. A user's own table is read once for all splits; rows left out are noted."""
    if not isinstance(params, UserData):
        return lambda split: datasets.load(params, split, processes)
    module = datasets.REGISTRY[params.name]
    survey, opener = module.survey(params), module.opener(params)
    columns = pd.DataFrame(survey.bindings, columns=["table", "role", "column", "how"])
    columns.to_csv(folder / "columns.csv", index=False, lineterminator="\n")
    checks.leave_out_rows(survey.faults)

    def load(split: str) -> Iterator[Example]:
        left_out: list[Fault] = []
        yield from user_examples.load(params, survey, split, opener, left_out)
        checks.leave_out_rows(left_out)

    return load


class _Checks:
    """Checks a data set's examples as they stream by, and keeps what is written about them."""

    def __init__(self, name: str, leave_out: bool):
        self.name, self.leave_out = name, leave_out
        self.prints: list[dict] = []
        self.lost: list[dict] = []
        self.conflicts = conflicts.Conflicts()

    def leave_out_rows(self, faults: Iterable[Fault]) -> None:
        """Note rows of the user's own data that are left out."""
        for fault in faults:
            place = {"split": fault.split or "unknown", "image_id": fault.image, "where": fault.where}
            self.lost.append(place | {"problem": fault.problem, "error": fault.message})

    def passed(self, examples: Iterable[Example], split: str) -> Iterator[Example]:
        """The examples without a fault; each image is decoded once. Raises DataError, ImageError."""
        seen: set[str] = set()
        for example in examples:
            _check(example, self.name, split)
            if example.image_id in seen:
                raise DataError(f"Image ids must be unique, but {example.image_id!r} repeats in {self.name} {split}.")
            seen.add(example.image_id)
            try:
                prints = perceptual_hash.rows_of(example)
            except ImageError as error:
                if not self.leave_out:
                    raise
                lost = {"split": split, "image_id": example.image_id, "where": "", "problem": "unreadable"}
                self.lost.append(lost | {"error": str(error)})
                continue
            for question in example.questions:
                places.check_question(question, example.image.height, example.image.width)
            self.prints += prints
            self.conflicts.add(example, prints)
            yield example

    def check_contradictions(self) -> None:
        """Raise DataError if two test questions of one image cannot both be right."""
        wrong = [row for row in self.conflicts.rows if conflicts.stops(row)]
        if wrong:
            raise DataError(
                f"A test question has one right answer, but {len(wrong)} of {self.name} contradict another. "
                f"{conflicts.message(wrong[0])} conflicts.csv and `medstudy data check` list them. Correct them or "
                "set `on_contradiction: keep`."
            )

    def check_splits(self, sizes: Sequence[int]) -> None:
        """sizes: rows of train, val and test. Raises DataError for a split that must not be empty."""
        train, val, test = sizes
        lost = f" {len(self.lost)} rows or images could not be used (unreadable.csv)." if self.lost else ""
        if not test:
            raise DataError(
                f"A data set needs test images, but test of {self.name} is empty.{lost} Raise its size in the params."
            )
        if train and not val:
            raise DataError(
                f"Training needs validation images, but val of {self.name} is empty and train is not.{lost} "
                "Raise its size or val_share in the params; or set train to 0 to only evaluate on it."
            )


def _check(example: Example, name: str, split: str) -> None:
    if example.split != split:
        raise DataError(f"Image {example.image_id} of {name} {split} has the split {example.split}.")
    if not example.questions:
        raise DataError(
            f"An image needs a question, but image {example.image_id} of {name} {split} has none. Remove it."
        )
    if lone := formats.without_words(example.questions):
        raise DataError(
            f"A question with a format is a choice, its format is {formats.LETTER!r} and its id that of a question in "
            f"words about the same image with _{formats.LETTER} added; but {lone.id!r} of image {example.image_id} "
            f"({name} {split}) has the kind {lone.kind!r} and the format {lone.format!r}. Correct them, or leave the "
            "format empty."
        )
    for question in example.questions:
        if question.kind == "choice" and len(question.options) > len(LETTERS):
            raise DataError(
                f"A choice has at most {len(LETTERS)} options, one per letter, but {question.id!r} of image "
                f"{example.image_id} ({name} {split}) has {len(question.options)}. Remove some."
            )
        if not question.answer.strip() or not question.text.strip():
            raise DataError(
                f"A question needs a text and an answer, but {question.id!r} of image {example.image_id} "
                f"({name} {split}) has {question.text!r} and {question.answer!r}. Remove it or fill it in."
            )

"""WSI-VQA: questions on whole slides of breast cancer (TCGA-BRCA; https://arxiv.org/abs/2407.05603).

There are two forms. "original" is a folder with WsiVQA_train.json, WsiVQA_val.json and WsiVQA_test.json of
cpystan/WSI-VQA, and images/ with one file per patient, whose name begins with the row's Id: an overview of the slide,
rendered with other software, because this reader does not read whole slides. "jsonl" is a folder with the author's
ms-swift rows.

In the original, questions on a `topic` are made from TCGA's fields and have a few answers (class), or a number of days
(open). All others were written by a language model, with up to four choices. The paper's data set is called the
subtype. How its author chose those rows is not public; here they are the topic histological_type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from medstudy.data import splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question
from medstudy.data.readers import class_rows, files, grouping
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.question_rules import answered, choice, closed_or_open
from medstudy.errors import DataError

VERSION = "1"
CARD = Card(
    url="https://github.com/cpystan/WSI-VQA",
    license="not stated; the slides are those of TCGA",
    splits=("train", "val", "test"),
    schema_from="the files of that repository at 8f708aeb; the author's rows from his public evaluation code",
    images={"train": 804, "val": 87, "test": 86},
    questions={"train": 7139, "val": 798, "test": 735},
)
COLUMNS = {"Id": "the patient", "Question": "its text", "Answer": "its answer"}
Topic = Literal["histological_type", "vital_status", "progesterone_receptor", "her2", "survival time"]
TOPICS = get_args(Topic)


class Params(class_rows.Rows):
    """See `class_rows.Rows` for the form "jsonl", whose default test file is the author's subtype.

    topics: for the form "original", use only questions on these; empty is all questions. skip_missing: leave out
    patients without an image instead of raising an error.
    """

    name: Literal["wsi_vqa"] = "wsi_vqa"
    form: Literal["original", "jsonl"] = "original"
    topics: tuple[Topic, ...] = ("histological_type",)
    skip_missing: bool = False
    train_file: str = "WsiVQA_train_shuffled_subtype.jsonl"
    test_file: str | None = "WsiVQA_test_shuffled_subtype.jsonl"


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per patient, with the questions on the slide. Raises DataError."""
    if params.form == "jsonl":
        about = class_rows.About("wsi_vqa", CARD, "subtype", "pathology", "light microscopy", "breast")
        return class_rows.load(params, split, about)
    return splits.taken(_original(params, split), params, split)


def topic(text: str) -> str | None:
    """The field of TCGA that a question asks for; None for a question that a language model wrote."""
    return next((name for name in TOPICS if name in text), None)


def _original(params: Params, split: str) -> Iterator[Example]:
    root = params.root
    by_patient: dict[str, list[Question]] = {}
    for number, row in enumerate(files.rows(root / f"WsiVQA_{split}.json", COLUMNS)):
        if answered(row, "Question", "Answer") and (question := _question(number, row, params.topics)):
            by_patient.setdefault(row["Id"], []).append(question)
    pictures = {file.name: file for file in sorted((root / "images").glob("*")) if file.is_file()}
    for patient, questions in by_patient.items():
        file = next((pictures[name] for name in pictures if name.startswith(patient)), None)
        if file is not None:
            yield _example(patient, questions, Picture(file.read_bytes(), file.name), split)
        elif not params.skip_missing:
            raise DataError(
                f"Every slide needs an image in {root / 'images'} whose name begins with its Id, but {patient} has "
                "none. Render an overview of it to that folder, or set `skip_missing`."
            )


def _question(number: int, row: dict, topics: tuple[str, ...]) -> Question | None:
    text, answer, about = row["Question"].strip(), row["Answer"].strip(), topic(row["Question"])
    options = row.get("Choice")
    if options:
        about = None
    if topics and about not in topics:
        return None
    if about is not None and about != "survival time":
        return Question(id=about, text=text, answer=answer, kind="class", task=about)
    if options and (right := _right(answer, options)) is not None:
        return choice(f"{number}", text, options, right, "slide choice")
    return closed_or_open(f"{number}", text, answer, about or "slide")


def _right(answer: str, options: list[str]) -> int | None:
    """The place of the answer among the options, without case and a period at the end; None if it is not there."""
    plain = [option.strip().rstrip(".").lower() for option in options]
    wanted = answer.rstrip(".").lower()
    return plain.index(wanted) if wanted in plain else None


def _example(patient: str, questions: list[Question], picture: Picture, split: str) -> Example:
    by_id = {question.id: question for question in questions}
    return grouping.example(
        CARD, dataset="wsi_vqa", split=split, image_id=patient, image=picture, questions=tuple(by_id.values()),
        group=patient, family="pathology", modality="light microscopy", anatomy="breast",
    )

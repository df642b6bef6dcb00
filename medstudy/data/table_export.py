"""Writes any data set as images and a table, in the form of docs/how-to/your-data.md, which `local` can read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from medstudy.data import encoded_image
from medstudy.data.example import LETTERS, Example, Question
from medstudy.errors import DataError

COLUMNS = {  # the `columns` of a params file that reads the table
    "id": "question_id", "task": "task", "modality": "modality", "anatomy": "anatomy", "family": "family",
    "cell_line": "cell_line", "localizations": "localizations", "set_id": "set_id", "format": "format",
    "detail": "detail_px",
}
HEAD = ("images", "question", "answer", "options", "kind", "group", "split", *COLUMNS.values())


def write(examples: Iterable[Example], folder: Path) -> Path:
    """Write each image to a file in `folder`, and each question to a row of metadata.csv. Returns the table's path.

    A picture keeps its bytes, a PIL image becomes a PNG. Raises DataError for an example with answered shots, which a
    table cannot express, and for a name that leads out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "metadata.csv"
    with table.open("w", encoding="utf-8", newline="") as lines:
        out = csv.DictWriter(lines, HEAD, lineterminator="\n")
        out.writeheader()
        for example in examples:
            names = json.dumps(_images(example, folder), ensure_ascii=False)
            out.writerows(_row(example, question, names) for question in example.questions)
    return table


def _images(example: Example, folder: Path) -> list[str]:
    if any(shot.question or shot.answer for shot in example.context):
        raise DataError(
            f"A table cannot express solved examples, but {example.image_id} of {example.dataset} shows some. "
            "Export the data set without them."
        )
    names = []
    for place, image in enumerate(example.images):
        data = image.data if isinstance(image, encoded_image.Picture) else encoded_image.Picture.of(image, "").data
        context = f" context {place + 1}" if place < len(example.context) else ""
        name = f"{example.split}/{example.image_id.removesuffix('.png')}{context}.png"
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"An image id must name a file inside the folder, but {example.image_id!r} leads out of it. Rename it."
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        names.append(name)
    return names


def _row(example: Example, question: Question, images: str) -> dict:
    options = dict(zip(LETTERS, question.options, strict=False))  # by letter, as the answer of a choice is
    about = {name: getattr(example, name) for name in ("group", "split", "modality", "anatomy", "family")}
    return about | {
        "images": images, "question": question.text, "answer": question.answer, "kind": question.kind,
        "options": json.dumps(options, ensure_ascii=False) if options else "", "question_id": question.id,
        "task": question.task, "cell_line": question.cell_line or "", "set_id": question.set_id or "",
        "format": question.format,
        "localizations": json.dumps(question.localizations, ensure_ascii=False) if question.localizations else "",
        "detail_px": "" if question.detail_px is None else repr(question.detail_px),
    }

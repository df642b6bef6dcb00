"""Examples on disk: one Arrow file for each split, in the hub's format (`load_dataset("arrow", …)` reads it too).

Neither writing nor reading holds all images of a split in memory. Arrow stores values uncompressed and contiguous, so
an image is a range of bytes in its file, and its `StoredPicture` reads only that range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from medstudy.data import known
from medstudy.data.encoded_image import Picture, StoredPicture
from medstudy.data.example import Example, Question, Shot
from medstudy.errors import DataError, ImageError

BATCH_BYTES, BATCH_ROWS = 32 * 2**20, 256  # at most this much is held in memory before it is written
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
    "set_id": _TEXT,
    "tags": List(_TEXT),
    "format": _TEXT,
}
_LISTS = [name for name, kind in _QUESTION.items() if isinstance(kind, List)]
_PICTURE = {"image": ImageFeature(), "sha256": _TEXT, "height": Value("int32"), "width": Value("int32")}
_ABOUT = [field.name for field in fields(Example) if field.name not in ("image", "questions", "context", "um_per_px")]
FEATURES = Features(
    _PICTURE
    | {"questions": List(_QUESTION), "context": List(_PICTURE | {"question": _TEXT, "answer": _TEXT})}
    | {name: Value("bool") if name == "render" else _TEXT for name in _ABOUT}
)


def write(examples: Iterable[Example], file: Path) -> pd.DataFrame:
    """Write one row for each image: its bytes (a PIL image as PNG), fields and questions. Returns `questions`."""
    tables, of_images, count = [questions(())], [], 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, FEATURES.arrow_schema) as out:
        for batch in _batches(examples):
            out.write_batch(pa.RecordBatch.from_pylist(list(map(_row, batch)), schema=FEATURES.arrow_schema))
            tables.append(questions(batch))
            of_images += known.rows(batch, count)
            count += len(batch)
    known.write(of_images, file)
    return pd.concat(tables[1:] or tables, ignore_index=True)


def read(folder: Path, split: str) -> Sequence[Example]:
    """The examples of one split; images are read on use. Raises DataError naming the file, ImageError the image."""
    file = folder / f"{split}.arrow"
    if not file.is_file():
        raise DataError(f"A built data set has {split}.arrow, but there is none in {folder}. Run its data job again.")
    with pa.memory_map(str(file)) as mapped:
        content = mapped.read_buffer()
        reader = pa.ipc.open_file(pa.BufferReader(content))
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        return known.added([example for batch in batches for example in _examples(batch, file, content.address)], file)


def read_all(folders: Iterable[Path], split: str) -> list[Example]:
    """The examples of one split of several data sets."""
    return [example for folder in folders for example in read(folder, split)]


def questions(examples: Iterable[Example]) -> pd.DataFrame:
    """One row for each question: its fields, its example's, and the native size of each image; no pixels."""
    rows = []
    for example in examples:
        about = {name: getattr(example, name) for name in _ABOUT}
        about |= {"height": example.image.height, "width": example.image.width}
        about["context"] = [
            {"height": shot.image.height, "width": shot.image.width, "question": shot.question, "answer": shot.answer}
            for shot in example.context
        ]
        for question in example.questions:
            fields_ = asdict(question)
            rows.append(about | {"question_id": fields_.pop("id"), "question": fields_.pop("text")} | fields_)
    of_question = [name for name in _QUESTION if name not in ("id", "text")]
    names = [*_ABOUT, "height", "width", "context", "question_id", "question", *of_question]
    return pd.DataFrame(rows, columns=names).astype({"detail_px": float})


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Runs of consecutive examples, of at most `BATCH_ROWS` rows and about `BATCH_BYTES`."""
    batch: list[Example] = []
    size = 0
    for example in examples:
        batch.append(example)
        size += sum(_size(image) for image in example.images)
        if size >= BATCH_BYTES or len(batch) >= BATCH_ROWS:
            yield batch
            batch.clear()  # the caller holds the same list, and its images must be freed
            size = 0
    if batch:
        yield batch


def _size(image: Image.Image | Picture) -> int:
    """Bytes in memory."""
    return len(image.data) if isinstance(image, Picture) else 3 * image.height * image.width


def _row(example: Example) -> dict:
    shots = [_picture(shot.image, example) | {"question": shot.question, "answer": shot.answer}
             for shot in example.context]
    about = {name: getattr(example, name) for name in _ABOUT}
    questions_ = [asdict(question) for question in example.questions]
    return about | _picture(example.image, example) | {"questions": questions_, "context": shots}


def _picture(image: Image.Image | Picture, example: Example) -> dict:
    picture = image if isinstance(image, Picture) else Picture.of(image, example.image_id)
    stored = {"bytes": picture.data, "path": None}
    return {"image": stored, "sha256": picture.sha256, "height": image.height, "width": image.width}


def _examples(batch: pa.RecordBatch, file: Path, base: int) -> Iterator[Example]:
    """The examples of a batch in a file that is mapped at the address `base`."""
    rows = batch.select([*_ABOUT, "questions"]).to_pylist()
    names = [f"Image {row['image_id']} of {row['dataset']}" for row in rows]
    # All shots of the batch, one after the other; those of row i are between offsets i and i + 1.
    context = batch.column("context")
    row_of_shot = np.repeat(np.arange(len(rows)), np.diff(context.offsets))
    pictures = _pictures(context.values, file, base, [f"A context image of {names[row]}" for row in row_of_shot])
    texts = (context.values.field(name).to_pylist() for name in ("question", "answer"))
    shots = [Shot(*parts) for parts in zip(pictures, *texts, strict=True)]
    # Each example's own image.
    columns = pa.StructArray.from_arrays([batch.column(name) for name in _PICTURE], list(_PICTURE))
    images = _pictures(columns, file, base, names)
    offsets = context.offsets.to_pylist()
    for row, image, start, end in zip(rows, images, offsets, offsets[1:], strict=False):
        questions_ = tuple(_question(fields_) for fields_ in row.pop("questions"))
        yield Example(image=image, questions=questions_, context=tuple(shots[start:end]), **row)


def _question(fields_: dict) -> Question:
    return Question(**fields_ | {name: tuple(fields_[name]) for name in _LISTS})


def _pictures(columns: pa.StructArray, file: Path, base: int, names: Sequence[str]) -> list[StoredPicture]:
    """The `_PICTURE` columns of some rows as pictures. Raises ImageError naming a picture without bytes."""
    if not names:
        return []
    # Arrow keeps all images in one buffer, and in another where each of them ends.
    data = columns.field("image").field("bytes")
    _, ends, content = data.buffers()
    ends = np.frombuffer(ends, np.int32)[data.offset : data.offset + len(data) + 1].astype(np.int64)
    facts = [columns.field(name).to_pylist() for name in ("sha256", "height", "width")]
    pictures = []
    for start, end, name, sha256, height, width in zip(ends, ends[1:], names, *facts, strict=False):
        if start == end:
            raise ImageError(f"{name} must have bytes, but has none in its file. Run its data job again.")
        place = content.address - base + int(start)
        pictures.append(StoredPicture(file, place, int(end - start), name, sha256, (height, width)))
    return pictures

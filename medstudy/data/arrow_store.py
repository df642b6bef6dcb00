"""Examples on disk: one Arrow file a split, in the hub's format (`load_dataset("arrow", …)` reads it too).

Neither writing nor reading holds a split's images in memory. Arrow keeps values uncompressed and in one piece, so that
an image is a part of its file, and its `StoredPicture` reads just that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Features, Image, List, Value

from medstudy.data.encoded_image import Picture, StoredPicture
from medstudy.data.example import Example, Question, Shot
from medstudy.errors import DataError, ImageError

BATCH_BYTES, BATCH_ROWS = 32 * 2**20, 256  # what is held in memory before it is written
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
}
_LISTS = [name for name, kind in _QUESTION.items() if isinstance(kind, List)]
_PICTURE = {"image": Image(), "sha256": _TEXT, "height": Value("int32"), "width": Value("int32")}
_ABOUT = [field.name for field in fields(Example) if field.name not in ("image", "questions", "context")]
FEATURES = Features(
    _PICTURE
    | {"questions": List(_QUESTION), "context": List(_PICTURE | {"question": _TEXT, "answer": _TEXT})}
    | {name: Value("bool") if name == "render" else _TEXT for name in _ABOUT}
)


def write(examples: Iterable[Example], file: Path) -> pd.DataFrame:
    """One row an image: its bytes (a PIL image as PNG), tags, and the list of its questions; returns `questions`."""
    tables = [questions(())]
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, FEATURES.arrow_schema) as out:
        for batch in _batches(examples):
            out.write_batch(pa.RecordBatch.from_pylist([_row(one) for one in batch], schema=FEATURES.arrow_schema))
            tables.append(questions(batch))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def read(folder: Path, split: str) -> Sequence[Example]:
    """The examples of one split, images not even read yet. Raises DataError naming the file, ImageError the image."""
    file = folder / f"{split}.arrow"
    if not file.is_file():
        raise DataError(f"A built data set has {split}.arrow, but there is none in {folder}. Run its data job again.")
    with pa.memory_map(str(file)) as mapped:
        whole = mapped.read_buffer()
        reader = pa.ipc.open_file(pa.BufferReader(whole))
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        return [example for batch in batches for example in _examples(batch, file, whole.address)]


def read_all(folders: Iterable[Path], split: str) -> list[Example]:
    """`read` of several data sets, one after the other."""
    return [example for folder in folders for example in read(folder, split)]


def questions(examples: Iterable[Example]) -> pd.DataFrame:
    """One row a question: its tags, native height and width of its image and of those before it; no pixels."""
    rows = []
    for example in examples:
        about = {name: getattr(example, name) for name in _ABOUT}
        about |= {"height": example.image.height, "width": example.image.width}
        about["context"] = [
            {"height": shot.image.height, "width": shot.image.width, "question": shot.question, "answer": shot.answer}
            for shot in example.context
        ]
        for question in example.questions:
            asked = asdict(question)
            rows.append(about | {"question_id": asked.pop("id"), "question": asked.pop("text")} | asked)
    asked = [name for name in _QUESTION if name not in ("id", "text")]
    names = [*_ABOUT, "height", "width", "context", "question_id", "question", *asked]
    return pd.DataFrame(rows, columns=names).astype({"detail_px": float})


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Runs of examples, with pictures for images, of at most `BATCH_ROWS` and about `BATCH_BYTES`."""
    held: list[Example] = []
    size = 0
    for example in examples:
        held.append(example)
        size += sum(_size(image) for image in example.images)
        if size >= BATCH_BYTES or len(held) >= BATCH_ROWS:
            yield held
            held.clear()  # the caller still has the list
            size = 0
    if held:
        yield held


def _size(image) -> int:
    """Bytes in memory."""
    return len(image.data) if isinstance(image, Picture) else 3 * image.height * image.width


def _row(example: Example) -> dict:
    asked = {"questions": [asdict(question) for question in example.questions]}
    shots = [_picture(shot.image, example) | {"question": shot.question, "answer": shot.answer}
             for shot in example.context]
    about = {name: getattr(example, name) for name in _ABOUT}
    return about | _picture(example.image, example) | asked | {"context": shots}


def _picture(image, example: Example) -> dict:
    picture = image if isinstance(image, Picture) else Picture.of(image, example.image_id)
    stored = {"bytes": picture.data, "path": None}
    return {"image": stored, "sha256": picture.sha256, "height": image.height, "width": image.width}


def _examples(batch: pa.RecordBatch, file: Path, base: int) -> Iterator[Example]:
    """The rows of a batch of a file that is mapped at the address `base`."""
    rows = batch.select([*_ABOUT, "questions"]).to_pylist()
    context = batch.column("context")
    whose = np.repeat(np.arange(len(rows)), np.diff(context.offsets))
    names = [f"Image {row['image_id']} of {row['dataset']}" for row in rows]
    shots = _pictures(context.values, file, base, [f"A context image of {names[row]}" for row in whose])
    said = zip(context.values.field("question").to_pylist(), context.values.field("answer").to_pylist(), strict=True)
    made = [Shot(image, *texts) for image, texts in zip(shots, said, strict=True)]
    shown = pa.StructArray.from_arrays([batch.column(name) for name in _PICTURE], list(_PICTURE))
    images = _pictures(shown, file, base, names)
    ends = context.offsets.to_pylist()
    for row, image, start, end in zip(rows, images, ends, ends[1:], strict=False):
        asked = tuple(Question(**one | {name: tuple(one[name]) for name in _LISTS}) for one in row.pop("questions"))
        yield Example(image=image, questions=asked, context=tuple(made[start:end]), **row)


def _pictures(columns: pa.StructArray, file: Path, base: int, names: Sequence[str]) -> list[StoredPicture]:
    """The `_PICTURE` columns of some rows as pictures. Raises ImageError naming one without bytes."""
    if not names:
        return []
    data = columns.field("image").field("bytes")
    _, ends, content = data.buffers()
    ends = np.frombuffer(ends, np.int32)[data.offset : data.offset + len(data) + 1].astype(np.int64)
    rest = [columns.field(name).to_pylist() for name in ("sha256", "height", "width")]
    made = []
    for start, end, name, sha256, height, width in zip(ends, ends[1:], names, *rest, strict=False):
        if start == end:
            raise ImageError(f"{name} must have bytes, but has none in its file. Run its data job again.")
        place = content.address - base + int(start)
        made.append(StoredPicture(file, place, int(end - start), name, sha256, (height, width)))
    return made

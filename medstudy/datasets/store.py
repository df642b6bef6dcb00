"""Examples on disk: one Arrow file a split, in the hub's format (`load_dataset("arrow", …)` reads it too).

Neither writing nor reading holds a split's images in memory. Arrow keeps values uncompressed and in one piece, so that
an image is a part of its file, and its `StoredPicture` reads just that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Features, Image, List, Value

from medstudy import datasets, fingerprints, identity, paths
from medstudy.errors import DataError, ImageError
from medstudy.pictures import Picture, StoredPicture
from medstudy.progress import track
from medstudy.records import LETTERS, SPLITS, Example, Question, Shot
from medstudy.sources import conflicts, hub, own

LOST = ["split", "image_id", "where", "problem", "error"]
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


def build(params: datasets.Params, folder: Path) -> pd.DataFrame:
    """Write every split of a data set to `folder` and return its table of questions (see `questions`).

    Each image is decoded on the way, so that an unreadable one stops the study before anything is trained; where the
    params say `on_unreadable: skip`, it is left out with its questions and listed in unreadable.csv, as are the rows of
    the user's own that cannot be used. The folder also gets questions.parquet, fingerprints.parquet (for
    `medstudy.leakage`), conflicts.csv (questions that are asked of one image twice; see `sources.conflicts`), of the
    user's own columns.csv (which column is what), and of a source that may change source.json with its commit.

    Raises ImageError; DataError for a repeated image id, a question without an answer, references that cannot be
    scored (`medstudy.identity`), no test image, training images without any for validation, or test questions of the
    user's own that contradict each other. A data set without training images is only evaluated on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    label = datasets.label(params)
    build = _Build(label, leave_out=getattr(params, "on_unreadable", "stop") == "skip")
    tables, load = [], _loader(params, folder, build)
    for split in SPLITS:
        made = track(load(split), f"{label} {split}", unit="image")
        tables.append(write(build.checked(made, split), folder / f"{split}.arrow"))
    build.check_splits([len(table) for table in tables])
    build.conflicts.table().to_csv(folder / "conflicts.csv", index=False, lineterminator="\n")
    if getattr(params, "on_contradiction", "keep") == "stop":
        build.check_contradictions()
    table = pd.concat([one for one in tables if len(one)], ignore_index=True)
    identity.refuse(identity.check(table), label)
    table.to_parquet(folder / "questions.parquet")
    if hasattr(params, "revision"):
        here = paths.resolve(params.path)
        said = here.name if here.exists() else params.path
        about = {"path": said, "commit": hub.commit(params.path, params.revision)}
        (folder / "source.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    pd.DataFrame(build.prints, columns=fingerprints.COLUMNS).to_parquet(folder / "fingerprints.parquet")
    unreadable = pd.DataFrame(build.lost, columns=LOST)
    unreadable.to_csv(folder / "unreadable.csv", index=False, lineterminator="\n")
    return table


def _loader(params: datasets.Params, folder: Path, build: _Build) -> Callable[[str], Iterable[Example]]:
    """What loads a split. Of the user's own the table is read once for all, and what is left out is noted."""
    if not isinstance(params, own.Own):
        return lambda split: datasets.load(params, split)
    module = datasets.REGISTRY[params.name]
    survey, opener = module.survey(params), module.opener(params)
    columns = pd.DataFrame(survey.bindings, columns=["table", "role", "column", "how"])
    columns.to_csv(folder / "columns.csv", index=False, lineterminator="\n")
    build.leave(survey.faults)

    def load(split: str) -> Iterator[Example]:
        left_out: list[own.Fault] = []
        yield from own.load(params, survey, split, opener, left_out)
        build.leave(left_out)

    return load


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


class _Build:
    """What is checked and noted of a data set's examples while they stream by."""

    def __init__(self, name: str, leave_out: bool):
        self.name, self.leave_out = name, leave_out
        self.prints: list[dict] = []
        self.lost: list[dict] = []
        self.conflicts = conflicts.Seen()

    def leave(self, faults: Iterable[own.Fault]) -> None:
        """Note rows of the user's own that are left out."""
        for one in faults:
            place = {"split": one.split or "unknown", "image_id": one.image, "where": one.where}
            self.lost.append(place | {"problem": one.problem, "error": one.message})

    def checked(self, examples: Iterable[Example], split: str) -> Iterator[Example]:
        """The examples that are in order, every image decoded once."""
        seen: set[str] = set()
        for example in examples:
            _check(example, self.name, split)
            if example.image_id in seen:
                raise DataError(f"Image ids must be unique, but {example.image_id!r} repeats in {self.name} {split}.")
            seen.add(example.image_id)
            try:
                prints = fingerprints.rows_of(example)
            except ImageError as error:
                if not self.leave_out:
                    raise
                lost = {"split": split, "image_id": example.image_id, "where": "", "problem": "unreadable"}
                self.lost.append(lost | {"error": str(error)})
                continue
            self.prints += prints
            self.conflicts.add(example, prints)
            yield example

    def check_contradictions(self) -> None:
        """Raise DataError where two test questions of one image cannot both be right."""
        found = [row for row in self.conflicts.rows if conflicts.stops(row)]
        if found:
            raise DataError(
                f"A test question has one right answer, but {len(found)} of {self.name} contradict another. "
                f"{conflicts.message(found[0])} conflicts.csv and `medstudy data check` list them: mend them, or state "
                "`on_contradiction: keep`."
            )

    def check_splits(self, sizes: Sequence[int]) -> None:
        """Of train, val and test, in rows. Raises DataError for one that must not be empty."""
        train, val, test = sizes
        lost = f" {len(self.lost)} rows or images could not be used (unreadable.csv)." if self.lost else ""
        if not test:
            raise DataError(
                f"A data set needs test images, but test of {self.name} is empty.{lost} Raise its size in the params."
            )
        if train and not val:
            raise DataError(
                f"Training is validated on images of its own, but val of {self.name} is empty and train is not.{lost} "
                "Raise its size or val_share in the params; or set train to 0, and it is only evaluated on."
            )


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
             for shot in example.context]  # fmt: skip
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


def _check(example: Example, name: str, split: str) -> None:
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

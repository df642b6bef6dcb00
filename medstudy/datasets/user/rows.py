"""All rows of the user's data, collected by image, each image with a split and a group; decodes no image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medstudy.data import splits
from medstudy.data.example import LETTERS
from medstudy.data.readers.cells import RowError
from medstudy.datasets.user.column_names import FoundColumns
from medstudy.datasets.user.params import UserData
from medstudy.datasets.user.row_questions import RowQuestion
from medstudy.errors import DataError, ImageError
from medstudy.imaging.read_options import ReadOptions

ADAPTER = TypeAdapter(ReadOptions)


@dataclass(frozen=True)
class Fault:
    """A row that cannot be used, or an image that cannot be read. split: "" if the row's is not known."""

    split: str
    where: str
    image: str
    problem: str
    message: str

    @classmethod
    def of(cls, error: DataError, where: str, split: str = "", image: str = "") -> Fault:
        """An error as a row of a table."""
        kind = "unreadable" if isinstance(error, ImageError) else "malformed"
        return cls(split, where, image, getattr(error, "problem", kind), str(error))


@dataclass(frozen=True)
class Entry:
    """An example before its images are read. images: as the source has them; the last is the example's own."""

    image_id: str
    images: tuple
    reading: ReadOptions
    rows: tuple[RowQuestion, ...]
    split: str
    group: str


@dataclass
class Survey:
    """The examples that a source's rows describe, and the rows that cannot be used.

    bindings: {table, role, column, how} of each column, of the image marks in texts, and of how the splits arose.
    marks: counts of "marks", and of "rows" with marks.
    """

    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    bindings: list[dict] = field(default_factory=list)
    marks: Counter = field(default_factory=Counter)

    def note_columns(self, table: str, found: FoundColumns) -> None:
        """Note the role of each column of a table."""
        self.bindings += [{"table": table} | row for row in found.how]

    def note_marks(self, count: int) -> None:
        """Note the number of image marks in a row."""
        self.marks.update(marks=count, rows=int(count > 0))

    def chosen(self, params: UserData, split: str) -> Iterator[Entry]:
        """The entries of one split, as many as the params allow."""
        entries = [entry for entry in self.entries if entry.split == split]
        return splits.capped(entries, getattr(params, split), params.seed)


def survey(params: UserData, rows: Iterable[RowQuestion], result: Survey, name_of: Callable[[tuple], str],
           stated_by: str) -> Survey:
    """`result`, with the rows collected by image, split and grouped. name_of: an example's id from its images.

    Images of one prompt belong to one group, unless rows state otherwise. `split: group` redraws the splits by group,
    as if the source had none. stated_by: what states a row's split, for the report.
    """
    redrawn = params.split == "group"
    # rows by their images, how these are read, and their split
    by_image: dict[tuple, list[RowQuestion]] = {}
    known: dict[str, ReadOptions] = {}
    for row in _classes_by_id(_numbered_from_0(list(rows), params, result.faults)):
        try:
            reading = _row_reading(params.reading, row.reading, known)
        except DataError as error:
            result.faults.append(Fault(row.split or "", row.where, name_of(row.images), "reading", str(error)))
            continue
        by_image.setdefault((row.images, reading, None if redrawn else row.split), []).append(row)
    # the first stated group of all images that prompts connect
    first = _connected(images for images, _, _ in by_image)
    connected_groups: dict[Any, str] = {}
    for (images, _, _), image_rows in by_image.items():
        for row in image_rows:
            if row.group:
                connected_groups.setdefault(first[images[-1]], row.group)
    # each image's group: stated, else of the connected images, else its own; and its split: stated, else drawn
    any_stated = any(split for _, _, split in by_image)
    held_out = any_stated and not any(split == "val" for _, _, split in by_image)
    alone = 0
    for (images, reading, split), image_rows in by_image.items():
        name = name_of(images) + _suffix(reading, params.reading)
        image_rows = list(_consistent(image_rows, name, result.faults))
        group = next((row.group for row in image_rows if row.group), None) or connected_groups.get(first[images[-1]])
        alone += not group
        group = group or name_of((first[images[-1]],))
        if not split:
            split = splits.new_split(group, params.test_share, params.val_share, params.seed)
        elif held_out and split == "train" and splits.held_out(group, params.val_share, params.seed):
            split = "val"
        result.entries.append(Entry(name, images, reading, tuple(image_rows), split, group))
    stated_by = stated_by if any_stated else ""
    result.bindings += _notes(params, result, stated_by, held_out, alone if connected_groups else None)
    return result


def _numbered_from_0(rows: list[RowQuestion], params: UserData, faults: list[Fault]) -> Iterator[RowQuestion]:
    """The rows, without bare numbers as answers if none of these is 0: they may count from 1."""
    clear = any(row.counted and row.question.answer == LETTERS[0] for row in rows)
    for row in rows:
        if clear or not row.counted:
            yield row
            continue
        message = (
            f"A number must name an option from 0, but no answer of {params.label} is 0, so they may count from 1. "
            "Write the option's text or its letter."
        )
        faults.append(Fault(row.split or "", row.where, str(row.images[-1]), "number from 0 or 1", message))


def _classes_by_id(rows: Iterable[RowQuestion]) -> Iterator[RowQuestion]:
    """The rows, with one id per class question: its text, unless the table states an id for this question alone.

    A class question is asked of many images, and its classes are the answers of all rows with its id.
    """
    rows = list(rows)
    pairs = {(row.question.text, row.question.id) for row in rows if row.question.kind == "class"}
    by_text, by_id = Counter(text for text, _ in pairs), Counter(name for _, name in pairs)
    for row in rows:
        question = row.question
        ambiguous = question.kind == "class" and max(by_text[question.text], by_id[question.id]) > 1
        yield replace(row, question=replace(question, id=question.text)) if ambiguous else row


def _notes(params: UserData, result: Survey, stated_by: str, held_out: bool, alone: int | None) -> Iterator[dict]:
    """What the report says about groups, splits, marks and options.

    alone: number of images without a group; None: no row states one.
    """
    drawn = f"drawn by group (test_share {params.test_share}, val_share {params.val_share}, seed {params.seed})"
    split = stated_by or drawn
    if held_out and any(entry.split == "val" for entry in result.entries):
        split += f"; val is drawn from the groups of train (val_share {params.val_share}, seed {params.seed})"
    group = "not stated: each image is a group of its own" if alone is None else "stated, or the images of one prompt"
    group += f"; {alone} images state none, and each is a group of its own" if alone else ""
    marks = f"{result.marks['marks']} marks of images in {result.marks['rows']} questions, read"
    notes = {"splits": split, "groups": group, "marks": marks if result.marks["rows"] else "none"}
    if lettered := sum(row.lettered for entry in result.entries for row in entry.rows):
        notes["options"] = f"in {lettered} questions they begin with letters (A, B, …), which are taken as keys"
    for role, how in notes.items():
        yield {"table": "all", "role": role, "column": "", "how": how}


def _row_reading(general: ReadOptions, of_row: dict[str, Any], known: dict[str, ReadOptions]) -> ReadOptions:
    """The data set's reading with a row's changes; cells are JSON, as 3 or [0, 255] or "middle". Raises RowError."""
    if not of_row:
        return general
    key = json.dumps(of_row, sort_keys=True, default=str)
    if key not in known:
        changes = {name: _parsed(cell) for name, cell in of_row.items()}
        try:
            known[key] = ADAPTER.validate_json(json.dumps(asdict(general) | changes))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise RowError("reading", f"reading.{name}: {first['msg']} (got {first.get('input')!r}).") from error
    return known[key]


def _parsed(cell: Any) -> Any:
    if not isinstance(cell, str):
        return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _suffix(reading: ReadOptions, general: ReadOptions) -> str:
    """The difference between two ways to read a file, such as " frame=3"."""
    usual = asdict(general)
    return "".join(f" {name}={value}" for name, value in asdict(reading).items() if value != usual[name])


def _consistent(rows: list[RowQuestion], name: str, faults: list[Fault]) -> Iterator[RowQuestion]:
    """The rows of an image; one that repeats a question's id, or states another group or spacing, is a fault."""
    known: set[str] = set()
    group = next((row.group for row in rows if row.group), None)
    spacing = next((row.um_per_px for row in rows if row.um_per_px), None)
    for row in rows:
        if row.question.id in known:
            message = f"A question's id must be unique for an image, but {row.question.id!r} repeats. Remove this row."
            faults.append(Fault(row.split or "", row.where, name, "repeated question", message))
        elif row.group and row.group != group:
            message = f"An image must be in one group, but this row has {row.group!r} and others {group!r}. Fix it."
            faults.append(Fault(row.split or "", row.where, name, "two groups", message))
        elif row.um_per_px and row.um_per_px != spacing:
            message = f"An image has one um_per_px, but this row has {row.um_per_px:g} and others {spacing:g}. Fix it."
            faults.append(Fault(row.split or "", row.where, name, "two spacings", message))
        else:
            known.add(row.question.id)
            yield row


def _connected(prompts: Iterable[tuple]) -> dict:
    """Each image -> the first image that prompts connect it with (union-find)."""
    parent: dict = {}

    def root(image: Any) -> Any:
        parent.setdefault(image, image)
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for first, *others in prompts:
        for other in (first, *others):
            parent[root(other)] = root(first)
    return {image: root(image) for image in parent}

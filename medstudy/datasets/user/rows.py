"""The user's own data: rows of any table or hub data set to examples, each image once with all its questions."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from medstudy import imaging
from medstudy.data import splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import LETTERS, Example, Shot
from medstudy.data.readers.cells import RowError
from medstudy.data.readers.source import Source
from medstudy.datasets.user import detail_size
from medstudy.datasets.user.column_names import Bound
from medstudy.datasets.user.columns import Asked, Columns, Kind
from medstudy.errors import DataError, ImageError, MedstudyError
from medstudy.imaging.read_options import Facts, Reading

NAMED = 5  # faults that an error names; `medstudy data check` lists them all
READING = TypeAdapter(Reading)
PLAIN = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


class Own(Source):
    """What every data set of the user's own says; see also `Source`.

    label: what the study calls it. kind: of every question; auto is a choice where there are options, closed where
    the answer is yes or no, else open. ask: the question of every row, where the table has none. reading: how images
    are read. render: whether images may appear in notebooks and figures. on_unreadable: what a row does that cannot
    be used, or an image that cannot be read: stop the study, or be left out. on_contradiction: whether test
    questions of one image that contradict each other (`sources.conflicts`) stop the study or are kept. test_share,
    val_share: of the groups, where the source itself has no splits; val_share is also held out of a training split that
    comes without one.
    """

    label: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
    columns: Columns = Columns()
    kind: Literal["auto"] | Kind = "auto"
    ask: str | None = None
    reading: Reading = Reading()
    modality: str = "unknown"
    anatomy: str = "unknown"
    license: str = "not stated"
    render: bool = False
    on_unreadable: Literal["stop", "skip"] = "stop"
    on_contradiction: Literal["stop", "keep"] = "stop"
    test_share: float = Field(default=0.2, gt=0, le=1)

    @model_validator(mode="after")
    def _shares(self) -> Own:
        if self.test_share < 1 and self.test_share + self.val_share >= 1:
            raise ValueError("test_share and val_share must leave something to train on (or let test_share be 1)")
        return self


@dataclass(frozen=True)
class Fault:
    """A row that cannot be used, or an image that cannot be read. `split` is "" where the row's is not known."""

    split: str
    where: str
    image: str
    problem: str
    message: str


@dataclass(frozen=True)
class Entry:
    """An example before its images are read: `images` as the source has them, the example's own last."""

    image_id: str
    images: tuple
    reading: Reading
    rows: tuple[Asked, ...]
    split: str
    group: str


@dataclass
class Survey:
    """All that a source's rows say, and which of them cannot be used; no image has been decoded.

    bindings: {table, role, column, how} of each column, of the marks in the texts, and of how the splits arose.
    """

    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    bindings: list[dict] = field(default_factory=list)
    marks: Counter = field(default_factory=Counter)  # "marks", and "rows" that have some

    def bind(self, table: str, bound: Bound) -> None:
        """Note which column of a table is what."""
        self.bindings += [{"table": table} | one for one in bound.how]

    def chosen(self, params: Own, split: str) -> Iterator[Entry]:
        """The entries of one split, as many as the params want of it."""
        mine = [entry for entry in self.entries if entry.split == split]
        return splits.capped(mine, getattr(params, split), params.seed)


def survey(params: Own, asked: Iterable[Asked], found: Survey, names: Callable[[tuple], str], stated_by: str) -> Survey:
    """Rows put together by image, split and grouped, into `found`. names: an example's id from its images.

    Images that stand in one prompt belong to one group, unless rows say otherwise. `split: group` shares the groups out
    as where the source has no splits. stated_by: what says a row's split, for the report.
    """
    anew = getattr(params, "split", None) == "group"
    faults = found.faults
    by_image: dict[tuple, list[Asked]] = {}
    readings: dict[str, Reading] = {}
    for one in _classes_by_id(_numbered_from_0(list(asked), params, faults)):
        try:
            reading = _reading(params.reading, one.reading, readings)
        except MedstudyError as error:
            faults.append(Fault(one.split or "", one.where, names(one.images), "reading", str(error)))
            continue
        by_image.setdefault((one.images, reading, None if anew else one.split), []).append(one)
    first = _connected(shown for shown, _, _ in by_image)
    named: dict = {}  # the first group that a row states, of all images that are connected
    for (shown, _, _), rows in by_image.items():
        for one in rows:
            if one.group:
                named.setdefault(first[shown[-1]], one.group)
    stated = any(split for _, _, split in by_image)
    held = stated and not any(split == "val" for _, _, split in by_image)
    alone = 0
    for (shown, reading, split), rows in by_image.items():
        name = names(shown) + _suffix(reading, params.reading)
        rows = list(_different(rows, name, faults))
        stated_here = next((one.group for one in rows if one.group), None)
        group = stated_here or named.get(first[shown[-1]])
        alone += not group
        group = group or names((first[shown[-1]],))
        if not split:
            split = splits.drawn(group, params.test_share, params.val_share, params.seed)
        elif held and split == "train" and splits.held_out(group, params.val_share, params.seed):
            split = "val"
        found.entries.append(Entry(name, shown, reading, tuple(rows), split, group))
    found.bindings += _arisen(params, found, stated_by if stated else "", held, alone if named else None)
    return found


def _numbered_from_0(asked: list[Asked], params: Own, faults: list[Fault]) -> Iterator[Asked]:
    """The rows but those whose answer is a bare number, unless one of these is 0: else they may count from 1."""
    clear = any(one.counted and one.question.answer == LETTERS[0] for one in asked)
    for one in asked:
        if clear or not one.counted:
            yield one
            continue
        message = (
            f"A number names an option from 0, but no answer of {params.label} is 0, so that they may count from 1. "
            "Write the option's text or its letter."
        )
        faults.append(Fault(one.split or "", one.where, str(one.images[-1]), "number from 0 or 1", message))


def _classes_by_id(asked: Iterable[Asked]) -> Iterator[Asked]:
    """The rows, those of one class question by one id: its text, unless the table states an id that is its alone.

    It asks the same of many images, and its classes are the answers of all that share its id.
    """
    asked = list(asked)
    pairs = {(one.question.text, one.question.id) for one in asked if one.question.kind == "class"}
    by_text, by_id = Counter(text for text, _ in pairs), Counter(id for _, id in pairs)
    for one in asked:
        question = one.question
        mixed = question.kind == "class" and max(by_text[question.text], by_id[question.id]) > 1
        yield replace(one, question=replace(question, id=question.text)) if mixed else one


def _arisen(params: Own, found: Survey, stated_by: str, held: bool, alone: int | None) -> Iterator[dict]:
    """What the report says of groups, splits, marks and options.

    alone: images without a group where others have one; None: no row states one.
    """
    drawn = f"drawn by group (test_share {params.test_share}, val_share {params.val_share}, seed {params.seed})"
    split = stated_by or drawn
    if held and any(one.split == "val" for one in found.entries):
        split += f"; val is drawn from the groups of train (val_share {params.val_share}, seed {params.seed})"
    group = "not stated: each image is a group of its own" if alone is None else "stated, or the images of one prompt"
    group += f"; {alone} images state none, and each is a group of its own" if alone else ""
    for role, how in (("splits", split), ("groups", group)):
        yield {"table": "all", "role": role, "column": "", "how": how}
    marks = f"{found.marks['marks']} marks of images in {found.marks['rows']} questions, read"
    yield {"table": "all", "role": "marks", "column": "", "how": marks if found.marks["rows"] else "none"}
    if lettered := sum(row.lettered for entry in found.entries for row in entry.rows):
        how = f"in {lettered} questions they begin with letters (A, B, …), which are their keys and not shown again"
        yield {"table": "all", "role": "options", "column": "", "how": how}


def load(params: Own, found: Survey, split: str, picture: Callable[[object, Reading], Picture],
         left_out: list[Fault] | None = None) -> Iterator[Example]:
    """The examples of one split, an image at a time. Raises DataError for the first fault unless faults are skipped.

    left_out: takes the faults of what is skipped here; those of the rows are in `found`.
    """
    skip = params.on_unreadable == "skip"
    if found.faults:
        if not skip:
            raise DataError(_summary(params, found.faults))
        warnings.warn(_summary(params, found.faults), stacklevel=2)
    for entry in found.chosen(params, split):
        faults: list[Fault] = []
        made = example(params, entry, picture, faults, decode=skip)
        for one in faults:
            if not skip:
                raise DataError(f"{one.where} of {params.label}: {one.message}")
            warnings.warn(f"Left out of {params.label} {split}: {one.where}: {one.message}", stacklevel=2)
        if left_out is not None:
            left_out += faults
        if made:
            yield made


def example(params: Own, entry: Entry, picture: Callable[[object, Reading], Picture], faults: list[Fault],
            decode: bool = False) -> Example | None:
    """An entry with its images, as their encoded bytes; None where none of its rows can be used.

    What is wrong goes to `faults`: images that cannot be read, and rows whose detail or box is not in the image.
    decode: look at the pixels too, and not only at the file's header.
    """
    first = entry.rows[0]
    try:
        *earlier, image = (picture(one, entry.reading) for one in entry.images)
        if decode:
            for one in (*earlier, image):
                one.pixels()
        height, width = image.height, image.width
    except DataError as error:
        faults.append(fault(error, first.where, entry.split, entry.image_id))
        return None
    rows = []
    for one in entry.rows:
        try:
            detail_size.check(one.question.detail_px, one.box, height, width)
            rows.append(one)
        except DataError as error:
            faults.append(fault(error, one.where, entry.split, entry.image_id))
    if not rows:
        return None
    return Example(
        image_id=entry.image_id, image=image, questions=tuple(one.question for one in rows),
        dataset=params.label, split=entry.split, group=entry.group, family=first.family or params.label,
        modality=first.modality or params.modality, anatomy=first.anatomy or params.anatomy, render=params.render,
        source=params.label, license=params.license, context=tuple(Shot(one) for one in earlier),
    )


@dataclass(frozen=True)
class Converted(Picture):
    """The PNG of an image that was read from a file of another kind."""

    facts: Facts | None = None  # of that file


def encoded(source: Path | bytes, name: str, reading: Reading) -> Picture:
    """A file as it is where it is a plain picture, else a PNG of what `reading` says. Raises ImageError."""
    facts = imaging.describe(source, reading=reading, name=name)
    if facts.kind in PLAIN and reading == Reading():
        return Picture(source if isinstance(source, bytes) else source.read_bytes(), name)
    made = Picture.of(imaging.read_rgb(source, reading=reading, name=name), name)
    return Converted(made.data, name, max(imaging.MAX_PIXELS, reading.max_pixels), facts)


def fault(error: RowError | DataError, where: str, split: str = "", image: str = "") -> Fault:
    """An error as a line of a table."""
    kind = "unreadable" if isinstance(error, ImageError) else "malformed"
    return Fault(split, where, image, getattr(error, "problem", kind), str(error))


def _summary(params: Own, faults: list[Fault]) -> str:
    lines = [f"  {one.where}: {one.problem}. {one.message}" for one in faults[:NAMED]]
    more = [f"  and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    return "\n".join(
        [
            f"Every row must have a readable image, a question and an answer, but {len(faults)} of {params.label} have "
            f"not. `medstudy data check` lists them: mend them, or leave them out by `on_unreadable: skip`.",
            *lines,
            *more,
        ]
    )


def _reading(general: Reading, of_row: dict, known: dict[str, Reading]) -> Reading:
    """The data set's reading with what a row says; cells are JSON, as 3 or [0, 255] or "middle". Raises DataError."""
    if not of_row:
        return general
    key = json.dumps(of_row, sort_keys=True, default=str)
    if key not in known:
        said = {name: _parsed(cell) for name, cell in of_row.items()}
        try:
            known[key] = READING.validate_json(json.dumps(asdict(general) | said))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise RowError("reading", f"reading.{name}: {first['msg']} (got {first.get('input')!r}).") from error
    return known[key]


def _parsed(cell):
    if not isinstance(cell, str):
        return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _suffix(reading: Reading, general: Reading) -> str:
    """What tells two readings of one file apart, as " frame=3"."""
    usual = asdict(general)
    return "".join(f" {name}={value}" for name, value in asdict(reading).items() if value != usual[name])


def _different(rows: list[Asked], name: str, faults: list[Fault]) -> Iterator[Asked]:
    """The rows of an image; one that repeats a question's id, or names another group, is a fault."""
    known: set[str] = set()
    group = next((one.group for one in rows if one.group), None)
    for one in rows:
        if one.question.id in known:
            message = f"A question's id is its own in an image, but {one.question.id!r} repeats. Remove this row."
            faults.append(Fault(one.split or "", one.where, name, "repeated question", message))
        elif one.group and one.group != group:
            message = f"An image belongs to one group, but this row says {one.group!r} and an earlier one {group!r}."
            faults.append(Fault(one.split or "", one.where, name, "two groups", message))
        else:
            known.add(one.question.id)
            yield one


def _connected(prompts: Iterable[tuple]) -> dict:
    """Each image -> the first image that it is joined to by prompts that show both (union-find)."""
    parent: dict = {}

    def root(image):
        parent.setdefault(image, image)
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for first, *others in prompts:
        for other in (first, *others):
            parent[root(other)] = root(first)
    return {image: root(image) for image in parent}



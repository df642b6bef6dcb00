"""The user's own data: rows of any table or hub data set to examples, each image once with all its questions."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from medstudy import images
from medstudy.errors import DataError, ImageError, MedstudyError
from medstudy.imaging.reading import Facts, Reading
from medstudy.pictures import Picture
from medstudy.records import Example, Shot
from medstudy.sources import splits
from medstudy.sources.base import Source
from medstudy.sources.columns import Asked, Columns, Kind, RowError

NAMED = 5  # faults that an error names; `medstudy data check` lists them all
READING = TypeAdapter(Reading)
PLAIN = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


class Own(Source):
    """What every data set of the user's own says; see also `Source`.

    label: what the study calls it. kind: of every question; auto is a choice where there are options, closed where
    the answer is yes or no, else open. ask: the question of every row, where the table has none. reading: how images
    are read. render: whether images may appear in notebooks and figures. on_unreadable: what a row does that cannot
    be used, or an image that cannot be read: stop the study, or be left out. test_share, val_share: of the groups,
    where the source itself has no splits; val_share is also held out of a training split that comes without one.
    """

    label: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    columns: Columns = Columns()
    kind: Literal["auto"] | Kind = "auto"
    ask: str | None = None
    reading: Reading = Reading()
    modality: str = "unknown"
    anatomy: str = "unknown"
    license: str = "not stated"
    render: bool = False
    on_unreadable: Literal["stop", "skip"] = "stop"
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
    """All that a source's rows say, and which of them cannot be used; no image has been decoded."""

    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def chosen(self, params: Own, split: str) -> Iterator[Entry]:
        """The entries of one split, as many as the params want of it."""
        mine = [entry for entry in self.entries if entry.split == split]
        return splits.capped(mine, getattr(params, split), params.seed)


def survey(params: Own, asked: Iterable[Asked], faults: list[Fault], names: Callable[[tuple], str]) -> Survey:
    """Rows put together by image, split and grouped. names: an example's id from its images.

    Images that stand in one prompt belong to one group, unless rows say otherwise. `split: group` shares the groups out
    as where the source has no splits.
    """
    anew = getattr(params, "split", None) == "group"
    found: dict[tuple, list[Asked]] = {}
    readings: dict[str, Reading] = {}
    for one in asked:
        try:
            reading = _reading(params.reading, one.reading, readings)
        except MedstudyError as error:
            faults.append(Fault(one.split or "", one.where, names(one.images), "reading", str(error)))
            continue
        found.setdefault((one.images, reading, None if anew else one.split), []).append(one)
    first = _connected(shown for shown, _, _ in found)
    named: dict = {}  # the first group that a row states, of all images that are connected
    for (shown, _, _), rows in found.items():
        for one in rows:
            if one.group:
                named.setdefault(first[shown[-1]], one.group)
    stated = any(split for _, _, split in found)
    held = stated and not any(split == "val" for _, _, split in found)
    made = []
    for (shown, reading, split), rows in found.items():
        name = names(shown) + _suffix(reading, params.reading)
        rows = list(_different(rows, name, faults))
        stated_here = next((one.group for one in rows if one.group), None)
        group = stated_here or named.get(first[shown[-1]]) or names((first[shown[-1]],))
        if not split:
            split = splits.drawn(group, params.test_share, params.val_share, params.seed)
        elif held and split == "train" and splits.held_out(group, params.val_share, params.seed):
            split = "val"
        made.append(Entry(name, shown, reading, tuple(rows), split, group))
    return Survey(made, faults)


def load(params: Own, found: Survey, split: str, picture: Callable[[object, Reading], Picture]) -> Iterator[Example]:
    """The examples of one split, an image at a time. Raises DataError for the first fault unless faults are skipped."""
    skip = params.on_unreadable == "skip"
    if found.faults:
        if not skip:
            raise DataError(_summary(params, found.faults))
        warnings.warn(_summary(params, found.faults), stacklevel=2)
    for entry in found.chosen(params, split):
        try:
            made = example(params, entry, picture)
            if skip:
                for shown in made.images:
                    shown.pixels()
        except DataError as error:
            if not skip:
                raise DataError(f"{entry.rows[0].where} of {params.label}: {error}") from error
            warnings.warn(f"Left out of {params.label} {split}: {entry.rows[0].where}: {error}", stacklevel=2)
            continue
        yield made


def example(params: Own, entry: Entry, picture: Callable[[object, Reading], Picture]) -> Example:
    """An entry with its images, as their encoded bytes. Raises DataError, ImageError."""
    *earlier, image = (picture(one, entry.reading) for one in entry.images)
    first = entry.rows[0]
    return Example(
        image_id=entry.image_id, image=image, questions=tuple(one.question for one in entry.rows),
        dataset=params.label, split=entry.split, group=entry.group, family=params.label,
        modality=first.modality or params.modality, anatomy=first.anatomy or params.anatomy, render=params.render,
        source=params.label, license=params.license, context=tuple(Shot(one) for one in earlier),
    )  # fmt: skip


@dataclass(frozen=True)
class Converted(Picture):
    """The PNG of an image that was read from a file of another kind."""

    facts: Facts | None = None  # of that file


def encoded(source: Path | bytes, name: str, reading: Reading) -> Picture:
    """A file as it is where it is a plain picture, else a PNG of what `reading` says. Raises ImageError."""
    facts = images.describe(source, reading=reading, name=name)
    if facts.kind in PLAIN and reading == Reading():
        return Picture(source if isinstance(source, bytes) else source.read_bytes(), name)
    made = Picture.of(images.read_rgb(source, reading=reading, name=name), name)
    return Converted(made.data, name, max(images.MAX_PIXELS, reading.max_pixels), facts)


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



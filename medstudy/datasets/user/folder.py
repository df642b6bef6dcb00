"""The user's own data: a folder of images with a table beside them, or a table alone (see docs/how-to/your-data.md).

Forms: a table of image, question and answer; ms-swift's rows; LLaVA's conversations. A file that is no plain picture
(DICOM, TIFF, NIfTI, a slide) is read as `reading` says and kept as a PNG, so nothing of its header is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from pydantic import model_validator

from medstudy import paths
from medstudy.data.encoded_image import Picture
from medstudy.data.example import SPLITS, Example
from medstudy.data.readers import conversations, files, image_marks
from medstudy.data.readers.cells import RowError
from medstudy.datasets.user import column_names, columns
from medstudy.datasets.user import rows as user_rows
from medstudy.datasets.user import tables as user_tables
from medstudy.datasets.user.column_names import Bound
from medstudy.datasets.user.columns import Asked
from medstudy.datasets.user.rows import Own, Survey
from medstudy.errors import DataError
from medstudy.imaging.read_options import Reading

VERSION = "2"
FROM = "Correct it; a relative one is taken from the folder of the params file."
NAME_MAX, PATH_MAX = 255, 1024  # of a file's name in bytes, of a path in characters
SHOWN = 80  # characters of a cell, in an error or a report
TURNS = {"image": "images", "question": "question", "answer": "answer"}  # what a conversation's turns are made into


class Params(Own):
    """See `Own`. path: a folder or a table; a relative one is taken from the params file's folder.

    form: auto goes by the first row: `conversations` is llava, `messages` or `query` swift, else a table. images: the
    folder below which all images are; None is the table's own. strip: what image paths begin with and is taken off, as
    the folder in which an absolute one was written. split: by the table's column `split`; by files or
    folders named train, val and test; or by shares of the groups, drawn by `seed`. auto: files if there are, else the
    column if there is one, else shares.
    """

    name: Literal["local"] = "local"
    form: Literal["auto", "table", "swift", "llava"] = "auto"
    images: str | None = None
    strip: str = ""
    split: Literal["auto", "column", "files", "shares"] = "auto"

    @model_validator(mode="after")
    def _no_revision(self) -> Params:
        if self.revision is not None:
            raise ValueError("a folder has no revision: leave it out")
        return self


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of one split, an image at a time. Raises DataError; see `Own.on_unreadable`."""
    return user_rows.load(params, survey(params), split, opener(params))


def version(params: Params) -> str:
    """Changes with the tables' content, and with the name, size or time of change of any image that they name."""
    return f"{VERSION}-{_stamp(params.model_dump_json(), tuple(_state(file) for _, file in _tables(params)))}"


def survey(params: Params) -> Survey:
    """What all rows say, none of their images decoded. Raises DataError where no table can be found or read."""
    found = Survey()
    by = "the names of files or folders" if any(split for split, _ in _tables(params)) else "the column of the split"
    return user_rows.survey(params, _asked(params, found), found, _name, by)


def opener(params: Params) -> Callable[[tuple[str, str], Reading], Picture]:
    """What reads an image of an entry; see `own.encoded`."""
    return lambda file, reading: user_rows.encoded(Path(*file), file[1], reading)


def _asked(params: Params, found: Survey) -> Iterator[Asked]:
    """What every usable row asks; its images as (folder, name) that are there. Others are faults of `found`."""
    number = 0
    files_by_split = any(split for split, _ in _tables(params))
    for split, file in _tables(params):
        rows = list(user_tables.rows(_shown(file)))
        if not rows:
            raise DataError(f"A table needs rows, but {_shown(file)} has none.")
        form = params.form if params.form != "auto" else conversations.form_of(rows[0][1])
        there = dict.fromkeys(name for _, row in rows for name in row if name is not None)
        bound = _columns(params, form, there, _shown(file), files_by_split, [row for _, row in rows])
        known = bound.columns
        root, base = _roots(params, file)
        inside = root.relative_to(base).as_posix()
        found.bind(file.name if inside == "." else f"{inside}/{file.name}", bound)
        seen: dict[str, str] = {}
        for where, row in rows:
            where = where if inside == "." else f"{inside}/{where}"
            try:
                bound.check(row)
                for turn, marked in _turns(row, form, known):
                    asked = columns.read(turn, where, number, known, params.label, params.kind, params.ask)
                    number += 1
                    located = (_located(_shown(root), name, params.strip, seen) for name in asked.images)
                    names = (posixpath.normpath(posixpath.join(inside, name)) for name in located)
                    shown = tuple((str(_shown(base)), name) for name in names)
                    found.marks.update(marks=marked, rows=int(marked > 0))
                    yield replace(asked, images=shown, split=split or asked.split)
            except DataError as error:
                found.faults.append(user_rows.fault(error, where, split or "", _mentioned(row, known)))


def _roots(params: Params, file: Path) -> tuple[Path, Path]:
    """Where the images of a table's rows lie, and from where their ids count. Raises DataError."""
    if params.images is None:
        top = paths.resolve(params.path)
        return file.parent, file.parent if file == top else top
    root = paths.resolve(params.images)
    if not root.is_dir():
        raise DataError(f"`images` is a folder, but there is none at {params.images}. {FROM}")
    return root, root


def _columns(params: Params, form: str, there: Mapping, where: Path, files_by_split: bool,
             rows: Sequence[Mapping]) -> Bound:
    """The columns of each thing in a table; of conversations, those of what their turns become."""
    stated = params.columns
    usual: tuple[str, ...] = ()
    if form != "table":
        if stated.model_fields_set & {"image", "images", "question", "answer", "options"}:
            raise DataError(f"{form} rows have columns of their own, so `columns` may not name theirs: leave them out.")
        usual = conversations.KEYS[form]
        column_names.misspelt(there, usual, str(where), stated)
        there = [*there, *TURNS.values()]
        stated = stated.model_copy(update=TURNS | {"image": None, "images": TURNS["image"]})
    by_column = params.split == "column" or (params.split == "auto" and not files_by_split)
    unread = () if by_column else ("split",)
    found = column_names.bound(stated, there, str(where), params.ask, unread, usual, rows)
    if params.split == "column" and not found.columns.split:
        raise DataError(f"split: column needs a column `split`, but {where} has {', '.join(there)}. Name it there.")
    return found if by_column else replace(found, columns=found.columns.model_copy(update={"split": None}))


def _turns(row: dict, form: str, known: columns.Columns) -> Iterator[tuple[dict, int]]:
    """A table's row as it is, of a conversation a row for each question; and its marks, counted. Raises DataError."""
    if form == "table":
        if None in row:
            raise RowError("cells", f"A row has a cell a column, but this has {row[None]}. Quote cells with commas.")
        asked = columns.value(row, known.question)
        yield row, image_marks.count(asked) if isinstance(asked, str) else 0
        return
    turns = conversations.turns(row, form)
    counts = iter(image_marks.count(text) for text in conversations.questions(row, form))
    for images, question, answer in turns:
        yield row | {"images": list(images), "question": question, "answer": answer}, next(counts, 0)


def _tables(params: Params) -> list[tuple[str | None, Path]]:
    """(split or None, file) of every table. Raises DataError saying what there is instead."""
    path = paths.resolve(params.path)
    if path.is_file():
        return [(None, path)]
    if not path.is_dir():
        raise DataError(f"`path` is a folder or a table, but there is none at {params.path}. {FROM}")
    by_split = _by_split(path)
    if by_split and params.split in ("auto", "files"):
        return by_split
    if params.split == "files":
        raise DataError(f"split: files needs train, val or test.* in {params.path}, but there are {_listed(path)}.")
    if by_split:
        return [(None, file) for _, file in by_split]
    found = [file for file in sorted(path.iterdir()) if file.suffix in user_tables.SUFFIXES]
    chosen = [file for file in found if file.stem == "metadata"] or found
    if len(chosen) != 1:
        raise DataError(
            f"A folder has one table beside its images (or metadata.*, or one each for train, val and test), a file of "
            f"{', '.join(user_tables.SUFFIXES)}, but {params.path} has {_listed(path)}. "
                f"Add one, or give the table itself."
        )
    return [(None, chosen[0])]


def _by_split(path: Path) -> list[tuple[str, Path]]:
    """train.*, val.*, test.* in a folder, or metadata.* in folders of these names."""
    found = []
    for one in sorted(path.iterdir()):
        split = columns.SPLITS.get((one.name if one.is_dir() else one.stem).lower())
        inside = sorted(one.glob("metadata.*")) if one.is_dir() else [one]
        found += [(split, file) for file in inside if split and file.suffix in user_tables.SUFFIXES]
    names = [split for split, _ in found]
    if twice := {name for name in names if names.count(name) > 1}:
        clash = [file.relative_to(path).as_posix() for split, file in found if split in twice]
        raise DataError(f"A split has one table, but {', '.join(clash)} are of the same one. Remove all but one.")
    return sorted(found, key=lambda pair: SPLITS.index(pair[0]))


def _listed(path: Path) -> str:
    names = [one.name for one in sorted(path.iterdir()) if one.is_dir() or one.suffix in user_tables.SUFFIXES]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") or "neither tables nor folders"


def _located(root: Path, name: str, strip: str, seen: dict[str, str]) -> str:
    """The name of a row's image as it stands below `root`; of each name once. Raises RowError."""
    if not isinstance(name, str):
        raise RowError("not a path", "A row names an image by its path; for images inside a table use `name: hub`.")
    if len(name) > PATH_MAX or any(len(os.fsencode(part)) > NAME_MAX for part in PurePosixPath(name).parts):
        raise RowError(
            "not a path",
            f"A row names an image by its path, but this cell has {len(name):,} characters, as an image in base64 has: "
            f"{name[:SHOWN]!r}…. Write each image to a file, and its path into the table.",
        )
    if name not in seen:
        stripped = name.removeprefix(strip).lstrip("/") if strip and name.startswith(strip) else name
        seen[name] = _found(root, stripped)
    return seen[name]


def _found(root: Path, name: str) -> str:
    if Path(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\") or "://" in name:
        raise RowError(
            "absolute path",
            f"An image is named by its path from {root}, but a row names {name!r}. Write the part after the folder, or "
            f"state what comes before it as `strip`.",
        )
    for spelling in _spellings(name):
        if (root / spelling).is_file():
            try:
                files.below(root, spelling)
            except DataError as error:
                raise RowError("outside the folder", str(error)) from error
            return spelling
    if (root / name).is_symlink():
        raise RowError("missing", f"{name!r} in {root} is a symbolic link to a file that is not there. Copy it there.")
    if ".." in Path(name).parts:
        raise RowError("outside the folder", f"An image lies below {root}, but a row names {name!r}. Copy it there.")
    raise RowError("missing", f"A row names the image {name!r}, but {root} has none. Copy it there, or mend the row.")


def _spellings(name: str) -> Iterator[str]:
    """A name as written, with Windows' separators as ours, and with accents as one sign or as two, as macOS has."""
    for one in (name, name.replace("\\", "/")):
        yield one
        yield unicodedata.normalize("NFC", one)
        yield unicodedata.normalize("NFD", one)


def _mentioned(row: Mapping, known: columns.Columns) -> str:
    """The images that a faulty row names, as far as they can be told."""
    content = next((row[name] for name in (known.images, known.image, "images", "image") if row.get(name)), "")
    return ", ".join(str(one)[:SHOWN] for one in (content if isinstance(content, list) else [content]))


def _name(images: tuple) -> str:
    return "+".join(Path(name).as_posix() for _, name in images)


def _shown(file: Path) -> Path:
    """A path as messages show it: from here, so that nobody's folders are told."""
    return Path(os.path.relpath(file))


def _state(file: Path) -> tuple[str, int, int]:
    about = file.stat()
    return file.as_posix(), about.st_size, about.st_mtime_ns


@cache
def _stamp(params: str, tables: tuple) -> str:
    """A hash of tables and of what the file system says of their images; made once while the tables stand still."""
    digest = hashlib.sha256()
    for file, _, _ in tables:
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    found = survey(Params.model_validate_json(params))
    for root, name in sorted({image for entry in found.entries for image in entry.images}):
        _, size, changed = _state(Path(root, name))
        digest.update(json.dumps([name, size, changed]).encode())
    return digest.hexdigest()[:16]

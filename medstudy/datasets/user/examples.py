"""Turns the entries of a survey into examples, one image at a time.

An image that cannot be read stops the study; with `on_unreadable: skip` it is left out with its questions and listed in
unreadable.csv.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medstudy import imaging
from medstudy.data import known, places
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Shot
from medstudy.datasets.user import detail_size
from medstudy.datasets.user.params import UserData
from medstudy.datasets.user.rows import Entry, Fault, Survey
from medstudy.errors import DataError
from medstudy.imaging.read_options import ImageFacts, ReadOptions

MAX_LISTED = 5  # faults listed in an error; `medstudy data check` lists all
UNCONVERTED = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # kinds that are kept as they are
Opener = Callable[[Any, ReadOptions], Picture]  # reads an image of an entry


def load(params: UserData, survey: Survey, split: str, opener: Opener,
         left_out: list[Fault] | None = None) -> Iterator[Example]:
    """The examples of one split, one image at a time. Raises DataError for the first fault unless they are skipped.

    left_out: receives the faults of what is skipped here; the faults of rows are in `survey`.
    """
    skip = params.on_unreadable == "skip"
    if survey.faults:
        if not skip:
            raise DataError(_summary(params, survey.faults))
        warnings.warn(_summary(params, survey.faults), stacklevel=2)
    for entry in survey.chosen(params, split):
        faults: list[Fault] = []
        result = example(params, entry, opener, faults, decode=skip)
        for fault in faults:
            if not skip:
                raise DataError(f"{fault.where} of {params.label}: {fault.message}")
            warnings.warn(f"Left out of {params.label} {split}: {fault.where}: {fault.message}", stacklevel=2)
        if left_out is not None:
            left_out += faults
        if result:
            yield result


def example(params: UserData, entry: Entry, opener: Opener, faults: list[Fault],
            decode: bool = False) -> Example | None:
    """An entry with its encoded images; None if none of its rows can be used.

    faults: receives images that cannot be read, and rows whose detail or box is not in the image. decode: check the
    pixels too, not only the file's header.
    """
    first = entry.rows[0]
    try:
        *earlier, image = (opener(source, entry.reading) for source in entry.images)
        if decode:
            for picture in (*earlier, image):
                picture.pixels()
        height, width = image.height, image.width
    except DataError as error:
        faults.append(Fault.of(error, first.where, entry.split, entry.image_id))
        return None
    rows = []
    for row in entry.rows:
        try:
            detail_size.check(row.question.detail_px, row.box, height, width)
            places.check_question(row.question, height, width)
            box = None if row.box is None else known.inside(row.box, height, width)
            rows.append(replace(row.question, box=box))
        except DataError as error:
            faults.append(Fault.of(error, row.where, entry.split, entry.image_id))
    if not rows:
        return None
    own = image.facts.um_per_px if isinstance(image, Converted) and image.facts else None
    return Example(
        image_id=entry.image_id, image=image, questions=tuple(rows),
        dataset=params.label, split=entry.split, group=entry.group, family=first.family or params.label,
        modality=first.modality or params.modality, anatomy=first.anatomy or params.anatomy, render=params.render,
        source=params.label, license=params.license, context=tuple(Shot(picture) for picture in earlier),
        um_per_px=next((row.um_per_px for row in entry.rows if row.um_per_px), own),
    )


@dataclass(frozen=True)
class Converted(Picture):
    """The PNG of an image that was read from a file of another kind. facts: of that file."""

    facts: ImageFacts | None = None


def encoded(source: Path | bytes, name: str, reading: ReadOptions) -> Picture:
    """A JPEG, PNG, GIF, BMP or WebP file unchanged; else a PNG of it as `reading` states. Raises ImageError."""
    facts = imaging.describe(source, reading=reading, name=name)
    if facts.kind in UNCONVERTED and reading == ReadOptions():
        return Picture(source if isinstance(source, bytes) else source.read_bytes(), name)
    png = Picture.of(imaging.read_rgb(source, reading=reading, name=name), name)
    return Converted(png.data, name, max(imaging.MAX_PIXELS, reading.max_pixels), facts)


def _summary(params: UserData, faults: list[Fault]) -> str:
    lines = [
        f"Every row must have a readable image, a question and an answer, but {len(faults)} of {params.label} do not. "
        f"Fix them (`medstudy data check` lists them all), or leave them out with `on_unreadable: skip`.",
        *(f"  {fault.where}: {fault.problem}. {fault.message}" for fault in faults[:MAX_LISTED]),
    ]
    if len(faults) > MAX_LISTED:
        lines.append(f"  and {len(faults) - MAX_LISTED} more")
    return "\n".join(lines)

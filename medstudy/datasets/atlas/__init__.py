"""atlas: real microscopy and radiology with answers measured from real annotations.

Crops of public images at native scale. Most are bundled (`crops/`; its README.md is the data card). A few are test
files of pydicom, and are read from that package. The splits share no pixels.
`python -m medstudy.datasets.atlas.build` remakes the crops and the index from the original packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import BaseModel, Field

from medstudy.data import formats
from medstudy.data.example import Example, Question, check_split
from medstudy.datasets.atlas.sources import SOURCES, VERSION, check_hash, package_file
from medstudy.errors import DataError
from medstudy.imaging import read_rgb

__all__ = ["VERSION", "Params", "load"]
DATA = Path(__file__).with_name("crops")
NO_CLAIMS = (
    "its 44 test crops come from nine images and volumes, each of which is in all splits. It shows real images beside "
    "the study; it is too small to decide anything"
)
FILES = ("datasets/atlas/crops/index.json", "imaging/dicom.py")  # hashes of all crops; how pydicom's images are read


class Params(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """How much of atlas to use: the first images of each split, in a fixed mixed order; None is all.

    from_packages: include the images that are read from pydicom rather than bundled. letters: ask each choice by letter
    too; otherwise only in words.
    """

    name: Literal["atlas"] = "atlas"
    train: int | None = Field(default=None, ge=1)
    val: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    from_packages: bool = True
    letters: bool = False


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of a split ("train", "val", "test") in a fixed order. A changed file raises DataError."""
    check_split(split)
    rows = [row for row in read_index(DATA) if row["split"] == split]
    if not params.from_packages:
        rows = [row for row in rows if SOURCES[row["source"]]["bundled"]]
    for row in rows[: getattr(params, split)]:
        yield example(row, params.letters)


def read_index(folder: Path) -> list[dict]:
    """The rows of index.json, with its version checked. Any prefix has about as many rows of each source."""
    path = folder / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"atlas: {path} cannot be read ({error}): reinstall medstudy") from error
    if index["version"] != VERSION:
        raise DataError(f"atlas: {path} is of version {index['version']}, not {VERSION}: reinstall medstudy")
    return index["crops"]


def example(row: dict, letters: bool = False) -> Example:
    """One row of the index as an Example; its pixels are read and checked. letters: ask each choice by letter too."""
    about = SOURCES[row["source"]]
    path = about["files"][0][0]
    return Example(
        image_id=row["id"], image=pixels(row), questions=formats.asked(map(question, row["questions"]), letters),
        dataset="atlas", split=row["split"], group=row["group"], family=about["family"], modality=about["modality"],
        anatomy=about["anatomy"], render=about["render"],
        source=f"{about['package']} {about['version']}: {path} {row['box']}", license=about["license"],
    )


def pixels(row: dict) -> Image.Image:
    """The RGB crop of a row: its bundled PNG, or its box of the image in the package. Hashes are checked."""
    _, top, left, bottom, right = row["box"]
    if not SOURCES[row["source"]]["bundled"]:
        return whole(row["source"]).crop((left, top, right, bottom))
    data = check_hash(DATA / row["file"], row["sha256"], "reinstall medstudy")
    return read_rgb(data, name=row["file"])


@cache
def whole(source: str) -> Image.Image:
    """The full RGB image of a source that stays in its package."""
    return read_rgb(package_file(source))


def question(item: dict) -> Question:
    """A Question from its JSON form, in which fields with default values are absent."""
    return Question(**{key: tuple(value) if isinstance(value, list) else value for key, value in item.items()})

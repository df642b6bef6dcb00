"""organs: real CT and MR of five patients, with organs and tumours measured from label maps at native resolution.

The scans stay in the source archives of two Python packages, from which they are read (`archives`). Organs are those
of one abdominal CT, whose slices are divided among the splits; tumours are learnt on two patients and tested on two
others. It shows real tissue beside a study and decides no claim (README.md is the data card).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from medstudy import paths
from medstudy.data.example import Example, check_split
from medstudy.datasets.organs import archives, crops
from medstudy.datasets.organs.crops import Crop
from medstudy.datasets.organs.volumes import Volume, read_all

VERSION = "1"
NO_CLAIMS = (
    "it has five patients: the organs of one, whose slices are in all splits, and one test patient for each kind of "
    "tumour. Intervals over crops and slices say nothing about other patients"
)
FILES = ("imaging/dicom.py",)  # how the abdominal CT is read


class Params(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """How much of organs to use, and where its archives are.

    path: the folder with both archives; a relative one is relative to the params file's folder, and the default to the
    current folder or the repository.
    crops: of each slice of the abdomen; of each slice with a tumour, half as many with it and half as many without it.
    train, val, test: the first images of each split, in a fixed mixed order; None is all.
    """

    name: Literal["organs"] = "organs"
    path: str = "archives"
    crops: int = Field(default=16, ge=2)
    train: int | None = Field(default=None, ge=0)
    val: int | None = Field(default=None, ge=0)
    test: int | None = Field(default=None, ge=1)

    @field_validator("path")
    @classmethod
    def _placed(cls, text: str, info: ValidationInfo) -> str:
        return paths.placed(text, (info.context or {}).get("folder"))


@dataclass(frozen=True)
class OrganSlice:
    """A whole slice of the abdomen. grey: uint8 [h, w]. codes: uint8 [h, w], 1 + the index in `crops.NAMES`, or 0."""

    id: str
    grey: np.ndarray
    codes: np.ndarray


def version(params: Params) -> str:
    """The version; the archives are known by their hashes."""
    return VERSION


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of a split ("train", "val", "test") in a fixed order. Raises DataError, ImageError."""
    check_split(split)
    each = [_crops(volume, split, params.crops) for volume in read_all(paths.resolve(params.path)).values()]
    mixed = [crop for crop in chain.from_iterable(zip_longest(*each)) if crop is not None]  # volumes take turns
    for crop in mixed[: getattr(params, split)]:
        yield _example(crop, split)


def organ_slices(params: Params, split: str) -> Iterator[OrganSlice]:
    """The whole slices of the abdomen in a split, with the organ of every pixel; for probes of single places."""
    check_split(split)
    volume = read_all(paths.resolve(params.path))["abdomen"]
    for z in volume.about.splits[split]:
        yield OrganSlice(f"organs-abdomen-{z:03d}", volume.grey[z], volume.labels[z])


def _crops(volume: Volume, split: str, count: int) -> list[Crop]:
    if split not in volume.about.splits:
        return []
    slices = volume.about.splits[split]
    if slices:
        return [crop for z in slices for crop in crops.of_organs(volume, z, count)]
    return list(crops.of_tumour(volume, count // 2))


def _example(crop: Crop, split: str) -> Example:
    about, archive = crop.volume.about, archives.ARCHIVES[crop.volume.about.package]
    # slices of the abdomen, else patients: crops of one slice and of one tumour are not independent
    group = f"organs-{about.name}-{crop.z:03d}" if about.splits[split] else f"organs-{about.name}"
    return Example(
        image_id=crop.id, image=Image.fromarray(crop.pixels), questions=crop.questions, dataset="organs", split=split,
        group=group, family="radiology", modality=about.modality, anatomy=about.anatomy, render=False,
        source=f"{archive.package} {archive.version}: {about.files[0]} slice {crop.z} {list(crop.box)}",
        license=archive.license,
    )

"""The data sets by name.

To add a data set, write one file in `paper/`, `benchmarks/` or a folder of its own, and add its module to `REGISTRY`:

    VERSION = "1"                     # raise it when images or questions change
    NO_CLAIMS = "..."                 # only where no claim could be decided: why not
    class Params(Source): ...         # its entry in a study's params, with a `name`; strict and frozen
    def load(params, split): ...      # yields `Example`s of "train", "val" or "test" in a fixed order

A data set without a split yields nothing for it; one without training images is only evaluated on. A published data
set also has a `CARD` with what is published about it, and a tiny fixture in `tests/support/data_sets.py`: tests take
this from the format of its source to figures. `paper/vqa_rad.py` is a short example. What data sets share is in
`medstudy.data.readers`. Your own images need no code: see docs/how-to/your-data.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Union

from pydantic import Field

from medstudy import paths
from medstudy.data import splits
from medstudy.data.example import Example
from medstudy.data.readers.dataset_card import Card
from medstudy.datasets import atlas, organs, phantom, shapes
from medstudy.datasets.benchmarks import (
    geoperception,
    gmai_mmbench,
    iu_xray,
    med_mat,
    medbookvqa,
    medframeqa,
    mediconfusion,
    medmultipoints,
    medxpertqa,
    microvqa,
    mmmu,
    mmxu,
    omnimedvqa,
    pmc_vqa,
    probmed,
    smmile,
)
from medstudy.datasets.paper import bbbc021, hpa, hussain, path_vqa, slake, ubench, vqa_rad, wsi_vqa
from medstudy.datasets.user import folder as user_folder
from medstudy.datasets.user import hub
from medstudy.datasets.user.params import UserData
from medstudy.utils import code_hash

REGISTRY = {
    module.Params.model_fields["name"].default: module
    for module in (
        phantom, atlas, organs, shapes,
        vqa_rad, path_vqa, slake, ubench, hpa, hussain, wsi_vqa, bbbc021,
        pmc_vqa, omnimedvqa, mmmu, medxpertqa, microvqa, mediconfusion, probmed, gmai_mmbench, medbookvqa, smmile, mmxu,
        medframeqa, med_mat, geoperception, medmultipoints, iu_xray,
        user_folder, hub,
    )
}
Params = Annotated[Union[tuple(module.Params for module in REGISTRY.values())], Field(discriminator="name")]  # noqa: UP007
READERS = ("imaging/dicom.py", "imaging/nifti.py", "imaging/whole_slide.py", "imaging/tiff.py")  # of some kinds of file


def load(params: Params, split: str, processes: int = 1) -> Iterator[Example]:
    """The examples of one split in a fixed order: of the source's split, or of a new split by groups.

    processes: at most so many make a data set that says it can use several (`PROCESSES`); the result is the same.
    """
    source = REGISTRY[params.name].load  # a user's own data draw such splits themselves
    if min(processes, max_processes(params.name)) > 1:
        return source(params, split, processes)
    by_group = getattr(params, "split", None) == "group" and not isinstance(params, UserData)
    return splits.by_group(source, params, split) if by_group else source(params, split)


def max_processes(name: str) -> int:
    """In how many processes a data set of this name can be made."""
    return getattr(REGISTRY[name], "PROCESSES", 1)


def version(params: Params) -> str:
    """The version of a data set, part of the identity of everything made from it.

    It includes the contents of a user's own files, and the names and sizes of a published data set's files in a folder.
    """
    module = REGISTRY[params.name]
    if hasattr(module, "version"):
        return module.version(params)
    places = [paths.resolve(text) for name in ("path", "images") if (text := getattr(params, name, None))]
    stamps = [_listing(folder) for folder in places if folder.is_dir()]
    return "-".join([module.VERSION, *stamps])


@cache
def _listing(folder: Path) -> str:
    """A hash of the names and sizes of all files in a folder and below; computed once per process."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    about = [(file.relative_to(folder).as_posix(), file.stat().st_size) for file in files]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def label(params: Params) -> str:
    """A data set's name in a study: its `label` if it has one, as a user's own data, else its `name`."""
    return getattr(params, "label", params.name)


def no_claims(params: Params) -> str:
    """Why no claim is tested on a data set, as its params or its module says; empty where claims are tested.

    Scores, figures and tables show such a data set like any other.
    """
    return getattr(params, "no_claims", "") or getattr(REGISTRY[params.name], "NO_CLAIMS", "")


def with_claims(data: Iterable[Params]) -> tuple[str, ...]:
    """The labels of the data sets on which claims are tested."""
    return tuple(label(params) for params in data if not no_claims(params))


def without_claims(data: Iterable[Params]) -> dict[str, str]:
    """The other data sets: why no claim is tested, by label."""
    return {label(params): reason for params in data if (reason := no_claims(params))}


def card(params: Params) -> Card | None:
    """What is published about a data set; None if it is made here or the user's own."""
    return getattr(REGISTRY[params.name], "CARD", None)


def sources(params: Params) -> tuple[str, ...]:
    """The files of the package, as patterns, that only this data set needs; without what they import.

    A module may name more than its own file in `FILES`, such as an index or readers of image files. For a data set that
    is read from a `path` all readers count, because the kinds of its images are not known before they are read.
    """
    module = REGISTRY[params.name]
    readers = READERS if hasattr(params, "path") else ()
    return (code_hash.file(module.__name__), *getattr(module, "FILES", ()), *readers)

"""The data sets by name. Each is one short file with `Params` (frozen, strict), `VERSION` and `load(params, split)`.

A public one also has a `CARD` of what is published about it (`medstudy.data.readers.dataset_card`). A data set may
lack a split:
`load` then yields nothing. One without training images is only evaluated on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Union

from pydantic import Field

from medstudy import paths
from medstudy.data import splits
from medstudy.data.example import Example
from medstudy.datasets import atlas, phantom, shapes
from medstudy.datasets.benchmarks import (
    gmai_mmbench,
    medbookvqa,
    mediconfusion,
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
from medstudy.datasets.user.rows import Own
from medstudy.utils import code_hash

REGISTRY = {
    "phantom": phantom,
    "atlas": atlas,
    "general": shapes,
    "vqa_rad": vqa_rad,
    "path_vqa": path_vqa,
    "slake": slake,
    "ubench": ubench,
    "hpa": hpa,
    "hussain": hussain,
    "wsi_vqa": wsi_vqa,
    "bbbc021": bbbc021,
    "pmc_vqa": pmc_vqa,
    "omnimedvqa": omnimedvqa,
    "mmmu": mmmu,
    "medxpertqa": medxpertqa,
    "microvqa": microvqa,
    "mediconfusion": mediconfusion,
    "probmed": probmed,
    "gmai_mmbench": gmai_mmbench,
    "medbookvqa": medbookvqa,
    "smmile": smmile,
    "mmxu": mmxu,
    "local": user_folder,
    "hub": hub,
}
Params = Annotated[Union[tuple(module.Params for module in REGISTRY.values())], Field(discriminator="name")]  # noqa: UP007
READERS = ("imaging/dicom.py", "imaging/nifti.py", "imaging/whole_slide.py", "imaging/tiff.py")  # of some kinds of file


def load(params: Params, split: str) -> Iterator[Example]:
    """The examples of one split, in a fixed order; of the source's split, or of groups shared out anew."""
    made = REGISTRY[params.name].load
    anew = getattr(params, "split", None) == "group" and not isinstance(params, Own)  # these do so themselves
    return splits.by_group(made, params, split) if anew else made(params, split)


def version(params: Params) -> str:
    """Part of the identity of all that is made from a data set. That of the user's own changes with its files.

    Of a public one that is read from a folder, with the names and sizes of its files: two folders may have one name.
    """
    module = REGISTRY[params.name]
    if hasattr(module, "version"):
        return module.version(params)
    places = [paths.resolve(text) for name in ("path", "images") if (text := getattr(params, name, None))]
    stamps = [_listed(folder) for folder in places if folder.is_dir()]
    return "-".join([module.VERSION, *stamps])


@cache
def _listed(folder: Path) -> str:
    """A hash of the names and sizes of all files below, listed once a process."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    about = [(file.relative_to(folder).as_posix(), file.stat().st_size) for file in files]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def label(params: Params) -> str:
    """What a study calls a data set: its `label` where it has one, as the user's own do, else its name."""
    return getattr(params, "label", params.name)


def card(params: Params):
    """What is published about a data set; None for one that is made here, or the user's own."""
    return getattr(REGISTRY[params.name], "CARD", None)


def sources(params: Params) -> tuple[str, ...]:
    """The files, as patterns below the package, that this data set is made by, beside what all are; not what they
    import.

    A module may name files beside its own as `FILES` (its index, the readers of the kinds of image that it holds). One
    that is read from a `path` names none: what its images are is known only once they are read, so every reader counts.
    """
    module = REGISTRY[params.name]
    read = READERS if hasattr(params, "path") else ()
    return (code_hash.file(module.__name__), *getattr(module, "FILES", ()), *read)

"""Downloads the models and data of a study once, so that a node without network can run it.

Of models, only safetensors, json and text files are fetched: nothing that could run code. Data sets are read once, as
their data jobs will read them, so that every file these need is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medstudy import datasets, models, paths
from medstudy.data.example import SPLITS
from medstudy.errors import MedstudyError, ModelError
from medstudy.params import Model, Study
from medstudy.runs import plan
from medstudy.utils.progress import track

WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
FILES = [*WEIGHTS, "*.json", "*.txt", "*.jinja", "*.model"]
LEFT_OUT = ["*/*", "consolidated*.safetensors"]  # copies of the weights in other formats


@dataclass(frozen=True)
class Fetched:
    """One model or data set. fresh: bytes downloaded now; bytes: its size in the folder `where`, if it has one.

    fault: why it could not be fetched, else "".
    """

    what: str
    state: str
    fresh: int = 0
    bytes: int = 0
    where: Path | None = None
    fault: str = ""


def fetch(study: Study) -> Iterator[Fetched]:
    """Download what is missing; yields the result for each model and data set. A failure does not stop the rest."""
    done: set[tuple] = set()
    for one_model in study.each():
        base = models.with_adapters(one_model.model)[0]
        if (base.id, base.revision) not in done:
            done.add((base.id, base.revision))
            yield _guarded(base.id, _model, base)
    built = {job.name for job in plan.plan(study) if job.stage == "data" and job.done}
    for data in study.datasets:
        yield _guarded(datasets.label(data), _data, data, f"data-{datasets.label(data)}" in built)


def offline_environment() -> dict[str, str]:
    """Environment variables that keep huggingface_hub, transformers and datasets off the network."""
    return {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def _guarded(what: str, function: Callable[..., Fetched], *arguments: Any) -> Fetched:
    try:
        return function(*arguments)
    except MedstudyError as error:
        return Fetched(what, "missing", fault=str(error))


def _model(model: Model) -> Fetched:
    from huggingface_hub import snapshot_download

    if model.server is not None:
        return Fetched(model.id, "behind a server, nothing to fetch")
    folder = paths.BASE if model.id == "base" else paths.resolve(model.id)
    if folder.is_dir():
        return Fetched(model.id, "a folder, nothing to fetch", where=folder)
    request = {"repo_id": model.id, "revision": model.revision, "allow_patterns": FILES, "ignore_patterns": LEFT_OUT}
    try:
        files = snapshot_download(**request, dry_run=True)
        where = Path(snapshot_download(**request))
    except Exception as error:  # the hub raises many types: for the network, a licence, a name
        raise ModelError(
            f"A model is a hub id or a folder, but {model.id} cannot be fetched: {error}. Correct model.id or "
            "revision, accept its licence on the hub, or log in with `hf auth login`."
        ) from None
    if not any(file.filename.endswith(".safetensors") for file in files):
        raise ModelError(f"A model has its weights as safetensors, but {model.id} has none. Take another revision.")
    fresh = sum(file.file_size for file in files if file.will_download)
    return Fetched(model.id, _state(fresh), fresh, sum(file.file_size for file in files), where)


def _data(params: BaseModel, built: bool) -> Fetched:
    label = datasets.label(params)
    path = getattr(params, "path", None)
    if path is None:
        return Fetched(label, "made here, nothing to fetch")
    if (folder := paths.resolve(path)).exists():
        return Fetched(label, "a folder, nothing to fetch", where=folder)
    if built:
        return Fetched(label, "built already, nothing to fetch")
    places = _places(path)
    before = sum(map(_size, places))
    for split in SPLITS:
        for _ in track(datasets.load(params, split), f"{label} {split}", unit="image"):
            pass
    after = sum(map(_size, places))
    return Fetched(label, _state(after - before), after - before, after, places[0])


def _places(name: str) -> list[Path]:
    """The folders of a data set's files from the hub, and of the tables that `datasets` makes from them."""
    from datasets import config
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    return [hub, Path(config.HF_DATASETS_CACHE) / name.replace("/", "___")]


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _state(fresh: int) -> str:
    return "downloaded" if fresh else "already here"

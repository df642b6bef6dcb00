"""What a job's hash covers: the code of its stage, what that code imports, and the model's weights."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from medstudy import paths
from medstudy.params import Study
from medstudy.runs.stages import NOTEBOOK
from medstudy.utils import dependencies, syntax

_SHOWN = ("report/study_data.py", "utils/parquet.py", "data/leakage.py", "data/arrow_store.py", "utils/redact.py",
"runs/inputs.py")
# what makes a stage's result; what these files and the notebook import counts too (`medstudy.utils.dependencies`)
SOURCES = {
    "data": ("datasets/build.py", "data/splits.py"),  # and the data set's own
    "leakage": ("data/leakage.py",),
    "base": ("models/summary.py",),  # of the three with a model also its family's own
    "train": ("training/train.py",),
    "evaluate": ("evaluation/evaluate.py",),
    "scores": ("scoring/score.py",),
    "claims": ("report/study_data.py", "utils/parquet.py", "data/leakage.py", "claims/__init__.py", "report/save.py",
    "runs/inputs.py"),
    "figure": (*_SHOWN, "report/figures/__init__.py"),  # and the figure's own
    "tables": (*_SHOWN, "report/tables/__init__.py"),
    "report": (*_SHOWN, "report/pages/index_page.py", "report/pages/html_page.py", "report/pages/templates/*"),
}
LARGE = 2**26  # bytes of a file of weights whose hash is kept


def hash_of(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@cache
def stage_code(stage: str, *own: str) -> str:
    """Hash of the stage's notebook and library files, and of those that are its own alone."""
    notebook = syntax.notebook(paths.NOTEBOOKS / f"{NOTEBOOK[stage]}.ipynb")
    library = dependencies.code(*SOURCES[stage], *dependencies.used(notebook), *own)
    return hash_of({"library": library, "notebook": notebook.digest})


def weights_of(study: Study) -> str:
    """Identity of the model to start from: the hash of its weights when it is a folder, else id and revision."""
    folder = paths.BASE if study.model.id == "base" else paths.resolve(study.model.id)
    kinds = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # all that from_pretrained reads
    files = sorted(file for kind in kinds for file in folder.glob(kind)) if folder.is_dir() else []
    return hash_of({file.name: _digest(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files})


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, read once a process as long as it is the same; of a large one, once on this machine."""
    if size < LARGE:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    name = hashlib.sha256(f"{file.resolve()} {size} {changed}".encode()).hexdigest()
    known = Path.home() / ".cache" / "medstudy" / "digests" / name
    if not known.is_file():
        with open(file, "rb") as stream, paths.atomic(known) as temporary:
            temporary.write_text(hashlib.file_digest(stream, "sha256").hexdigest(), encoding="utf-8")
    return known.read_text(encoding="utf-8")

"""What a job's hash covers besides its parameters: the code that makes its result, and the model's weights.

Of the code these files count: the stage's notebook, the library files that it imports, and all that these import;
- and what no import names: `SOURCES` of a stage, the files of a job's own data set, model family or figure;
- but not `NEUTRAL` modules, which cannot change a result;
- and not `CHOICES`, alternatives from which a job uses one: model families, image readers, data sets (any `REGISTRY`).

Comments, docstrings and layout do not count (`medstudy.utils.syntax`). Imports are read, not executed: planning a study
imports neither torch nor a drawing library.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from medstudy import datasets, paths
from medstudy.errors import ParamsError
from medstudy.params import Study
from medstudy.runs.stages import NOTEBOOK
from medstudy.utils import code_hash, syntax

SOURCES = {  # patterns of files by stage
    "claims": ("claims/__init__.py",),
    "report": ("report/pages/templates/*",),
}
NEUTRAL = {  # pattern of files: why they cannot change a result
    "__init__.py": "the version's number",
    "errors.py": "classes of errors: a run that raises one makes nothing",
    "params/*.py": "their values are in the identity of a job",
    "paths.py": "where files are",
    "workflow/*.py": "starts jobs and shows them",
    "runs/plan.py": "plans jobs: it decides only their names and parameters",
    "runs/identity.py": "as runs/plan.py", "runs/stages.py": "as runs/plan.py",
    "utils/syntax.py": "as runs/plan.py", "utils/code_hash.py": "as runs/plan.py",
    "runs/lock.py": "which process makes a run", "utils/devices.py": "which cores and GPUs a process may use",
    "runs/record.py": "records what was made, and by what",
    "utils/progress.py": "shows progress",
    "utils/parallel.py": "in how many processes something is made", "utils/allocation.py": "how memory is kept",
    "training/launch.py": "starts the processes of a training",
    "training/model_card.py": "words about a checkpoint, saved with it",
    "data/gallery.py": "shows images in a notebook",
    "data/readers/dataset_card.py": "what is published about a data set, which notebooks show",
}
CHOICES = {  # file: patterns of alternatives among its imports; a job that uses one names it
    "bounds/places.py": ("models/qwen_vl.py", "models/tiled/*"),  # of families
    "report/study_data.py": ("claims/*", "datasets/*", "models/*"),  # tests of claims; names; a number of weights
    "datasets/__init__.py": ("datasets/user/*",),  # readers of a user's own data
    "datasets/build.py": ("datasets/user/*", "data/references.py"),  # one data set's; a check that changes nothing
    "evaluation/kinds.py": ("evaluation/contrastive.py", "evaluation/server/*"),  # of models and engines
    "imaging/__init__.py": datasets.READERS,
}
ENGINES = {"vllm": "evaluation/server/vllm_engine.py"}  # the file of an engine other than our own
LARGE = 2**26  # bytes of a file from which its hash is cached on this machine


def hash_of(content: dict) -> str:
    """SHA-256 (hex) of a tree of JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@cache
def stage_code(stage: str, *own: str) -> str:
    """Hash of the code of a stage's notebook and of all library files that count. own: files of this job alone."""
    notebook = syntax.notebook(paths.NOTEBOOKS / f"{NOTEBOOK[stage]}.ipynb")
    library = code_hash.code(*files(*used(notebook), *SOURCES.get(stage, ()), *own))
    return hash_of({"library": library, "notebook": notebook.digest})


@cache
def files(*patterns: str) -> tuple[str, ...]:
    """The library's files that match these patterns and all that they import, sorted.

    Raises ParamsError for a pattern that matches no file.
    """
    names: set[str] = set()
    queue = [file.relative_to(paths.PACKAGE).as_posix() for file in code_hash.matching(*patterns)]
    while queue:
        if (name := queue.pop()) not in names:
            names.add(name)
            queue += imports(name)
    return tuple(sorted(names))


@cache
def imports(name: str) -> tuple[str, ...]:
    """The library's files that one of its files imports, without neutral ones and alternatives."""
    if not name.endswith(".py"):
        return ()
    alternatives = CHOICES.get(name, ())
    return tuple(file for file in used(code_hash.syntax_of(paths.PACKAGE / name)) if not _matches(file, alternatives))


def used(code: syntax.Code) -> tuple[str, ...]:
    """The library's files that some code imports, without neutral ones."""
    imported = {code_hash.file(module, name) for module, name in code.imports} - {None}
    return tuple(sorted(file for file in imported if not _matches(file, NEUTRAL)))


@cache
def family(name: str) -> str:
    """The file of a model family: the one with a class of that `name`. Raises ParamsError if there is none."""
    for path in code_hash.matching("models/**/*.py") + code_hash.matching("evaluation/**/*.py"):
        classes = (node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.ClassDef))
        if any(_names(node, name) for model in classes for node in model.body):
            return path.relative_to(paths.PACKAGE).as_posix()
    raise ParamsError(f"A model family is a class with `name = {name!r}` in medstudy/models/, but no class has it.")


def weights_of(study: Study) -> str:
    """Hash of the files of the model to start from; of a hub id, id and revision are in the parameters.

    The weights of a model behind a server are not here: its name and the server's are in the parameters.
    """
    if study.model.server is not None:
        return hash_of({})
    folder = paths.BASE if study.model.id == "base" else paths.resolve(study.model.id)
    kinds = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # all that from_pretrained reads
    weights = sorted(file for kind in kinds for file in folder.glob(kind)) if folder.is_dir() else []
    return hash_of({file.name: _digest(file, file.stat().st_size, file.stat().st_mtime_ns) for file in weights})


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, read once per process while it is unchanged; of a large file, once on this machine."""
    if size < LARGE:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    name = hashlib.sha256(f"{file.resolve()} {size} {changed}".encode()).hexdigest()
    known = Path.home() / ".cache" / "medstudy" / "digests" / name
    if not known.is_file():
        with open(file, "rb") as stream, paths.atomic(known) as temporary:
            temporary.write_text(hashlib.file_digest(stream, "sha256").hexdigest(), encoding="utf-8")
    return known.read_text(encoding="utf-8")


def _matches(file: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in patterns)


def _names(node: ast.stmt, name: str) -> bool:
    """Whether a statement in a class is `name = "…"` or `name: str = "…"`."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = node.value.value if targets and isinstance(node.value, ast.Constant) else None
    return value == name and [ast.unparse(target) for target in targets] == ["name"]

"""The library files that a result depends on: those that make a stage, and all that these import.

Imports are read, not executed: planning a study imports neither torch nor a drawing library. Left out on purpose are
modules that cannot change a result (`NEUTRAL`) and the alternatives that a module chooses from (`CHOICES`, and every
`REGISTRY`): of model families, image readers and data sets, a job depends only on those that it uses.
"""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.utils import code_hash, syntax

NEUTRAL = {  # module: why it cannot change a result
    "__init__.py": "the version's number",
    "errors.py": "classes of errors: a run that raises one makes nothing",
    "params.py": "its values are in the identity of a job",
    "runs/stages.py": "names of figures, which are in the identity of a job",
    "runs/plan.py": "plans jobs: it decides only their names and parameters",
    "utils/dependencies.py": "as runs/plan.py", "utils/syntax.py": "as runs/plan.py",
    "utils/code_hash.py": "as runs/plan.py",
    "paths.py": "where files are",
    "runs/lock.py": "which process makes a run", "utils/devices.py": "which cores and GPUs a process may use",
    "workflow/notebooks.py": "starts a notebook with its values", "workflow/by_hand.py": "as workflow/notebooks.py",
    "workflow/open_job.py": "as workflow/notebooks.py",
    "workflow/displays.py": "shows images and tables in a notebook",
    "workflow/kernel_server.py": "starts kernels",
    "workflow/run.py": "starts jobs", "workflow/snakemake.py": "starts jobs",
    "workflow/resources.py": "what jobs request from a cluster",
    "training/launch.py": "starts the processes of a training",
    "workflow/gpu_leases.py": "which GPU a job gets",
    "utils/progress.py": "shows progress", "workflow/logs.py": "finds logs",
    "runs/record.py": "records what was made, and by what",
    "training/model_card.py": "words about a checkpoint, saved with it",
    "data/gallery.py": "shows images in a notebook",
    "data/readers/dataset_card.py": "what is published about a data set, which notebooks show",
}
CHOICES = {  # module: alternatives that it imports; a job that uses one of them names it itself
    "report/study_data.py": ("*",),  # four stages use it, each with functions of its own
    # readers of data sets from elsewhere
    "datasets/__init__.py": ("datasets/user/*.py", "data/*.py", "data/readers/*.py"),
    # a user's own data name it; a check does not change data
    "datasets/build.py": ("datasets/user/rows.py", "data/references.py"),
    "imaging/__init__.py": ("imaging/dicom.py", "imaging/nifti.py", "imaging/whole_slide.py", "imaging/tiff.py"),
}
READERS = CHOICES["imaging/__init__.py"]


def code(*entries: str) -> str:
    """SHA-256 (hex) of the code of these files and of all that they import. Raises ParamsError as `files` does."""
    return code_hash.code(*files(*entries))


@cache
def files(*entries: str) -> tuple[str, ...]:
    """The files that match these patterns and all that they import, relative to the package, sorted.

    Raises ParamsError for a pattern that matches no file.
    """
    names: set[str] = set()
    queue = [file.relative_to(paths.PACKAGE).as_posix() for file in code_hash.matching(*entries)]
    while queue:
        if (name := queue.pop()) not in names:
            names.add(name)
            queue += imports(name)
    return tuple(sorted(names))


@cache
def imports(name: str) -> tuple[str, ...]:
    """The package's files that one of its files imports, without neutral ones and alternatives."""
    if not name.endswith(".py"):
        return ()
    alternatives = CHOICES.get(name, ())
    imported = used(code_hash.syntax_of(paths.PACKAGE / name))
    return tuple(file for file in imported if not any(fnmatchcase(file, pattern) for pattern in alternatives))


def used(code: syntax.Code) -> tuple[str, ...]:
    """The package's files that some code imports, without neutral ones."""
    imported = {file(module, name) for module, name in code.imports}
    return tuple(sorted(imported - {None} - NEUTRAL.keys()))


@cache
def family(name: str) -> str:
    """The file of a model family: the one with a class of that `name`. Raises ParamsError if there is none."""
    for path in code_hash.matching("models/**/*.py"):
        classes = (node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.ClassDef))
        if any(_names(node, name) for family in classes for node in family.body):
            return path.relative_to(paths.PACKAGE).as_posix()
    raise ParamsError(f"A model family is a class with `name = {name!r}` in medstudy/models/, but no class has it.")


def _names(node: ast.stmt, name: str) -> bool:
    """Whether a statement in a class is `name = "…"` or `name: str = "…"`."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = node.value.value if targets and isinstance(node.value, ast.Constant) else None
    return value == name and [ast.unparse(target) for target in targets] == ["name"]


def file(module: str, name: str | None = None) -> str | None:
    """The file that `import module` or `from module import name` reads; None outside the package."""
    top, *rest = module.split(".")
    if not top:  # a relative import
        raise ParamsError(f"medstudy imports its modules by their full names, got `from {module} import {name}`.")
    if top != "medstudy":
        return None
    for parts in ([*rest, name], rest) if name else (rest,):
        path = Path(*parts)
        for file in (path.with_suffix(".py") if parts else path / "__init__.py", path / "__init__.py"):
            if (paths.PACKAGE / file).is_file():
                return file.as_posix()
    return None

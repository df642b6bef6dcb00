"""The files of the package that a result depends on: what a stage is made by, and all that these files import.

Imports are read, not run: planning a study imports neither torch nor a drawing library. Two things are left out on
purpose: modules that cannot change a result (`NEUTRAL`), and what a module imports to choose from (`CHOICES`, and any
`REGISTRY`): of model families, readers of images and data sets, a job depends on those that it uses.
"""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.utils import code_hash, syntax

NEUTRAL = {  # module: why no result can change with it
    "__init__.py": "the version's number",
    "errors.py": "classes of errors: a run that raises one makes nothing",
    "params.py": "the values themselves are in a job's name",
    "runs/stages.py": "names of figures, which jobs have as theirs",
    "runs/plan.py": "plans jobs: what it decides is their names and parameters",
    "utils/dependencies.py": "as runs/plan.py", "utils/syntax.py": "as runs/plan.py",
    "utils/code_hash.py": "as runs/plan.py",
    "paths.py": "where files lie",
    "runs/lock.py": "which process makes a run", "utils/devices.py": "which cores and GPUs a process may use",
    "workflow/notebooks.py": "starts a notebook with its values", "workflow/by_hand.py": "as workflow/notebooks.py",
    "workflow/open_job.py": "as workflow/notebooks.py",
    "workflow/displays.py": "shows images and tables in a notebook",
    "workflow/kernel_server.py": "starts kernels",
    "workflow/run.py": "starts jobs", "workflow/snakemake.py": "starts jobs",
    "workflow/resources.py": "what jobs ask of a cluster", "training/launch.py": "starts the processes of a training",
    "workflow/gpu_leases.py": "which card a job gets",
    "utils/progress.py": "a line that shows how far work is", "workflow/logs.py": "finds logs",
    "runs/record.py": "records what was made, and by what",
    "training/model_card.py": "words about a checkpoint, saved with it",
    "data/gallery.py": "shows images in a notebook",
    "data/readers/dataset_card.py": "what is published about a data set, shown with it",
}
CHOICES = {  # module: the files that it imports and chooses from, or stops with; who makes something by one names it
    "report/study_data.py": ("*",),  # serves four stages, each with functions of its own
    "datasets/__init__.py": ("datasets/user/*.py", "data/*.py", "data/readers/*.py"),  # of data that are made elsewhere
    # own data import theirs; a check passes or stops a study
    "datasets/build.py": ("datasets/user/*.py", "data/references.py"),
    "imaging/__init__.py": ("imaging/dicom.py", "imaging/nifti.py", "imaging/whole_slide.py", "imaging/tiff.py"),
}
READERS = CHOICES["imaging/__init__.py"]


def code(*entries: str) -> str:
    """SHA-256 in hex of the code of these files and of all that they import. Raises ParamsError as `files`."""
    return code_hash.code(*files(*entries))


@cache
def files(*entries: str) -> tuple[str, ...]:
    """The files, relative to the package, of these patterns, and all that they import, in order.

    Raises ParamsError for a pattern that matches no file.
    """
    found: set[str] = set()
    left = [one.relative_to(paths.PACKAGE).as_posix() for one in code_hash.matching(*entries)]
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += imports(one)
    return tuple(sorted(found))


@cache
def imports(name: str) -> tuple[str, ...]:
    """The files of the package that one of them imports, without those that cannot change a result or are chosen."""
    if not name.endswith(".py"):
        return ()
    chosen = CHOICES.get(name, ())
    within = used(code_hash.syntax_of(paths.PACKAGE / name))
    return tuple(one for one in within if not any(fnmatchcase(one, pattern) for pattern in chosen))


def used(code: syntax.Code) -> tuple[str, ...]:
    """The files of the package that some code imports, but for those that cannot change a result."""
    named = {file(module, name) for module, name in code.imports}
    return tuple(sorted(named - {None} - NEUTRAL.keys()))


@cache
def family(name: str) -> str:
    """The file of a model family: the one with a class of that `name`. Raises ParamsError when there is none."""
    for path in code_hash.matching("models/**/*.py"):
        classes = (node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.ClassDef))
        if any(_names(node, name) for one in classes for node in one.body):
            return path.relative_to(paths.PACKAGE).as_posix()
    raise ParamsError(f"A model family has a class with `name = {name!r}` in medstudy/models/, but none has it.")


def _names(node: ast.stmt, name: str) -> bool:
    """Whether a statement of a class is `name = "…"` (or `name: str = "…"`)."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = node.value.value if targets and isinstance(node.value, ast.Constant) else None
    return value == name and [ast.unparse(target) for target in targets] == ["name"]


def file(module: str, name: str | None = None) -> str | None:
    """The file that `import module` or `from module import name` reads; None outside the package."""
    top, *rest = module.split(".")
    if not top:  # a relative import
        raise ParamsError(f"medstudy imports its modules by their whole names, got `from {module} import {name}`.")
    if top != "medstudy":
        return None
    for parts in ([*rest, name], rest) if name else (rest,):
        path = Path(*parts)
        for one in (path.with_suffix(".py") if parts else path / "__init__.py", path / "__init__.py"):
            if (paths.PACKAGE / one).is_file():
                return one.as_posix()
    return None

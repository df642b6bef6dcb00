"""Hashes of files of the package. Which of them a job's hash covers is decided in `medstudy.runs.identity`.

Of Python the syntax tree counts, without comments and docstrings (`medstudy.utils.syntax`); of other files every byte.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.utils import syntax

syntax_of = cache(syntax.read)  # each file is parsed once per process


def matching(*patterns: str) -> list[Path]:
    """The package's files that match these patterns, sorted. Raises ParamsError for a pattern that matches no file."""
    files: set[Path] = set()
    for pattern in patterns:
        matches = {file for file in paths.PACKAGE.glob(pattern) if file.is_file() and "__pycache__" not in file.parts}
        if not matches:
            raise ParamsError(
                f"A pattern of the package's files must match one, but {pattern!r} matches none in medstudy/. "
                "Correct it where a stage, figure or data set names its files."
            )
        files |= matches
    return sorted(files)


@cache
def code(*patterns: str) -> str:
    """SHA-256 (hex) of the code of the matching files. Raises ParamsError for a pattern that matches no file."""
    digest = hashlib.sha256()
    for file in matching(*patterns):
        content = syntax_of(file).digest if file.suffix == ".py" else hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{_name(file)} {content}\n".encode())
    return digest.hexdigest()


def content(*patterns: str) -> str:
    """SHA-256 (hex) of every byte of the matching files: cheaper than `code`, and stricter."""
    digest = hashlib.sha256()
    for file in matching(*patterns):
        digest.update(f"{_name(file)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def file(module: str, name: str | None = None) -> str | None:
    """The package's file that `import module` or `from module import name` reads; None for another package."""
    top, *rest = module.split(".")
    if not top:  # a relative import
        raise ParamsError(f"medstudy imports its modules by their full names, got `from {module} import {name}`.")
    if top != "medstudy":
        return None
    for parts in ([*rest, name], rest) if name else (rest,):
        path = Path(*parts)
        for candidate in (path.with_suffix(".py") if parts else path / "__init__.py", path / "__init__.py"):
            if (paths.PACKAGE / candidate).is_file():
                return candidate.as_posix()
    return None


def _name(file: Path) -> str:
    """The path within the package."""
    return file.relative_to(paths.PACKAGE).as_posix()

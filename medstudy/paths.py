"""Every location, defined once."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medstudy.errors import ParamsError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent if (PACKAGE.parent / "notebooks").is_dir() else Path.cwd()
NOTEBOOKS = ROOT / "notebooks"
SNAKEFILE = ROOT / "workflow" / "Snakefile"
BASE = PACKAGE / "base"  # the package's own small model, in the hub's format
RECORD = "record.json"  # written last: a run's folder that has it is complete
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # a name, or an owner and a name
PROFILES = ROOT / "workflow" / "profiles"
LONGEST_SHOWN = 80  # characters of a path in an error message


def resolve(path: str | Path) -> Path:
    """A path as given, or relative to the repository if it does not exist here (JupyterLab starts in lab/).

    Raises ParamsError for a path that no file can have, and for one in a folder that may not be entered.
    """
    path = Path(os.path.expanduser(path))
    for candidate in (path, ROOT / path):
        try:
            os.stat(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:  # ValueError: a null character
            why = getattr(error, "strerror", None) or error
            shown = str(path)[:LONGEST_SHOWN]
            raise ParamsError(f"A path names a file or folder, but {shown!r} cannot be looked up ({why}).") from None
        return candidate
    return ROOT / path


def placed(text: str, folder: Path | None, hub: bool = False) -> str:
    """The absolute path that a params file in `folder` names; folder None: params made in Python, text unchanged.

    A relative path is relative to that folder only, so that it means the same wherever medstudy starts. hub: the text
    may be a hub id, if the folder has no such file. Raises ValueError for a path that exists only elsewhere.
    """
    if not text:
        raise ValueError("a path has at least one character")
    if folder is None:
        return text
    path = os.path.normpath(folder / os.path.expanduser(text))
    if os.path.isabs(os.path.expanduser(text)) or os.path.exists(path):
        return path
    for other in (Path.cwd(), ROOT):
        if os.path.exists(other / text):
            raise ValueError(
                f"a relative path is relative to the folder of the params file, but {folder} has no {text!r}; "
                f"{other} has. Write {os.path.relpath(other / text, folder)!r}, or an absolute path"
            )
    return text if hub and HUB_ID.fullmatch(text) else path


def logs(run: Path) -> Path:
    """The folder of a run's log, lock and, while it works, its notebook; `run` is its folder under runs/."""
    return run.parent / "logs" / run.name


def scratch(run: Path) -> Path:
    """The folder in which a run keeps what it needs to resume, until it is complete."""
    return run.parent / ".partial" / run.name


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write to a temporary sibling (file or folder), renamed to `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:6]}")
    try:
        yield temporary
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)

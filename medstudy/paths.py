"""Every location, once."""

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
BASE = PACKAGE / "base"  # the stand-in model, in the hub's format
RECORD = "record.json"  # written last: a run folder that has it is complete
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # a name, or an owner and a name
PROFILES = ROOT / "workflow" / "profiles"
LONGEST_SHOWN = 80  # characters of a path, in the error that no file can have it


def resolve(path: str | Path) -> Path:
    """A path as given, or relative to the repository when it does not exist here (JupyterLab starts in lab/).

    Raises ParamsError for one that no file can have, or that lies in a folder that may not be entered.
    """
    path = Path(os.path.expanduser(path))
    for place in (path, ROOT / path):
        try:
            os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:  # ValueError: a null character
            why = getattr(error, "strerror", None) or error
            shown = str(path)[:LONGEST_SHOWN]
            raise ParamsError(f"A path names a file or folder, but {shown!r} cannot be looked up ({why}).") from None
        return place
    return ROOT / path


def placed(text: str, folder: Path | None, hub: bool = False) -> str:
    """A path that a params file in `folder` names, absolute; None: of params made in Python, left as it is.

    A relative path is taken from the file's folder and from nowhere else, so that it means the same wherever medstudy
    is started. hub: a text of the form of a hub's id is one where that folder has no such file. Raises ValueError for
    a path that is only elsewhere.
    """
    if not text:
        raise ValueError("a path has at least one character")
    if folder is None:
        return text
    found = os.path.normpath(folder / os.path.expanduser(text))
    if os.path.isabs(os.path.expanduser(text)) or os.path.exists(found):
        return found
    for other in (Path.cwd(), ROOT):
        if os.path.exists(other / text):
            raise ValueError(
                f"a relative path is taken from the folder of the params file, but {folder} has no {text!r}; "
                f"{other} has. Write {os.path.relpath(other / text, folder)!r}, or an absolute path"
            )
    return text if hub and HUB_ID.fullmatch(text) else found


def logs(run: Path) -> Path:
    """The folder of a run's log, lock and, while it works, its notebook; `run` is its folder under runs/."""
    return run.parent / "logs" / run.name


def scratch(run: Path) -> Path:
    """Where a run keeps what it needs to resume, beside its final folder, until it is complete."""
    return run.parent / ".partial" / run.name


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write to a temporary sibling (a file or a folder) that takes the name `path` only when the block succeeds."""
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

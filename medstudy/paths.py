"""Every location, once."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent if (PACKAGE.parent / "notebooks").is_dir() else Path.cwd()
NOTEBOOKS = ROOT / "notebooks"
SNAKEFILE = ROOT / "workflow" / "Snakefile"
BASE = PACKAGE / "base"  # the stand-in model, in the hub's format
RECORD = "record.json"  # written last: a run folder that has it is complete
HELD = "MEDSTUDY_RUN"  # in a kernel's environment: the folder of the run whose lock whoever started it holds
PROFILES = ROOT / "workflow" / "profiles"


def resolve(path: str | Path) -> Path:
    """A path as given, or relative to the repository when it does not exist here (JupyterLab starts in notebooks/)."""
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


def scratch(run: Path) -> Path:
    """Where a run keeps what it needs to resume, beside its final folder, until it is complete."""
    return run.parent / ".partial" / run.name


@cache
def code(*patterns: str) -> str:
    """SHA-256 in hex of the package's files of these patterns: what they make is made anew when they change."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in PACKAGE.glob(pattern) if file.is_file()}):
        digest.update(f"{file.relative_to(PACKAGE).as_posix()}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


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

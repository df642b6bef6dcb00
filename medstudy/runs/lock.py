"""The lock of a run: one process makes it at a time.

The operating system releases the lock when its process ends, so that a killed run never counts as a running one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from medstudy import paths
from medstudy.errors import RunBusy

HELD = "MEDSTUDY_RUN"  # a kernel's environment variable: the run folder whose lock its parent process holds
LOOK_SECONDS = 1.0  # longer than `running` holds a lock to test it
ERROR = "error.txt"  # in a run's folder of logs: why it failed


def running(run: Path) -> bool:
    """Whether a living process works on this run now."""
    file = _file(run)
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def alone(run: Path) -> Iterator[bool]:
    """Hold a run's lock; yields whether another process held it first.

    Waits for that process; inside a Slurm allocation, which waiting would waste, raises RunBusy instead.
    """
    lock = FileLock(_file(run), mode=0o666)  # other users may work on the same runs
    try:
        lock.acquire(timeout=LOOK_SECONDS)
        waited = False
    except Timeout:
        if "SLURM_JOB_ID" in os.environ:
            raise RunBusy(f"{run.name} is being made by another process; `medstudy run` comes back to it.") from None
        print(f"{run.name} is being made by another process; waiting for it.", file=sys.stderr, flush=True)
        lock.acquire()
        waited = True
    try:
        yield waited
    finally:
        lock.release()


@contextmanager
def try_alone(run: Path | None) -> Iterator[None]:
    """Hold a run's lock if it has one. Raises filelock's Timeout when another process holds it."""
    if run is None or not _file(run).exists():
        yield
        return
    with FileLock(_file(run), timeout=0):
        yield


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Tell the kernel started inside that its parent, this process, holds the run's lock."""
    os.environ[HELD] = str(run.resolve())
    try:
        yield
    finally:
        del os.environ[HELD]


def held_for(run: Path) -> bool:
    """Whether this kernel was started to make that run, by a process that holds its lock."""
    return os.environ.get(HELD) == str(run.resolve())


def _file(run: Path) -> Path:
    return paths.logs(run) / "lock"

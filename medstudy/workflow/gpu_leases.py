"""Assigns GPUs to jobs: a job leases its GPUs, and no other job on the machine gets them meanwhile.

`medstudy.workflow.notebooks` leases them when it starts a job. Each GPU id has a lock that all users of the machine
share. The operating system (`flock`) releases it when the process that leases ends, however it ends. Inside a Slurm
allocation the locks belong to that allocation, because the ids do.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from medstudy.errors import ParamsError, RunError
from medstudy.utils import devices
from medstudy.utils.devices import VARIABLE

POLL_SECONDS = 0.5
SHARED = Path("/tmp")  # TMPDIR may be private to a user


@contextmanager
def lease(count: int | None, folder: Path | None = None) -> Iterator[list[str]]:
    """Lease `count` GPUs for the block; yields their ids, and CUDA_VISIBLE_DEVICES names only them.

    Waits until `count` GPUs are free at the same time and holds none while it waits, so that two waiting jobs cannot
    block each other. Leases do not nest; an inner lease would deadlock. A count of 0 hides all GPUs. A count of None
    changes nothing, nor does a machine without GPUs: both yield []. folder: where the locks are. Raises ParamsError
    if this process sees fewer GPUs than `count`.
    """
    ids = devices.visible() if count is not None else []
    if not ids:
        yield []
        return
    if not count:
        with _environment(""):
            yield []
        return
    if count > len(ids):
        raise ParamsError(
            f"A job can have at most the GPUs that this process sees, {len(ids)} ({', '.join(ids)}), got {count}. "
            f"Lower training.processes, or make more GPUs visible ({VARIABLE})."
        )
    with ExitStack() as held:
        leased = _wait(ids, count, folder or _folder(), held)
        with _environment(",".join(leased)):
            yield leased


def _wait(ids: list[str], count: int, folder: Path, held: ExitStack) -> list[str]:
    announced = False
    while not (leased := _take(ids, count, folder, held)):
        if not announced:
            print(f"Waiting for {count} free of the GPUs {', '.join(ids)}.", file=sys.stderr, flush=True)
            announced = True
        time.sleep(POLL_SECONDS)
    return leased


def _take(ids: list[str], count: int, folder: Path, held: ExitStack) -> list[str]:
    """`count` free ids, locked until `held` closes; or [], with nothing locked. One process looks at a time."""
    with _lock(folder, "gate"), ExitStack() as now:
        free: list[str] = []
        for name in ids:
            try:
                now.enter_context(_lock(folder, name, wait=False))
            except Timeout:
                continue
            free.append(name)
            if len(free) == count:
                held.push(now.pop_all())
                return free
    return []


def _lock(folder: Path, name: str, wait: bool = True) -> FileLock:
    """Mode 0666 regardless of the umask: another user may lock it next."""
    return FileLock(folder / f"{name.replace('/', '_')}.lock", timeout=-1 if wait else 0, mode=0o666)


def _folder() -> Path:
    """The folder of the locks, the same for all users: one for the machine, or one for a Slurm allocation."""
    base = SHARED if os.access(SHARED, os.W_OK) else Path(tempfile.gettempdir())
    allocated = VARIABLE in os.environ  # set by Slurm: the ids are the allocation's, otherwise the machine's
    folder = base / "medstudy-cards" / (os.environ.get("SLURM_JOB_ID", "host") if allocated else "host")
    try:
        for part in (folder.parent, folder):
            if not part.is_dir():
                part.mkdir(exist_ok=True)
                part.chmod(0o1777)
    except OSError as error:
        raise RunError(f"Locks of GPUs need a folder that all can write to, but {folder} failed: {error}.") from None
    return folder


@contextmanager
def _environment(ids: str) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ids
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before

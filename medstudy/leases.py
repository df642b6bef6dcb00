"""Cards (GPUs) assigned to one job each, by one lock an id that all users of the machine share.

The lock is the kernel's (`flock`), held by the process that leases: however that ends, its cards are free again. Inside
a Slurm allocation the locks are that allocation's own, as its ids are.
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

from medstudy import devices
from medstudy.devices import VARIABLE
from medstudy.errors import ParamsError, RunError

POLL_SECONDS = 0.5
SHARED = Path("/tmp")  # TMPDIR may be a user's own


@contextmanager
def lease(count: int | None, folder: Path | None = None) -> Iterator[list[str]]:
    """Have `count` cards for oneself within the block; yields their ids, and CUDA_VISIBLE_DEVICES names them alone.

    Waits until as many are free at once, and holds none of them before, so that two who wait never wait for each other.
    Within a lease is none: a second would wait for the first. With a count of 0 no card is
    seen; with None, and on a machine without cards, nothing changes, and it yields []. folder: of the locks. Raises
    ParamsError when there are fewer cards than that.
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
            f"A job can have at most the cards that this process sees, {len(ids)} ({', '.join(ids)}), got {count}. "
            f"Lower training.processes, or let it see more ({VARIABLE})."
        )
    with ExitStack() as held:
        taken = _wait(ids, count, folder or _folder(), held)
        with _environment(",".join(taken)):
            yield taken


def _wait(ids: list[str], count: int, folder: Path, held: ExitStack) -> list[str]:
    said = False
    while not (taken := _take(ids, count, folder, held)):
        if not said:
            print(f"Waiting for {count} free of the cards {', '.join(ids)}.", file=sys.stderr, flush=True)
            said = True
        time.sleep(POLL_SECONDS)
    return taken


def _take(ids: list[str], count: int, folder: Path, held: ExitStack) -> list[str]:
    """`count` free ids, locked until `held` closes; or none, locked not at all. One process at a time looks."""
    with _lock(folder, "gate"), ExitStack() as now:
        taken: list[str] = []
        for name in ids:
            try:
                now.enter_context(_lock(folder, name, wait=False))
            except Timeout:
                continue
            taken.append(name)
            if len(taken) == count:
                held.push(now.pop_all())
                return taken
    return []


def _lock(folder: Path, name: str, wait: bool = True) -> FileLock:
    """Of mode 0666, whatever the umask: the next to lock it may be another user."""
    return FileLock(folder / f"{name.replace('/', '_')}.lock", timeout=-1 if wait else 0, mode=0o666)


def _folder() -> Path:
    """Of the locks on this machine's cards; in a Slurm allocation of that one's. The same for all of its users."""
    base = SHARED if os.access(SHARED, os.W_OK) else Path(tempfile.gettempdir())
    told = VARIABLE in os.environ  # by Slurm, so the ids are of its allocation; else they are the machine's
    folder = base / "medstudy-cards" / (os.environ.get("SLURM_JOB_ID", "host") if told else "host")
    try:
        for one in (folder.parent, folder):
            if not one.is_dir():
                one.mkdir(exist_ok=True)
                one.chmod(0o1777)
    except OSError as error:
        raise RunError(f"Locks on cards stand where all may write, but {folder} cannot be made: {error}.") from None
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

"""The log of a run: its last lines, progress lines as they stand now, and new lines as they come."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from medstudy import grid, lock, paths
from medstudy.errors import ParamsError
from medstudy.params import Study

LINES = 40
NEAR = 8  # names that an error lists
CHUNK = 1 << 16
MOST = 1 << 24  # bytes that are read from the end of a log
POLL_SECONDS = 0.5


def find(study: Study, name: str) -> list[grid.Job]:
    """The jobs that `name` means: one of that name or folder, those of a pattern, or the only one with that part.

    Raises ParamsError with the names that are near.
    """
    jobs = grid.plan(study)
    if exact := [job for job in jobs if name in (job.name, job.dir.name)]:
        return exact
    if any(sign in name for sign in "*?[") and (matching := [job for job in jobs if fnmatchcase(job.name, name)]):
        return matching
    having = [job for job in jobs if name in job.name]
    if len(having) == 1:
        return having
    names = [job.name for job in having] or get_close_matches(name, [job.name for job in jobs], NEAR, 0.4)
    near = ", ".join([*names[:NEAR], *([f"and {len(names) - NEAR} more"] if len(names) > NEAR else [])])
    said = f"{len(having)} have that in their name" if having else "there is none"
    raise ParamsError(
        f"A log is of one run, by its name, a part that no other has, or a pattern; got {name!r}, and {said}. "
        f"{f'Near: {near}. ' if near else ''}`python -m medstudy status STUDY --all` lists all."
    )


def file(job: grid.Job) -> Path:
    """Where a run's log is, while it works and afterwards."""
    return paths.logs(job.dir) / "log.txt"


def newest(job: grid.Job) -> str:
    """The newest line of a run's log; of a progress line its newest state."""
    return next(iter(last(file(job), 1)), "")


def last(log: Path, count: int = LINES) -> list[str]:
    """The last `count` lines that are not empty, each as it stands now: a carriage return starts it anew."""
    if not log.is_file():
        return []
    size = log.stat().st_size
    reach, lines = 0, []
    with open(log, "rb") as stream:
        while reach < min(size, MOST) and len(lines) <= count:
            reach = min(max(2 * reach, CHUNK), size)
            stream.seek(size - reach)
            lines = collapsed(stream.read(reach))
    return lines[-count:]


def collapsed(content: bytes) -> list[str]:
    """The lines of a log that are not empty; of a progress line its newest state."""
    lines = (_newest(line) for line in content.decode("utf-8", errors="replace").split("\n"))
    return [line for line in lines if line]


def follow(job: grid.Job, count: int = LINES, every: float = POLL_SECONDS) -> Iterator[str]:
    """The last lines of a run, then new ones as they come; ends when the run has. One that waits is waited for."""
    log = file(job)
    while not log.is_file() and not job.done:
        time.sleep(every)
    place, said = 0, ""
    if log.is_file():
        yield from last(log, count)
        place = log.stat().st_size
    while True:
        busy = lock.running(job.dir)
        content, place = _since(log, place, whole=busy)
        for line in collapsed(content):
            if line != said:
                yield line
            said = line
        if not busy and not content:
            return
        time.sleep(every)


def slurm(study: Study, job: grid.Job, count: int = LINES) -> tuple[Path, list[str]] | None:
    """What Slurm said of the last try of a run, where it ran there: the file and its last lines."""
    folders = (study.runs / "logs" / "slurm").glob("*")
    found = [one for folder in folders for one in (*folder.glob(f"{job.dir.name}/*.log"), *_of_tasks(folder, job))]
    said = max(found, key=lambda one: one.stat().st_mtime, default=None)
    return None if said is None else (said, last(said, count))


def _of_tasks(folder: Path, job: grid.Job) -> Iterator[Path]:
    """An array's tasks are named by their numbers; what each says names its run."""
    name = job.dir.name.encode()
    return (one for one in folder.glob("*_*.log") if name in one.read_bytes()[:CHUNK])


def _since(log: Path, place: int, whole: bool) -> tuple[bytes, int]:
    """What a log says after `place`, and where that ends; whole: nothing of a line that may still be written."""
    if not log.is_file():
        return b"", 0
    with open(log, "rb") as stream:
        stream.seek(place if place <= log.stat().st_size else 0)  # it was started again
        start, content = stream.tell(), stream.read()
    end = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1 if whole else len(content)
    return content[:end], start + end


def _newest(line: str) -> str:
    return next((part.rstrip() for part in reversed(re.split(r"\r+", line)) if part.strip()), "")

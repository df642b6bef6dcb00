"""The log of a run: its last lines, the newest state of progress bars, and new lines as they appear."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.params import Study
from medstudy.runs import lock, plan

LINES = 40
NEAR = 8  # names that an error lists
CHUNK = 1 << 16
MOST = 1 << 24  # bytes read from the end of a log
POLL_SECONDS = 0.5


def find(study: Study, name: str) -> list[plan.Job]:
    """The jobs that `name` refers to: by name or folder, by a shell pattern, or by a part that only one name has.

    Raises ParamsError that lists similar names.
    """
    jobs = plan.plan(study)
    if exact := [job for job in jobs if name in (job.name, job.dir.name)]:
        return exact
    if any(sign in name for sign in "*?[") and (matches := [job for job in jobs if fnmatchcase(job.name, name)]):
        return matches
    containing = [job for job in jobs if name in job.name]
    if len(containing) == 1:
        return containing
    names = [job.name for job in containing] or get_close_matches(name, [job.name for job in jobs], NEAR, 0.4)
    near = ", ".join([*names[:NEAR], *([f"and {len(names) - NEAR} more"] if len(names) > NEAR else [])])
    count = f"{len(containing)} names contain it" if containing else "no name contains it"
    raise ParamsError(
        f"A run is given by its name, by a part that only one name has, or by a pattern; got {name!r}, but {count}. "
        f"{f'Similar: {near}. ' if near else ''}`python -m medstudy status STUDY --all` lists all."
    )


def file(job: plan.Job) -> Path:
    """The log of a run, while it works and afterwards."""
    return paths.logs(job.dir) / "log.txt"


def newest(job: plan.Job) -> str:
    """The newest line of a run's log; of a progress bar, its newest state."""
    return next(iter(last(file(job), 1)), "")


def last(log: Path, count: int = LINES) -> list[str]:
    """The last `count` non-empty lines, as a terminal shows them: a carriage return overwrites the line."""
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
    """The non-empty lines of a log; of a progress bar, its newest state."""
    lines = content.decode("utf-8", errors="replace").split("\n")
    states = ([state.rstrip() for state in re.split(r"\r+", line) if state.strip()] for line in lines)
    return [line[-1] for line in states if line]


def follow(job: plan.Job, count: int = LINES, every: float = POLL_SECONDS) -> Iterator[str]:
    """The last lines of a run's log, then new lines as they appear, until the run ends. Waits for a run to start."""
    log = file(job)
    while not log.is_file() and not job.done:
        time.sleep(every)
    position, previous = 0, ""
    if log.is_file():
        yield from last(log, count)
        position = log.stat().st_size
    while True:
        running = lock.running(job.dir)
        content, position = _since(log, position, whole=running)
        for line in collapsed(content):
            if line != previous:
                yield line
            previous = line
        if not running and not content:
            return
        time.sleep(every)


def slurm(study: Study, job: plan.Job, count: int = LINES) -> tuple[Path, list[str]] | None:
    """The file and the last lines of Slurm's newest log of a run; None where it never ran under Slurm."""
    name = job.dir.name.encode()
    logs = []
    for folder in (study.runs / "logs" / "slurm").glob("*"):
        logs += folder.glob(f"{job.dir.name}/*.log")
        # the tasks of an array are named by number, and the run is named inside
        logs += [log for log in folder.glob("*_*.log") if name in log.read_bytes()[:CHUNK]]
    newest = max(logs, key=lambda log: log.stat().st_mtime, default=None)
    return None if newest is None else (newest, last(newest, count))


def _since(log: Path, position: int, whole: bool) -> tuple[bytes, int]:
    """What a log holds after `position`, and where that ends; whole: only complete lines."""
    if not log.is_file():
        return b"", 0
    with open(log, "rb") as stream:
        stream.seek(position if position <= log.stat().st_size else 0)  # a shorter log was started again
        start, content = stream.tell(), stream.read()
    end = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1 if whole else len(content)
    return content[:end], start + end

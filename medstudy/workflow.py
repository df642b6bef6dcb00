"""Run a study: Snakemake makes what is missing, this module shows how far it is and explains what failed."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from medstudy import grid, notebook, paths, provenance, warm
from medstudy.errors import ModelError, RunError
from medstudy.params import Study

POLL_SECONDS = 1.0
STOP_SECONDS = 20
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOG_LINES = 12


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command(study: Study, file: str, cores: int) -> list[str]:
    """The Snakemake call. One job holds one core; jobs at once are also limited by the memory that is free.

    Where there is a card, one job at a time has it.
    """
    from medstudy.models.family import home  # imports torch

    card = ["gpu=1"] if home().type == "cuda" else []
    memory = int(psutil.virtual_memory().available * 0.9 / 2**20)
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(paths.SNAKEFILE), "--directory", str(study.root),
        "--cores", str(cores), "--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", "--nolock",
        "--resources", f"mem_mb={max(memory, 2000)}", *card,
        "--config", f"study={paths.resolve(file).resolve()}",
    ]  # fmt: skip


def run(study: Study, file: str, cores: int, console: Console) -> None:
    """Make everything of the study that is missing. Raises RunError that explains each failed job.

    Killed and started again, it goes on where it was. Started twice, the second waits for the first.
    """
    for one in study.each():
        check_model(one)
    with _lock(study, console):
        jobs = grid.plan(study)
        forget_damaged(study, jobs)
        if all(job.done for job in jobs):
            console.print(f"{study.study}: all {len(jobs)} jobs are done.", highlight=False)
            return
        log = snakemake_log(study)
        with warm.server(study.runs) if _many(jobs) else nullcontext(), open(log, "w", encoding="utf-8") as stream:
            options = {"start_new_session": True, "preexec_fn": _end_with_parent}
            process = subprocess.Popen(command(study, file, cores), stdout=stream, stderr=stream, **options)
            try:
                _watch(study, jobs, lambda: process.poll() is None, console)
            finally:
                _stop(process)
    missing = [job for job in jobs if not job.done]
    if missing:
        raise RunError(_why(study, file, missing, log))


def _many(jobs: list[grid.Job]) -> bool:
    """Whether enough jobs with a model are missing to make a server of warm kernels worth its start."""
    return sum(job.stage in ("train", "evaluate") and not job.done for job in jobs) > 2


def check_model(study: Study) -> None:
    """The model's folder is there, when it is one. Raises ModelError before anything is made."""
    name = study.model.id
    folder = paths.BASE if name == "base" else paths.resolve(name)
    if (name == "base" or name.startswith(("/", ".", "~"))) and not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"A model folder holds a checkpoint in the hub's format, but there is no *.safetensors in {folder}. "
            "Correct model.id in the study's params, or make the base model with notebooks/00_base.ipynb."
        )


def preview(study: Study, console: Console) -> None:
    """Print the jobs that a run would make, in order."""
    missing = [job for job in grid.plan(study) if not job.done]
    for job in missing:
        console.print(f"{job.name}  ({job.notebook}) -> {job.dir}", highlight=False, soft_wrap=True)
    console.print(f"{study.study}: {len(missing)} jobs to make.", highlight=False)


def forget_damaged(study: Study, jobs: list[grid.Job]) -> None:
    """A complete run that lost one of its recorded files counts as not done: it is made again."""
    for job in jobs:
        if job.done and not all((study.root / name).exists() for name in provenance.read(job)["files"]):
            job.record.unlink()


def state(job: grid.Job) -> str:
    """done, running, failed (it ran and did not finish) or waiting."""
    if job.done:
        return "done"
    if notebook.running(job.dir):
        return "running"
    return "failed" if (notebook.logs(job.dir) / "log.txt").exists() else "waiting"


def last_line(job: grid.Job) -> str:
    """The newest line of a run's log; of a progress line its newest state."""
    lines = _tail(notebook.logs(job.dir) / "log.txt", 1)
    return lines[0] if lines else ""


def wall_seconds(study: Study) -> float | None:
    """How long the study has worked, over all its starts; None when nobody counted."""
    file = _wall(study)
    return json.loads(file.read_text(encoding="utf-8"))["seconds"] if file.is_file() else None


def snakemake_log(study: Study) -> Path:
    """What Snakemake itself said."""
    return study.runs / "logs" / f"{study.study}.snakemake.txt"


def _watch(study: Study, jobs: list[grid.Job], busy: Callable[[], bool], console: Console) -> None:
    """While busy: a live line in a terminal, elsewhere a line for every finished job; the time on disk."""
    started = time.monotonic()
    before = (wall_seconds(study) or 0.0) if any(job.done for job in jobs) else 0.0
    finished = {job.name for job in jobs if job.done}
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        while busy():
            time.sleep(POLL_SECONDS)
            elapsed = time.monotonic() - started
            _write_wall(study, before + elapsed)
            for job in jobs:
                if job.name not in finished and job.done:
                    finished.add(job.name)
                    console.print(f"[{len(finished)}/{len(jobs)}] {_clock(elapsed)} {job.name}", highlight=False)
            if console.is_terminal:
                live.update(_progress(jobs, len(finished), elapsed))


def _progress(jobs: list[grid.Job], finished: int, elapsed: float) -> Text:
    running = [job for job in jobs if not job.done and notebook.running(job.dir)]
    lines = [f"{finished}/{len(jobs)} jobs done, {_clock(elapsed)}"]
    lines += [f"  {job.name}: {last_line(job)}" for job in running]
    return Text("\n".join(lines), overflow="ellipsis", no_wrap=True)


def _stop(process: subprocess.Popen) -> None:
    """When we are interrupted, end Snakemake and its jobs: politely, then by force."""
    if process.poll() is not None:
        return
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _end_with_parent() -> None:
    """In Snakemake's process, before it starts: let it be killed with us, so that no second one works beside the next.

    Its running jobs end by themselves; the next run waits for each and takes its result.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _why(study: Study, file: str, missing: list[grid.Job], log: Path) -> str:
    """Which jobs failed, why, and how to run each alone."""
    failed = [job for job in missing if state(job) == "failed"]
    if not failed:
        return f"Snakemake stopped before any job failed; its log {log} ends:\n" + _indented(_tail(log, 2 * LOG_LINES))
    waiting = len(missing) - len(failed)
    parts = [f"{len(failed)} of the jobs of {study.study} failed; {waiting} more wait for them."]
    for job in failed:
        text = notebook.logs(job.dir) / "log.txt"
        parts.append(f"{job.name} ({text}) ends:\n{_indented(_tail(text, LOG_LINES))}\n  Alone: {alone(job, file)}")
    return "\n\n".join(parts)


def alone(job: grid.Job, file: str) -> str:
    """The command that runs one job without Snakemake."""
    return f"{sys.executable} -m medstudy notebook {job.notebook} --out {job.dir} -p study {file} -p run {job.name}"


@contextmanager
def _lock(study: Study, console: Console) -> Iterator[None]:
    """Hold the one lock on the study's runs. Waits, and says so, while another process holds it."""
    file = study.runs / "logs" / "run.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8") as stream:
        if not _taken(stream):
            console.print(f"Another process is at work under {study.runs}; waiting for it to end.", highlight=False)
            _watch(study, grid.plan(study), lambda: not _taken(stream), console)
        yield


def _taken(stream) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tail(file: Path, count: int, size: int = 8192) -> list[str]:
    """The last `count` non-empty lines of a text file; a carriage return starts a new line."""
    if not file.is_file():
        return []
    with open(file, "rb") as stream:
        stream.seek(max(0, file.stat().st_size - size))
        lines = re.split(r"[\r\n]+", stream.read().decode("utf-8", errors="replace"))
    return [line.rstrip() for line in lines if line.strip()][-count:]


def _indented(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:d}:{int(seconds) % 60:02d}"


def _wall(study: Study) -> Path:
    return study.runs / "logs" / f"{study.study}.wall.json"


def _write_wall(study: Study, seconds: float) -> None:
    with paths.atomic(_wall(study)) as temporary:
        temporary.write_text(json.dumps({"seconds": round(seconds, 1)}), encoding="utf-8")

"""Run a study: Snakemake makes what is missing; this module shows the progress and explains failures."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from medstudy import paths
from medstudy.errors import ModelError, ParamsError, RunError
from medstudy.params import Study
from medstudy.runs import lock, plan, record, wall_clock
from medstudy.utils.formatting import duration
from medstudy.workflow import kernel_server, logs, resources, snakemake
from medstudy.workflow.snakemake import RunOptions

POLL_SECONDS = 1.0
STOP_SECONDS = 20
UNFINISHED = ("failed", "stopped")
GRACE_SECONDS = 30  # for Snakemake to end by itself once all jobs have their records
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOG_LINES = 12


def chosen(jobs: Sequence[plan.Job], only: Sequence[str]) -> list[plan.Job]:
    """The jobs whose names match a pattern, and all that they need. Without patterns, every job. Raises ParamsError."""
    if not only:
        return list(jobs)
    names = {job.name for job in matching(jobs, only)}
    for job in reversed(jobs):  # a job comes after all that it needs
        names |= set(job.needs) if job.name in names else set()
    return [job for job in jobs if job.name in names]


def matching(jobs: Iterable[plan.Job], patterns: Iterable[str]) -> list[plan.Job]:
    """The jobs whose names match one of the shell patterns. Raises ParamsError for a pattern that matches none."""
    names: set[str] = set()
    for pattern in patterns:
        matches = {job.name for job in jobs if fnmatchcase(job.name, pattern)}
        if not matches:
            raise ParamsError(f"A job is given by its name or a pattern of names, but {pattern!r} matches none.")
        names |= matches
    return [job for job in jobs if job.name in names]


def run(study: Study, file: str, how: RunOptions, console: Console) -> bool:
    """Make what is missing of the study, or of the jobs in `how.only`; returns whether the whole study is done.

    Raises RunError that explains each failed job. Started again after it was killed, it resumes. Several processes on
    one or many machines may run the same study: each run is made by one of them, and the others take its result.
    """
    for one_model in study.each():
        check_model(one_model)
    every = plan.plan(study)
    jobs = chosen(every, how.only)
    forget_damaged(study, jobs)
    if all(job.done for job in jobs):
        console.print(f"{study.study}: all {len(jobs)} jobs are done.", highlight=False)
        return all(job.done for job in every)
    snakemake.check_arrays(how, len(jobs))
    log = snakemake_log(study)
    log.parent.mkdir(parents=True, exist_ok=True)
    _forget_sessions(log.parent)
    server = kernel_server.server(log.with_suffix(".kernels.txt")) if how.local and _many(jobs) else nullcontext()
    with _marked(study), server as kernels:
        while _again(jobs, _pass(study, file, how, jobs, log, console, kernels)):
            _watch(study, jobs, lambda: any(lock.running(job.dir) for job in jobs if not job.done), console)
    if missing := [job for job in jobs if not job.done]:
        raise RunError(_why(study, file, missing, log))
    return all(job.done for job in every)


@contextmanager
def _marked(study: Study) -> Iterator[None]:
    """Delete the markers when their scheduler has ended."""
    try:
        yield
    finally:
        shutil.rmtree(snakemake.markers(study), ignore_errors=True)


def _forget_sessions(folder: Path) -> None:
    """Delete the markers and logs of schedulers that were killed on this machine."""
    for file in folder.glob(f"*-{platform.node()}-*"):
        number = file.name.split(".")[0].rpartition("-")[2]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)


def _pass(
    study: Study, file: str, how: RunOptions, jobs: list[plan.Job], log: Path, console: Console, kernels: str | None
) -> int:
    """Let Snakemake make what it can now; returns how many jobs were done before."""
    before = sum(job.done for job in jobs)
    markers = snakemake.markers(study).relative_to(study.root)
    targets = [markers / job.dir.name for job in jobs] if how.only else []
    with open(log, "a", encoding="utf-8") as stream:
        options = {"start_new_session": True, "preexec_fn": _end_with_parent, "stdout": stream, "stderr": stream}
        process = subprocess.Popen(snakemake.command(study, file, how, targets, kernels), **options)
        try:
            _watch(study, jobs, _busy(process, jobs), console)
        finally:
            _stop(process)
    return before


def _busy(process: subprocess.Popen, jobs: list[plan.Job]) -> Callable[[], bool]:
    """Whether Snakemake works. Once all jobs are done we do not wait for it: a cluster may report the last one late."""
    ends: list[float] = []

    def busy() -> bool:
        if not ends and all(job.done for job in jobs):
            ends.append(time.monotonic() + GRACE_SECONDS)
        return process.poll() is None and not (ends and time.monotonic() > ends[0])

    return busy


def _again(jobs: list[plan.Job], before: int) -> bool:
    """Whether other processes make runs now, or made runs that some of the remaining jobs were waiting for."""
    done = {job.name for job in jobs if job.done}
    left = [job for job in jobs if not job.done]
    ready = [job for job in left if state(job) == "waiting" and done.issuperset(job.needs)]
    return any(lock.running(job.dir) for job in left) or (len(done) > before and bool(ready))


def _many(jobs: list[plan.Job]) -> bool:
    """Whether enough jobs are missing for a kernel server to pay off."""
    return sum(not job.done for job in jobs) > 2


def check_model(study: Study) -> None:
    """Raises ModelError, before anything is made, if the model is a folder without weights."""
    name = study.model.id
    if study.model.server is not None:
        return
    folder = paths.BASE if name == "base" else paths.resolve(name)
    if (name == "base" or name.startswith(("/", ".", "~"))) and not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"A model folder holds a checkpoint in the hub's format, but {folder} has no *.safetensors. "
            "Correct model.id in the study's params, or make the base model with notebooks/00_base.ipynb."
        )


def preview(study: Study, how: RunOptions, console: Console) -> int:
    """Print the jobs that a run would make, in order; on a cluster with their requests. Returns their number."""
    known, cluster = resources.read(study), not how.local
    missing = [job for job in chosen(plan.plan(study), how.only) if not job.done]
    for job in missing:
        request = resources.of_job(job, known)
        text = f"  {request['mem_mb']} MB, {request['runtime']} min, {job.gpus} GPUs" if cluster else ""
        console.print(f"{job.name}  ({job.notebook}) -> {job.dir}{text}", highlight=False, soft_wrap=True)
    if cluster and missing and not known:
        console.print("Memory and time are defaults: a run requests what the estimate says.", highlight=False)
    console.print(f"{study.study}: {len(missing)} jobs to make.", highlight=False)
    return len(missing)


def forget_damaged(study: Study, jobs: list[plan.Job]) -> None:
    """Delete the records of complete runs that lost a recorded file, so that they are made again."""
    for job in jobs:
        if job.done and not all(_there(study, job, *item) for item in record.read(job)["files"].items()):
            job.record.unlink()


def _there(study: Study, job: plan.Job, name: str, digest: str) -> bool:
    """Whether a recorded file is there; outside the run's folder, which other runs may fill too, also unchanged."""
    file = study.root / name
    return file.is_file() and (file.is_relative_to(job.dir) or record.sha256(file) == digest)


def state(job: plan.Job) -> str:
    """done, running, failed (with an error), stopped (killed; it will resume) or waiting."""
    if job.done:
        return "done"
    if lock.running(job.dir):
        return "running"
    if (paths.logs(job.dir) / lock.ERROR).exists():
        return "failed"
    return "stopped" if logs.file(job).exists() else "waiting"


def snakemake_log(study: Study) -> Path:
    """The log of the Snakemake that this process starts."""
    return snakemake.markers(study).with_suffix(".txt")


def _watch(study: Study, jobs: list[plan.Job], busy: Callable[[], bool], console: Console) -> None:
    """While busy: a live display in a terminal, elsewhere a line per finished job; keeps the wall clock on disk."""
    started = time.monotonic()
    before = (wall_clock.read(study) or 0.0) if any(study.runs.glob(f"*/{paths.RECORD}")) else 0.0
    finished = {job.name for job in jobs if job.done}
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        while busy():
            time.sleep(POLL_SECONDS)
            elapsed = time.monotonic() - started
            wall_clock.write(study, before + elapsed)
            for job in jobs:
                if job.name not in finished and job.done:
                    finished.add(job.name)
                    console.print(f"[{len(finished)}/{len(jobs)}] {duration(elapsed)} {job.name}", highlight=False)
            if console.is_terminal:
                live.update(_progress(jobs, len(finished), elapsed))


def _progress(jobs: list[plan.Job], finished: int, elapsed: float) -> Text:
    running = [job for job in jobs if not job.done and lock.running(job.dir)]
    lines = [f"{finished}/{len(jobs)} jobs done, {duration(elapsed)}"]
    lines += [f"  {job.name}: {logs.newest(job)}" for job in running]
    return Text("\n".join(lines), overflow="ellipsis", no_wrap=True)


def _stop(process: subprocess.Popen) -> None:
    """If we are interrupted, end Snakemake and its jobs: first SIGINT, then SIGKILL."""
    if process.poll() is not None:
        return
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _end_with_parent() -> None:
    """In Snakemake's process: have it killed when we end, so that it does not run next to a later Snakemake.

    Its running jobs end by themselves; a later run waits for them and takes their results.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _why(study: Study, file: str, missing: list[plan.Job], log: Path) -> str:
    """Which jobs failed, why, and the commands that run them alone."""
    failed = [job for job in missing if state(job) in UNFINISHED]
    if not failed:
        ends = _indented(logs.last(log, 2 * LOG_LINES))
        return f"Snakemake stopped before any job failed; its log {log} ends:\n{ends}"
    waiting = len(missing) - len(failed)
    parts = [f"Failed jobs of {study.study}: {len(failed)}; jobs that wait for them: {waiting}."]
    for job in failed:
        text = logs.file(job)
        parts.append(f"{job.name} ({text}) ends:\n{_indented(logs.last(text, LOG_LINES))}")
        if slurm := logs.slurm(study, job, LOG_LINES):
            parts.append(f"Slurm's log of it ({slurm[0]}) ends:\n{_indented(slurm[1])}")
        parts.append(f"  Alone: {alone(job, file)}")
    return "\n\n".join(parts)


def alone(job: plan.Job, file: str) -> str:
    """The command that runs one job without Snakemake."""
    words = ["notebook", job.notebook, "--out", str(job.dir), "-p", "study", str(file), "-p", "run", job.name]
    return shlex.join([sys.executable, "-m", "medstudy", *words])


def _indented(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)

"""Run a study: Snakemake makes what is missing, this module shows how far it is and explains what failed."""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
import yaml
from rich.console import Console
from rich.live import Live
from rich.text import Text

from medstudy import grid, leases, logs, notebook, paths, provenance, warm
from medstudy.errors import ModelError, ParamsError, RunError
from medstudy.params import Study

POLL_SECONDS = 1.0
STOP_SECONDS = 20
GRACE_SECONDS = 30  # for Snakemake to end by itself once all jobs have their records
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOG_LINES = 12


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class How:
    """How a study is run: the Snakemake profile, jobs at once, and which jobs (shell patterns of names; none: all).

    cores: of this machine that its own jobs may use. jobs: on a cluster, as the profile says where None.
    """

    cores: int
    profile: str = "local"
    jobs: int | None = None
    only: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        return self.profile == "local"


def profile(name: str) -> Path:
    """The folder of a profile by its name in workflow/profiles/, or any other. Raises ParamsError."""
    for folder in (paths.PROFILES / name, Path(name).expanduser()):
        if (folder / "config.yaml").is_file():
            return folder
    known = ", ".join(sorted(file.parent.name for file in paths.PROFILES.glob("*/config.yaml")))
    raise ParamsError(f"A profile is one of {known}, or a folder with Snakemake's config.yaml; got {name!r}.")


def check_arrays(how: How, jobs: int) -> None:
    """Raises ParamsError where the plugin would never submit some of that many jobs, and wait for them forever.

    It takes ready jobs for an array only when Snakemake hands it (nearly) all of them at once.
    """
    said = _settings(how.profile)
    limits = (how.jobs or said.get("jobs", 0), str(said.get("max-jobs-per-timespan", 100)).partition("/")[0])
    if said.get("slurm-array-jobs") and (most := min(map(_number, limits))) < jobs:
        raise ParamsError(
            f"With job arrays a study's {jobs} jobs must be submittable at once, or Snakemake's Slurm plugin waits "
            f"forever; got {most:.0f}. Leave --jobs out, or raise `jobs` and `max-jobs-per-timespan` in the profile."
        )


def command(study: Study, file: str, how: How, targets: Iterable[Path] = ()) -> list[str]:
    """The Snakemake call; without targets everything.

    Here a job holds a core a process; jobs at once are also limited by the memory that is free and, where there are
    cards, by those. On a cluster the profile says what is limited.
    """
    folder, said = profile(how.profile), _settings(how.profile)
    arrays = "".join(said.get("slurm-array-jobs", "").split())
    here = ["--cores", str(how.cores), "--resources", *_resources()]
    there = ["--local-cores", str(how.cores), *(["--jobs", str(how.jobs)] if how.jobs else []), *_slurm(study, said)]
    return [
        sys.executable, "-m", "snakemake", *map(str, targets), "--snakefile", str(paths.SNAKEFILE),
        "--profile", str(folder), "--directory", str(study.root), "--nolock",
        "--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", *(here if how.local else there),
        "--config", f"study={paths.resolve(file).resolve()}", f"session={session(study)}",
        *([f"arrays={arrays}"] if arrays else []),
    ]  # fmt: skip


def _number(limit: int | str) -> float:
    """Snakemake also takes `unlimited` and `all`."""
    return float(limit) if str(limit).replace(".", "").isdigit() else math.inf


def session(study: Study) -> str:
    """The name of what this process's Snakemake keeps for itself."""
    return f"{study.study}-{platform.node()}-{os.getpid()}"


def markers(study: Study) -> Path:
    """The folder of what this process's Snakemake knows as outputs: a file a run that is complete."""
    return study.runs / "logs" / "snakemake" / session(study)


def _slurm(study: Study, said: dict) -> list[str]:
    """Its logs go beside the study's own: the plugin would take a profile's path from where Snakemake was started."""
    return ["--slurm-logdir", str(study.runs / "logs" / "slurm")] if said.get("executor") == "slurm" else []


def _settings(name: str) -> dict:
    return yaml.safe_load((profile(name) / "config.yaml").read_text(encoding="utf-8")) or {}


def _resources() -> list[str]:
    cards, memory = leases.visible(), int(psutil.virtual_memory().available * 0.9 / 2**20)
    return [f"mem_mb={max(memory, 2000)}", *([f"gpu={len(cards)}"] if cards else [])]


def chosen(jobs: Sequence[grid.Job], only: Sequence[str]) -> list[grid.Job]:
    """The jobs whose names match a pattern, and all that they need; every job without patterns. Raises ParamsError."""
    if not only:
        return list(jobs)
    names = {job.name for job in matching(jobs, only)}
    for job in reversed(jobs):  # each stands after all that it needs
        names |= set(job.needs) if job.name in names else set()
    return [job for job in jobs if job.name in names]


def matching(jobs: Iterable[grid.Job], patterns: Iterable[str]) -> list[grid.Job]:
    """The jobs whose names match one of the shell patterns. Raises ParamsError for a pattern that matches none."""
    found: set[str] = set()
    for pattern in patterns:
        some = {job.name for job in jobs if fnmatchcase(job.name, pattern)}
        if not some:
            raise ParamsError(f"A job is given by its name or a pattern of names, got {pattern!r}, which none matches.")
        found |= some
    return [job for job in jobs if job.name in found]


def run(study: Study, file: str, how: How, console: Console) -> bool:
    """Make everything of the study that is missing, or what `how.only` names; whether the whole study is done.

    Raises RunError that explains each failed job. Killed and started again, it goes on where it was. Several may run
    the same study at once, on one machine or many: each run is made by one of them, the others take its result.
    """
    for one in study.each():
        check_model(one)
    every = grid.plan(study)
    jobs = chosen(every, how.only)
    forget_damaged(study, jobs)
    if all(job.done for job in jobs):
        console.print(f"{study.study}: all {len(jobs)} jobs are done.", highlight=False)
        return all(job.done for job in every)
    check_arrays(how, len(jobs))
    log = snakemake_log(study)
    log.parent.mkdir(parents=True, exist_ok=True)
    with _marked(study), warm.server(study.runs) if how.local and _many(jobs) else nullcontext():
        while _again(jobs, _pass(study, file, how, jobs, log, console)):
            _watch(study, jobs, lambda: any(notebook.running(job.dir) for job in jobs if not job.done), console)
    if missing := [job for job in jobs if not job.done]:
        raise RunError(_why(study, file, missing, log))
    return all(job.done for job in every)


@contextmanager
def _marked(study: Study) -> Iterator[None]:
    """Markers are of use as long as their scheduler lives."""
    try:
        yield
    finally:
        shutil.rmtree(markers(study), ignore_errors=True)


def _pass(study: Study, file: str, how: How, jobs: list[grid.Job], log: Path, console: Console) -> int:
    """Let Snakemake make what it can now; how many jobs were done before."""
    before = sum(job.done for job in jobs)
    targets = [markers(study) / job.dir.name for job in jobs] if how.only else []
    with open(log, "a", encoding="utf-8") as stream:
        options = {"start_new_session": True, "preexec_fn": _end_with_parent}
        process = subprocess.Popen(command(study, file, how, targets), stdout=stream, stderr=stream, **options)
        try:
            _watch(study, jobs, _busy(process, jobs), console)
        finally:
            _stop(process)
    return before


def _busy(process: subprocess.Popen, jobs: list[grid.Job]) -> Callable[[], bool]:
    """Whether Snakemake works; not once all is done: on a cluster it may hear of the last job minutes later."""
    ends: list[float] = []

    def busy() -> bool:
        if not ends and all(job.done for job in jobs):
            ends.append(time.monotonic() + GRACE_SECONDS)
        return process.poll() is None and not (ends and time.monotonic() > ends[0])

    return busy


def _again(jobs: list[grid.Job], before: int) -> bool:
    """Whether others make runs now, or made some that what is left was waiting for."""
    done = {job.name for job in jobs if job.done}
    left = [job for job in jobs if not job.done]
    ready = [job for job in left if state(job) == "waiting" and done.issuperset(job.needs)]
    return any(notebook.running(job.dir) for job in left) or (len(done) > before and bool(ready))


def _many(jobs: list[grid.Job]) -> bool:
    """Whether enough jobs are missing to make a server of warm kernels worth its start."""
    return sum(not job.done for job in jobs) > 2


def check_model(study: Study) -> None:
    """The model's folder is there, when it is one. Raises ModelError before anything is made."""
    name = study.model.id
    folder = paths.BASE if name == "base" else paths.resolve(name)
    if (name == "base" or name.startswith(("/", ".", "~"))) and not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"A model folder holds a checkpoint in the hub's format, but there is no *.safetensors in {folder}. "
            "Correct model.id in the study's params, or make the base model with notebooks/00_base.ipynb."
        )


def preview(study: Study, only: Sequence[str], console: Console) -> None:
    """Print the jobs that a run would make, in order; see `chosen`."""
    missing = [job for job in chosen(grid.plan(study), only) if not job.done]
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
    return "failed" if logs.file(job).exists() else "waiting"


def wall_seconds(study: Study) -> float | None:
    """How long the study has worked, over all its starts; None when nobody counted."""
    file = _wall(study)
    return json.loads(file.read_text(encoding="utf-8"))["seconds"] if file.is_file() else None


def snakemake_log(study: Study) -> Path:
    """What the Snakemake that this process starts says."""
    return markers(study).with_suffix(".txt")


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
    lines += [f"  {job.name}: {logs.newest(job)}" for job in running]
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
        ends = _indented(logs.last(log, 2 * LOG_LINES))
        return f"Snakemake stopped before any job failed; its log {log} ends:\n{ends}"
    waiting = len(missing) - len(failed)
    parts = [f"{len(failed)} of the jobs of {study.study} failed; {waiting} more wait for them."]
    for job in failed:
        text = logs.file(job)
        parts.append(f"{job.name} ({text}) ends:\n{_indented(logs.last(text, LOG_LINES))}")
        if said := logs.slurm(study, job, LOG_LINES):
            parts.append(f"Slurm says of it ({said[0]}):\n{_indented(said[1])}")
        parts.append(f"  Alone: {alone(job, file)}")
    return "\n\n".join(parts)


def alone(job: grid.Job, file: str) -> str:
    """The command that runs one job without Snakemake."""
    return f"{sys.executable} -m medstudy notebook {job.notebook} --out {job.dir} -p study {file} -p run {job.name}"


def _indented(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:d}:{int(seconds) % 60:02d}"


def _wall(study: Study) -> Path:
    return study.runs / "logs" / f"{study.study}.wall.json"


def _write_wall(study: Study, seconds: float) -> None:
    with paths.atomic(_wall(study)) as temporary:
        temporary.write_text(json.dumps({"seconds": round(seconds, 1)}), encoding="utf-8")

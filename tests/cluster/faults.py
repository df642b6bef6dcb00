"""A study's jobs on Slurm: the run that each makes, its state, and faults to inject."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from medstudy import paths
from medstudy.runs import plan
from tests.cluster.slurm import said

FIELDS = "%i|%T|%k|%S|%e"
POLL_SECONDS = 0.2
WAIT_SECONDS = 300


@dataclass(frozen=True)
class Submitted:
    """A Slurm job and the folder name of the run that it makes; for a task of an array only while it runs."""

    id: str
    state: str
    run: str
    start: str
    end: str

    @property
    def elapsed(self) -> float:
        """Seconds that an ended job was on its node."""
        return (datetime.fromisoformat(self.end) - datetime.fromisoformat(self.start)).total_seconds()


def submitted() -> list[Submitted]:
    """Every job that Slurm remembers, in order of submission."""
    listed = said("squeue", "--array", "--states=all", "--noheader", f"--format={FIELDS}")
    rows = [line.split("|") for line in listed.splitlines()]
    runs = {id: comment.rpartition("_wildcards_")[2] for id, _, comment, *_ in rows if "_" not in id}
    runs |= tasks() if len(runs) < len(rows) else {}
    found = [Submitted(id, state, runs.get(id, ""), *when) for id, state, _, *when in rows]
    return sorted(found, key=lambda one: [int(part) for part in one.id.split("_")])


def tasks() -> dict[str, str]:
    """The run that each task of an array makes now; all tasks have the comment of the array's first task."""
    made = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        try:
            if "notebook" in words and "--out" in words and "_" in (id := _slurm_job(process)):
                made[id] = Path(words[words.index("--out") + 1]).name
        except psutil.Error:
            continue
    return made


def state(id: str) -> str:
    return next((one.state for one in submitted() if one.id == id), "gone")


def training(study, apart: set[str] = frozenset(), before: float = 0.5) -> Submitted | None:
    """A training on Slurm with a resume point, before this share of its steps; none of the runs `apart`."""
    runs = {job.dir.name: job for job in plan.plan(study) if job.stage == "train"}
    for one in submitted():
        job = runs.get(one.run)
        if one.state != "RUNNING" or job is None or one.run in apart or kernel(one.id) is None:
            continue
        if (paths.scratch(job.dir) / "resume.pt").exists() and (steps := _steps(job)) and steps[0] < before * steps[1]:
            return one
    return None


def kernel(id: str) -> psutil.Process | None:
    """The notebook's kernel in a job of Slurm."""
    for process in psutil.process_iter(["cmdline"]):
        try:
            if any("ipykernel" in word for word in process.info["cmdline"] or ()) and _slurm_job(process) == id:
                return process
        except psutil.Error:
            continue
    return None


def cards() -> dict[str, str]:
    """The GPUs that the kernel of each Slurm job with GPUs sees now."""
    running = [one for one in submitted() if one.state == "RUNNING" and one.run.startswith(("train-", "evaluate-"))]
    seen = {}
    for one in running:
        process = kernel(one.id)
        try:
            if process is not None:
                seen[one.id] = process.environ().get("CUDA_VISIBLE_DEVICES", "none")
        except psutil.Error:
            continue
    return seen


def cancel(one: Submitted) -> None:
    """End a job as a user or an administrator does."""
    subprocess.run(["scancel", one.id], check=True)
    wait_for(lambda: state(one.id) == "CANCELLED", f"{one.run} to be cancelled")


def kill_kernel(one: Submitted) -> None:
    """Kill the notebook's kernel as Linux does when memory runs out."""
    kernel(one.id).kill()
    wait_for(lambda: state(one.id) == "FAILED", f"{one.run} to fail")


def requeue(one: Submitted) -> None:
    """Requeue a job as Slurm does to make room for another."""
    subprocess.run(["scontrol", "requeue", one.id], check=True)
    wait_for(lambda: "Restarts=1" in said("scontrol", "show", "job", one.id), f"{one.run} to be queued again")


def resumed_at(job: plan.Job) -> int:
    """The step from which the last start of a training resumed; 0 for a first start."""
    return _steps(job, last=False)[0]


def record(job: plan.Job) -> dict:
    return json.loads(job.record.read_text())


def wait_for(true: Callable, what: str, busy: Callable[[], bool] = lambda: True):
    """Wait for `true()` and return its value. Raises after WAIT_SECONDS, or when the scheduler has ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := true()):
        if time.monotonic() > deadline or not busy():
            why = "the scheduler had ended" if not busy() else f"not within {WAIT_SECONDS} s"
            raise AssertionError(f"Waited for {what}: {why}. Jobs: {[(s.id, s.state, s.run) for s in submitted()]}")
        time.sleep(POLL_SECONDS)
    return found


def _slurm_job(process: psutil.Process) -> str:
    """The id of the Slurm job (or ARRAY_TASK) of a process; empty for none."""
    said = process.environ()
    array, task = (said.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else said.get("SLURM_JOB_ID", "")


def _steps(job: plan.Job, last: bool = True) -> tuple[int, int] | None:
    """(step, all steps) in the last, or first, progress bar of a training's log."""
    log = paths.logs(job.dir) / "log.txt"
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines() if log.exists() else []
    found = [line.split("|")[2].split()[0] for line in lines if line.startswith(f"{job.name}:") and "step" in line]
    if not found:
        return None
    step, total = found[-1 if last else 0].split("/")
    return int(step), int(total)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(paths.ROOT)}

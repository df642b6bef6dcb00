"""What a job asks of a scheduler, from the study's estimate: memory of the host in MB (2^20 bytes), and minutes.

`write` puts the requests beside the runs before jobs are submitted; the Snakefile, which every job reads again, takes
them from there. A job that was killed for want of either asks for twice, then three times as much.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from medstudy import paths
from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.runs import plan

MB = 2**20
DEFAULT = {"mem_mb": 1200, "runtime": 60}  # of a job whose cost is not estimated
DEFAULTS = {
    "data": {"mem_mb": 4000, "runtime": 480},  # it may read a large data set whole, from a slow disk
    "train": {"mem_mb": 1800, "runtime": 60},
    "evaluate": {"mem_mb": 1800, "runtime": 60},
}
SECONDS_FACTOR = 2.0  # for a slower node, and a rate that was only stated
START_MINUTES = 10  # python, libraries and weights, read for the first time on a node from a shared disk
MEMORY_FACTOR = 1.5  # measured peaks were 0.86 to 1.26 times the predicted ones
AROUND_MB = 700  # beside the kernel: papermill, and the two Snakemakes of a job on a cluster, of 240 MB each
PROCESS_MB = 800  # `memory.PROCESS`, whose module imports torch
CARD_MB = 3000  # what CUDA and its libraries map into a process's memory, beside what it holds without
WEIGHT_BYTES = 4  # of a weight on its way to the card, at most
ROUND_MB = 100


def of(study: Study, tflops: float | None = None) -> dict[str, dict[str, int]]:
    """{"mem_mb", "runtime"} of every run of the study by folder name, and "seconds", predicted, where there is a model.

    tflops: see `estimate`, also for what it raises. Trainings and evaluations ask by their estimate, the check of the
    model by its weights, other jobs for what is usual. A job that models share asks for the most that one needs.
    """
    from medstudy.costs import estimate  # imports torch, which whoever only reads can do without

    made: dict[str, dict[str, int]] = {}
    known: set[tuple] = set()
    for one in study.each():
        jobs, frame = {job.name: job for job in plan.plan(one)}, estimate.estimate(one, tflops, known=known)
        for row in frame.to_dict("records"):
            job = jobs[row["job"]]
            asked, before = _asked(job, row, frame.attrs), made.get(job.dir.name, {})
            made[job.dir.name] = {name: max(value, before.get(name, 0)) for name, value in asked.items()}
    return made


def write(study: Study, tflops: float | None = None) -> Path:
    """Put the requests where `read` finds them."""
    with paths.atomic(_file(study)) as temporary:
        temporary.write_text(json.dumps(of(study, tflops), indent=2) + "\n", encoding="utf-8")
    return _file(study)


def read(study: Study) -> dict[str, dict[str, int]]:
    """The requests of the study's runs as they are now, by folder name; empty when nobody wrote them.

    Those of a study whose params were others are left out: a run's folder is named by all that makes it.
    """
    if not _file(study).is_file():
        return {}
    try:
        written = json.loads(_file(study).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{_file(study)} must be json, but {error}. Delete it: the next run writes it anew.") from None
    return {name: written[name] for name in (job.dir.name for job in plan.plan(study)) if name in written}


def of_job(job: plan.Job, known: dict[str, dict[str, int]]) -> dict[str, int]:
    """{"mem_mb", "runtime"} of a job: what `known` says, else the default of its stage."""
    return known.get(job.dir.name) or _default(job)


def alike(jobs: Iterable[plan.Job], known: dict[str, dict[str, int]], stages: Iterable[str]) -> dict[str, dict]:
    """`known`, but every job of one of the stages asks for the most that any of that stage does.

    For job arrays: Slurm gives each task of one the same.
    """
    made, jobs = dict(known), list(jobs)
    for stage in stages:
        of_stage = {job.dir.name: of_job(job, known) for job in jobs if job.stage == stage}
        most = {what: max(one[what] for one in of_stage.values()) for what in DEFAULT} if of_stage else {}
        made |= {name: one | most for name, one in of_stage.items()}
    return made


def _asked(job: plan.Job, row: dict, about: dict) -> dict[str, int]:
    """row: the job's of the estimate. about: its attrs."""
    weights = sum(about["weights"].values()) * WEIGHT_BYTES / MB
    if not math.isnan(row["seconds"]):
        minutes = math.ceil(SECONDS_FACTOR * row["seconds"] / 60) + START_MINUTES
        memory = _rounded(_memory(job, row, weights, about["device"]))
        return {"mem_mb": memory, "runtime": minutes, "seconds": math.ceil(row["seconds"])}
    if job.stage == "base":
        return {"mem_mb": _rounded(PROCESS_MB + weights), "runtime": DEFAULT["runtime"]}
    return _default(job)


def _memory(job: plan.Job, row: dict, weights: float, device: str) -> float:
    """Of the host. On a card the estimate is of the card's memory; the host holds libraries and, for a while, weights.

    A training also holds its resume point when it writes one.
    """
    if device == "cpu":
        return row["memory_mb"]
    resume = 0.0 if math.isnan(row["resume_mb"]) else row["resume_mb"]
    return job.processes * (PROCESS_MB + CARD_MB + weights) + resume


def _rounded(megabytes: float) -> int:
    return math.ceil((MEMORY_FACTOR * megabytes + AROUND_MB) / ROUND_MB) * ROUND_MB


def _default(job: plan.Job) -> dict[str, int]:
    usual = DEFAULTS.get(job.stage, DEFAULT)
    return usual | {"mem_mb": usual["mem_mb"] * job.processes}


def _file(study: Study) -> Path:
    return study.runs / "logs" / f"{study.study}.requests.json"

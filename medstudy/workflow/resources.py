"""The resources that a job requests from a scheduler: host memory in MB (2^20 bytes) and minutes.

They follow from the study's estimate. `write` stores them under runs/ before jobs are submitted; the Snakefile, which
every job reads, loads them from there. A job that ran out of either requests twice, then three times as much.
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
DEFAULT = {"mem_mb": 1200, "runtime": 60}  # for jobs whose cost is not estimated
DEFAULTS = {
    "data": {"mem_mb": 4000, "runtime": 480},  # it may read a large data set from a slow disk
    "train": {"mem_mb": 1800, "runtime": 60},
    "evaluate": {"mem_mb": 1800, "runtime": 60},
}
SECONDS_FACTOR = 2.0  # for a slower node, and a rate that was stated, not measured
START_MINUTES = 10  # to read python, libraries and weights on a new node from a shared disk
MEMORY_FACTOR = 1.5  # measured peaks were 0.86 to 1.26 times the predicted ones
AROUND_MB = 700  # besides the kernel: papermill, and on a cluster two Snakemakes of 240 MB each
PROCESS_MB = 800  # `memory.PROCESS`, whose module imports torch
CARD_MB = 3000  # host memory that CUDA and its libraries add to a process
WEIGHT_BYTES = 4  # at most, of a weight on its way to the GPU
ROUND_MB = 100


def of(study: Study, tflops: float | None = None) -> dict[str, dict[str, int]]:
    """{"mem_mb", "runtime"} of every run of the study, by folder name; with a model also the predicted "seconds".

    tflops: see `estimate`, which also says what is raised. Trainings and evaluations request what is estimated, the
    check of the model what its weights need, other jobs the default. A job that several models share requests the most
    that one of them needs.
    """
    from medstudy.costs import estimate  # imports torch, which reading does not need

    requests: dict[str, dict[str, int]] = {}
    known: set[tuple] = set()
    for one_model in study.each():
        jobs, frame = {job.name: job for job in plan.plan(one_model)}, estimate.estimate(one_model, tflops, known=known)
        for row in frame.to_dict("records"):
            job = jobs[row["job"]]
            request, before = _request(job, row, frame.attrs), requests.get(job.dir.name, {})
            requests[job.dir.name] = {name: max(value, before.get(name, 0)) for name, value in request.items()}
    return requests


def write(study: Study, tflops: float | None = None) -> Path:
    """Store the requests where `read` finds them."""
    with paths.atomic(_file(study)) as temporary:
        temporary.write_text(json.dumps(of(study, tflops), indent=2) + "\n", encoding="utf-8")
    return _file(study)


def read(study: Study) -> dict[str, dict[str, int]]:
    """The stored requests of the study's planned runs, by folder name; empty if none were written.

    Requests that were written for other params are left out: their runs have other folders.
    """
    if not _file(study).is_file():
        return {}
    try:
        written = json.loads(_file(study).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{_file(study)} must be json, but {error}. Delete it: the next run writes it again.") from None
    return {name: written[name] for name in (job.dir.name for job in plan.plan(study)) if name in written}


def of_job(job: plan.Job, known: dict[str, dict[str, int]]) -> dict[str, int]:
    """{"mem_mb", "runtime"} of a job: from `known`, else the default of its stage."""
    return known.get(job.dir.name) or _default(job)


def alike(jobs: Iterable[plan.Job], known: dict[str, dict[str, int]], stages: Iterable[str]) -> dict[str, dict]:
    """`known`, but within each of these stages every job requests the most that any job of the stage does.

    For job arrays: Slurm gives all tasks of an array the same.
    """
    equal, jobs = dict(known), list(jobs)
    for stage in stages:
        requests = {job.dir.name: of_job(job, known) for job in jobs if job.stage == stage}
        most = {what: max(request[what] for request in requests.values()) for what in DEFAULT} if requests else {}
        equal |= {name: request | most for name, request in requests.items()}
    return equal


def _request(job: plan.Job, row: dict, about: dict) -> dict[str, int]:
    """row: the job's row of the estimate. about: the estimate's attrs."""
    weights = sum(about["weights"].values()) * WEIGHT_BYTES / MB
    if not math.isnan(row["seconds"]):
        minutes = math.ceil(SECONDS_FACTOR * row["seconds"] / 60) + START_MINUTES
        memory = _rounded(_memory(job, row, weights, about["device"]))
        return {"mem_mb": memory, "runtime": minutes, "seconds": math.ceil(row["seconds"])}
    if job.stage == "base":
        return {"mem_mb": _rounded(PROCESS_MB + weights), "runtime": DEFAULT["runtime"]}
    return _default(job)


def _memory(job: plan.Job, row: dict, weights: float, device: str) -> float:
    """Host memory in MB. On a GPU the estimate is of GPU memory; the host holds libraries and, for a while, weights.

    A training also holds its resume point while it writes one.
    """
    if device == "cpu":
        return row["memory_mb"]
    resume = 0.0 if math.isnan(row["resume_mb"]) else row["resume_mb"]
    return job.processes * (PROCESS_MB + CARD_MB + weights) + resume


def _rounded(megabytes: float) -> int:
    return math.ceil((MEMORY_FACTOR * megabytes + AROUND_MB) / ROUND_MB) * ROUND_MB


def _default(job: plan.Job) -> dict[str, int]:
    usual = DEFAULTS.get(job.stage, DEFAULT)
    shares = 1 if job.stage == "data" else job.processes  # processes that draw images need little
    return usual | {"mem_mb": usual["mem_mb"] * shares}


def _file(study: Study) -> Path:
    return study.runs / "logs" / f"{study.study}.requests.json"
